import type { ForeignPage } from './types.ts';

/** Words of a value, by `slot << SHIFT`: who granted, what, and the mapping's handle. */
const SHIFT = 2;
const GREF = 1;
const HANDLE = 2;
const EMPTY = -1;

/**
 * Who granted the page mapped at a virtual frame, by the frame: a hash table with open addressing in typed arrays. Deleting shifts
 * the followers back, so there are no tombstones and a search never gets longer with time.
 */
export class ForeignIndex {
  private keys: Float64Array = new Float64Array(16).fill(EMPTY);
  private values: Int32Array = new Int32Array(16 << SHIFT);
  private mask = 15;
  private count = 0;

  get size(): number {
    return this.count;
  }

  set(vfn: number, domid: number, gref: number, handle: number): void {
    const { keys, mask } = this;
    let at = slotOf(vfn) & mask;
    let key = keys[at]!;
    while (key !== EMPTY && key !== vfn) {
      at = (at + 1) & mask;
      key = keys[at]!;
    }
    if (key === EMPTY) {
      if ((this.count + 1) * 2 > mask) {
        this.grow();
        this.set(vfn, domid, gref, handle);
        return;
      }
      this.count++;
      keys[at] = vfn;
    }
    const { values } = this;
    values[at << SHIFT] = domid;
    values[(at << SHIFT) | GREF] = gref;
    values[(at << SHIFT) | HANDLE] = handle;
  }

  get(vfn: number, out: ForeignPage): boolean {
    const at = this.find(vfn);
    if (at < 0) return false;
    const { values } = this;
    out.domid = values[at << SHIFT]!;
    out.gref = values[(at << SHIFT) | GREF]! >>> 0;
    out.handle = values[(at << SHIFT) | HANDLE]! >>> 0;
    return true;
  }

  /** Forgets the page if it is the one mapped under `handle`. */
  delete(vfn: number, handle: number): boolean {
    const { keys, mask } = this;
    const at = this.find(vfn);
    if (at < 0 || this.values[(at << SHIFT) | HANDLE]! >>> 0 !== handle) return false;
    this.count--;
    if (keys[(at + 1) & mask] === EMPTY) keys[at] = EMPTY;
    else this.close(at);
    return true;
  }

  private find(vfn: number): number {
    const { keys, mask } = this;
    let at = slotOf(vfn) & mask;
    for (;;) {
      const key = keys[at]!;
      if (key === vfn) return at;
      if (key === EMPTY) return -1;
      at = (at + 1) & mask;
    }
  }

  /** Empties a slot and shifts its followers back. */
  private close(slot: number): void {
    const { keys, values, mask } = this;
    let hole = slot;
    for (let at = (hole + 1) & mask; keys[at] !== EMPTY; at = (at + 1) & mask) {
      // A follower moves into the hole unless its home lies behind the hole: then it is found without passing there.
      const home = slotOf(keys[at]!) & mask;
      if (((at - home) & mask) < ((at - hole) & mask)) continue;
      keys[hole] = keys[at]!;
      values.copyWithin(hole << SHIFT, at << SHIFT, (at + 1) << SHIFT);
      hole = at;
    }
    keys[hole] = EMPTY;
  }

  private grow(): void {
    const { keys, values } = this;
    const length = keys.length * 2;
    this.keys = new Float64Array(length).fill(EMPTY);
    this.values = new Int32Array(length << SHIFT);
    this.mask = length - 1;
    this.count = 0;
    for (let i = 0; i < keys.length; i++) {
      const at = i << SHIFT;
      if (keys[i] !== EMPTY) this.set(keys[i]!, values[at]!, values[at | GREF]!, values[at | HANDLE]!);
    }
  }
}

/** Where a frame's search begins, before the table's mask. */
function slotOf(vfn: number): number {
  const high = vfn > 0xffff_ffff ? Math.imul(Math.floor(vfn / 0x1_0000_0000), 0x85eb_ca6b) : 0;
  return Math.imul(vfn ^ high, 0x9e37_79b1) >>> 8;
}
