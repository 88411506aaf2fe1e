import type { MemoryViews } from '@paravirt/gnttab';
import type { MapFlags, PageTable } from '@paravirt/vmap';
import { HvError, type UnmapCause, whole } from '../errors.ts';
import { COUNTS, type Frames, PAGE as PAGE_BYTES } from './frames.ts';

// Plain constants of this module: an imported one is loaded at each use.
const PAGE = PAGE_BYTES;
const { shift: COUNTS_SHIFT, mapped: MAPPED } = COUNTS;

/**
 * A page of the table is four words of one array, the fourth unused: its entry, who unmapped it (cause << 16 | domid), and the step
 * at which that was, each to be combined with `page << shift`. An entry is flags below and the frame number above `flagBits`; one
 * whose page was taken out keeps the frame and loses the present bit, so that a late access can say what stood there.
 */
export const PAGE_WORDS: {
  readonly shift: 2;
  readonly gone: 1;
  readonly when: 2;
  readonly flagBits: 4;
  readonly present: 1;
  readonly writable: 2;
  /** Put there by a grant mapping: only an unmap by handle may take it out. */
  readonly grant: 4;
  readonly executable: 8;
} = { shift: 2, gone: 1, when: 2, flagBits: 4, present: 1, writable: 2, grant: 4, executable: 8 };

const { shift: PAGE_SHIFT, gone: GONE, when: WHEN, flagBits: FLAG_BITS } = PAGE_WORDS;
const { present: PRESENT, writable: WRITABLE, grant: GRANT, executable: EXECUTABLE } = PAGE_WORDS;

const CAUSES: readonly UnmapCause[] = ['never', 'grant-unmap', 'unmap', 'replace', 'death'];
/** Indexes into `CAUSES` that the grant core names. */
export const BY_GRANT = 1;
const BY_UNMAP = 2;
/** As `BY_GRANT`. */
export const BY_REPLACE = 3;
/** As `BY_GRANT`. */
export const BY_DEATH = 4;

/** Pages of a chunk of the table beyond the window. */
const CHUNK = 1024;

/** Page numbers are below this: exact as numbers. */
const PAGES_END = 2 ** 52;

/** A stretch of the table. The window is one that grows; everything above lies in chunks of 1,024 pages. */
class Stretch {
  words: Int32Array;
  constructor(pages: number) {
    this.words = new Int32Array(pages << PAGE_SHIFT);
  }
  get pages(): number {
    return this.words.length >>> PAGE_SHIFT;
  }
  grow(pages: number): void {
    const { words } = this;
    this.words = new Int32Array(pages << PAGE_SHIFT);
    this.words.set(words);
  }
}

/** What the space asks of its machine. */
export interface SpaceSurroundings {
  readonly frames: Frames;
  /** The current step, for the record of who unmapped what. */
  readonly now: { steps: number };
  readonly domid: number;
  /** Virtual pages kept in one flat table, from page 0 on. */
  readonly windowPages: number;
  /** Page-table chunks beyond the window at most: a table page is memory too. */
  readonly chunksMax: number;
}

/**
 * A domain's page table. Fits `PageTable` of vmap, and carries grant mappings. Every entry holds a reference to its frame, so
 * a mapped frame cannot be reused. Pages below `windowPages` are the fast part: one array access.
 */
export class AddressSpace implements PageTable {
  /** The views that the last `resolve` was for. */
  views: MemoryViews;
  readonly domid: number;
  readonly #frames: Frames;
  readonly #now: { steps: number };
  readonly #windowPages: number;
  readonly #chunksMax: number;
  #window: Stretch;
  /** Pages of the window that there are so far, and their words: the grant core goes straight to them. */
  nearPages: number;
  near: Int32Array;
  readonly #chunks: Map<number, Stretch> = new Map();
  #lastChunk = -1;
  #last: Stretch;
  #at = 0;
  /** Present entries. */
  pages = 0;

  constructor({ frames, now, domid, windowPages, chunksMax }: SpaceSurroundings) {
    this.#frames = frames;
    this.#now = now;
    this.domid = domid;
    this.#windowPages = windowPages;
    this.#chunksMax = chunksMax;
    this.nearPages = Math.min(windowPages, 256);
    this.#window = new Stretch(this.nearPages);
    this.near = this.#window.words;
    this.#last = this.#window;
    this.views = frames.banks[0]!.views;
  }

  /** Finds the entry of `vfn`: the stretch is returned, its first word is in `#at`. Undefined where there is none (yet). */
  #find(vfn: number): Stretch | undefined {
    if ((vfn | 0) === vfn && vfn < this.nearPages) {
      this.#at = vfn << PAGE_SHIFT;
      return this.#window;
    }
    return this.#findFar(vfn);
  }

  #findFar(vfn: number): Stretch | undefined {
    if (vfn < this.#windowPages) return undefined;
    const chunk = Math.floor(vfn / CHUNK);
    this.#at = (vfn - chunk * CHUNK) << PAGE_SHIFT;
    if (chunk === this.#lastChunk) return this.#last;
    const stretch = this.#chunks.get(chunk);
    if (stretch !== undefined) {
      this.#lastChunk = chunk;
      this.#last = stretch;
    }
    return stretch;
  }

  /** As `#find`, making what is missing; undefined when the table may not grow. */
  #make(vfn: number): Stretch | undefined {
    const found = this.#find(vfn);
    if (found !== undefined) return found;
    if (vfn < this.#windowPages) {
      let length = this.nearPages;
      while (length <= vfn) length = Math.min(length * 2, this.#windowPages);
      this.#window.grow(length);
      this.near = this.#window.words;
      this.nearPages = length;
      this.#at = vfn << PAGE_SHIFT;
      return this.#window;
    }
    if (this.#chunks.size >= this.#chunksMax) return undefined;
    const chunk = Math.floor(vfn / CHUNK);
    const stretch = new Stretch(CHUNK);
    this.#chunks.set(chunk, stretch);
    this.#lastChunk = chunk;
    this.#last = stretch;
    this.#at = (vfn - chunk * CHUNK) << PAGE_SHIFT;
    return stretch;
  }

  /** For the grant core: puts `mfn` at `vfn`; false when the page is taken, out of range, or the table cannot grow. Takes the reference. */
  mapGrant(vfn: number, mfn: number, writable: boolean): boolean {
    const stretch = this.#make(vfn);
    if (stretch === undefined) return false;
    const { words } = stretch;
    const at = this.#at;
    if ((words[at]! & PRESENT) !== 0) return false;
    words[at] = (mfn << FLAG_BITS) | (writable ? PRESENT | GRANT | WRITABLE : PRESENT | GRANT);
    this.#frames.counts[(mfn << COUNTS_SHIFT) | MAPPED]!++;
    this.pages++;
    return true;
  }

  /** For the grant core: whether `vfn` holds a grant mapping of `mfn`. */
  holdsGrant(vfn: number, mfn: number): boolean {
    const stretch = this.#find(vfn);
    if (stretch === undefined) return false;
    const entry = stretch.words[this.#at]!;
    return (entry & (PRESENT | GRANT)) === (PRESENT | GRANT) && entry >>> FLAG_BITS === mfn;
  }

  /** For the grant core: takes the grant mapping of `mfn` out of `vfn`; false when another or none stands there. */
  unmapGrant(vfn: number, mfn: number, cause: number): boolean {
    const stretch = this.#find(vfn);
    if (stretch === undefined) return false;
    const { words } = stretch;
    const at = this.#at;
    const entry = words[at]!;
    if ((entry & (PRESENT | GRANT)) !== (PRESENT | GRANT) || entry >>> FLAG_BITS !== mfn) return false;
    words[at] = mfn << FLAG_BITS;
    words[at | GONE] = (cause << 16) | this.domid;
    words[at | WHEN] = this.#now.steps;
    this.#frames.counts[(mfn << COUNTS_SHIFT) | MAPPED]!--;
    this.pages--;
    return true;
  }

  /**
   * For unmap-and-replace: moves the ordinary mapping of `from` to `to`, which must be empty.
   * @returns false when `from` has none or it is a grant mapping.
   */
  moveEntry(from: number, to: number): boolean {
    const source = this.#find(from);
    if (source === undefined) return false;
    const sourceAt = this.#at;
    const entry = source.words[sourceAt]!;
    if ((entry & PRESENT) === 0 || (entry & GRANT) !== 0) return false;
    const target = this.#make(to);
    if (target === undefined || (target.words[this.#at]! & PRESENT) !== 0) return false;
    target.words[this.#at] = entry;
    // `#make` may have replaced the window's arrays, so the source is fetched again.
    source.words[sourceAt] = (entry >>> FLAG_BITS) << FLAG_BITS;
    source.words[sourceAt | GONE] = (BY_REPLACE << 16) | this.domid;
    source.words[sourceAt | WHEN] = this.#now.steps;
    return true;
  }

  /** Whether `vfn` holds a mapping that no grant put there. */
  holdsOrdinary(vfn: number): boolean {
    const stretch = this.#find(vfn);
    return stretch !== undefined && (stretch.words[this.#at]! & (PRESENT | GRANT)) === PRESENT;
  }

  /**
   * Maps `count` pages from `vfn` on to frames of this domain; a page that is mapped already is mapped anew. Each entry takes a
   * reference.
   * @returns false when the table cannot grow, a page holds a grant mapping or a frame is not this domain's; then nothing is mapped.
   * @throws {HvError} `bad-argument`: the count.
   */
  map(vfn: number, mfn: number, count: number, flags: MapFlags): boolean {
    whole('count', count, 0, PAGES_END);
    if (!Number.isInteger(vfn) || vfn < 0 || vfn + count > PAGES_END) return false;
    for (let i = 0; i < count; i++) {
      const owned = this.#frames.valid(mfn + i) && this.#frames.owner[mfn + i] === this.domid;
      const stretch = owned ? this.#make(vfn + i) : undefined;
      if (stretch === undefined || (stretch.words[this.#at]! & (PRESENT | GRANT)) === (PRESENT | GRANT)) return false;
    }
    const bits = PRESENT | (flags.writable ? WRITABLE : 0) | (flags.executable ? EXECUTABLE : 0);
    for (let i = 0; i < count; i++) {
      const counted = (mfn + i) << COUNTS_SHIFT;
      this.#frames.counts[counted | MAPPED]!++;
      this.#frames.counts[counted]!++;
      const stretch = this.#find(vfn + i)!;
      const at = this.#at;
      if ((stretch.words[at]! & PRESENT) !== 0) this.#drop(stretch, at, BY_UNMAP);
      stretch.words[at] = ((mfn + i) << FLAG_BITS) | bits;
      this.pages++;
    }
    return true;
  }

  /**
   * Unmaps `count` pages; pages that are not mapped, and grant mappings, which go by handle, are passed over. Costs no more than there
   * is table, however many pages are named.
   * @throws {HvError} `bad-argument`
   */
  unmap(vfn: number, count: number): void {
    whole('vfn', vfn, 0, PAGES_END - 1);
    whole('count', count, 0, PAGES_END - vfn);
    const end = vfn + count;
    this.#unmapIn(this.#window, 0, vfn, end);
    if (count > this.#chunks.size * CHUNK) {
      for (const [chunk, stretch] of this.#chunks) this.#unmapIn(stretch, chunk * CHUNK, vfn, end);
      return;
    }
    for (let chunk = Math.floor(vfn / CHUNK); chunk * CHUNK < end; chunk++) {
      const stretch = this.#chunks.get(chunk);
      if (stretch !== undefined) this.#unmapIn(stretch, chunk * CHUNK, vfn, end);
    }
  }

  /** The part of `[vfn, end)` in a stretch whose first page is `first`. */
  #unmapIn(stretch: Stretch, first: number, vfn: number, end: number): void {
    const last = Math.min(end - first, stretch.pages);
    for (let page = Math.max(vfn - first, 0); page < last; page++) {
      const at = page << PAGE_SHIFT;
      if ((stretch.words[at]! & (PRESENT | GRANT)) === PRESENT) this.#drop(stretch, at, BY_UNMAP);
    }
  }

  #drop(stretch: Stretch, at: number, cause: number): void {
    const { words } = stretch;
    const mfn = words[at]! >>> FLAG_BITS;
    words[at] = mfn << FLAG_BITS;
    words[at | GONE] = (cause << 16) | this.domid;
    words[at | WHEN] = this.#now.steps;
    this.#frames.counts[(mfn << COUNTS_SHIFT) | MAPPED]!--;
    this.pages--;
    this.#frames.put(mfn);
  }

  /** The frame mapped at `vfn`, or -1. */
  translate(vfn: number): number {
    const stretch = this.#find(vfn);
    if (stretch === undefined) return -1;
    const entry = stretch.words[this.#at]!;
    return (entry & PRESENT) === 0 ? -1 : entry >>> FLAG_BITS;
  }

  /**
   * Where the page's bytes are: an offset into `views`, which this call sets. Cost: one array read for the window.
   * @throws {HvError} `page-fault`: the page is not mapped, or is written to and read-only.
   */
  resolve(vfn: number, writing: boolean): number {
    // A page between two pages is none.
    const near = (vfn | 0) === vfn && vfn < this.nearPages;
    const entry = near ? this.near[vfn << PAGE_SHIFT]! : this.#entryFar(vfn);
    if ((entry & PRESENT) === 0 || (writing && (entry & WRITABLE) === 0)) this.#fault(vfn, writing);
    const frames = this.#frames;
    const mfn = entry >>> FLAG_BITS;
    const { banks } = frames;
    // Where there is one memory for all, nothing is looked up by frame.
    const bank = banks.length === 1 ? banks[0]! : banks[frames.bankOf[mfn]!]!;
    if (this.views !== bank.views) this.views = bank.views;
    return (mfn - bank.first) * PAGE;
  }

  #entryFar(vfn: number): number {
    const stretch = this.#findFar(vfn);
    return stretch === undefined ? 0 : stretch.words[this.#at]!;
  }

  #fault(vfn: number, writing: boolean): never {
    const stretch = this.#find(vfn);
    const entry = stretch === undefined ? 0 : stretch.words[this.#at]!;
    const gone = stretch === undefined ? 0 : stretch.words[this.#at | GONE]!;
    const was = gone !== 0 || (entry & PRESENT) !== 0;
    throw new HvError({
      code: 'page-fault',
      domid: this.domid,
      vfn,
      access: writing ? 'write' : 'read',
      cause: (entry & PRESENT) !== 0 ? 'readonly' : 'unmapped',
      mfn: was ? entry >>> FLAG_BITS : -1,
      unmapped: {
        by: gone & 0xffff,
        how: CAUSES[gone >>> 16] ?? 'never',
        step: stretch === undefined ? 0 : stretch.words[this.#at | WHEN]! >>> 0,
      },
    });
  }

  /**
   * As `resolve`, into an object of the caller's.
   * @throws {HvError} `page-fault`
   */
  locate(vfn: number, writable: boolean, out: { views: MemoryViews; offset: number }): void {
    out.offset = this.resolve(vfn, writable);
    out.views = this.views;
  }

  /**
   * `locate` for many pages, of the window and in one memory for all, as nearly all are: `offsets[i]` is where `vfns[i]` lies in the
   * views that this returns. A page that needs a closer look makes it undefined.
   */
  locateAll(vfns: readonly number[], writable: Uint8Array, count: number, offsets: number[]): MemoryViews | undefined {
    const { near, nearPages } = this;
    const { banks } = this.#frames;
    if (banks.length !== 1) return undefined;
    for (let i = 0; i < count; i++) {
      const vfn = vfns[i]!;
      if (!((vfn | 0) === vfn && vfn >= 0 && vfn < nearPages)) return undefined;
      const entry = near[vfn << PAGE_SHIFT]!;
      if ((entry & PRESENT) === 0 || (writable[i] !== 0 && (entry & WRITABLE) === 0)) return undefined;
      offsets[i] = (entry >>> FLAG_BITS) * PAGE;
    }
    return banks[0]!.views;
  }

  /**
   * Copies bytes from this space into `into`. Crosses pages.
   * @param address in bytes; a bigint where it is above 2^53.
   * @throws {HvError} `page-fault`; what was copied before the faulting page stays.
   */
  read(address: number | bigint, into: Uint8Array): void {
    this.#transfer(address, into, false);
  }

  /** Copies `from` into this space. Crosses pages. @throws {HvError} `page-fault` */
  write(address: number | bigint, from: Uint8Array): void {
    this.#transfer(address, from, true);
  }

  #transfer(address: number | bigint, bytes: Uint8Array, writing: boolean): void {
    let vfn: number;
    let inPage: number;
    if (typeof address === 'bigint') {
      vfn = Number(BigInt.asUintN(64, address) >> 12n);
      inPage = Number(address & 0xfffn);
    } else {
      whole('address', address, 0, Number.MAX_SAFE_INTEGER);
      vfn = Math.floor(address / PAGE);
      inPage = address - vfn * PAGE;
    }
    for (let done = 0; done < bytes.length; vfn++, inPage = 0) {
      const length = Math.min(PAGE - inPage, bytes.length - done);
      const at = this.resolve(vfn, writing) + inPage;
      if (writing) this.views.u8.set(bytes.subarray(done, done + length), at);
      else bytes.set(this.views.u8.subarray(at, at + length), done);
      done += length;
    }
  }

  /** The domain dies: every ordinary mapping goes and gives its reference back. Grant mappings must be gone already. */
  destroy(): void {
    const drop = (stretch: Stretch): void => {
      for (let page = 0; page < stretch.pages; page++) {
        const at = page << PAGE_SHIFT;
        if ((stretch.words[at]! & (PRESENT | GRANT)) === PRESENT) this.#drop(stretch, at, BY_DEATH);
      }
    };
    drop(this.#window);
    for (const stretch of this.#chunks.values()) drop(stretch);
  }

  /** Calls `visit` for every present entry, window first: for ledgers. */
  each(visit: (vfn: number, mfn: number, grant: boolean, writable: boolean) => void): void {
    const walk = (stretch: Stretch, first: number): void => {
      for (let page = 0; page < stretch.pages; page++) {
        const entry = stretch.words[page << PAGE_SHIFT]!;
        if ((entry & PRESENT) !== 0) visit(first + page, entry >>> FLAG_BITS, (entry & GRANT) !== 0, (entry & WRITABLE) !== 0);
      }
    };
    walk(this.#window, 0);
    for (const [chunk, stretch] of this.#chunks) walk(stretch, chunk * CHUNK);
  }
}
