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
    const { keys } = this;
    const mask = keys.length - 1;
    let at = (Math.imul(gfn, 0x9e3779b1) >>> 7) & mask;
    for (;;) {
      const key = keys[at]!;
      if (key === gfn) return this.refs[at] as Gref;
      if (key === -1) return -1;
      at = (at + 1) & mask;
    }
  }

  add(gfn: number, gref: Gref): void {
    if (this.size * 2 >= this.keys.length) this.grow();
    this.put(gfn, gref);
  }

  /** Forgets a frame. O(1): what follows it in its probe chain moves up, because a chain must have no hole. */
  remove(gfn: number): void {
    if (this.find(gfn) === -1) return;
    const { keys, refs } = this;
    const mask = keys.length - 1;
    let hole = this.home(gfn);
    while (keys[hole] !== gfn) hole = (hole + 1) & mask;
    for (let at = (hole + 1) & mask; keys[at] !== -1; at = (at + 1) & mask) {
      // One that belongs behind the hole would not be found before it.
      if (((at - this.home(keys[at]!)) & mask) < ((at - hole) & mask)) continue;
      keys[hole] = keys[at]!;
      refs[hole] = refs[at]!;
      hole = at;
    }
    keys[hole] = -1;
    this.size--;
  }

  private home(gfn: number): number {
    return (Math.imul(gfn, 0x9e3779b1) >>> 7) & (this.keys.length - 1);
  }

  private put(gfn: number, gref: number): void {
    const mask = this.keys.length - 1;
    let at = this.home(gfn);
    while (this.keys[at] !== -1 && this.keys[at] !== gfn) at = (at + 1) & mask;
    if (this.keys[at] === -1) this.size++;
    this.keys[at] = gfn;
    this.refs[at] = gref;
  }

  private grow(): void {
    const { keys, refs } = this;
    const length = keys.length * 2;
    this.keys = new Float64Array(length).fill(-1);
    this.refs = new Uint32Array(length);
    this.size = 0;
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i]!;
      if (key !== -1) this.put(key, refs[i]!);
    }
  }
}
