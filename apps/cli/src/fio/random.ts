/** A small fast generator (sfc32), one for each purpose of each job so that one draw more in one place moves no other. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number, purpose: number) {
    this.#a = seed >>> 0;
    this.#b = Math.floor(seed / 0x1_0000_0000) >>> 0;
    this.#c = Math.imul(purpose + 1, 0x9e37_79b9) >>> 0;
    for (let round = 0; round < 15; round += 1) this.next();
  }

  /** 32 random bits, unsigned. */
  next(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** A real number in [0, 1). */
  unit(): number {
    return (this.next() + (this.next() >>> 11) / 0x20_0000) / 0x1_0000_0000;
  }

  /** A whole number in [0, bound); bound at most 2^53. */
  below(bound: number): number {
    return Math.floor(this.unit() * bound);
  }
}
