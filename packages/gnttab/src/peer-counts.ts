/**
 * How many entries are published to each peer. A table seldom has more than a few peers, and one after the other asks for many
 * entries, so the peer of the last call is looked at first; the others are found by hashing.
 */
export class PeerCounts {
  private domids: Int32Array = new Int32Array(8).fill(-1);
  private counts: Uint32Array = new Uint32Array(8);
  private used = 0;
  /** The peer of the last call, its slot, and its count, which its slot is told of when another peer follows. */
  private last = -1;
  private lastSlot = 0;
  private lastCount = 0;

  add(domid: number): void {
    if (domid !== this.last) this.turnTo(domid);
    this.lastCount++;
  }

  remove(domid: number): void {
    if (domid !== this.last) this.turnTo(domid);
    this.lastCount--;
  }

  /** Adds many, or takes many away. */
  change(domid: number, by: number): void {
    if (domid !== this.last) this.turnTo(domid);
    this.lastCount += by;
  }

  /** Entries of all peers. */
  get total(): number {
    this.settle();
    return this.counts.reduce((sum, count) => sum + count, 0);
  }

  get(domid: number): number {
    this.settle();
    for (let at = this.home(domid); ; at = (at + 1) & (this.domids.length - 1)) {
      if (this.domids[at] === domid) return this.counts[at]!;
      if (this.domids[at] === -1) return 0;
    }
  }

  /** The peers with entries, in ascending order. */
  all(): { domid: number; count: number }[] {
    this.settle();
    const found: { domid: number; count: number }[] = [];
    this.domids.forEach((domid, at) => {
      if (domid >= 0 && this.counts[at]! > 0) found.push({ domid, count: this.counts[at]! });
    });
    return found.sort((a, b) => a.domid - b.domid);
  }

  private turnTo(domid: number): void {
    this.settle();
    this.lastSlot = this.slot(domid);
    this.lastCount = this.counts[this.lastSlot]!;
    this.last = domid;
  }

  private settle(): void {
    if (this.last !== -1) this.counts[this.lastSlot] = this.lastCount;
  }

  private home(domid: number): number {
    return (Math.imul(domid, 0x9e37_79b1) >>> 16) & (this.domids.length - 1);
  }

  private slot(domid: number): number {
    let at = this.home(domid);
    while (this.domids[at] !== domid) {
      if (this.domids[at] === -1) {
        if (this.used * 2 >= this.domids.length) {
          this.grow();
          return this.slot(domid);
        }
        this.used++;
        this.domids[at] = domid;
        break;
      }
      at = (at + 1) & (this.domids.length - 1);
    }
    return at;
  }

  /** Doubles the table; peers without entries are forgotten, so the number of slots follows the peers that are in use. */
  private grow(): void {
    const { domids, counts } = this;
    let live = 0;
    for (let i = 0; i < domids.length; i++) if (domids[i]! >= 0 && counts[i]! > 0) live++;
    const length = live * 4 > domids.length ? domids.length * 2 : domids.length;
    this.domids = new Int32Array(length).fill(-1);
    this.counts = new Uint32Array(length);
    this.used = 0;
    for (let i = 0; i < domids.length; i++) {
      if (domids[i]! >= 0 && counts[i]! > 0) this.counts[this.slot(domids[i]!)] = counts[i]!;
    }
  }
}
