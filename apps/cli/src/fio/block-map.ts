/** Which blocks of a job's range were visited in this pass: a bitmap that finds the next free block from anywhere. */
export class BlockMap {
  readonly #words: Int32Array;
  /** One bit for each word that is full. */
  readonly #full: Int32Array;
  readonly blocks: number;
  taken = 0;

  constructor(blocks: number) {
    this.blocks = blocks;
    this.#words = new Int32Array(Math.ceil(blocks / 32));
    this.#full = new Int32Array(Math.ceil(this.#words.length / 32));
  }

  clear(): void {
    this.#words.fill(0);
    this.#full.fill(0);
    this.taken = 0;
  }

  isTaken(block: number): boolean {
    return (((this.#words[block >>> 5] as number) >>> (block & 31)) & 1) === 1;
  }

  /** Takes up to `count` blocks from `block` on, as far as they are free; returns how many. */
  take(block: number, count: number): number {
    let done = 0;
    while (done < count && block + done < this.blocks && !this.isTaken(block + done)) {
      const at = block + done;
      const word = at >>> 5;
      this.#words[word] = (this.#words[word] as number) | (1 << (at & 31));
      if (this.#words[word] === -1) this.#full[word >>> 5] = (this.#full[word >>> 5] as number) | (1 << (word & 31));
      done += 1;
    }
    this.taken += done;
    return done;
  }

  /** The first free block at or after `from`, going round; -1 when none is. */
  nextFree(from: number): number {
    if (this.taken >= this.blocks) return -1;
    const found = this.#firstFree(from, this.blocks);
    return found >= 0 ? found : this.#firstFree(0, from);
  }

  #firstFree(from: number, to: number): number {
    for (let block = from; block < to; ) {
      const word = block >>> 5;
      if ((block & 31) === 0 && ((this.#full[word >>> 5] as number) >>> (word & 31)) & 1) {
        // Whole stretches of full words are passed by at once.
        block += (word & 31) === 0 && this.#full[word >>> 5] === -1 ? 1024 : 32;
        continue;
      }
      if (!this.isTaken(block)) return block;
      block += 1;
    }
    return -1;
  }
}
