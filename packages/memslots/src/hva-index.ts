import { BLOCK, grown, SlotIndex } from './slot-index.ts';

/** Blocks of a group. */
const GROUP_BITS = 5;

/** Where the index finds the end of a row's host range, in host frames. */
export interface HostEnds {
  hostEnd(row: number): number;
}

/**
 * Rows by the first frame of their host range, which may overlap freely. Beside the order it keeps the furthest end of every block and of every
 * 32 blocks, so that a query passes over whatever ends before it: an interval tree with two wide levels.
 */
export class HvaIndex extends SlotIndex {
  readonly #rows: HostEnds;
  /** Furthest end by block. */
  #ends: Float64Array = new Float64Array(0);
  /** Furthest end by group of positions. */
  #groups: Float64Array = new Float64Array(0);

  constructor(maxEntries: number, rows: HostEnds) {
    super(maxEntries);
    this.#rows = rows;
  }

  override bytes(): number {
    return super.bytes() + this.#ends.byteLength + this.#groups.byteLength;
  }

  /**
   * Writes the rows whose host range meets frames `[first, end)` to `into`, in no particular order.
   * @returns how many; `into` grows as needed.
   */
  query(first: number, end: number, into: number[]): number {
    let found = 0;
    let position = this.blockOf(end - 1);
    while (position >= 0) {
      const group = position >>> GROUP_BITS;
      if (this.#groups[group]! <= first) {
        position = (group << GROUP_BITS) - 1;
        continue;
      }
      const block = this.order[position]!;
      if (this.#ends[block]! > first) {
        const base = block * BLOCK;
        const stop = base + this.counts[block]!;
        for (let at = base; at < stop && this.keys[at]! < end; at++) {
          const row = this.rows[at]!;
          if (this.#rows.hostEnd(row) > first) into[found++] = row;
        }
      }
      position -= 1;
    }
    return found;
  }

  protected override grew(blocks: number): void {
    this.#ends = grown(this.#ends, blocks);
    this.#groups = grown(this.#groups, (blocks >>> GROUP_BITS) + 1);
  }

  protected override entered(position: number, row: number): void {
    const end = this.#rows.hostEnd(row);
    const block = this.order[position]!;
    if (end > this.#ends[block]!) {
      this.#ends[block] = end;
      const group = position >>> GROUP_BITS;
      if (end > this.#groups[group]!) this.#groups[group] = end;
    }
  }

  protected override left(position: number, row: number): void {
    const block = this.order[position]!;
    const end = this.#rows.hostEnd(row);
    if (end !== this.#ends[block]) return;
    this.rebuilt(position);
    const group = position >>> GROUP_BITS;
    if (this.#groups[group] === end) this.#regroup(group);
  }

  protected override rebuilt(position: number): void {
    const block = this.order[position]!;
    const base = block * BLOCK;
    let furthest = 0;
    for (let at = base; at < base + this.counts[block]!; at++) {
      const end = this.#rows.hostEnd(this.rows[at]!);
      if (end > furthest) furthest = end;
    }
    this.#ends[block] = furthest;
  }

  protected override shifted(position: number): void {
    const groups = (this.blocks + (1 << GROUP_BITS) - 1) >>> GROUP_BITS;
    for (let group = position >>> GROUP_BITS; group < groups; group++) this.#regroup(group);
  }

  #regroup(group: number): void {
    const stop = Math.min(this.blocks, (group + 1) << GROUP_BITS);
    let furthest = 0;
    for (let position = group << GROUP_BITS; position < stop; position++) {
      const end = this.#ends[this.order[position]!]!;
      if (end > furthest) furthest = end;
    }
    this.#groups[group] = furthest;
  }
}
