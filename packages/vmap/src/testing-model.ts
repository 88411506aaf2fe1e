/** The scanning algorithm over one byte for each bit: a model to compare a region with, bit by bit. Slow, plain, and complete. */
export interface ScanModel {
  readonly low: number;
  readonly top: number;
  /** Assertions of the original that would have fired. */
  readonly assertions: number;
  /** Whether the bit is taken: by an area or by a guard page. */
  isSet(bit: number): boolean;
  /** @returns the first bit, or -1. */
  alloc(nr: number, align: number): number;
  /** @returns whether an area starts there. */
  free(bit: number): boolean;
  /** Bits of the area that starts there; 0 where none does. */
  size(bit: number): number;
  /** Stretches of taken bits, `[first, count]`, in order. */
  runs(): [number, number][];
}

/** The algorithm over plain bits: what a faster one must agree with. @param pages of the region. @param strict keeps the last page as a guard, and never goes past the end. */
export function createScanModel(pages: number, strict: boolean): ScanModel {
  return new Model(pages, strict);
}

class Model implements ScanModel {
  /** One byte for each bit below `top`. */
  #set: Uint8Array;
  readonly #end: number;
  readonly #strict: boolean;
  low: number;
  top: number;
  assertions = 0;

  constructor(pages: number, strict: boolean) {
    this.#end = pages;
    this.#strict = strict;
    this.low = Math.ceil(Math.floor((pages + 7) / 8) / 4096);
    this.top = Math.ceil(Math.floor((this.low + 7) / 8) / 4096) * 32_768;
    if (strict) this.top = Math.min(this.top, pages);
    this.#set = new Uint8Array(this.top).fill(1, 0, this.low);
  }

  isSet(bit: number): boolean {
    return this.#set[bit] === 1;
  }

  #next(from: number, set: boolean): number {
    let bit = from;
    const wanted = set ? 1 : 0;
    while (bit < this.top && this.#set[bit] !== wanted) bit++;
    return Math.min(bit, this.top);
  }

  alloc(nr: number, align: number): number {
    const step = align === 0 ? 1 : (align & -align) >>> 0;
    for (;;) {
      const guard = this.#strict && this.top === this.#end ? 1 : 0;
      if (this.low < this.top && this.isSet(this.low)) this.assertions++;
      let at = this.low;
      while (at < this.top) {
        const border = this.#next(at + 1, true);
        at = (((at + step) >>> 0) & -step) >>> 0;
        const end = (at + nr) >>> 0;
        if (border < this.top ? end < border : end <= this.top - guard) break;
        at = border < this.top ? this.#next(border + 1, false) : border;
      }
      if (at < this.top) {
        let bit = at;
        for (; bit < (at + nr) >>> 0; bit++) this.#set[bit] = 1;
        if (bit < this.top && this.isSet(bit)) this.assertions++;
        if (at <= this.low + 2) this.low = bit;
        return at;
      }
      if (this.top >= this.#end || (this.#strict && this.#neverFits(nr, step))) return -1;
      this.top = Math.min(this.top + 32_768, this.#end);
      const grown = new Uint8Array(this.top);
      grown.set(this.#set);
      this.#set = grown;
    }
  }

  /** Whether not even a bitmap populated to the end would help: strict mode does not populate it in vain. */
  #neverFits(nr: number, step: number): boolean {
    let tail = this.top;
    while (!this.isSet(tail - 1)) tail--;
    const from = Math.max(tail, this.low);
    return Math.floor((from + step) / step) * step + nr > this.#end - 1;
  }

  free(bit: number): boolean {
    if (this.size(bit) === 0) return false;
    if (bit < this.low) {
      this.low = bit - 1;
      while (!this.isSet(this.low - 1)) this.low--;
    }
    for (let at = bit; at < this.top && this.isSet(at); at++) this.#set[at] = 0;
    return true;
  }

  size(bit: number): number {
    const isArea = bit > 0 && bit < this.top && this.isSet(bit) && !this.isSet(bit - 1);
    return isArea ? this.#next(bit + 1, false) - bit : 0;
  }

  runs(): [number, number][] {
    const runs: [number, number][] = [];
    for (let bit = this.#next(0, true); bit < this.top; ) {
      const end = this.#next(bit, false);
      runs.push([bit, end - bit]);
      bit = this.#next(end, true);
    }
    return runs;
  }
}
