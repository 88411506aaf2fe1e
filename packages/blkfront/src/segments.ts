import { type Gfn, type Gref, InvariantError } from '@paravirt/event-bus/contract';
import type { MemoryFrame } from '@paravirt/gnttab';
import { BLKIF_MAX_SEGMENTS_PER_REQUEST, type BlockRequest, writeIndirectSegment, writeIndirectSegments } from '@paravirt/xen-abi';
import type { GrefPool } from './gref-pool.ts';
import type { HeldFrames } from './held-frames.ts';
import type { PagePool } from './page-pool.ts';
import type { PinnedTable } from './pinned.ts';
import { MODE, type Shadow, type Shadows } from './shadows.ts';
import { type GuestPages, OP, type QueueFigures } from './types.ts';

// Plain constants of this module: an imported one is loaded at each use.
const { DIRECT, PINNED, ZERO, PERSISTENT, BOUNCED } = MODE;
/** What `openOwn` answers where a page of the caller's is not there; -1 is short of pages or references. */
const ABSENT = -2;

/** What `SegmentWriter` works on; one of each a queue. */
export interface SegmentParts {
  readonly shadows: Shadows;
  readonly refs: GrefPool;
  readonly pages: PagePool;
  readonly pinned: PinnedTable;
  readonly guest: GuestPages;
  readonly held: HeldFrames;
  readonly figures: QueueFigures;
  /** Persistent grants were agreed. */
  readonly persistent: boolean;
  /** The backend is not trusted with anything but the data: pages are zeroed before they are shared. */
  readonly zeroFirst: boolean;
}

/** Turns a stretch of a request's buffer into granted segments, and takes the grants back. */
export class SegmentWriter {
  /** What `open` last ran short of. */
  shortOf: 'references' | 'pages' = 'references';
  private readonly segRef: Uint32Array;
  private readonly segPage: Int32Array;
  private readonly refs: GrefPool;
  private readonly pages: PagePool;
  private readonly pinned: PinnedTable;
  private readonly guest: GuestPages;
  private readonly held: HeldFrames;
  private readonly figures: QueueFigures;
  private readonly persistent: boolean;
  private readonly zeroFirst: boolean;
  private zeroPage = -1;
  /** A page of the caller's that was to be copied is not there. */
  private absent = false;

  constructor(parts: SegmentParts) {
    this.segRef = parts.shadows.segRef;
    this.segPage = parts.shadows.segPage;
    this.refs = parts.refs;
    this.pages = parts.pages;
    this.pinned = parts.pinned;
    this.guest = parts.guest;
    this.held = parts.held;
    this.figures = parts.figures;
    this.persistent = parts.persistent;
    this.zeroFirst = parts.zeroFirst;
  }

  /**
   * Grants the next stretch of a request, of at most `limit` segments, and describes it in `wire` or in an indirect page.
   * Fewer segments are taken where references or pages run short, so that a request always gets on as long as one is left.
   * Sets the shadow's `chunk` and `segments`.
   * @returns false when not even one segment could be had, or a page of the caller's is not there, which `takeAbsent` tells; then
   * nothing is held.
   */
  open(r: Shadow, limit: number, wire: BlockRequest): boolean {
    const { mode, base } = r;
    if (mode === DIRECT && r.done === 0 && (r.start & 4095) + r.count * 512 <= 4096) return this.openOne(r, wire);
    const own = mode !== DIRECT && mode !== PINNED;
    const done = r.done * 512;
    const at = r.start + done;
    let first = own ? 0 : at & 4095;
    const room = limit * 4096 - first;
    const all = r.count * 512 - done;
    let left = Math.min(all, room);
    let segments = (first + left + 4095) >>> 12;
    if (segments > BLKIF_MAX_SEGMENTS_PER_REQUEST && !this.openIndirect(r)) {
      segments = BLKIF_MAX_SEGMENTS_PER_REQUEST;
      left = segments * 4096 - first;
    }
    const readonly = r.op !== OP.READ;
    const indirect = r.indirectPage;
    const frame = own ? 0 : at >>> 12;
    let sectors = 0;
    let i = 0;
    if (mode === DIRECT) {
      i = this.openPages(r, wire, frame, first, left, segments);
      sectors = (i === segments ? left : i * 4096 - first) >>> 9;
    }
    for (; i < segments && mode !== DIRECT; i++) {
      const length = left + first < 4096 ? left : 4096 - first;
      const gref =
        mode === PINNED ? this.pinned.find(r.gfns![frame + i]!) : this.openOwn(r, base + i, readonly, at + sectors * 512, length);
      if (gref < 0) break;
      this.segRef[base + i] = gref;
      const sect = first >>> 9;
      const last = (first + length - 1) >>> 9;
      if (indirect === -1) wire.setSegment(i, gref, sect, last);
      else writeIndirectSegment(this.pages.frames[indirect]!, i, gref, sect, last);
      left -= length;
      sectors += last - sect + 1;
      first = 0;
    }
    if (this.absent) {
      r.segments = i;
      if (i > 0) this.close(r, false);
      else if (indirect !== -1) this.closeIndirect(r);
      return false;
    }
    if (i === 0) {
      if (indirect === -1) return false;
      // The descriptors took the last page or reference: as a request without them it gets on.
      this.closeIndirect(r);
      return this.open(r, BLKIF_MAX_SEGMENTS_PER_REQUEST, wire);
    }
    r.segments = i;
    r.chunk = sectors;
    this.figures.segments += i;
    wire.nrSegments = i;
    if (indirect !== -1) wire.indirectGrefs[0] = r.indirectRef;
    return true;
  }

  /**
   * Grants `segments` pages of the caller's from `frame` on, of which the stretch takes `left` bytes from byte `first` of the first one
   * on, and describes them. @returns how many there were references for.
   */
  private openPages(r: Shadow, wire: BlockRequest, frame: number, first: number, left: number, segments: number): number {
    const { refs, segRef } = this;
    const { base, indirectPage } = r;
    const gfns = r.gfns!;
    const readonly = r.op !== OP.READ;
    const lent = refs.lendMany(segRef, base, gfns, frame, segments, readonly);
    if (lent < segments) this.shortOf = 'references';
    if (lent === 0) return 0;
    const sect = first >>> 9;
    const last = lent < segments ? 7 : ((first + left - 1) & 4095) >>> 9;
    if (indirectPage === -1) wire.setSegments(segRef, base, lent, sect, last);
    else writeIndirectSegments(this.pages.frames[indirectPage]!, segRef, base, lent, sect, last);
    return lent;
  }

  /** The same for what lies in one page of the caller's, which is most of all requests. */
  private openOne(r: Shadow, wire: BlockRequest): boolean {
    const { start, count, op } = r;
    const gref = this.refs.lend(r.gfns![start >>> 12]! as Gfn, op !== OP.READ);
    if (gref === -1) {
      this.shortOf = 'references';
      return false;
    }
    const first = (start & 4095) >>> 9;
    wire.setSegment(0, gref, first, first + count - 1);
    wire.nrSegments = 1;
    this.segRef[r.base] = gref;
    r.segments = 1;
    r.chunk = count;
    this.figures.segments++;
    return true;
  }

  /**
   * Ends what `open` began: copies read data to the caller when `copyBack`, closes references, gives pages back.
   * @returns false where a page of the caller's is not there any more, so that not all of the data got to it.
   */
  close(r: Shadow, copyBack: boolean): boolean {
    const { segments, mode, base } = r;
    if (segments === 0) return true;
    let whole = true;
    r.segments = 0;
    if (mode === DIRECT) {
      const gfns = r.gfns!;
      const frame = (r.start + r.done * 512) >>> 12;
      this.refs.closeMany(this.segRef, base, gfns, frame, segments);
    } else if (mode === ZERO) {
      const gfn = this.pages.gfns[this.zeroPage]!;
      for (let i = 0; i < segments; i++) this.refs.close(this.segRef[base + i]! as Gref, gfn, -1);
    } else if (mode !== PINNED) {
      let from = r.start + r.done * 512;
      let left = r.chunk * 512;
      for (let i = base; i < base + segments; i++) {
        const page = this.segPage[i]!;
        const length = Math.min(left, 4096);
        if (copyBack && !this.copyOut(r, page, from, length)) whole = false;
        this.closePage(page, this.segRef[i]! as Gref);
        this.segPage[i] = -1;
        from += length;
        left -= length;
      }
    }
    if (r.indirectPage !== -1) this.closeIndirect(r);
    return whole;
  }

  /** Whether the last `open` failed because a page of the caller's is not there. Asked once. */
  takeAbsent(): boolean {
    const { absent } = this;
    this.absent = false;
    return absent;
  }

  /** Whether every page of the stretch is there to be copied, or pinned. */
  allThere(gfns: ArrayLike<number>, start: number, sectors: number): boolean {
    const last = Math.ceil((start + sectors * 512) / 4096);
    for (let i = start >>> 12; i < last; i++) {
      const gfn = gfns[i]!;
      if (this.pinned.find(gfn) === -1 && this.frameOf(gfn) === null) return false;
    }
    return true;
  }

  /** Whether every page of the stretch is pinned. */
  allPinned(gfns: ArrayLike<number>, start: number, sectors: number): boolean {
    const last = (start + sectors * 512 - 1) >>> 12;
    for (let i = start >>> 12; i <= last; i++) if (this.pinned.find(gfns[i]!) === -1) return false;
    return true;
  }

  /** Makes the page of zeroes; false when the guest has no page left. */
  makeZeroPage(): boolean {
    if (this.zeroPage === -1) {
      this.zeroPage = this.pages.takePlain();
      if (this.zeroPage !== -1) this.pages.bytesOf(this.zeroPage).fill(0);
      else this.shortOf = 'pages';
    }
    return this.zeroPage !== -1;
  }

  /** Gives the page of zeroes back, as soon as no reference to it is held up. */
  destroy(): void {
    const page = this.zeroPage;
    this.zeroPage = -1;
    if (page !== -1) this.held.whenFree(this.pages.gfns[page]!, () => this.pages.returned(page));
  }

  private openIndirect(r: Shadow): boolean {
    const page = this.persistent ? this.pages.take() : this.pages.takePlain();
    if (page === -1) return false;
    let gref = this.pages.refOf(page);
    if (gref === -1) {
      gref = this.refs.claim();
      if (gref === -1) {
        this.pages.give(page);
        return false;
      }
      if (this.zeroFirst) this.pages.bytesOf(page).fill(0);
      this.refs.open(gref, this.pages.gfns[page]!, !this.persistent);
      if (this.persistent) this.pages.keep(page, gref);
    }
    r.indirectPage = page;
    r.indirectRef = gref;
    return true;
  }

  private closeIndirect(r: Shadow): void {
    this.closePage(r.indirectPage, r.indirectRef as Gref);
    r.indirectPage = -1;
  }

  /**
   * Takes a page of the driver's own for a segment, fills it and opens it. -1: short of pages or references; `ABSENT`: a page of the
   * caller's is not there. Nothing is held then.
   */
  private openOwn(r: Shadow, at: number, readonly: boolean, from: number, length: number): Gref | -1 | typeof ABSENT {
    if (r.mode === ZERO) {
      const gref = this.refs.lend(this.pages.gfns[this.zeroPage]!, true);
      if (gref === -1) this.shortOf = 'references';
      return gref;
    }
    const { pages, refs } = this;
    const page = r.mode === PERSISTENT ? pages.take() : pages.takePlain();
    if (page === -1) {
      this.shortOf = 'pages';
      return -1;
    }
    const kept = pages.refOf(page);
    const gref = kept === -1 ? refs.claim() : kept;
    if (gref === -1) {
      pages.give(page);
      this.shortOf = 'references';
      return -1;
    }
    const bytes = pages.bytesOf(page);
    if (this.zeroFirst) bytes.fill(0);
    if (readonly && !this.copyIn(r, bytes, from, length)) {
      if (kept === -1) refs.unclaim(gref);
      pages.give(page);
      this.absent = true;
      return ABSENT;
    }
    this.figures.bounced++;
    if (r.mode === BOUNCED) refs.open(gref, pages.gfns[page]!, readonly);
    else if (kept === -1) {
      refs.open(gref, pages.gfns[page]!, false);
      pages.keep(page, gref);
    }
    this.segPage[at] = page;
    return gref;
  }

  private closePage(page: number, gref: Gref): void {
    if (this.pages.refOf(page) !== -1 || this.refs.close(gref, this.pages.gfns[page]!, page)) this.pages.give(page);
  }

  private copyIn(r: Shadow, into: Uint8Array, from: number, length: number): boolean {
    const { bytes, gfns } = r;
    if (bytes !== null) {
      into.set(from === 0 && length === bytes.length ? bytes : bytes.subarray(from, from + length));
      return true;
    }
    if (gfns === null) {
      into.fill(0, 0, length);
      return true;
    }
    for (let done = 0; done < length; ) {
      const source = this.frameOf(gfns[(from + done) >>> 12]!);
      if (source === null) return false;
      const { views, offset } = source;
      const inPage = (from + done) & 4095;
      const part = Math.min(length - done, 4096 - inPage);
      into.set(views.u8.subarray(offset + inPage, offset + inPage + part), done);
      done += part;
    }
    return true;
  }

  private copyOut(r: Shadow, page: number, to: number, length: number): boolean {
    const source = this.pages.bytesOf(page);
    const { bytes } = r;
    if (bytes !== null) {
      bytes.set(length === 4096 ? source : source.subarray(0, length), to);
      return true;
    }
    const gfns = r.gfns!;
    for (let done = 0; done < length; ) {
      const target = this.frameOf(gfns[(to + done) >>> 12]!);
      if (target === null) return false;
      const { views, offset } = target;
      const inPage = (to + done) & 4095;
      const part = Math.min(length - done, 4096 - inPage);
      views.u8.set(source.subarray(done, done + part), offset + inPage);
      done += part;
    }
    return true;
  }

  /** Where a page of the caller's is; null where the guest has no such page now, as after it was given to a balloon. */
  private frameOf(gfn: number): MemoryFrame | null {
    try {
      return this.guest.frame(gfn as Gfn);
    } catch (error) {
      if (error instanceof InvariantError) throw error;
      return null;
    }
  }
}
