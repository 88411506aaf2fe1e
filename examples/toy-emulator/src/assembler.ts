import { OP } from './cpu.ts';

/** Writes code for {@link Cpu}, instruction by instruction, from address `base` on. Loops go backwards, to where `here` was asked. */
export class Assembler {
  readonly #base: number;
  readonly #words: number[] = [];

  constructor(base: number) {
    this.#base = base;
  }

  /** The address of the next instruction. */
  get here(): number {
    return this.#base + 4 * this.#words.length;
  }

  /** The code so far. */
  get bytes(): Uint8Array {
    return new Uint8Array(Uint32Array.from(this.#words).buffer);
  }

  /** a = value */
  li(a: number, value: number): this {
    return this.#put(OP.LI, a, 0, 0, value >>> 0);
  }

  /** a = b + c */
  add(a: number, b: number, c: number): this {
    return this.#put(OP.ADD, a, b, c);
  }

  /** a = b - c */
  sub(a: number, b: number, c: number): this {
    return this.#put(OP.SUB, a, b, c);
  }

  /** a = the byte at address b */
  lb(a: number, b: number): this {
    return this.#put(OP.LB, a, b, 0);
  }

  /** the byte at address a = b */
  sb(a: number, b: number): this {
    return this.#put(OP.SB, a, b, 0);
  }

  /** a = the word at address b */
  lw(a: number, b: number): this {
    return this.#put(OP.LW, a, b, 0);
  }

  /** the word at address a = b */
  sw(a: number, b: number): this {
    return this.#put(OP.SW, a, b, 0);
  }

  /** go on at `address` unless a is 0 */
  bnz(a: number, address: number): this {
    return this.#put(OP.BNZ, a, 0, 0, address);
  }

  halt(): this {
    return this.#put(OP.HALT, 0, 0, 0);
  }

  #put(op: number, a: number, b: number, c: number, ...words: number[]): this {
    this.#words.push((op | (a << 8) | (b << 16) | (c << 24)) >>> 0, ...words);
    return this;
  }
}
