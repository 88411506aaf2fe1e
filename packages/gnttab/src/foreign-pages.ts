import type { ForeignPage } from './types.ts';

/**
 * Who granted the page mapped at a virtual frame: a hash table with open addressing in typed arrays. Deleting shifts the
 * followers back, so there are no tombstones and a search never gets longer with time.
 */
export class ForeignPages {
  private keys: Float64Array = new Float64Array(16).fill(-1);
  private grefs: Uint32Array = new Uint32Array(16);
  private handles: Uint32Array = new Uint32Array(16);
  private domids: Uint16Array = new Uint16Array(16);
  private count = 0;

  get size(): number {
    return this.count;
  }

  set(vfn: number, domid: number, gref: number, handle: number): void {
    if ((this.count + 1) * 2 > this.keys.length) this.grow();
    let at = this.home(vfn);
    while (this.keys[at] !== -1 && this.keys[at] !== vfn) at = (at + 1) & (this.keys.length - 1);
    if (this.keys[at] === -1) this.count++;
    this.keys[at] = vfn;
    this.domids[at] = domid;
    this.grefs[at] = gref;
    this.handles[at] = handle;
  }

  get(vfn: number, out: ForeignPage): boolean {
    const at = this.find(vfn);
    if (at < 0) return false;
    out.domid = this.domids[at]!;
    out.gref = this.grefs[at]!;
    out.handle = this.handles[at]!;
    return true;
  }

  /** Forgets the page if it is the one mapped under `handle`. */
  delete(vfn: number, handle: number): boolean {
    let hole = this.find(vfn);
    if (hole < 0 || this.handles[hole] !== handle) return false;
    const mask = this.keys.length - 1;
    this.count--;
    for (let at = (hole + 1) & mask; this.keys[at] !== -1; at = (at + 1) & mask) {
      // A follower moves into the hole unless its home lies behind the hole: then it is found without passing there.
      const home = this.home(this.keys[at]!);
      if (((at - home) & mask) < ((at - hole) & mask)) continue;
      this.keys[hole] = this.keys[at]!;
      this.domids[hole] = this.domids[at]!;
      this.grefs[hole] = this.grefs[at]!;
      this.handles[hole] = this.handles[at]!;
      hole = at;
    }
    this.keys[hole] = -1;
    return true;
  }

  private find(vfn: number): number {
    let at = this.home(vfn);
    while (this.keys[at] !== vfn) {
      if (this.keys[at] === -1) return -1;
      at = (at + 1) & (this.keys.length - 1);
    }
    return at;
  }

  private home(vfn: number): number {
    const low = vfn | 0;
    const high = (vfn / 4_294_967_296) | 0;
    const hash = Math.imul(low ^ Math.imul(high, 0x85eb_ca6b), 0x9e37_79b1);
    return (hash >>> 8) & (this.keys.length - 1);
  }

  private grow(): void {
    const { keys, domids, grefs, handles } = this;
    const length = keys.length * 2;
    this.keys = new Float64Array(length).fill(-1);
    this.domids = new Uint16Array(length);
    this.grefs = new Uint32Array(length);
    this.handles = new Uint32Array(length);
    this.count = 0;
    for (let i = 0; i < keys.length; i++) if (keys[i] !== -1) this.set(keys[i]!, domids[i]!, grefs[i]!, handles[i]!);
  }
}
