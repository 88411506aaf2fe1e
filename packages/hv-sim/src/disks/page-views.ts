import type { MemoryViews } from '@paravirt/gnttab';

const PAGE_BYTES = 4096;
/** Pages of the largest memory whose views are kept: 4 GiB. */
const PAGES_MAX = 1 << 20;

/**
 * Views of single pages of a memory, each made the first time it is asked for: `Uint8Array.set` takes its source as a view, and a
 * fresh one for each request would be garbage. One memory at a time; another one, or a grown one, starts anew.
 */
export class PageViews {
  private u8: Uint8Array | undefined;
  private pages: (Uint8Array | undefined)[] = [];

  /** The page at `address`, a multiple of 4096 inside the memory. */
  at(views: MemoryViews, address: number): Uint8Array {
    const u8 = views.u8;
    if (u8 !== this.u8) {
      this.u8 = u8;
      const count = Math.floor(u8.length / PAGE_BYTES);
      this.pages = new Array<Uint8Array | undefined>(count <= PAGES_MAX ? count : 0);
    }
    const page = Math.floor(address / PAGE_BYTES);
    const known = this.pages[page];
    if (known !== undefined) return known;
    const made = u8.subarray(address, address + PAGE_BYTES);
    if (page < this.pages.length) this.pages[page] = made;
    return made;
  }
}
