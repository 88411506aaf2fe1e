import { describe, expect, it } from 'vitest';
import { Assembler } from '../src/assembler.ts';
import { Bus, BusError, RAM_BYTES, ROM, VIDEO, VIDEO_BASE_REGISTER, VIDEO_BYTES } from '../src/bus.ts';
import { Cpu } from '../src/cpu.ts';
import { box, demo } from '../src/demo.ts';
import { Display, HEIGHT, WIDTH } from '../src/display.ts';

function computer(rom: Uint8Array): { bus: Bus; cpu: Cpu; display: Display } {
  const bus = new Bus(rom);
  const display = new Display(bus);
  display.refresh();
  return { bus, cpu: new Cpu(bus, ROM), display };
}

const busErrorOf = (run: () => void): Pick<BusError, 'kind' | 'address'> => {
  try {
    run();
  } catch (error) {
    if (error instanceof BusError) return { kind: error.kind, address: error.address };
    throw error;
  }
  throw new Error('no bus error');
};

describe('the toy emulator', () => {
  it('draws, and the display copies only the pages that were drawn on', () => {
    const { bus, cpu, display } = computer(demo(VIDEO));
    expect(cpu.run(100_000)).toBeLessThan(100_000);
    expect(String.fromCharCode(...bus.printed)).toBe('drawn\n');
    expect(display.refresh()).toEqual([1, 3]);
    expect(display.refresh()).toEqual([]);
    let lit = 0;
    for (let y = 0; y < HEIGHT; y++) for (let x = 0; x < WIDTH; x++) lit += display.pixel(x, y) === 0 ? 0 : 1;
    expect([lit, display.pixel(16, 40), display.pixel(79, 55), display.pixel(80, 104)]).toEqual([64 * 16 + 32 * 8, 1, 1, 2]);
    expect(display.text().split('\n')[5]).toBe(`....${'#'.repeat(16)}${'.'.repeat(12)}`);
  });

  it('looks an address up once a page, not once an access', () => {
    const { bus, cpu } = computer(demo(VIDEO));
    const steps = cpu.run(100_000);
    expect(steps).toBeGreaterThan(4000);
    expect(bus.lookups).toBe(3); // the page of code, and two of video memory
  });

  it('follows video memory when the guest moves it, in the middle of a run', () => {
    const elsewhere = 0x20_0000;
    const code = new Assembler(ROM);
    box(code, VIDEO, 8, 1, 1);
    code.li(1, VIDEO_BASE_REGISTER).li(2, elsewhere).sw(1, 2);
    box(code, elsewhere + 8, 8, 1, 2);
    code.li(1, VIDEO).lb(2, 1); // nothing is there any more
    const { bus, cpu, display } = computer(code.bytes);
    expect(busErrorOf(() => cpu.run(1000))).toEqual({ kind: 'hole', address: VIDEO });
    expect(bus.memslots.slot(1)).toMatchObject({ baseGfn: elsewhere / 4096, pages: VIDEO_BYTES / 4096 });
    display.refresh();
    expect([display.pixel(7, 0), display.pixel(8, 0), display.pixel(16, 0)]).toEqual([1, 2, 0]);
  });

  it('leaves video memory where it is when it is told to sit on other memory', () => {
    const code = new Assembler(ROM).li(1, VIDEO_BASE_REGISTER).li(2, 0x1000).sw(1, 2).li(1, VIDEO).lb(2, 1).halt();
    const { bus, cpu } = computer(code.bytes);
    cpu.run(100);
    expect(bus.memslots.slot(1)).toMatchObject({ baseGfn: VIDEO / 4096 });
  });

  it('refuses what nobody answers, and stands at the instruction that did it', () => {
    const store = (address: number): Cpu => computer(new Assembler(ROM).li(1, address).sb(1, 1).bytes).cpu;
    for (const [address, kind] of [
      [ROM, 'write-protected'],
      [RAM_BYTES, 'hole'],
      [0xffff_ffff, 'hole'],
    ] as const) {
      const cpu = store(address);
      expect(busErrorOf(() => cpu.run(10))).toEqual({ kind, address });
      expect(cpu.pc).toBe(ROM + 8);
    }
    const { cpu } = computer(new Assembler(ROM).li(1, 2).lw(2, 1).bytes);
    expect(busErrorOf(() => cpu.run(10))).toEqual({ kind: 'unaligned', address: 2 });
  });

  it('computes: words through memory, and arithmetic in 32 bits', () => {
    const code = new Assembler(ROM).li(1, 0x100).li(2, 0xffff_fffe).sw(1, 2).lw(3, 1).li(4, 3).add(5, 3, 4).lb(6, 1).halt();
    const { cpu } = computer(code.bytes);
    cpu.run(100);
    expect([...cpu.registers.subarray(3, 7)]).toEqual([0xffff_fffe, 3, 1, 0xfe]);
  });

  it('stops after as many instructions as it was given', () => {
    const code = new Assembler(ROM).li(1, 1);
    code.bnz(1, code.here);
    const { cpu } = computer(code.bytes);
    expect(cpu.run(500)).toBe(500);
  });
});
