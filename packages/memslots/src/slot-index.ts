import { invariant } from '@paravirt/event-bus/contract';

/** Entries of a block. A split leaves halves; below {@link JOIN_BELOW} entries a block joins a neighbour where both fit. */
export const BLOCK = 32;
const BLOCK_BITS = 5;
const JOIN_BELOW = 12;
const JOIN_ROOM = 24;
const NONE = 0xffff;

/** An eighth more at a time: the tables stay close to what is used, and growing stays cheap on average. */
export function growTo(need: number, have: number, cap: number): number {
  return Math.min(cap, Math.max(need, have + (have >> 3) + 8));
}

/** A longer copy of a table. */
export function grown<T extends Float64Array | Uint16Array | Uint8Array>(from: T, length: number): T {
  const to = new (from.constructor as new (length: number) => T)(length);
  to.set(from as never);
  return to;
}

function misplaced(key: number, row: number): void {
  invariant(false, () => `the entry of row ${row} is not where its key ${key} says`);
}

/**
 * Rows sorted by a number, then by row: a list of blocks of up to {@link BLOCK} entries, with the blocks' smallest keys side by side on top.
 * Unused keys of a block are `Infinity`, so that a search inside a block needs no count.
 *
 * A change moves entries of one block only (at most {@link BLOCK}); a split or join, one in a dozen changes at worst, also shifts the top.
 */
export class SlotIndex {
  /** Keys of block `b` at `[b * BLOCK, (b + 1) * BLOCK)`. */
  keys: Float64Array = new Float64Array(0);
  /** Rows beside the keys. */
  rows: Uint16Array = new Uint16Array(0);
  /** Entries in use, by block. */
  counts: Uint8Array = new Uint8Array(0);
  /** Blocks by position, ascending. */
  order: Uint16Array = new Uint16Array(0);
  /** Smallest key by position; `Infinity` from the end on, so that a position kept from earlier can be tried without a bound. */
  firsts: Float64Array = Float64Array.of(Number.POSITIVE_INFINITY);
  /** Blocks in use. */
  blocks = 0;
  /** Entries in use. */
  size = 0;
  #free = NONE;
  #made = 0;
  readonly #cap: number;

  constructor(maxEntries: number) {
    // A block below JOIN_BELOW has neighbours it could not be joined with, so two blocks side by side hold at least twice as much; the last may be new.
    this.#cap = Math.ceil(maxEntries / JOIN_BELOW) + 4;
  }

  /** Position of the last block whose smallest key is at most `key`; -1 when there is none. */
  blockOf(key: number): number {
    const { firsts } = this;
    let low = 0;
    let width = this.blocks;
    // The half that stays is chosen without a second comparison; `firsts[low] <= key` holds for the answer, or low is 0.
    while (width > 1) {
      const half = width >>> 1;
      if (firsts[low + half]! <= key) low += half;
      width -= half;
    }
    return firsts[low]! <= key ? low : -1;
  }

  /** Index into `keys` of the last entry of the block at `position` whose key is at most `key`. The block's smallest key must be at most `key`. */
  entryIn(position: number, key: number): number {
    const { keys } = this;
    let at = this.order[position]! << BLOCK_BITS;
    if (keys[at + 16]! <= key) at += 16;
    if (keys[at + 8]! <= key) at += 8;
    if (keys[at + 4]! <= key) at += 4;
    if (keys[at + 2]! <= key) at += 2;
    if (keys[at + 1]! <= key) at += 1;
    return at;
  }

  /** Bytes of the tables. */
  bytes(): number {
    return this.keys.byteLength + this.rows.byteLength + this.counts.byteLength + this.order.byteLength + this.firsts.byteLength;
  }

  insert(key: number, row: number): void {
    let position = this.#positionFor(key, row);
    if (position < 0) {
      if (this.blocks === 0) {
        const block = this.#take();
        this.order[0] = block;
        this.firsts[0] = key;
        this.firsts[1] = Number.POSITIVE_INFINITY;
        this.blocks = 1;
        this.rebuilt(0);
        this.shifted(0);
      }
      position = 0;
    }
    let block = this.order[position]!;
    if (this.counts[block] === BLOCK) {
      position = this.#split(position, key, row);
      block = this.order[position]!;
    }
    const { keys, rows } = this;
    const base = block << BLOCK_BITS;
    let at = base + this.counts[block]!;
    while (at > base && (keys[at - 1]! > key || (keys[at - 1] === key && rows[at - 1]! > row))) {
      keys[at] = keys[at - 1]!;
      rows[at] = rows[at - 1]!;
      at -= 1;
    }
    keys[at] = key;
    rows[at] = row;
    if (at === base) this.firsts[position] = key;
    this.counts[block] = this.counts[block]! + 1;
    this.size += 1;
    this.entered(position, row);
  }

  /** Takes out the entry; it must be there. */
  remove(key: number, row: number): void {
    const position = this.#positionFor(key, row);
    const block = this.order[position]!;
    const { keys, rows } = this;
    const base = block << BLOCK_BITS;
    const last = base + this.counts[block]! - 1;
    let at = base;
    while (at < last && (keys[at] !== key || rows[at] !== row)) at += 1;
    if (keys[at] !== key || rows[at] !== row) misplaced(key, row);
    while (at < last) {
      keys[at] = keys[at + 1]!;
      rows[at] = rows[at + 1]!;
      at += 1;
    }
    keys[last] = Number.POSITIVE_INFINITY;
    this.counts[block] = last - base;
    this.size -= 1;
    this.firsts[position] = keys[base]!;
    if (last === base) this.#drop(position);
    else {
      this.left(position, row);
      if (last - base < JOIN_BELOW) this.#join(position);
    }
  }

  /** An entry came to the block at `position`. For those who keep more per block. */
  protected entered(_position: number, _row: number): void {}
  /** An entry left the block at `position`. */
  protected left(_position: number, _row: number): void {}
  /** There is room for `blocks` blocks now. */
  protected grew(_blocks: number): void {}
  /** The block at `position` holds other entries than before. */
  protected rebuilt(_position: number): void {}
  /** Positions from `position` on stand for other blocks than before. */
  protected shifted(_position: number): void {}

  /** Position of the last block that begins at or before (key, row). Entries of one key may fill several blocks. */
  #positionFor(key: number, row: number): number {
    let position = this.blockOf(key);
    while (position > 0 && this.firsts[position] === key && this.rows[this.order[position]! << BLOCK_BITS]! > row) position -= 1;
    return position;
  }

  /** Makes room beside the full block at `position`. @returns the position that (key, row) belongs to. */
  #split(position: number, key: number, row: number): number {
    const from = this.order[position]!;
    const to = this.#take();
    const { keys, rows } = this;
    const source = from << BLOCK_BITS;
    const target = to << BLOCK_BITS;
    const last = source + BLOCK - 1;
    const after = keys[last]! < key || (keys[last] === key && rows[last]! < row);
    // Rising keys, the usual way a map is built, leave full blocks behind instead of halves.
    const kept = after && position === this.blocks - 1 ? BLOCK : BLOCK / 2;
    for (let i = kept; i < BLOCK; i++) {
      keys[target + i - kept] = keys[source + i]!;
      rows[target + i - kept] = rows[source + i]!;
      keys[source + i] = Number.POSITIVE_INFINITY;
    }
    this.counts[from] = kept;
    this.counts[to] = BLOCK - kept;
    this.order.copyWithin(position + 2, position + 1, this.blocks);
    this.firsts.copyWithin(position + 2, position + 1, this.blocks + 1);
    this.order[position + 1] = to;
    this.firsts[position + 1] = kept === BLOCK ? key : keys[target]!;
    this.blocks += 1;
    this.rebuilt(position);
    this.rebuilt(position + 1);
    this.shifted(position);
    const first = this.firsts[position + 1]!;
    return key > first || (key === first && (kept === BLOCK || row > rows[target]!)) ? position + 1 : position;
  }

  /** Joins a sparse block with a neighbour when both fit with room to spare. */
  #join(position: number): void {
    const count = this.counts[this.order[position]!]!;
    if (position + 1 < this.blocks && count + this.counts[this.order[position + 1]!]! <= JOIN_ROOM) this.#absorb(position);
    else if (position > 0 && count + this.counts[this.order[position - 1]!]! <= JOIN_ROOM) this.#absorb(position - 1);
  }

  /** Moves the entries of the block after `position` into it. */
  #absorb(position: number): void {
    const { keys, rows, counts } = this;
    const to = this.order[position]!;
    const from = this.order[position + 1]!;
    const target = (to << BLOCK_BITS) + counts[to]!;
    const source = from << BLOCK_BITS;
    const count = counts[from]!;
    for (let i = 0; i < count; i++) {
      keys[target + i] = keys[source + i]!;
      rows[target + i] = rows[source + i]!;
      keys[source + i] = Number.POSITIVE_INFINITY;
    }
    counts[to] = counts[to]! + count;
    counts[from] = 0;
    this.rebuilt(position);
    this.#drop(position + 1);
  }

  #drop(position: number): void {
    const block = this.order[position]!;
    this.order.copyWithin(position, position + 1, this.blocks);
    this.firsts.copyWithin(position, position + 1, this.blocks + 1);
    this.blocks -= 1;
    this.rows[block << BLOCK_BITS] = this.#free;
    this.#free = block;
    this.shifted(Math.max(0, position - 1));
  }

  /** An empty block: one that was given back, or a new one. The free ones form a list through their first row. */
  #take(): number {
    if (this.#free !== NONE) {
      const block = this.#free;
      this.#free = this.rows[block << BLOCK_BITS]!;
      return block;
    }
    const block = this.#made;
    this.#made += 1;
    if (block >= this.counts.length) {
      const blocks = growTo(block + 1, this.counts.length, this.#cap);
      const filled = this.keys.length;
      this.keys = grown(this.keys, blocks << BLOCK_BITS).fill(Number.POSITIVE_INFINITY, filled);
      this.rows = grown(this.rows, blocks << BLOCK_BITS);
      this.counts = grown(this.counts, blocks);
      this.order = grown(this.order, blocks + 1);
      const firsts = this.firsts.length;
      this.firsts = grown(this.firsts, blocks + 2).fill(Number.POSITIVE_INFINITY, firsts);
      this.grew(blocks);
    }
    return block;
  }
}
