import { Borders } from './borders.ts';
import { GapTree } from './gap-tree.ts';

/** How many holes that are large enough but badly aligned a search passes before it has a tree made for that alignment. */
const MISFITS_MAX = 8;

/**
 * The bits of one region, kept as the borders of its runs: where a run of set bits starts, and where it ends. Between two runs lies a
 * gap; it belongs to the run that ends where it starts. The gap above the last run is the tail, which ends at `top`.
 *
 * An area for `nr` pages goes into a gap [start, border) at the candidate `(start + align) & ~(align - 1)`, so that the first bit
 * stays clear as a guard, and needs candidate + nr < border. The room of a gap is border - candidate, or 0; it fits if room > nr.
 * For each alignment in use a tree holds the largest room per word of 32 bits. The tail is in no tree: it is asked last.
 */
export class Bitmap {
  readonly #borders: Borders;
  readonly #leaves: number;
  /** By the logarithm of the alignment, and those that exist as a list. */
  readonly #treeByLog: (GapTree | undefined)[] = new Array<GapTree | undefined>(32).fill(undefined);
  readonly #trees: GapTree[] = [];
  readonly #logs: number[] = [];
  /** Start of the tail: end of the last run. */
  tail: number;

  /** @param bound bits are below this. @param reserved the first run, [0, reserved), which is never cleared; at least 1. */
  constructor(bound: number, reserved: number) {
    this.#borders = new Borders(bound + 1);
    this.#leaves = Math.ceil((bound + 1) / 32);
    this.#addTree(0);
    this.#borders.add(0, reserved);
    this.tail = reserved;
  }

  /** Whether a run starts at `bit`. */
  isStart(bit: number): boolean {
    return this.#borders.isStart(bit);
  }

  /** Whether a gap starts at `bit`. */
  isEnd(bit: number): boolean {
    return this.#borders.isEnd(bit);
  }

  /** The first start of a run at or after `bit`, or -1. */
  nextStart(bit: number): number {
    return this.#borders.nextStart(bit);
  }

  /** The last start of a run at or before `bit`. */
  prevStart(bit: number): number {
    return this.#borders.prevStart(bit);
  }

  /** Where the run that holds `bit`, a set bit, ends. */
  endOf(bit: number): number {
    return this.#borders.nextEnd(bit + 1);
  }

  /** The first bit of the gap that holds `bit`, a clear bit; for the start of a run, of the gap before it. */
  gapStart(bit: number): number {
    return this.#borders.prevEnd(bit);
  }

  isSet(bit: number): boolean {
    const end = this.#borders.prevEnd(bit);
    return this.#borders.prevStart(bit) > end;
  }

  /**
   * The first gap that starts at or after `from`, ends below the last run and fits `nr` pages aligned to 2^log.
   * @returns its start, or -1.
   */
  find(from: number, nr: number, log: number): number {
    const need = nr + 1;
    const tree = this.#treeByLog[log];
    if (tree !== undefined) return this.#findIn(tree, log, from, need);
    const any = this.#trees[0]!;
    let at = from;
    for (let misfits = 0; misfits < MISFITS_MAX; misfits++) {
      const gap = this.#findIn(any, 0, at, need);
      if (gap < 0 || room(gap, this.#borders.nextStart(gap + 1), log) >= need) return gap;
      at = gap + 1;
    }
    return this.#findIn(this.#addTree(log), log, at, need);
  }

  #findIn(tree: GapTree, log: number, from: number, need: number): number {
    let word = from >>> 5;
    let bits = -1 << (from & 31);
    if (tree.get(word) < need) {
      word = tree.find(word + 1, need);
      bits = -1;
    }
    while (word >= 0) {
      const gap = this.#fitIn(word, bits, log, need);
      if (gap >= 0) return gap;
      // Only a word that is searched from its middle can have its largest gap outside.
      word = tree.find(word + 1, need);
      bits = -1;
    }
    return -1;
  }

  /** The first gap that fits among those that start at the positions `mask` of `word`. */
  #fitIn(word: number, mask: number, log: number, need: number): number {
    const starts = this.#borders.starts(word);
    let ends = this.#borders.ends(word) & mask & ~(starts >>> 1);
    const first = (word << 5) >>> 0;
    while (ends !== 0) {
      const at = 31 - Math.clz32(ends & -ends);
      ends &= ends - 1;
      const gap = first + at;
      const later = at === 31 ? 0 : starts & (-2 << at);
      const border = later === 0 ? this.#borders.nextStart(first + 32) : first + 31 - Math.clz32(later & -later);
      if (border < 0) return -1;
      if (room(gap, border, log) >= need) return gap;
    }
    return -1;
  }

  /** The largest room of the gaps that start in `word`. */
  #roomOf(word: number, log: number): number {
    const starts = this.#borders.starts(word);
    // A gap of one bit, whose border is the next bit, has no room for anything.
    let ends = this.#borders.ends(word) & ~(starts >>> 1);
    const first = (word << 5) >>> 0;
    let max = 0;
    while (ends !== 0) {
      const at = 31 - Math.clz32(ends & -ends);
      ends &= ends - 1;
      const later = at === 31 ? 0 : starts & (-2 << at);
      const border = later === 0 ? this.#borders.nextStart(first + 32) : first + 31 - Math.clz32(later & -later);
      if (border < 0) break;
      const found = room(first + at, border, log);
      if (found > max) max = found;
    }
    return max;
  }

  /**
   * Sets the bits [start, end), all clear, in the gap that starts at `gap` and ends at `border` (-1: the tail), leaving a clear bit
   * before and after, or none after when it reaches `top`.
   */
  insert(gap: number, border: number, start: number, end: number): void {
    this.#borders.add(start, end);
    if (border < 0) this.tail = end;
    for (let i = 0; i < this.#trees.length; i++) {
      const tree = this.#trees[i]!;
      const log = this.#logs[i]!;
      const before = room(gap, start, log);
      const word = gap >>> 5;
      if (border < 0) {
        if (before > tree.get(word)) tree.update(word, before);
        continue;
      }
      const was = room(gap, border, log);
      if (was === 0) continue;
      if (was === tree.get(word)) tree.update(word, this.#roomOf(word, log));
      const after = room(end, border, log);
      if (after > tree.get(end >>> 5)) tree.update(end >>> 5, after);
    }
  }

  /** Sets the bits [start, end) in the tail, with one clear bit before them, which has no room for anything. */
  append(start: number, end: number): void {
    this.#borders.add(start, end);
    this.tail = end;
  }

  /** Clears the run [start, end), which is not the first, and returns the first bit of the gap that was before it. */
  remove(start: number, end: number): number {
    const gap = this.#borders.prevEnd(start);
    const border = end === this.tail ? -1 : this.#borders.nextStart(end + 1);
    this.#borders.remove(start, end);
    if (border < 0) {
      this.tail = gap;
      if (start === gap + 1) return gap;
    }
    for (let i = 0; i < this.#trees.length; i++) {
      const tree = this.#trees[i]!;
      const log = this.#logs[i]!;
      const word = gap >>> 5;
      if (border < 0) {
        const before = room(gap, start, log);
        if (before !== 0 && before === tree.get(word)) tree.update(word, this.#roomOf(word, log));
        continue;
      }
      const after = room(end, border, log);
      if (after !== 0 && after === tree.get(end >>> 5)) tree.update(end >>> 5, this.#roomOf(end >>> 5, log));
      const now = room(gap, border, log);
      if (now > tree.get(word)) tree.update(word, now);
    }
    return gap;
  }

  /**
   * Sets the bits [start, end), whatever is there: what the original does when its 32-bit arithmetic wrapped or `low` stands on a set
   * bit. Cost O(runs touched).
   */
  union(start: number, end: number): void {
    if (start >= end) return;
    let from = start;
    let to = end;
    // A run that holds or touches the first bit becomes part of the new one, and so does every run that starts up to its end.
    const left = this.#borders.prevStart(from);
    if (left >= 0 && this.#borders.nextEnd(left + 1) >= from) from = left;
    const words: number[] = [this.#borders.prevEnd(from) >>> 5];
    for (let at = this.#borders.nextStart(from); at >= 0 && at <= to; at = this.#borders.nextStart(at + 1)) {
      const runEnd = this.#borders.nextEnd(at + 1);
      if (runEnd > to) to = runEnd;
      this.#borders.remove(at, runEnd);
      words.push(runEnd >>> 5);
    }
    this.#borders.add(from, to);
    words.push(to >>> 5);
    if (to > this.tail) this.tail = to;
    for (let i = 0; i < this.#trees.length; i++) {
      for (const word of words) if (word < this.#leaves) this.#trees[i]!.update(word, this.#roomOf(word, this.#logs[i]!));
    }
  }

  #addTree(log: number): GapTree {
    const tree = new GapTree(this.#leaves);
    this.#treeByLog[log] = tree;
    this.#trees.push(tree);
    this.#logs.push(log);
    for (let word = this.#borders.nextWord(0); word >= 0; word = this.#borders.nextWord(word + 1))
      tree.update(word, this.#roomOf(word, log));
    return tree;
  }
}

/** The room of the gap [start, border) for the alignment 2^log, as it is said above. */
function room(start: number, border: number, log: number): number {
  if (log === 0) return border - start - 1;
  const candidate = candidateOf(start, log);
  return candidate < border && candidate > start ? border - candidate : 0;
}

/** Where an area aligned to 2^log goes in a gap that starts at `start`, in unsigned 32-bit arithmetic. */
export function candidateOf(start: number, log: number): number {
  return ((start + ((1 << log) >>> 0)) & (-1 << log)) >>> 0;
}
