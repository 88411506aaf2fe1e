/** Bits of one chunk: what one page of the original's bitmap covers. */
const CHUNK_WORDS = 1024;
/** Stands for every chunk that was never written, so that readers need no check. */
const EMPTY: Uint32Array = new Uint32Array(CHUNK_WORDS);

/**
 * A set of positions below a fixed bound, with the next and the previous member found in one step for each level: a bit per position,
 * above it a bit per word of 32 that is not zero, and so on. Positions lie in chunks made when first written; the levels above take
 * one thousandth of the bound. Costs: `has` O(1), all else O(log32 bound).
 */
export class BitIndex {
  readonly #chunks: Uint32Array[];
  /** `#above[k]` has a bit for each word of the level under it. */
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

  /** The 32 positions from `word * 32` on, one bit each. */
  word(word: number): number {
    return this.#chunks[word >>> 10]![word & 1023]!;
  }

  has(position: number): boolean {
    return ((this.#chunks[position >>> 15]![(position >>> 5) & 1023]! >>> (position & 31)) & 1) !== 0;
  }

  set(position: number): void {
    let chunk = this.#chunks[position >>> 15]!;
    if (chunk === EMPTY) {
      chunk = new Uint32Array(CHUNK_WORDS);
      this.#chunks[position >>> 15] = chunk;
    }
    let at = position >>> 5;
    const old = chunk[at & 1023]!;
    chunk[at & 1023] = old | (1 << (position & 31));
    if (old !== 0) return;
    const above = this.#above;
    for (let k = 0; k < above.length; k++) {
      const level = above[k]!;
      const was = level[at >>> 5]!;
      level[at >>> 5] = was | (1 << (at & 31));
      if (was !== 0) return;
      at >>>= 5;
    }
  }

  clear(position: number): void {
    const chunk = this.#chunks[position >>> 15]!;
    if (chunk === EMPTY) return;
    let at = position >>> 5;
    const old = chunk[at & 1023]!;
    const left = old & ~(1 << (position & 31));
    if (left === old) return;
    chunk[at & 1023] = left;
    if (left !== 0) return;
    const above = this.#above;
    for (let k = 0; k < above.length; k++) {
      const level = above[k]!;
      const rest = level[at >>> 5]! & ~(1 << (at & 31));
      level[at >>> 5] = rest;
      if (rest !== 0) return;
      at >>>= 5;
    }
  }

  /** The lowest member at or after `position`, or -1. */
  next(position: number): number {
    let at = position >>> 5;
    if (at >>> 10 >= this.#chunks.length) return -1;
    const here = this.#chunks[at >>> 10]![at & 1023]! & (-1 << (position & 31));
    if (here !== 0) return (((at << 5) >>> 0) | (31 - Math.clz32(here & -here))) >>> 0;
    const above = this.#above;
    at++;
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
        const last = this.#chunks[at >>> 10]![at & 1023]!;
        return ((at << 5) | (31 - Math.clz32(last & -last))) >>> 0;
      }
      at = word + 1;
    }
    return -1;
  }

  /** The highest member at or before `position`, or -1. */
  prev(position: number): number {
    let at = position >>> 5;
    const here = this.#chunks[at >>> 10]![at & 1023]! & (-1 >>> (31 - (position & 31)));
    if (here !== 0) return ((at << 5) | (31 - Math.clz32(here))) >>> 0;
    const above = this.#above;
    for (let k = 0; k < above.length; k++) {
      if (at === 0) return -1;
      at--;
      const level = above[k]!;
      const word = at >>> 5;
      const bits = level[word]! & (-1 >>> (31 - (at & 31)));
      if (bits !== 0) {
        at = (word << 5) | (31 - Math.clz32(bits));
        for (let down = k - 1; down >= 0; down--) at = (at << 5) | (31 - Math.clz32(above[down]![at]!));
        return ((at << 5) | (31 - Math.clz32(this.#chunks[at >>> 10]![at & 1023]!))) >>> 0;
      }
      at = word;
    }
    return -1;
  }

  /** Bytes held by its arrays. */
  get bytes(): number {
    let bytes = this.#chunks.length * 8;
    for (const chunk of this.#chunks) if (chunk !== EMPTY) bytes += chunk.byteLength;
    for (const level of this.#above) bytes += level.byteLength;
    return bytes;
  }
}
