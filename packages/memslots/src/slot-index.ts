import { invariant } from '@paravirt/event-bus/contract';

/** Entries of a block. */
export const BLOCK = 16;
const BLOCK_BITS = 4;
/** Two neighbours that hold no more are joined, whichever of them lost an entry. */
const JOIN_UP_TO = 10;
/** Free places of a neighbour that make it worth moving entries there. */
const ROOM = 3;
const HINTS_MAX = 1 << 13;
/** Spans looked at to choose the width of a hint. */
const SAMPLES = 31;
/** How many times the typical span of a block the mean may be before the typical one is believed. */
const SPREAD_MAX = 4;
const NONE = 0xffff;

/** A sixteenth more at a time: the tables stay close to what is used, and growing stays cheap on average. */
export function growTo(need: number, have: number, cap: number): number {
  return Math.min(cap, Math.max(need, have + (have >> 4) + 1));
}

/** A longer copy of a table. */
export function grown<T extends Float64Array | Uint16Array | Uint8Array>(from: T, length: number): T {
  const to = new (from.constructor as new (length: number) => T)(length);
  to.set(from as never);
  return to;
}

/** A comparison as 0 or 1. The searches add it up instead of branching: which way a random key goes cannot be predicted, and this halves their time. */
const asNumber = (is: boolean): number => is as unknown as number;

/** Hints a key, a power of two, so that `hints` of them cover `span`. */
export const hintScale = (span: number, hints: number): number => 2 ** -Math.max(0, Math.ceil(Math.log2(span / hints)));

function misplaced(key: number, row: number): void {
  invariant(false, () => `the entry of row ${row} is not where its key ${key} says`);
}

/** Told of what happens to the blocks, for those who keep more about each. */
export interface BlockWatcher {
  /** An entry came to the block at `position`. */
  entered(position: number, row: number): void;
  /** An entry left the block at `position`, which is not empty. */
  left(position: number, row: number): void;
  /** There is room for `blocks` blocks now. */
  grew(blocks: number): void;
  /** The block at `position` holds other entries than before. */
  rebuilt(position: number): void;
  /** Positions from `position` on stand for other blocks than before. */
  shifted(position: number): void;
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
  /** Keys the index spans, a few far ones apart: what a table of hints beside it has to cover. */
  span = 1;
  /** How often {@link span} was chosen anew. */
  tunings = 0;
  /** Positions of blocks by the high bits of a key; believed only after a look at the blocks' bounds. */
  #hints: Uint16Array = new Uint16Array(1);
  #hintMask = 0;
  /** Hints a key: a power of two. */
  #hintScale = 0.5;
  #tunedAt = 0;
  #inserted = 0;
  /** Highest bit of a position; `firsts` has room for every position with it. */
  #topBit = -1;
  #free = NONE;
  #made = 0;
  readonly #cap: number;

  readonly #watcher: BlockWatcher | null;

  constructor(maxEntries: number, watcher: BlockWatcher | null = null) {
    this.#watcher = watcher;
    // Two blocks side by side hold more than JOIN_UP_TO entries, always.
    this.#cap = Math.ceil((maxEntries * 2) / JOIN_UP_TO) + 4;
  }

  /** Position of the last block whose smallest key is at most `key`; -1 when there is none. */
  blockOf(key: number): number {
    const { firsts } = this;
    const bucket = (key * this.#hintScale) & this.#hintMask;
    const hint = this.#hints[bucket]!;
    // Where two blocks share a bucket the hint is the lower one, and both are hits.
    const position = hint + asNumber(firsts[hint + 1]! <= key);
    if (firsts[position]! <= key && key < firsts[position + 1]!) return position;
    return this.#search(key, bucket, hint);
  }

  #search(key: number, bucket: number, hint: number): number {
    const { firsts } = this;
    let low = 0;
    for (let bit = this.#topBit; bit >= 0; bit--) low += asNumber(firsts[low + (1 << bit)]! <= key) << bit;
    if (!(firsts[low]! <= key)) return -1;
    this.#hints[bucket] = low > hint ? low - 1 : low;
    return low;
  }

  /** Index into `keys` of the last entry of the block at `position` whose key is at most `key`. The block's smallest key must be at most `key`. */
  entryIn(position: number, key: number): number {
    const { keys } = this;
    let at = this.order[position]! << BLOCK_BITS;
    at += asNumber(keys[at + 8]! <= key) << 3;
    at += asNumber(keys[at + 4]! <= key) << 2;
    at += asNumber(keys[at + 2]! <= key) << 1;
    at += asNumber(keys[at + 1]! <= key) << 0;
    return at;
  }

  /** The entry before `at`, which is in the block at `position`; -1 when it is the first. */
  previous(position: number, at: number): number {
    if (at > this.order[position]! << BLOCK_BITS) return at - 1;
    if (position === 0) return -1;
    const block = this.order[position - 1]!;
    return (block << BLOCK_BITS) + this.counts[block]! - 1;
  }

  /** The first entry whose key is at least `key`; -1 when there is none. */
  firstFrom(key: number): number {
    const position = this.blockOf(key - 1);
    if (position >= 0) {
      const block = this.order[position]!;
      const at = this.entryIn(position, key - 1) + 1;
      if (at < (block << BLOCK_BITS) + this.counts[block]!) return at;
    }
    return position + 1 < this.blocks ? this.order[position + 1]! << BLOCK_BITS : -1;
  }

  /** Bytes of the tables. */
  bytes(): number {
    const { keys, rows, counts, order, firsts } = this;
    return keys.byteLength + rows.byteLength + counts.byteLength + order.byteLength + firsts.byteLength + this.#hints.byteLength;
  }

  insert(key: number, row: number): void {
    let position = this.#positionFor(key, row);
    if (position < 0) {
      if (this.blocks === 0) this.#begin(key);
      position = 0;
    }
    if (this.counts[this.order[position]!] === BLOCK) position = this.#makeRoom(position, key, row);
    const block = this.order[position]!;
    const { keys, rows } = this;
    const base = block << BLOCK_BITS;
    const count = this.counts[block]!;
    let at = base + count;
    while (at > base && (keys[at - 1]! > key || (keys[at - 1] === key && rows[at - 1]! > row))) {
      keys[at] = keys[at - 1]!;
      rows[at] = rows[at - 1]!;
      at -= 1;
    }
    keys[at] = key;
    rows[at] = row;
    if (at === base) this.firsts[position] = key;
    this.counts[block] = count + 1;
    this.size += 1;
    this.#watcher?.entered(position, row);
    this.#inserted += 1;
    if (Math.abs(this.blocks - this.#tunedAt) * 8 > this.#tunedAt || this.#inserted > 64 + this.size * 4) this.#tune();
  }

  /** Takes out the entry; it must be there. */
  remove(key: number, row: number): void {
    const position = this.#positionFor(key, row);
    const block = this.order[position]!;
    const { keys, rows } = this;
    const base = block << BLOCK_BITS;
    const last = base + this.counts[block]! - 1;
    let at = this.entryIn(position, key);
    // Of several entries with one key the search finds the last.
    while (at > base && rows[at] !== row) at -= 1;
    if (keys[at] !== key || rows[at] !== row) misplaced(key, row);
    for (; at < last; at++) {
      keys[at] = keys[at + 1]!;
      rows[at] = rows[at + 1]!;
    }
    keys[last] = Number.POSITIVE_INFINITY;
    this.counts[block] = last - base;
    this.size -= 1;
    this.firsts[position] = keys[base]!;
    if (last === base) this.#drop(position);
    else {
      this.#watcher?.left(position, row);
      if (last - base < JOIN_UP_TO) this.#join(position, last - base);
    }
  }

  /** Position of the last block that begins at or before (key, row); -1 when there is none. Entries of one key may fill several blocks. */
  #positionFor(key: number, row: number): number {
    const position = this.blockOf(key);
    if (position <= 0 || this.#begins(position, key, row)) return position;
    let low = Math.max(0, this.blockOf(key - 1));
    let high = position - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#begins(middle, key, row)) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Whether the block at `position` begins at or before (key, row). */
  #begins(position: number, key: number, row: number): boolean {
    const first = this.firsts[position]!;
    return first < key || (first === key && this.rows[this.order[position]! << BLOCK_BITS]! <= row);
  }

  #begin(key: number): void {
    this.order[0] = this.#take();
    this.firsts[0] = key;
    this.blocks = 1;
    this.#watcher?.rebuilt(0);
    this.#watcher?.shifted(0);
  }

  /**
   * Makes room in the full block at `position`, or beside it. Entries go to a neighbour that has room before a block is split: blocks stay five sixths full.
   * @returns the position that (key, row) belongs to now.
   */
  #makeRoom(position: number, key: number, row: number): number {
    const { keys, rows } = this;
    const block = this.order[position]!;
    const last = (block << BLOCK_BITS) + BLOCK - 1;
    const rising = position === this.blocks - 1 && (keys[last]! < key || (keys[last] === key && rows[last]! < row));
    // Rising keys, the usual way a map is built, leave full blocks behind.
    if (rising) this.#addBlock(position + 1, key);
    else if (position + 1 < this.blocks && this.#room(position + 1) >= ROOM) this.#shiftUp(position, this.#room(position + 1) >>> 1);
    else if (position > 0 && this.#room(position - 1) >= ROOM) this.#shiftDown(position, this.#room(position - 1) >>> 1);
    else {
      this.#addBlock(position + 1, keys[last]!);
      this.#shiftUp(position, BLOCK / 2);
    }
    if (rising || (position + 1 < this.blocks && this.#begins(position + 1, key, row))) return position + 1;
    return position > 0 && !this.#begins(position, key, row) ? position - 1 : position;
  }

  /** Chooses the width of the hints anew: the map has become another. */
  #tune(): void {
    const { blocks, firsts } = this;
    this.#tunedAt = blocks;
    this.#inserted = 0;
    this.tunings += 1;
    const last = this.order[blocks - 1]!;
    const whole = this.keys[(last << BLOCK_BITS) + this.counts[last]! - 1]! - firsts[0]!;
    this.span = Math.max(1, Math.min(whole, this.#typicalSpan() * blocks * SPREAD_MAX));
    let hints = 1;
    while (hints < blocks * 2 && hints < HINTS_MAX) hints *= 2;
    if (hints !== this.#hints.length) this.#hints = new Uint16Array(hints);
    this.#hintMask = hints - 1;
    this.#hintScale = hintScale(this.span, hints);
  }

  /** Median of the keys that blocks span: what a crowded part of the map needs, where a few far entries make the whole span say nothing. */
  #typicalSpan(): number {
    const { blocks, firsts } = this;
    const spans: number[] = [];
    const step = Math.max(1, Math.floor((blocks - 1) / SAMPLES));
    for (let position = 0; position + 1 < blocks; position += step) spans.push(firsts[position + 1]! - firsts[position]!);
    spans.sort((a, b) => a - b);
    return spans[spans.length >>> 1] ?? Number.POSITIVE_INFINITY;
  }

  #room(position: number): number {
    return BLOCK - this.counts[this.order[position]!]!;
  }

  /** An empty block at `position`, whose first key shall be `key`. */
  #addBlock(position: number, key: number): void {
    const block = this.#take();
    this.order.copyWithin(position + 1, position, this.blocks);
    this.firsts.copyWithin(position + 1, position, this.blocks);
    this.order[position] = block;
    this.firsts[position] = key;
    this.blocks += 1;
    this.#watcher?.rebuilt(position);
    this.#watcher?.shifted(position);
  }

  /** Moves the last `count` entries of the block at `position` to the front of the next. */
  #shiftUp(position: number, count: number): void {
    const { keys, rows, counts } = this;
    const from = this.order[position]!;
    const to = this.order[position + 1]!;
    const target = to << BLOCK_BITS;
    keys.copyWithin(target + count, target, target + counts[to]!);
    rows.copyWithin(target + count, target, target + counts[to]!);
    const source = (from << BLOCK_BITS) + counts[from]! - count;
    keys.copyWithin(target, source, source + count);
    rows.copyWithin(target, source, source + count);
    keys.fill(Number.POSITIVE_INFINITY, source, source + count);
    this.#moved(position, from, position + 1, to, count);
  }

  /** Moves the first `count` entries of the block at `position` to the end of the one before. */
  #shiftDown(position: number, count: number): void {
    const { keys, rows, counts } = this;
    const from = this.order[position]!;
    const to = this.order[position - 1]!;
    const target = (to << BLOCK_BITS) + counts[to]!;
    const source = from << BLOCK_BITS;
    const end = source + counts[from]!;
    keys.copyWithin(target, source, source + count);
    rows.copyWithin(target, source, source + count);
    keys.copyWithin(source, source + count, end);
    rows.copyWithin(source, source + count, end);
    keys.fill(Number.POSITIVE_INFINITY, end - count, end);
    this.#moved(position, from, position - 1, to, count);
  }

  #moved(position: number, from: number, other: number, to: number, count: number): void {
    const { keys, counts, firsts } = this;
    counts[from] = counts[from]! - count;
    counts[to] = counts[to]! + count;
    if (counts[from] !== 0) firsts[position] = keys[from << BLOCK_BITS]!;
    firsts[other] = keys[to << BLOCK_BITS]!;
    this.#watcher?.rebuilt(position);
    this.#watcher?.rebuilt(other);
  }

  /** Joins the block with a neighbour when what both hold fits loosely into one. */
  #join(position: number, count: number): void {
    if (position + 1 < this.blocks && count + this.counts[this.order[position + 1]!]! <= JOIN_UP_TO) this.#absorb(position);
    else if (position > 0 && count + this.counts[this.order[position - 1]!]! <= JOIN_UP_TO) this.#absorb(position - 1);
  }

  /** Moves the entries of the block after `position` into it. */
  #absorb(position: number): void {
    this.#shiftDown(position + 1, this.counts[this.order[position + 1]!]!);
    this.#drop(position + 1);
  }

  #drop(position: number): void {
    const block = this.order[position]!;
    this.order.copyWithin(position, position + 1, this.blocks);
    this.firsts.copyWithin(position, position + 1, this.blocks + 1);
    this.blocks -= 1;
    this.rows[block << BLOCK_BITS] = this.#free;
    this.#free = block;
    this.#watcher?.shifted(Math.max(0, position - 1));
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
      this.#topBit = 31 - Math.clz32(blocks);
      const firsts = this.firsts.length;
      if (firsts < 2 << this.#topBit) this.firsts = grown(this.firsts, 2 << this.#topBit).fill(Number.POSITIVE_INFINITY, firsts);
      this.#watcher?.grew(blocks);
    }
    return block;
  }
}
