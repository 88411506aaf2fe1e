/** One block a job wrote and may have to check. */
export interface WrittenBlock {
  readonly offset: number;
  readonly bytes: number;
  readonly generation: number;
  readonly seed: number;
}

/**
 * What a job wrote, in order, and which of it still stands: a block that a later write touched is not checked, since it holds
 * parts of two.
 */
export class WrittenBlocks {
  readonly #granule: number;
  readonly #start: number;
  /** The newest write of each granule of the range. */
  readonly #newest: Map<number, number> = new Map();
  #unchecked: WrittenBlock[] = [];
  #at = 0;
  #generation = 0;

  constructor(start: number, granule: number) {
    this.#start = start;
    this.#granule = granule;
  }

  /** A write is about to go out. */
  add(offset: number, bytes: number, seed: number): WrittenBlock {
    this.#generation += 1;
    const block = { offset, bytes, generation: this.#generation, seed };
    const first = Math.floor((offset - this.#start) / this.#granule);
    const last = Math.floor((offset - this.#start + bytes - 1) / this.#granule);
    for (let granule = first; granule <= last; granule += 1) this.#newest.set(granule, block.generation);
    this.#unchecked.push(block);
    return block;
  }

  get waiting(): number {
    return this.#unchecked.length - this.#at;
  }

  /** The next block to check, or undefined. */
  take(): WrittenBlock | undefined {
    while (this.#at < this.#unchecked.length) {
      const block = this.#unchecked[this.#at] as WrittenBlock;
      this.#at += 1;
      if (this.#at > 4096 && this.#at * 2 > this.#unchecked.length) {
        this.#unchecked = this.#unchecked.slice(this.#at);
        this.#at = 0;
      }
      if (this.#stands(block)) return block;
    }
    return undefined;
  }

  #stands(block: WrittenBlock): boolean {
    const first = Math.floor((block.offset - this.#start) / this.#granule);
    const last = Math.floor((block.offset - this.#start + block.bytes - 1) / this.#granule);
    for (let granule = first; granule <= last; granule += 1) if (this.#newest.get(granule) !== block.generation) return false;
    return true;
  }
}
