import { BLOCK, type BlockWatcher, grown, SlotIndex } from './slot-index.ts';

/** A range of this class has at most 2^class pages. */
const sizeClass = (pages: number): number => 32 - Math.clz32(pages - 1);

const pagesOfClass = (size: number): number => (1 << size) >>> 0;

/** Blocks of a group. */
const GROUP_BITS = 5;

/** Where the index finds the extent of a row's host range, in host frames. */
export interface HostRanges {
  hostEnd(row: number): number;
  pagesOf(row: number): number;
}

/**
 * Rows by the first frame of their host range, which may overlap freely. Beside the order it keeps the furthest end of every block and of every
 * 32 blocks, so that a query passes over whatever ends before it: an interval tree with two wide levels. And it counts the ranges of every size, because
 * where the longest is short only a few entries below the query can reach it.
 */
export class HvaIndex implements BlockWatcher {
  readonly #index: SlotIndex;
  readonly #rows: HostRanges;
  /** Furthest end by block, or beyond. */
  #ends: Float64Array = new Float64Array(0);
  /** Furthest end by group of positions. */
  #groups: Float64Array = new Float64Array(0);
  /** Ranges by size class. */
  readonly #sizes: Uint16Array = new Uint16Array(33);
  /** No range has more pages. */
  #longest = 1;

  constructor(maxEntries: number, rows: HostRanges) {
    this.#index = new SlotIndex(maxEntries, this);
    this.#rows = rows;
  }

  bytes(): number {
    return this.#index.bytes() + this.#ends.byteLength + this.#groups.byteLength;
  }

  /**
   * Writes the rows whose host range meets frames `[first, end)` to `into`, in no particular order.
   * @returns how many; `into` grows as needed.
   */
  query(first: number, end: number, into: number[]): number {
    const index = this.#index;
    let found = 0;
    let position = index.blockOf(end - 1);
    const reach = first - this.#longest;
    while (position >= 0) {
      const group = position >>> GROUP_BITS;
      if (this.#groups[group]! <= first) {
        position = (group << GROUP_BITS) - 1;
        continue;
      }
      const block = index.order[position]!;
      if (this.#ends[block]! > first) {
        for (let at = index.entryIn(position, end - 1); at >= block * BLOCK && index.keys[at]! > reach; at--) {
          const row = index.rows[at]!;
          if (this.#rows.hostEnd(row) > first) into[found++] = row;
        }
      }
      if (index.firsts[position]! <= reach) break;
      position -= 1;
    }
    return found;
  }

  insert(key: number, row: number): void {
    this.#index.insert(key, row);
    const size = sizeClass(this.#rows.pagesOf(row));
    this.#sizes[size] = this.#sizes[size]! + 1;
    if (this.#longest < pagesOfClass(size)) this.#longest = pagesOfClass(size);
  }

  remove(key: number, row: number): void {
    this.#index.remove(key, row);
    const size = sizeClass(this.#rows.pagesOf(row));
    this.#sizes[size] = this.#sizes[size]! - 1;
    if (this.#sizes[size] !== 0 || this.#longest !== pagesOfClass(size)) return;
    let most = size;
    while (most > 0 && this.#sizes[most] === 0) most -= 1;
    this.#longest = pagesOfClass(most);
  }

  grew(blocks: number): void {
    this.#ends = grown(this.#ends, blocks);
    this.#groups = grown(this.#groups, (blocks >>> GROUP_BITS) + 2);
  }

  entered(position: number, row: number): void {
    const end = this.#rows.hostEnd(row);
    const block = this.#index.order[position]!;
    if (end > this.#ends[block]!) {
      this.#ends[block] = end;
      const group = position >>> GROUP_BITS;
      if (end > this.#groups[group]!) this.#groups[group] = end;
    }
  }

  /** A furthest end that is too far costs a query a look, and none where it ends before the next block begins: the query looks here anyway. */
  left(position: number, row: number): void {
    const end = this.#rows.hostEnd(row);
    if (end === this.#ends[this.#index.order[position]!] && end > this.#index.firsts[position + 1]!) this.rebuilt(position);
  }

  rebuilt(position: number): void {
    const block = this.#index.order[position]!;
    const base = block * BLOCK;
    let furthest = 0;
    for (let at = base; at < base + this.#index.counts[block]!; at++) {
      const end = this.#rows.hostEnd(this.#index.rows[at]!);
      if (end > furthest) furthest = end;
    }
    this.#ends[block] = furthest;
    this.#regroup(position >>> GROUP_BITS);
  }

  shifted(position: number): void {
    const groups = (this.#index.blocks + (1 << GROUP_BITS) - 1) >>> GROUP_BITS;
    for (let group = position >>> GROUP_BITS; group < groups; group++) this.#regroup(group);
  }

  #regroup(group: number): void {
    const stop = Math.min(this.#index.blocks, (group + 1) << GROUP_BITS);
    let furthest = 0;
    for (let position = group << GROUP_BITS; position < stop; position++) {
      const end = this.#ends[this.#index.order[position]!]!;
      if (end > furthest) furthest = end;
    }
    this.#groups[group] = furthest;
  }
}
