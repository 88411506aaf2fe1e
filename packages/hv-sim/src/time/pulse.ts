/**
 * The machine's pulse: how many steps were taken, and a running hash of everything that could tell two runs apart: who ran,
 * when, and how each hypercall ended. Two runs that differ differ from the step on at which it happened.
 */
export class Pulse {
  steps = 0;
  /** 32 bits, signed: a small integer to the engine, whatever its value. */
  hash: number = 0x9747_b28c | 0;
  #low = 0;

  /** Mixes two numbers in. A few ns. */
  note(a: number, b: number): void {
    this.hash = mixed(this.hash, a, b);
  }

  /** Mixes a number with a fraction in, by its bits. */
  noteExact(value: number): void {
    const whole = Math.floor(value);
    this.#low = (value - whole) * 0x1_0000_0000;
    this.note(whole | 0, this.#low | 0);
    this.note(Math.floor(whole / 0x1_0000_0000) | 0, 0);
  }

  /** Mixes bytes in, four at a time. */
  noteBytes(u32: Uint32Array, from: number, count: number): void {
    let h = this.hash;
    for (let i = from; i < from + count; i++) {
      h = Math.imul(h ^ u32[i]!, 0x85eb_ca6b);
      h ^= h >>> 15;
    }
    this.hash = h;
  }

  /** Mixes a text in. */
  noteText(text: string): void {
    for (let i = 0; i < text.length; i++) this.note(text.charCodeAt(i), i);
  }
}

/** A hash with two numbers mixed in: what `note` does, for a loop that notes many. */
export function mixed(hash: number, a: number, b: number): number {
  let h = Math.imul(hash ^ a, 0x85eb_ca6b);
  h = (h << 15) | (h >>> 17);
  h = Math.imul(h ^ b, 0xc2b2_ae35);
  return h ^ (h >>> 13);
}
