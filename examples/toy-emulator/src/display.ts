import { PAGE_SIZE } from '@paravirt/memslots';
import { type Bus, VIDEO_SLOT } from './bus.ts';

/** Pixels a row, and rows: a byte a pixel, 32 rows a page. */
export const WIDTH = 128;
export const HEIGHT = 128;
const ROWS_PER_PAGE = PAGE_SIZE / WIDTH;

/** A screen that copies only what the guest has drawn since it last looked: the dirty log of the video memory's slot says which pages. */
export class Display {
  readonly #bus: Bus;
  readonly #pixels: Uint8Array = new Uint8Array(WIDTH * HEIGHT);

  constructor(bus: Bus) {
    this.#bus = bus;
  }

  /** Takes over what changed; reading the log clears it. @returns the pages that were copied. */
  refresh(): number[] {
    const copied: number[] = [];
    for (const [first, count] of this.#bus.memslots.getDirtyLog(VIDEO_SLOT).runs) {
      for (let page = first; page < first + count; page++) {
        this.#pixels.set(this.#bus.videoPage(page), page * ROWS_PER_PAGE * WIDTH);
        copied.push(page);
      }
    }
    return copied;
  }

  pixel(x: number, y: number): number {
    return this.#pixels[y * WIDTH + x]!;
  }

  /** The picture in characters, one for each 4 by 8 pixels. */
  text(): string {
    const lines: string[] = [];
    for (let y = 0; y < HEIGHT; y += 8) {
      let line = '';
      for (let x = 0; x < WIDTH; x += 4) {
        let lit = 0;
        for (let dy = 0; dy < 8; dy++) for (let dx = 0; dx < 4; dx++) if (this.pixel(x + dx, y + dy) !== 0) lit++;
        line += lit === 0 ? '.' : lit < 16 ? 'o' : '#';
      }
      lines.push(line);
    }
    return lines.join('\n');
  }
}
