const CHUNK_WORDS = 1024;
const EMPTY: Uint32Array = new Uint32Array(CHUNK_WORDS);

/** A set of page numbers below a bound, a bit each, in chunks of 32,768 made when first written. Costs O(1). */
export class PageSet {
  readonly #chunks: Uint32Array[];

  constructor(bound: number) {
    this.#chunks = new Array<Uint32Array>(Math.ceil(bound / 32_768)).fill(EMPTY);
  }

  has(page: number): boolean {
    return ((this.#chunks[page >>> 15]![(page >>> 5) & 1023]! >>> (page & 31)) & 1) !== 0;
  }

  add(page: number): void {
    let chunk = this.#chunks[page >>> 15]!;
    if (chunk === EMPTY) {
      chunk = new Uint32Array(CHUNK_WORDS);
      this.#chunks[page >>> 15] = chunk;
    }
    chunk[(page >>> 5) & 1023]! |= 1 << (page & 31);
  }

  /** Removes a page that is a member. */
  delete(page: number): void {
    this.#chunks[page >>> 15]![(page >>> 5) & 1023]! &= ~(1 << (page & 31));
  }
}
