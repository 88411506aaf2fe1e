import type { MemoryViews } from '@paravirt/gnttab';

const PAGE_BYTES = 4096;
/** Pages of the largest memory whose views are kept: 4 GiB. */
const PAGES_MAX = 1 << 20;

/** By the memory's own view: all disks that serve pages of one memory share them. */
const known: WeakMap<Uint8Array, (Uint8Array | undefined)[]> = new WeakMap();

function pagesOf(u8: Uint8Array): (Uint8Array | undefined)[] {
  let pages = known.get(u8);
  if (pages === undefined) {
    const count = Math.floor(u8.length / PAGE_BYTES);
    pages = new Array<Uint8Array | undefined>(count <= PAGES_MAX ? count : 0);
    known.set(u8, pages);
  }
  return pages;
}

/**
 * Views of single pages of a memory, each made the first time it is asked for: `Uint8Array.set` takes its source as a view, and a
 * fresh one for each request would be garbage. One memory at a time; another one, or a grown one, starts anew.
 */
export class PageViews {
  private u8: Uint8Array | undefined;
  private pages: (Uint8Array | undefined)[] = [];

  /** Page `page` of the memory, which has it. */
  at(views: MemoryViews, page: number): Uint8Array {
    if (views.u8 !== this.u8) {
      this.u8 = views.u8;
      this.pages = pagesOf(views.u8);
    }
    return this.pages[page] ?? this.make(views.u8, page);
  }

  private make(u8: Uint8Array, page: number): Uint8Array {
    const made = u8.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
    if (page < this.pages.length) this.pages[page] = made;
    return made;
  }
}
