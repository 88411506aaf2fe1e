import { Assembler } from './assembler.ts';
import { PRINT_REGISTER, ROM } from './bus.ts';
import { WIDTH } from './display.ts';

/** Code that fills `height` rows of `width` pixels with `colour`, from byte address `at` on. Uses registers 1 to 6. */
export function box(code: Assembler, at: number, width: number, height: number, colour: number): void {
  code.li(1, at).li(2, colour).li(3, height).li(6, 1);
  const row = code.here;
  code.li(4, width);
  const pixel = code.here;
  code.sb(1, 2).add(1, 1, 6).sub(4, 4, 6).bnz(4, pixel);
  code
    .li(5, WIDTH - width)
    .add(1, 1, 5)
    .sub(3, 3, 6)
    .bnz(3, row);
}

/** Code that prints. Uses registers 1 and 2. */
export function print(code: Assembler, text: string): void {
  for (const char of text) code.li(1, PRINT_REGISTER).li(2, char.codePointAt(0)!).sb(1, 2);
}

/** The demonstration: two boxes, in the second and the last page of video memory, and a word. */
export function demo(video: number): Uint8Array {
  const code = new Assembler(ROM);
  box(code, video + 40 * WIDTH + 16, 64, 16, 1);
  box(code, video + 104 * WIDTH + 80, 32, 8, 2);
  print(code, 'drawn\n');
  return code.halt().bytes;
}
