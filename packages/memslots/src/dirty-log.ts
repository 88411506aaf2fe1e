/** Bits of one chunk: a page of 4096 bytes of bitmap, for 128 MiB of guest memory. */
const CHUNK_BITS = 32768;
const CHUNK_SHIFT = 15;
const CHUNK_WORDS = CHUNK_BITS / 32;

/** A chunk without a bit set; never written. */
const CLEAR = new Uint32Array(CHUNK_WORDS);

/** Index of the first bit equal to `set` in words from bit `from`, or `to` when there is none before it. */
function scan(words: Uint32Array, from: number, to: number, set: boolean): number {
  let bit = from;
  while (bit < to) {
    const word = set ? words[bit >>> 5]! : ~words[bit >>> 5]! >>> 0;
    const rest = word >>> (bit & 31);
    if (rest !== 0) {
      const found = bit + (31 - Math.clz32(rest & -rest));
      return Math.min(found, to);
    }
    bit = (bit | 31) + 1;
  }
  return to;
}

/**
 * One bit per page of a slot. Bits live in chunks of 4 KiB made when first needed; a chunk that is missing stands for `#absent` in all its bits,
 * so that a log of the largest slot (2^31 pages, 256 MiB of bits in KVM) costs nothing until pages are written, initially all set or not.
 */
export class DirtyLog {
  readonly pages: number;
  #chunks: (Uint32Array | undefined)[] = [];
  #absent: boolean;

  constructor(pages: number, allSet: boolean) {
    this.pages = pages;
    this.#absent = allSet;
  }

  /** Bytes of the bitmap in the ABI. */
  get bytes(): number {
    return Math.ceil(this.pages / 64) * 8;
  }

  /** Bytes held here. */
  get held(): number {
    let chunks = 0;
    for (const chunk of this.#chunks) if (chunk !== undefined && chunk !== CLEAR) chunks += 1;
    return chunks * (CHUNK_WORDS * 4);
  }

  mark(page: number): void {
    const index = page >>> CHUNK_SHIFT;
    let chunk = this.#chunks[index];
    if (chunk === undefined || chunk === CLEAR) {
      if (chunk === undefined && this.#absent) return;
      chunk = this.#make(index, false);
    }
    const word = (page & (CHUNK_BITS - 1)) >>> 5;
    chunk[word] = chunk[word]! | (1 << (page & 31));
  }

  /** Clears pages `[first, end)`. */
  clear(first: number, end: number): void {
    let page = first;
    while (page < end) {
      const index = page >>> CHUNK_SHIFT;
      const chunkEnd = Math.min(end, (index + 1) * CHUNK_BITS);
      const whole = page === index * CHUNK_BITS && chunkEnd === Math.min(this.pages, page + CHUNK_BITS);
      let chunk = this.#chunks[index];
      if (whole && (chunk !== undefined || this.#absent)) this.#put(index, CLEAR);
      else {
        if (chunk === undefined && this.#absent) chunk = this.#make(index, true);
        if (chunk !== undefined && chunk !== CLEAR) clearBits(chunk, page & (CHUNK_BITS - 1), chunkEnd - index * CHUNK_BITS);
      }
      page = chunkEnd;
    }
  }

  clearAll(): void {
    this.#chunks = [];
    this.#absent = false;
  }

  /** Calls `visit` with every maximal run of dirty pages, ascending. */
  forEachRun(visit: (first: number, count: number) => void): void {
    let start = -1;
    const chunks = Math.ceil(this.pages / CHUNK_BITS);
    for (let index = 0; index < chunks; index++) {
      const first = index * CHUNK_BITS;
      const length = Math.min(CHUNK_BITS, this.pages - first);
      const chunk = this.#chunks[index];
      if (chunk === undefined) {
        if (this.#absent && start < 0) start = first;
        if (!this.#absent && start >= 0) {
          visit(start, first - start);
          start = -1;
        }
        continue;
      }
      let bit = 0;
      while (bit < length) {
        if (start < 0) {
          bit = scan(chunk, bit, length, true);
          if (bit < length) start = first + bit;
        } else {
          bit = scan(chunk, bit, length, false);
          if (bit < length) {
            visit(start, first + bit - start);
            start = -1;
          }
        }
      }
    }
    if (start >= 0) visit(start, this.pages - start);
  }

  /** Writes the ABI's bitmap, `bytes` long: bit 0 of byte 0 is page 0. @returns dirty pages. */
  writeTo(bitmap: Uint8Array): number {
    bitmap.fill(0, 0, this.bytes);
    let dirty = 0;
    this.forEachRun((first, count) => {
      dirty += count;
      let bit = first;
      const end = first + count;
      while (bit < end) {
        const at = Math.floor(bit / 8);
        if (bit % 8 === 0 && end - bit >= 8) {
          const stop = Math.floor(end / 8);
          bitmap.fill(0xff, at, stop);
          bit = stop * 8;
        } else {
          bitmap[at] = bitmap[at]! | (1 << (bit % 8));
          bit += 1;
        }
      }
    });
    return dirty;
  }

  #make(index: number, full: boolean): Uint32Array {
    const chunk = new Uint32Array(CHUNK_WORDS);
    if (full) chunk.fill(0xffff_ffff);
    this.#put(index, chunk);
    return chunk;
  }

  #put(index: number, chunk: Uint32Array): void {
    // One after the other: a far first page would turn the list into a dictionary.
    while (this.#chunks.length <= index) this.#chunks.push(undefined);
    this.#chunks[index] = chunk;
  }
}

function clearBits(words: Uint32Array, from: number, to: number): void {
  let bit = from;
  while (bit < to) {
    if ((bit & 31) === 0 && to - bit >= 32) {
      words[bit >>> 5] = 0;
      bit += 32;
    } else {
      words[bit >>> 5] = words[bit >>> 5]! & ~(1 << (bit & 31));
      bit += 1;
    }
  }
}
