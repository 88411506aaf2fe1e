/** Words of 32 bits in one chunk: what one page of the original's bitmap covers. */
const CHUNK_WORDS = 1024;
/** Stands for every chunk that was never written, so that readers need no check. */
const EMPTY: Uint32Array = new Uint32Array(CHUNK_WORDS * 2);

/**
 * Where the runs of set bits start, and where they end (the first clear bit past them). For each word of 32 bits there are two words
 * side by side, one for starts and one for ends; above them a bit for each pair that is not zero, a bit for each word of those, and so
 * on. Starts and ends alternate, so one index of both leads to either. Chunks are made when first written.
 *
 * Costs: everything O(log32 bound), O(1) where the neighbour is in the same word.
 */
export class Borders {
  readonly #chunks: Uint32Array[];
  /** `#above[0]` has a bit for each pair of words, `#above[k]` for each word under it. */
  readonly #above: Uint32Array[] = [];

  /** @param bound positions are below this, at most 2^32. */
  constructor(bound: number) {
    this.#chunks = new Array<Uint32Array>(Math.ceil(bound / 32_768)).fill(EMPTY);
    let words = this.#chunks.length * CHUNK_WORDS;
    do {
      words = Math.ceil(words / 32);
      this.#above.push(new Uint32Array(words));
    } while (words > 1);
  }

  /** The starts among the 32 bits from `word * 32` on. */
  starts(word: number): number {
    return this.#chunks[word >>> 10]![(word & 1023) << 1]!;
  }

  /** The ends among the 32 bits from `word * 32` on. */
  ends(word: number): number {
    return this.#chunks[word >>> 10]![((word & 1023) << 1) | 1]!;
  }

  isStart(bit: number): boolean {
    return ((this.#chunks[bit >>> 15]![(bit >>> 4) & 2046]! >>> (bit & 31)) & 1) !== 0;
  }

  isEnd(bit: number): boolean {
    return ((this.#chunks[bit >>> 15]![((bit >>> 4) & 2046) | 1]! >>> (bit & 31)) & 1) !== 0;
  }

  /** The first start at or after `bit`, or -1. */
  nextStart(bit: number): number {
    return this.#next(bit, 0);
  }

  /** The first end at or after `bit`, or -1. */
  nextEnd(bit: number): number {
    return this.#next(bit, 1);
  }

  /** The last start at or before `bit`, or -1. */
  prevStart(bit: number): number {
    return this.#prev(bit, 0);
  }

  /** The last end at or before `bit`, or -1. */
  prevEnd(bit: number): number {
    return this.#prev(bit, 1);
  }

  #next(bit: number, side: number): number {
    let word = bit >>> 5;
    if (word >>> 10 >= this.#chunks.length) return -1;
    let found = this.#chunks[word >>> 10]![((word & 1023) << 1) | side]! & (-1 << (bit & 31));
    // A word that has a border has one of this kind, or the next one that has any does.
    while (found === 0) {
      word = this.#nextWord(word + 1);
      if (word < 0) return -1;
      found = this.#chunks[word >>> 10]![((word & 1023) << 1) | side]!;
    }
    return ((word << 5) | (31 - Math.clz32(found & -found))) >>> 0;
  }

  #prev(bit: number, side: number): number {
    let word = bit >>> 5;
    let found = this.#chunks[word >>> 10]![((word & 1023) << 1) | side]! & (-1 >>> (31 - (bit & 31)));
    while (found === 0) {
      word = this.#prevWord(word);
      if (word < 0) return -1;
      found = this.#chunks[word >>> 10]![((word & 1023) << 1) | side]!;
    }
    return ((word << 5) | (31 - Math.clz32(found))) >>> 0;
  }

  /** The first word at or after `from` that has a border, or -1. */
  nextWord(from: number): number {
    return this.#nextWord(from);
  }

  #nextWord(from: number): number {
    const above = this.#above;
    let at = from;
    for (let k = 0; k < above.length; k++) {
      const level = above[k]!;
      const word = at >>> 5;
      if (word >= level.length) return -1;
      const bits = level[word]! & (-1 << (at & 31));
      if (bits !== 0) {
        at = (word << 5) | (31 - Math.clz32(bits & -bits));
        for (let down = k - 1; down >= 0; down--) {
          const under = above[down]![at]!;
          at = (at << 5) | (31 - Math.clz32(under & -under));
        }
        return at;
      }
      at = word + 1;
    }
    return -1;
  }

  /** The last word before `before` that has a border, or -1. */
  #prevWord(before: number): number {
    const above = this.#above;
    let at = before;
    for (let k = 0; k < above.length; k++) {
      if (at === 0) return -1;
      at--;
      const level = above[k]!;
      const bits = level[at >>> 5]! & (-1 >>> (31 - (at & 31)));
      if (bits !== 0) {
        at = (at & ~31) | (31 - Math.clz32(bits));
        for (let down = k - 1; down >= 0; down--) at = (at << 5) | (31 - Math.clz32(above[down]![at]!));
        return at;
      }
      at >>>= 5;
    }
    return -1;
  }

  /** Adds a run: a start and an end. */
  add(start: number, end: number): void {
    const word = start >>> 5;
    if (word === end >>> 5) this.#toggle(word, 1 << (start & 31), 1 << (end & 31));
    else {
      this.#toggle(word, 1 << (start & 31), 0);
      this.#toggle(end >>> 5, 0, 1 << (end & 31));
    }
  }

  /** Removes a run: its start and its end, which are there. */
  remove(start: number, end: number): void {
    this.add(start, end);
  }

  /** Turns round the borders of `word` that the masks name. */
  #toggle(word: number, starts: number, ends: number): void {
    let chunk = this.#chunks[word >>> 10]!;
    if (chunk === EMPTY) {
      chunk = new Uint32Array(CHUNK_WORDS * 2);
      this.#chunks[word >>> 10] = chunk;
    }
    const pair = (word & 1023) << 1;
    const oldStarts = chunk[pair]!;
    const oldEnds = chunk[pair | 1]!;
    chunk[pair] = oldStarts ^ starts;
    chunk[pair | 1] = oldEnds ^ ends;
    if ((oldStarts | oldEnds) === 0) this.#mark(word);
    else if (((oldStarts ^ starts) | (oldEnds ^ ends)) === 0) this.#unmark(word);
  }

  #mark(word: number): void {
    const above = this.#above;
    let at = word;
    for (let k = 0; k < above.length; k++) {
      const level = above[k]!;
      const was = level[at >>> 5]!;
      level[at >>> 5] = was | (1 << (at & 31));
      if (was !== 0) return;
      at >>>= 5;
    }
  }

  #unmark(word: number): void {
    const above = this.#above;
    let at = word;
    for (let k = 0; k < above.length; k++) {
      const level = above[k]!;
      const rest = level[at >>> 5]! & ~(1 << (at & 31));
      level[at >>> 5] = rest;
      if (rest !== 0) return;
      at >>>= 5;
    }
  }
}
