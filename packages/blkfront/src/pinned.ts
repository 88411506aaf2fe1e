import type { Gref } from '@paravirt/event-bus/contract';

/**
 * Which guest frames stay granted to the backend for as long as their owner wants: frame -> reference, in open addressing on typed
 * arrays, because it is asked once a segment. Empty slots hold -1.
 */
export class PinnedTable {
  private keys: Float64Array = new Float64Array(64).fill(-1);
  private refs: Uint32Array = new Uint32Array(64);
  size = 0;

  /** The frame's reference, or -1. O(1). */
  find(gfn: number): Gref | -1 {
    const mask = this.keys.length - 1;
    let at = (Math.imul(gfn, 0x9e3779b1) >>> 7) & mask;
    for (;;) {
      const key = this.keys[at]!;
      if (key === gfn) return this.refs[at] as Gref;
      if (key === -1) return -1;
      at = (at + 1) & mask;
    }
  }

  add(gfn: number, gref: Gref): void {
    if (this.size * 2 >= this.keys.length) this.rebuild(this.keys.length * 2, -1);
    this.put(gfn, gref);
  }

  /** Forgets a frame. O(entries): an owner gives up a buffer rarely, and a probe chain must have no hole. */
  remove(gfn: number): void {
    if (this.find(gfn) !== -1) this.rebuild(this.keys.length, gfn);
  }

  private put(gfn: number, gref: number): void {
    const mask = this.keys.length - 1;
    let at = (Math.imul(gfn, 0x9e3779b1) >>> 7) & mask;
    while (this.keys[at] !== -1 && this.keys[at] !== gfn) at = (at + 1) & mask;
    if (this.keys[at] === -1) this.size++;
    this.keys[at] = gfn;
    this.refs[at] = gref;
  }

  private rebuild(length: number, without: number): void {
    const keys = this.keys;
    const refs = this.refs;
    this.keys = new Float64Array(length).fill(-1);
    this.refs = new Uint32Array(length);
    this.size = 0;
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i]!;
      if (key !== -1 && key !== without) this.put(key, refs[i]!);
    }
  }
}
