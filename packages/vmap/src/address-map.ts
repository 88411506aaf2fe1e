/**
 * Values by page number, for numbers that do not fit a small integer: open addressing with linear probing in flat arrays, so that a
 * lookup makes nothing. Each value has a tag, a number that lies beside the key: one place in memory answers what the tag can say.
 * Costs O(1).
 */
export class AddressMap<Value> {
  /** For each slot page number + 1, so that 0 is an empty slot, and the tag. */
  #keys: Float64Array = new Float64Array(32);
  #values: (Value | undefined)[] = new Array<Value | undefined>(16).fill(undefined);
  #shift = 28;
  #size = 0;

  get(page: number): Value | undefined {
    const slot = this.#slotOf(page);
    return this.#keys[slot * 2] === 0 ? undefined : this.#values[slot];
  }

  /** The tag of the page's value, or `none`. */
  tag(page: number, none: number): number {
    const slot = this.#slotOf(page);
    return this.#keys[slot * 2] === 0 ? none : this.#keys[slot * 2 + 1]!;
  }

  set(page: number, value: Value, tag: number): void {
    if ((this.#size + 1) * 4 > this.#keys.length) this.#grow();
    const slot = this.#slotOf(page);
    if (this.#keys[slot * 2] === 0) this.#size++;
    this.#keys[slot * 2] = page + 1;
    this.#keys[slot * 2 + 1] = tag;
    this.#values[slot] = value;
  }

  delete(page: number): void {
    const keys = this.#keys;
    const mask = this.#values.length - 1;
    let hole = this.#slotOf(page);
    if (keys[hole * 2] === 0) return;
    this.#size--;
    // Moves back what a hole would cut off from the slot it belongs to.
    for (let slot = (hole + 1) & mask; keys[slot * 2] !== 0; slot = (slot + 1) & mask) {
      const home = hash(keys[slot * 2]! - 1) >>> this.#shift;
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      keys[hole * 2] = keys[slot * 2]!;
      keys[hole * 2 + 1] = keys[slot * 2 + 1]!;
      this.#values[hole] = this.#values[slot];
      hole = slot;
    }
    keys[hole * 2] = 0;
    this.#values[hole] = undefined;
  }

  /** The page's slot, or the empty one where it would go. */
  #slotOf(page: number): number {
    const keys = this.#keys;
    const mask = (keys.length >>> 1) - 1;
    let slot = hash(page) >>> this.#shift;
    for (;;) {
      const key = keys[slot * 2]!;
      if (key === page + 1 || key === 0) return slot;
      slot = (slot + 1) & mask;
    }
  }

  #grow(): void {
    const keys = this.#keys;
    const values = this.#values;
    this.#keys = new Float64Array(keys.length * 2);
    this.#values = new Array<Value | undefined>(values.length * 2).fill(undefined);
    this.#shift--;
    this.#size = 0;
    for (let slot = 0; slot < values.length; slot++) {
      if (keys[slot * 2] !== 0) this.set(keys[slot * 2]! - 1, values[slot]!, keys[slot * 2 + 1]!);
    }
  }
}

/** Mixes both halves of a number below 2^53 into the high bits of 32. */
function hash(page: number): number {
  const low = Math.imul((page >>> 0) ^ Math.imul((page / 0x1_0000_0000) | 0, 0x85eb_ca6b), 0x9e37_79b1);
  return Math.imul(low ^ (low >>> 15), 0x85eb_ca6b) >>> 0;
}
