import type { Bus } from './bus.ts';

/** What a word of code says in its lowest byte; its other bytes name registers `a`, `b`, `c`. `LI` and `BNZ` have a second word. */
export const OP = { HALT: 0, LI: 1, ADD: 2, SUB: 3, LB: 4, SB: 5, LW: 6, SW: 7, BNZ: 8 } as const;

/** A processor of eight 32-bit registers. It begins at `pc`, and stops at HALT or at an access that nobody answers. */
export class Cpu {
  readonly registers: Uint32Array = new Uint32Array(8);
  pc: number;
  readonly #bus: Bus;

  constructor(bus: Bus, pc: number) {
    this.#bus = bus;
    this.pc = pc;
  }

  /**
   * Runs at most `stepsMax` instructions.
   * @returns how many ran; fewer than asked for after HALT.
   * @throws {BusError} with `pc` at the instruction that did it.
   */
  run(stepsMax: number): number {
    const bus = this.#bus;
    const r = this.registers;
    for (let step = 0; step < stepsMax; step++) {
      const code = bus.fetch32(this.pc);
      const a = (code >>> 8) & 7;
      const b = (code >>> 16) & 7;
      const c = (code >>> 24) & 7;
      let next = (this.pc + 4) >>> 0;
      switch (code & 0xff) {
        case OP.LI:
          r[a] = bus.fetch32(next);
          next = (next + 4) >>> 0;
          break;
        case OP.ADD:
          r[a] = r[b]! + r[c]!;
          break;
        case OP.SUB:
          r[a] = r[b]! - r[c]!;
          break;
        case OP.LB:
          r[a] = bus.load8(r[b]!);
          break;
        case OP.SB:
          bus.store8(r[a]!, r[b]!);
          break;
        case OP.LW:
          r[a] = bus.load32(r[b]!);
          break;
        case OP.SW:
          bus.store32(r[a]!, r[b]!);
          break;
        case OP.BNZ:
          next = r[a] === 0 ? (next + 4) >>> 0 : bus.fetch32(next);
          break;
        default:
          return step + 1;
      }
      this.pc = next;
    }
    return stepsMax;
  }
}
