interface PlainSlot {
  id: number;
  base: number;
  end: number;
  host: number;
  flags: number;
}

/**
 * Memory slots as one would first write them: objects in one array sorted by first frame, binary search, `splice`. Correct for valid regions, and what
 * the benchmarks compare with.
 */
export class PlainSlots {
  readonly #sorted: PlainSlot[] = [];
  readonly #byId = new Map<number, PlainSlot>();
  generation = 0;

  /** Slots there are. */
  get usedSlots(): number {
    return this.#sorted.length;
  }

  /** Host address for writing, or -1. O(log n). */
  translate(gfn: number): number {
    const slot = this.#sorted[this.#after(gfn) - 1];
    return slot !== undefined && gfn < slot.end && (slot.flags & 2) === 0 ? slot.host + (gfn - slot.base) * 4096 : -1;
  }

  /** Creates, or moves where the id is in use. */
  set(id: number, base: number, pages: number, host: number, flags: number): void {
    const end = base + pages;
    const old = this.#byId.get(id);
    if (old !== undefined) this.delete(id);
    const at = this.#after(base);
    const before = this.#sorted[at - 1];
    const after = this.#sorted[at];
    if ((before !== undefined && before.end > base) || (after !== undefined && after.base < end)) {
      if (old !== undefined) this.set(old.id, old.base, old.end - old.base, old.host, old.flags);
      throw new RangeError(`frames ${base} to ${end} meet another slot`);
    }
    const slot = { id, base, end, host, flags };
    this.#sorted.splice(at, 0, slot);
    this.#byId.set(id, slot);
    this.generation += 2;
  }

  /** Deletes a slot: O(n), the array closes up. @throws {RangeError} no such slot. */
  delete(id: number): void {
    const slot = this.#byId.get(id);
    if (slot === undefined) throw new RangeError(`no slot ${id}`);
    this.#sorted.splice(this.#after(slot.base) - 1, 1);
    this.#byId.delete(id);
    this.generation += 4;
  }

  /** Slots whose host range meets `[start, end)`: asked one by one. */
  hvaRange(start: number, end: number, visit: (id: number, firstGfn: number, endGfn: number) => void): void {
    for (const { id, base, end: endGfn, host } of this.#sorted) {
      const from = Math.max(start, host);
      const to = Math.min(end, host + (endGfn - base) * 4096);
      if (from < to) visit(id, base + Math.floor((from - host) / 4096), base + Math.ceil((to - host) / 4096));
    }
  }

  #after(gfn: number): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#sorted[middle]!.base <= gfn) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
