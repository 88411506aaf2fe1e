import type { Gfn, Gref } from '@paravirt/event-bus/contract';
import type { MemoryFrame } from '@paravirt/gnttab';
import type { GrefPool } from './gref-pool.ts';
import type { GuestPages } from './types.ts';

/**
 * Pages of the driver's own for one queue: bounce buffers, indirect descriptors, the page of zeroes. They are lent last in first
 * out. Under persistent grants a page keeps its reference, and pages that the backend already maps are lent before others.
 * Memory: as many pages as were ever lent at once; all go back at `destroy`.
 */
export class PagePool {
  private readonly pages: GuestPages;
  private readonly refs: GrefPool;
  /** By page number. */
  readonly gfns: Gfn[] = [];
  readonly frames: MemoryFrame[] = [];
  /** By page number: its 4096 bytes, and the view they were cut from, which a growing memory replaces. */
  private readonly windows: Uint8Array[] = [];
  private readonly bases: Uint8Array[] = [];
  /** By page number: the reference that stays open, or -1. */
  private readonly persistent: (Gref | -1)[] = [];
  /** Pages with an open reference, and pages without; the last is lent next. */
  private readonly granted: number[] = [];
  private readonly plain: number[] = [];
  /** Numbers of pages that were given back to the guest. */
  private readonly gone: number[] = [];
  /** After `destroy`: what comes back now goes to the guest. */
  private closed = false;

  constructor(pages: GuestPages, refs: GrefPool) {
    this.pages = pages;
    this.refs = refs;
  }

  /** Pages idle under a persistent grant. */
  get idleGranted(): number {
    return this.granted.length;
  }

  /** A page's number, or -1 when the guest has none left. */
  take(): number {
    const page = this.granted.pop() ?? this.plain.pop();
    return page ?? this.grow();
  }

  /** A page without an open reference: what is granted under it is not the backend's to keep. */
  takePlain(): number {
    return this.plain.pop() ?? this.grow();
  }

  /** The page's 4096 bytes as one view; the same object as long as the guest's memory keeps its views. */
  bytesOf(page: number): Uint8Array {
    const { views, offset } = this.frames[page]!;
    const base = views.u8;
    if (this.bases[page] !== base) {
      this.bases[page] = base;
      this.windows[page] = base.subarray(offset, offset + 4096);
    }
    return this.windows[page]!;
  }

  /** The reference that stays open for the page, or -1. */
  refOf(page: number): Gref | -1 {
    return this.persistent[page]!;
  }

  /** Keeps `gref`, which is open, with the page. */
  keep(page: number, gref: Gref): void {
    this.persistent[page] = gref;
  }

  /** Gives a page back. One with a reference that the backend no longer maps loses it, as Linux does. */
  give(page: number): void {
    const gref = this.persistent[page]!;
    if (gref === -1) {
      this.plain.push(page);
      return;
    }
    if (!this.refs.inUse(gref) && this.refs.closeIdle(gref)) {
      this.persistent[page] = -1;
      this.plain.push(page);
      return;
    }
    this.granted.push(page);
  }

  /** Closes every idle reference that the backend no longer maps. O(idle). */
  purge(): void {
    let kept = 0;
    for (const page of this.granted) {
      const gref = this.persistent[page] as Gref;
      // A refused end closes a version 2 entry's flags, so a page still mapped is not even tried.
      if (!this.refs.inUse(gref) && this.refs.closeIdle(gref)) {
        this.persistent[page] = -1;
        this.plain.push(page);
      } else this.granted[kept++] = page;
    }
    this.granted.length = kept;
  }

  /** A page comes back from a reference that was set aside. */
  returned(page: number): void {
    if (page < 0) return;
    if (this.closed) this.free(page);
    else this.plain.push(page);
  }

  /** Gives every idle page back to the guest; those under references still mapped follow through `returned`. */
  destroy(): void {
    this.closed = true;
    for (const page of this.granted) {
      const gref = this.persistent[page] as Gref;
      this.persistent[page] = -1;
      if (this.refs.close(gref, this.gfns[page]!, page)) this.free(page);
    }
    this.granted.length = 0;
    for (const page of this.plain) this.free(page);
    this.plain.length = 0;
  }

  private grow(): number {
    const gfn = this.pages.alloc();
    if (gfn === undefined) return -1;
    const page = this.gone.pop() ?? this.gfns.length;
    this.gfns[page] = gfn;
    const frame = this.pages.frame(gfn);
    this.frames[page] = frame;
    this.bases[page] = frame.views.u8;
    this.windows[page] = frame.views.u8.subarray(frame.offset, frame.offset + 4096);
    this.persistent[page] = -1;
    return page;
  }

  private free(page: number): void {
    this.pages.free(this.gfns[page]!);
    this.gone.push(page);
  }
}
