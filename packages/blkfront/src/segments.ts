import type { Gfn, Gref } from '@paravirt/event-bus/contract';
import { BLKIF_MAX_SEGMENTS_PER_REQUEST, type BlockRequest, writeIndirectSegment } from '@paravirt/xen-abi';
import type { GrefPool } from './gref-pool.ts';
import type { PagePool } from './page-pool.ts';
import type { PinnedTable } from './pinned.ts';
import { MODE, type Shadows } from './shadows.ts';
import { type GuestPages, OP, type QueueFigures } from './types.ts';

/** What `SegmentWriter` works on; one of each a queue. */
export interface SegmentParts {
  readonly shadows: Shadows;
  readonly refs: GrefPool;
  readonly pages: PagePool;
  readonly pinned: PinnedTable;
  readonly guest: GuestPages;
  readonly figures: QueueFigures;
  /** Persistent grants were agreed. */
  readonly persistent: boolean;
  /** The backend is not trusted with anything but the data: pages are zeroed before they are shared. */
  readonly zeroFirst: boolean;
}

/** Turns a stretch of a request's buffer into granted segments, and takes the grants back. */
export class SegmentWriter {
  private readonly s: Shadows;
  private readonly refs: GrefPool;
  private readonly pages: PagePool;
  private readonly pinned: PinnedTable;
  private readonly guest: GuestPages;
  private readonly figures: QueueFigures;
  private readonly persistent: boolean;
  private readonly zeroFirst: boolean;
  private zeroPage = -1;
  /** What `open` last ran short of. */
  shortOf: 'references' | 'pages' = 'references';

  constructor(parts: SegmentParts) {
    this.s = parts.shadows;
    this.refs = parts.refs;
    this.pages = parts.pages;
    this.pinned = parts.pinned;
    this.guest = parts.guest;
    this.figures = parts.figures;
    this.persistent = parts.persistent;
    this.zeroFirst = parts.zeroFirst;
  }

  /**
   * Grants the next stretch of request `id`, of at most `limit` segments, and describes it in `wire` or in an indirect page.
   * Fewer segments are taken where references or pages run short, so that a request always gets on as long as one is left.
   * Sets the shadow's `chunk` and `segments`.
   * @returns false when not even one segment could be had; then nothing is held.
   */
  open(id: number, limit: number, wire: BlockRequest): boolean {
    const s = this.s;
    const mode = s.mode[id]!;
    const at = s.start[id]! + s.done[id]! * 512;
    const offset = mode === MODE.DIRECT || mode === MODE.PINNED ? at & 4095 : 0;
    let bytes = Math.min((s.count[id]! - s.done[id]!) * 512, limit * 4096 - offset);
    let segments = (offset + bytes + 4095) >>> 12;
    const base = id * s.maxSegments;
    const got = this.claim(mode, id, base, at, segments);
    if (got === 0) return false;
    if (got < segments) {
      segments = got;
      bytes = got * 4096 - offset;
    }
    if (segments > BLKIF_MAX_SEGMENTS_PER_REQUEST && !this.openIndirect(id)) {
      this.unclaim(mode, base, BLKIF_MAX_SEGMENTS_PER_REQUEST, segments);
      segments = BLKIF_MAX_SEGMENTS_PER_REQUEST;
      bytes = segments * 4096 - offset;
    }
    const op = s.op[id]!;
    const readonly = op !== OP.READ;
    const indirect = s.indirectPage[id]!;
    const gfns = s.gfns[id]!;
    const frameNo = Math.floor(at / 4096);
    let from = at;
    let first = offset;
    let left = bytes;
    for (let i = 0; i < segments; i++) {
      const length = Math.min(left, 4096 - first);
      const gref = s.segRef[base + i]! as Gref;
      if (mode === MODE.DIRECT) this.refs.open(gref, gfns![frameNo + i]! as Gfn, readonly);
      else if (mode !== MODE.PINNED) this.openOwn(id, mode, s.segPage[base + i]!, gref, readonly, from, length);
      const sect = first >>> 9;
      const last = (first + length - 1) >>> 9;
      if (indirect === -1) wire.setSegment(i, gref, sect, last);
      else writeIndirectSegment(this.pages.frames[indirect]!, i, gref, sect, last);
      left -= length;
      from += length;
      first = 0;
    }
    s.segments[id] = segments;
    s.chunk[id] = bytes / 512;
    this.figures.segments += segments;
    wire.nrSegments = segments;
    if (indirect !== -1) wire.indirectGrefs[0] = s.indirectRef[id]!;
    return true;
  }

  /** Ends what `open` began: copies read data to the caller when `copyBack`, closes references, gives pages back. */
  close(id: number, copyBack: boolean): void {
    const s = this.s;
    const segments = s.segments[id]!;
    if (segments === 0) return;
    const mode = s.mode[id]!;
    const base = id * s.maxSegments;
    if (mode === MODE.DIRECT) {
      const gfns = s.gfns[id]!;
      const frameNo = Math.floor((s.start[id]! + s.done[id]! * 512) / 4096);
      for (let i = 0; i < segments; i++) this.refs.close(s.segRef[base + i]! as Gref, gfns[frameNo + i]! as Gfn, -1);
    } else if (mode === MODE.ZERO) {
      const gfn = this.pages.gfns[this.zeroPage]!;
      for (let i = 0; i < segments; i++) this.refs.close(s.segRef[base + i]! as Gref, gfn, -1);
    } else if (mode !== MODE.PINNED) {
      let from = s.start[id]! + s.done[id]! * 512;
      let left = s.chunk[id]! * 512;
      for (let i = 0; i < segments; i++) {
        const page = s.segPage[base + i]!;
        const length = Math.min(left, 4096);
        if (copyBack) this.copyOut(id, page, from, length);
        this.closePage(page, s.segRef[base + i]! as Gref);
        s.segPage[base + i] = -1;
        from += length;
        left -= length;
      }
    }
    const indirect = s.indirectPage[id]!;
    if (indirect !== -1) {
      this.closePage(indirect, s.indirectRef[id]! as Gref);
      s.indirectPage[id] = -1;
    }
    s.segments[id] = 0;
  }

  /** Whether every page of the stretch is pinned. */
  allPinned(gfns: ArrayLike<number>, start: number, sectors: number): boolean {
    const last = Math.floor((start + sectors * 512 - 1) / 4096);
    for (let i = Math.floor(start / 4096); i <= last; i++) if (this.pinned.find(gfns[i]!) === -1) return false;
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

  /** Gives the page of zeroes back. */
  destroy(): void {
    if (this.zeroPage !== -1) this.pages.give(this.zeroPage);
    this.zeroPage = -1;
  }

  private claim(mode: number, id: number, base: number, at: number, segments: number): number {
    const s = this.s;
    if (mode === MODE.DIRECT || mode === MODE.ZERO) {
      for (let i = 0; i < segments; i++) {
        const gref = this.refs.claim();
        if (gref === -1) return this.short('references', i);
        s.segRef[base + i] = gref;
      }
      return segments;
    }
    if (mode === MODE.PINNED) {
      const gfns = s.gfns[id]!;
      const frameNo = Math.floor(at / 4096);
      for (let i = 0; i < segments; i++) s.segRef[base + i] = this.pinned.find(gfns[frameNo + i]!);
      return segments;
    }
    for (let i = 0; i < segments; i++) {
      const page = mode === MODE.PERSISTENT ? this.pages.take() : this.pages.takePlain();
      if (page === -1) return this.short('pages', i);
      let gref = this.pages.refOf(page);
      if (gref === -1) gref = this.refs.claim();
      if (gref === -1) {
        this.pages.give(page);
        return this.short('references', i);
      }
      s.segPage[base + i] = page;
      s.segRef[base + i] = gref;
    }
    return segments;
  }

  private short(what: 'references' | 'pages', got: number): number {
    this.shortOf = what;
    return got;
  }

  /** Gives back segments `from` to `to` that were claimed and not opened. */
  private unclaim(mode: number, base: number, from: number, to: number): void {
    const s = this.s;
    for (let i = from; i < to; i++) {
      const page = s.segPage[base + i]!;
      if (mode === MODE.PINNED) continue;
      if (mode === MODE.DIRECT || mode === MODE.ZERO || this.pages.refOf(page) === -1) this.refs.unclaim(s.segRef[base + i]! as Gref);
      if (mode === MODE.BOUNCED || mode === MODE.PERSISTENT) {
        this.pages.give(page);
        s.segPage[base + i] = -1;
      }
    }
  }

  private openIndirect(id: number): boolean {
    const page = this.persistent ? this.pages.take() : this.pages.takePlain();
    if (page === -1) return false;
    let gref = this.pages.refOf(page);
    if (gref === -1) {
      gref = this.refs.claim();
      if (gref === -1) {
        this.pages.give(page);
        return false;
      }
      this.pages.bytesOf(page).fill(0);
      this.refs.open(gref, this.pages.gfns[page]!, !this.persistent);
      if (this.persistent) this.pages.keep(page, gref);
    }
    this.s.indirectPage[id] = page;
    this.s.indirectRef[id] = gref;
    return true;
  }

  /** Fills and opens a page of the driver's own. */
  private openOwn(id: number, mode: number, page: number, gref: Gref, readonly: boolean, from: number, length: number): void {
    if (mode === MODE.ZERO) {
      this.refs.open(gref, this.pages.gfns[this.zeroPage]!, true);
      return;
    }
    const bytes = this.pages.bytesOf(page);
    if (this.zeroFirst) bytes.fill(0);
    if (readonly) this.copyIn(id, bytes, from, length);
    this.figures.bounced++;
    if (mode === MODE.BOUNCED) this.refs.open(gref, this.pages.gfns[page]!, readonly);
    else if (this.pages.refOf(page) === -1) {
      this.refs.open(gref, this.pages.gfns[page]!, false);
      this.pages.keep(page, gref);
    }
  }

  private closePage(page: number, gref: Gref): void {
    if (this.pages.refOf(page) !== -1 || this.refs.close(gref, this.pages.gfns[page]!, page)) this.pages.give(page);
  }

  private copyIn(id: number, into: Uint8Array, from: number, length: number): void {
    const bytes = this.s.bytes[id];
    if (bytes) {
      into.set(from === 0 && length === bytes.length ? bytes : bytes.subarray(from, from + length));
      return;
    }
    const gfns = this.s.gfns[id];
    if (!gfns) {
      into.fill(0, 0, length);
      return;
    }
    for (let done = 0; done < length; ) {
      const { views, offset } = this.guest.frame(gfns[Math.floor((from + done) / 4096)]! as Gfn);
      const inPage = (from + done) % 4096;
      const part = Math.min(length - done, 4096 - inPage);
      into.set(views.u8.subarray(offset + inPage, offset + inPage + part), done);
      done += part;
    }
  }

  private copyOut(id: number, page: number, to: number, length: number): void {
    const source = this.pages.bytesOf(page);
    const bytes = this.s.bytes[id];
    if (bytes) {
      bytes.set(length === 4096 ? source : source.subarray(0, length), to);
      return;
    }
    const gfns = this.s.gfns[id]!;
    for (let done = 0; done < length; ) {
      const { views, offset } = this.guest.frame(gfns[Math.floor((to + done) / 4096)]! as Gfn);
      const inPage = (to + done) % 4096;
      const part = Math.min(length - done, 4096 - inPage);
      views.u8.set(source.subarray(done, done + part), offset + inPage);
      done += part;
    }
  }
}
