import { type BlockRequest, type BlockResponse, readRequestWords, writeRequestWords } from './blkif.ts';
import { XenAbiError } from './errors.ts';
import { type Abi, checkAbi, type MemoryPage, PAGE_BYTES } from './memory.ts';

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

/** Words of the longest slot. */
const SLOT_WORDS_MAX = 28;

/**
 * The shared memory of a block ring: its header and its slots, over pages that need not be adjacent. Neither end's private
 * indices are here, so a dump reads with it too. Indices are unsigned 32-bit numbers; slot of an index = index mod entries.
 * @see xen/include/public/io/ring.h, DEFINE_RING_TYPES
 */
export class SharedRing {
  readonly abi: Abi;
  readonly pages: readonly MemoryPage[];
  /** Slots, a power of two. */
  readonly entries: number;
  readonly slotBytes: number;
  readonly responseBytes: number;
  private readonly mask: number;
  private readonly slotWords: number;
  private readonly idWord: number;
  private readonly first: MemoryPage;
  /** By slot: the page it starts in, its first word in that page's views, and how many of its words lie in that page. */
  private readonly slotPage: readonly MemoryPage[];
  private readonly slotNext: readonly MemoryPage[];
  private readonly slotSplit: Uint8Array;
  private readonly slotStart: Uint16Array;
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
    this.first = pages[0]!;
    const slotPage: MemoryPage[] = [];
    const slotNext: MemoryPage[] = [];
    this.slotSplit = new Uint8Array(geometry.entries);
    this.slotStart = new Uint16Array(geometry.entries);
    for (let slot = 0; slot < geometry.entries; slot++) {
      const start = RING_HEADER_BYTES + slot * geometry.slotBytes;
      const page = Math.floor(start / PAGE_BYTES);
      const words = (PAGE_BYTES - (start % PAGE_BYTES)) >>> 2;
      slotPage.push(pages[page]!);
      slotNext.push(pages[words < this.slotWords ? page + 1 : page]!);
      this.slotSplit[slot] = Math.min(words, this.slotWords);
      this.slotStart[slot] = (start % PAGE_BYTES) >>> 2;
    }
    this.slotPage = slotPage;
    this.slotNext = slotNext;
  }

  get reqProd(): number {
    return this.first.views.u32[this.first.offset >>> 2]!;
  }
  set reqProd(index: number) {
    this.first.views.u32[this.first.offset >>> 2] = index;
  }
  get reqEvent(): number {
    return this.first.views.u32[(this.first.offset >>> 2) + 1]!;
  }
  set reqEvent(index: number) {
    this.first.views.u32[(this.first.offset >>> 2) + 1] = index;
  }
  get rspProd(): number {
    return this.first.views.u32[(this.first.offset >>> 2) + 2]!;
  }
  set rspProd(index: number) {
    this.first.views.u32[(this.first.offset >>> 2) + 2] = index;
  }
  get rspEvent(): number {
    return this.first.views.u32[(this.first.offset >>> 2) + 3]!;
  }
  set rspEvent(index: number) {
    this.first.views.u32[(this.first.offset >>> 2) + 3] = index;
  }

  /** Producers become 0, events 1, the header's other bytes 0; slots are not touched. @see SHARED_RING_INIT */
  init(): void {
    const at = this.first.offset >>> 2;
    const u32 = this.first.views.u32;
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
    const page = this.slotPage[slot]!;
    const at = (page.offset >>> 2) + this.slotStart[slot]!;
    if (this.slotSplit[slot] === this.slotWords) readRequestWords(page.views.u32, at, this.idWord, out);
    else {
      this.gather(slot, page, at);
      readRequestWords(this.scratch, 0, this.idWord, out);
    }
  }

  /** Clears the slot of `index` and writes the request's fields. Allocates nothing. */
  writeRequest(index: number, request: BlockRequest): void {
    const slot = index & this.mask;
    const page = this.slotPage[slot]!;
    const at = (page.offset >>> 2) + this.slotStart[slot]!;
    if (this.slotSplit[slot] === this.slotWords) writeRequestWords(page.views.u32, at, this.slotWords, this.idWord, request);
    else {
      writeRequestWords(this.scratch, 0, this.slotWords, this.idWord, request);
      this.scatter(slot, page, at);
    }
  }

  /** Reads the slot of `index` as a response. Allocates nothing, never throws. */
  readResponse(index: number, out: BlockResponse): void {
    const slot = index & this.mask;
    const page = this.slotPage[slot]!;
    const at = (page.offset >>> 2) + this.slotStart[slot]!;
    let u32 = page.views.u32;
    let word = at;
    if (this.slotSplit[slot]! < 3) {
      this.gather(slot, page, at);
      u32 = this.scratch;
      word = 0;
    }
    out.idLo = u32[word]!;
    out.idHi = u32[word + 1]!;
    const tail = u32[word + 2]!;
    out.operation = tail & 0xff;
    out.status = (tail | 0) >> 16;
  }

  /** Writes a response; every other byte of the slot keeps its value. Allocates nothing. */
  writeResponse(index: number, idLo: number, idHi: number, operation: number, status: number): void {
    const slot = index & this.mask;
    const page = this.slotPage[slot]!;
    const at = (page.offset >>> 2) + this.slotStart[slot]!;
    const straddles = this.slotSplit[slot]! < 3;
    let u32 = page.views.u32;
    let word = at;
    if (straddles) {
      this.gather(slot, page, at);
      u32 = this.scratch;
      word = 0;
    }
    u32[word] = idLo;
    u32[word + 1] = idHi;
    u32[word + 2] = (u32[word + 2]! & 0xff00) | (operation & 0xff) | (status << 16);
    if (straddles) this.scatter(slot, page, at);
  }

  /** Copies the bytes of the slot of `index`, `slotBytes` of them, into `out`; for dumps. */
  copySlot(index: number, out: Uint8Array): void {
    const slot = index & this.mask;
    const page = this.slotPage[slot]!;
    const start = page.offset + this.slotStart[slot]! * 4;
    const head = this.slotSplit[slot]! * 4;
    out.set(page.views.u8.subarray(start, start + head), 0);
    const next = this.slotNext[slot]!;
    if (head < this.slotBytes) out.set(next.views.u8.subarray(next.offset, next.offset + this.slotBytes - head), head);
  }

  private gather(slot: number, page: MemoryPage, at: number): void {
    const split = this.slotSplit[slot]!;
    const head = page.views.u32;
    const next = this.slotNext[slot]!;
    const tail = next.views.u32;
    const tailAt = (next.offset >>> 2) - split;
    for (let i = 0; i < split; i++) this.scratch[i] = head[at + i]!;
    for (let i = split; i < this.slotWords; i++) this.scratch[i] = tail[tailAt + i]!;
  }

  private scatter(slot: number, page: MemoryPage, at: number): void {
    const split = this.slotSplit[slot]!;
    const head = page.views.u32;
    const next = this.slotNext[slot]!;
    const tail = next.views.u32;
    const tailAt = (next.offset >>> 2) - split;
    for (let i = 0; i < split; i++) head[at + i] = this.scratch[i]!;
    for (let i = split; i < this.slotWords; i++) tail[tailAt + i] = this.scratch[i]!;
  }
}
