import {
  type BlockRequest,
  type BlockResponse,
  clearWords,
  readRequestWords,
  readResponseWords,
  writeRequestWords,
  writeResponseWords,
} from './blkif.ts';
import { XenAbiError } from './errors.ts';
import { type Abi, checkAbi, type MemoryPage, type MemoryViews, PAGE_BYTES } from './memory.ts';

/** Bytes before the first slot: four indices and padding. */
export const RING_HEADER_BYTES = 64;
/** Most pages of a ring (page order 4). */
export const RING_PAGES_MAX = 16;

/** How a block ring of so many pages is laid out. */
export interface RingGeometry {
  /** Slots used: the largest power of two that fits. */
  readonly entries: number;
  readonly slotBytes: number;
  readonly responseBytes: number;
}

/**
 * @param pages 1 to 16.
 * @throws {XenAbiError} `bad-abi`, `bad-pages`.
 * @see xen/include/public/io/ring.h, __CONST_RING_SIZE
 */
export function ringGeometry(abi: Abi, pages: number): RingGeometry {
  checkAbi(abi);
  if (!Number.isInteger(pages) || pages < 1 || pages > RING_PAGES_MAX) {
    throw new XenAbiError({ code: 'bad-pages', what: 'pages of a ring', value: pages, allowed: `1 to ${RING_PAGES_MAX}` });
  }
  const slotBytes = abi === 'x86_32' ? 108 : 112;
  const fits = Math.floor((pages * PAGE_BYTES - RING_HEADER_BYTES) / slotBytes);
  return { entries: 1 << (31 - Math.clz32(fits)), slotBytes, responseBytes: abi === 'x86_32' ? 12 : 16 };
}

const PAGE_SHIFT = 12;
/** Words of the longest slot. */
const SLOT_WORDS_MAX = 28;

/**
 * The shared memory of a block ring: its header and its slots, over pages that need not be adjacent. Neither end's private
 * indices are here, so a dump reads with it too. Indices are unsigned 32-bit numbers; slot of an index = index mod entries.
 * @see xen/include/public/io/ring.h, DEFINE_RING_TYPES
 */
export class SharedRing {
  // What every request uses stands first and together: with many rings it comes from far memory every time.
  /** The views of the first page, and the header's first word in them. */
  private readonly views: MemoryViews;
  private readonly header: number;
  private readonly mask: number;
  /**
   * By slot two words. The first: where it begins in `views`, or -1 where it lies across two pages or in a page of other views. Such a
   * slot goes through `scratch`. The second: how many of its words may hold something older than the next request; all of them before
   * the first, and of a slot across two pages always. What a peer scribbles behind a request is for its own eyes alone, so only what
   * was written here is cleared.
   */
  private readonly slots: Int32Array;
  /** Words from the start of a slot to the request's id. */
  readonly idWord: number;
  /** Words of a request of one segment. */
  private readonly pageWords: number;
  /** Slots, a power of two. */
  readonly entries: number;
  readonly abi: Abi;
  readonly pages: readonly MemoryPage[];
  readonly slotBytes: number;
  readonly responseBytes: number;
  private readonly slotWords: number;
  private readonly scratch: Uint32Array = new Uint32Array(SLOT_WORDS_MAX);

  /** @throws {XenAbiError} `bad-abi`, `bad-pages` (count, alignment, or a page that lies outside its views). */
  constructor(abi: Abi, pages: readonly MemoryPage[]) {
    const geometry = ringGeometry(abi, pages.length);
    for (const page of pages) {
      if (page.offset % 4 !== 0 || page.offset < 0 || page.offset + PAGE_BYTES > page.views.u8.length) {
        throw new XenAbiError({
          code: 'bad-pages',
          what: 'offset of a ring page',
          value: page.offset,
          allowed: 'a multiple of 4 inside the views',
        });
      }
    }
    this.abi = abi;
    this.pages = [...pages];
    this.entries = geometry.entries;
    this.slotBytes = geometry.slotBytes;
    this.responseBytes = geometry.responseBytes;
    this.mask = geometry.entries - 1;
    this.slotWords = geometry.slotBytes >>> 2;
    this.idWord = abi === 'x86_32' ? 1 : 2;
    this.pageWords = this.idWord + 6;
    this.views = pages[0]!.views;
    this.header = pages[0]!.offset >>> 2;
    this.slots = new Int32Array(geometry.entries * 2);
    for (let slot = 0; slot < geometry.entries; slot++) {
      const start = RING_HEADER_BYTES + slot * geometry.slotBytes;
      const within = start % PAGE_BYTES;
      const page = pages[(start - within) / PAGE_BYTES]!;
      const whole = within + geometry.slotBytes <= PAGE_BYTES && page.views === this.views;
      this.slots[slot * 2] = whole ? (page.offset + within) >>> 2 : -1;
      this.slots[slot * 2 + 1] = this.slotWords;
    }
  }

  /** The requests' producer index, as the frontend published it; unsigned 32-bit, free running. One word read or written. */
  get reqProd(): number {
    return this.views.u32[this.header]!;
  }
  /** Publishes it: what stands in the slots below counts as written. */
  set reqProd(index: number) {
    this.views.u32[this.header] = index;
  }
  /** The value of `reqProd` at which the backend asks to be notified. */
  get reqEvent(): number {
    return this.views.u32[this.header + 1]!;
  }
  /** Asks for a notification when `reqProd` gets there. */
  set reqEvent(index: number) {
    this.views.u32[this.header + 1] = index;
  }
  /** The responses' producer index, as the backend published it; unsigned 32-bit, free running. */
  get rspProd(): number {
    return this.views.u32[this.header + 2]!;
  }
  /** Publishes it. */
  set rspProd(index: number) {
    this.views.u32[this.header + 2] = index;
  }
  /** The value of `rspProd` at which the frontend asks to be notified. */
  get rspEvent(): number {
    return this.views.u32[this.header + 3]!;
  }
  /** Asks for a notification when `rspProd` gets there. */
  set rspEvent(index: number) {
    this.views.u32[this.header + 3] = index;
  }

  /** Producers become 0, events 1, the header's other bytes 0; slots are not touched. @see SHARED_RING_INIT */
  init(): void {
    const at = this.header;
    const u32 = this.views.u32;
    u32.fill(0, at, at + (RING_HEADER_BYTES >>> 2));
    u32[at + 1] = 1;
    u32[at + 3] = 1;
  }

  /** Bytes from the start of the ring's first page to the slot of `index`, the pages counted as if they were adjacent. */
  slotOffset(index: number): number {
    return RING_HEADER_BYTES + (index & this.mask) * this.slotBytes;
  }

  /** The slot of `index`. */
  slotOf(index: number): number {
    return index & this.mask;
  }

  /** Reads the slot of `index` as a request, each word once. Allocates nothing, never throws. */
  readRequest(index: number, out: BlockRequest): void {
    const slot = index & this.mask;
    const at = this.slots[slot << 1]!;
    if (at >= 0) readRequestWords(this.views.u32, at, this.views.u32[at]!, this.idWord, out);
    else {
      this.gather(slot);
      readRequestWords(this.scratch, 0, this.scratch[0]!, this.idWord, out);
    }
  }

  /** `readRequest` of a slot in one piece, whose first word was read before, as `head`. */
  readRequestBehind(index: number, head: number, out: BlockRequest): void {
    readRequestWords(this.views.u32, this.slots[(index & this.mask) << 1]!, head, this.idWord, out);
  }

  /**
   * The first word of the slot of `index` in `words`, or -1 where it does not lie in one piece. For one who reads a request where it
   * stands: each word once, and nothing is believed that was read again.
   */
  wordOf(index: number): number {
    return this.slots[(index & this.mask) << 1]!;
  }

  /** The words of the ring's first page and of all memory around it. A growing memory replaces them. */
  get words(): Uint32Array {
    return this.views.u32;
  }

  /** Writes the request's fields into the slot of `index`, and clears what a request before left behind them. Allocates nothing. */
  writeRequest(index: number, request: BlockRequest): void {
    const slot = index & this.mask;
    const at = this.slots[slot << 1]!;
    if (at >= 0) {
      const { u32 } = this.views;
      this.clearBehind(slot, u32, at, writeRequestWords(u32, at, this.idWord, request) - at);
    } else {
      this.scratch.fill(0);
      writeRequestWords(this.scratch, 0, this.idWord, request);
      this.scatter(slot);
    }
  }

  /** `writeRequest` of a request of one segment, whose fields are not put together in an object first. `sector` is below 2^32. */
  writePage(
    index: number,
    operation: number,
    handle: number,
    idLo: number,
    idHi: number,
    sector: number,
    gref: number,
    firstSect: number,
    lastSect: number,
  ): void {
    const slot = index & this.mask;
    const at = this.slots[slot << 1]!;
    let { u32 } = this.views;
    let head = at;
    if (at < 0) {
      u32 = this.scratch;
      head = 0;
    }
    const word = head + this.idWord;
    u32[head] = operation | 0x100 | (handle << 16);
    u32[head + 1] = 0;
    u32[word] = idLo;
    u32[word + 1] = idHi;
    u32[word + 2] = sector;
    u32[word + 3] = 0;
    u32[word + 4] = gref;
    u32[word + 5] = firstSect | (lastSect << 8);
    if (this.slots[(slot << 1) | 1] !== this.pageWords) this.endPage(slot, at);
  }

  /** Reads the slot of `index` as a response. Allocates nothing, never throws. */
  readResponse(index: number, out: BlockResponse): void {
    const slot = index & this.mask;
    const at = this.slots[slot << 1]!;
    if (at >= 0) readResponseWords(this.views.u32, at, out);
    else {
      this.gather(slot);
      readResponseWords(this.scratch, 0, out);
    }
  }

  /** Writes a response; every other byte of the slot keeps its value. Allocates nothing. */
  writeResponse(index: number, idLo: number, idHi: number, operation: number, status: number): void {
    const slot = index & this.mask;
    const at = this.slots[slot << 1]!;
    if (at >= 0) writeResponseWords(this.views.u32, at, idLo, idHi, operation, status);
    else {
      this.gather(slot);
      writeResponseWords(this.scratch, 0, idLo, idHi, operation, status);
      this.scatter(slot);
    }
  }

  /** Copies the bytes of the slot of `index`, `slotBytes` of them, into `out`; for dumps. */
  copySlot(index: number, out: Uint8Array): void {
    const start = this.slotOffset(index);
    for (let i = 0; i < this.slotBytes; i++) {
      const page = this.pages[Math.floor((start + i) / PAGE_BYTES)]!;
      out[i] = page.views.u8[page.offset + ((start + i) % PAGE_BYTES)]!;
    }
  }

  /** What `writePage` has to do beside: to clear what a longer request left, or to bring the slot from `scratch` to its two pages. */
  private endPage(slot: number, at: number): void {
    if (at >= 0) this.clearBehind(slot, this.views.u32, at, this.pageWords);
    else {
      this.scratch.fill(0, this.pageWords);
      this.scatter(slot);
    }
  }

  /** Clears what stands behind the `words` words of a request just written. */
  private clearBehind(slot: number, u32: Uint32Array, at: number, words: number): void {
    const before = this.slots[(slot << 1) | 1]!;
    if (words < before) clearWords(u32, at + words, at + before);
    this.slots[(slot << 1) | 1] = words;
  }

  /** Copies a slot, word by word and page by page, into `scratch`. */
  private gather(slot: number): void {
    const start = this.slotOffset(slot);
    for (let i = 0; i < this.slotWords; i++) {
      const byte = start + i * 4;
      const page = this.pages[byte >>> PAGE_SHIFT]!;
      this.scratch[i] = page.views.u32[(page.offset + (byte & (PAGE_BYTES - 1))) >>> 2]!;
    }
  }

  /** Copies `scratch` into a slot. */
  private scatter(slot: number): void {
    const start = this.slotOffset(slot);
    for (let i = 0; i < this.slotWords; i++) {
      const byte = start + i * 4;
      const page = this.pages[byte >>> PAGE_SHIFT]!;
      page.views.u32[(page.offset + (byte & (PAGE_BYTES - 1))) >>> 2] = this.scratch[i]!;
    }
  }
}
