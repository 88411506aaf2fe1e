/**
 * Values by page number, for numbers that do not fit a small integer: open addressing with linear probing in flat arrays, so that a
 * lookup makes nothing and touches two places. Costs O(1).
 */
export class AddressMap<Value> {
  /** Page number + 1, so that 0 is an empty slot. */
  #keys: Float64Array = new Float64Array(16);
  #values: (Value | undefined)[] = new Array<Value | undefined>(16).fill(undefined);
  #shift = 28;
  #size = 0;

  get(page: number): Value | undefined {
    const keys = this.#keys;
    const mask = keys.length - 1;
    for (let slot = hash(page) >>> this.#shift; ; slot = (slot + 1) & mask) {
      const key = keys[slot]!;
      if (key === page + 1) return this.#values[slot];
      if (key === 0) return undefined;
    }
  }

  set(page: number, value: Value): void {
    if ((this.#size + 1) * 2 > this.#keys.length) this.#grow();
    const slot = this.#slotOf(page);
    if (this.#keys[slot] === 0) this.#size++;
    this.#keys[slot] = page + 1;
    this.#values[slot] = value;
  }

  delete(page: number): void {
    const mask = this.#keys.length - 1;
    let hole = this.#slotOf(page);
    if (this.#keys[hole] === 0) return;
    this.#size--;
    // Moves back what a hole would cut off from the slot it belongs to.
    for (let slot = (hole + 1) & mask; this.#keys[slot] !== 0; slot = (slot + 1) & mask) {
      const home = hash(this.#keys[slot]! - 1) >>> this.#shift;
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      this.#keys[hole] = this.#keys[slot]!;
      this.#values[hole] = this.#values[slot];
      hole = slot;
    }
    this.#keys[hole] = 0;
    this.#values[hole] = undefined;
  }

  #slotOf(page: number): number {
    const mask = this.#keys.length - 1;
    let slot = hash(page) >>> this.#shift;
    while (this.#keys[slot] !== 0 && this.#keys[slot] !== page + 1) slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const keys = this.#keys;
    const values = this.#values;
    this.#keys = new Float64Array(keys.length * 2);
    this.#values = new Array<Value | undefined>(keys.length * 2).fill(undefined);
    this.#shift--;
    this.#size = 0;
    for (let slot = 0; slot < keys.length; slot++) if (keys[slot] !== 0) this.set(keys[slot]! - 1, values[slot]!);
  }
}

/** Mixes both halves of a number below 2^53 into the high bits of 32. */
function hash(page: number): number {
  const low = Math.imul((page >>> 0) ^ Math.imul((page / 0x1_0000_0000) | 0, 0x85eb_ca6b), 0x9e37_79b1);
  return Math.imul(low ^ (low >>> 15), 0x85eb_ca6b) >>> 0;
}
