/**
 * The persistent grants of one queue: mappings that stay after their request, found by reference, given up least recently used
 * first. An open-addressing table and a linked list in typed arrays, so that a request allocates nothing; every call is O(1).
 * @see linux/drivers/block/xen-blkback/blkback.c, persistent_gnt
 */
export class PersistentGrants {
  readonly max: number;
  count = 0;
  readonly refs: Uint32Array;
  readonly vfns: number[];
  readonly handles: Uint32Array;
  readonly lastUsed: Float64Array;
  /** Requests under way that use the page. */
  readonly users: Uint32Array;
  /** Table of entry + 1, 0 = empty; linear probing. */
  private readonly table: Int32Array;
  private readonly mask: number;
  /** Recency list through the entries, and free list through `next`. Index `max` is its head. */
  private readonly next: Int32Array;
  private readonly prev: Int32Array;
  private free: number;

  constructor(max: number) {
    this.max = max;
    this.refs = new Uint32Array(max);
    this.vfns = new Array<number>(max).fill(0);
    this.handles = new Uint32Array(max);
    this.lastUsed = new Float64Array(max);
    this.users = new Uint32Array(max);
    const buckets = 1 << (32 - Math.clz32(max * 2));
    this.table = new Int32Array(buckets);
    this.mask = buckets - 1;
    this.next = new Int32Array(max + 1);
    this.prev = new Int32Array(max + 1);
    for (let i = 0; i < max; i++) this.next[i] = i + 1;
    this.free = 0;
    this.next[max] = max;
    this.prev[max] = max;
  }

  /** The entry of `ref`, or -1. */
  find(ref: number): number {
    let at = this.bucket(ref);
    for (;;) {
      const entry = this.table[at]! - 1;
      if (entry < 0 || this.refs[entry] === ref) return entry;
      at = (at + 1) & this.mask;
    }
  }

  /** Adds a mapping, in use by nobody, most recently used. Not when full, and not when the reference is there. Returns the entry. */
  add(ref: number, vfn: number, handle: number, now: number): number {
    const entry = this.free;
    this.free = this.next[entry]!;
    this.refs[entry] = ref;
    this.vfns[entry] = vfn;
    this.handles[entry] = handle;
    this.users[entry] = 0;
    let at = this.bucket(ref);
    while (this.table[at] !== 0) at = (at + 1) & this.mask;
    this.table[at] = entry + 1;
    this.count++;
    this.lastUsed[entry] = now;
    this.link(entry);
    return entry;
  }

  /** Marks the entry as used now. What is used again at the same time keeps its place. */
  touch(entry: number, now: number): void {
    if (this.lastUsed[entry] === now) return;
    this.lastUsed[entry] = now;
    if (this.prev[this.max] === entry) return;
    this.unlink(entry);
    this.link(entry);
  }

  /** Forgets an entry that nobody uses. */
  drop(entry: number): void {
    let at = this.bucket(this.refs[entry]!);
    while (this.table[at] !== entry + 1) at = (at + 1) & this.mask;
    // Close the gap, so that no search stops short of an entry behind it.
    let hole = at;
    for (;;) {
      at = (at + 1) & this.mask;
      const other = this.table[at]! - 1;
      if (other < 0) break;
      const home = this.bucket(this.refs[other]!);
      if (((at - home) & this.mask) >= ((at - hole) & this.mask)) {
        this.table[hole] = other + 1;
        hole = at;
      }
    }
    this.table[hole] = 0;
    this.unlink(entry);
    this.next[entry] = this.free;
    this.free = entry;
    this.count--;
  }

  /** The least recently used entry, or -1. */
  oldest(): number {
    const entry = this.next[this.max]!;
    return entry === this.max ? -1 : entry;
  }

  /** The next more recently used one after `entry`, or -1. */
  after(entry: number): number {
    const next = this.next[entry]!;
    return next === this.max ? -1 : next;
  }

  private bucket(ref: number): number {
    return (Math.imul(ref, 0x9e3779b1) >>> 8) & this.mask;
  }

  private link(entry: number): void {
    const last = this.prev[this.max]!;
    this.next[last] = entry;
    this.prev[entry] = last;
    this.next[entry] = this.max;
    this.prev[this.max] = entry;
  }

  private unlink(entry: number): void {
    const before = this.prev[entry]!;
    const behind = this.next[entry]!;
    this.next[before] = behind;
    this.prev[behind] = before;
  }
}
