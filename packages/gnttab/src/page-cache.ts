import { invariant } from '@paravirt/event-bus/contract';
import { refuseArgument } from './errors.ts';

/** Where a cache gets pages and gives them back. */
export interface PageSource {
  /** A page, or -1 when there is none. */
  alloc(): number;
  /** Takes back a page that `alloc` gave. */
  free(page: number): void;
}

/** Pages kept for repeated mapping, so that mapping a grant needs no new page each time. The last one put back is used first. */
export interface PageCache {
  /** Pages that are kept. */
  readonly size: number;
  /** A page: a kept one, else one of the source's, else -1. */
  get(): number;
  /** Keeps a page; when `max` are kept, it goes back to the source. @throws {GrantError} `bad-argument`: no page number. */
  put(page: number): void;
  /** Gives pages back to the source until `keep` are left. @throws {GrantError} `bad-argument`. */
  shrink(keep: number): void;
}

/**
 * Makes an empty cache over `source`.
 * @throws {GrantError} `bad-argument`: `max` is no whole number.
 * @see Linux 6.6, drivers/xen/grant-table.c, gnttab_page_cache_get and _put
 */
export function createPageCache(source: PageSource, options: { readonly max?: number } = {}): PageCache {
  const { max = Number.MAX_SAFE_INTEGER } = options;
  if (!Number.isSafeInteger(max) || max < 0) refuseArgument('max', max, 'a whole number from 0');
  let pages = new Float64Array(16);
  let size = 0;
  return {
    get size() {
      return size;
    },
    get() {
      if (size > 0) return pages[--size]!;
      const page = source.alloc();
      invariant(page === -1 || (Number.isSafeInteger(page) && page >= 0), () => `the page source gave ${page}`);
      return page;
    },
    put(page) {
      if (!Number.isSafeInteger(page) || page < 0) refuseArgument('page', page, 'a page number, a whole number from 0');
      if (size >= max) {
        source.free(page);
        return;
      }
      if (size === pages.length) {
        const more = new Float64Array(2 * size);
        more.set(pages);
        pages = more;
      }
      pages[size++] = page;
    },
    shrink(keep) {
      if (!Number.isSafeInteger(keep) || keep < 0) refuseArgument('keep', keep, 'a whole number from 0');
      while (size > keep) source.free(pages[--size]!);
    },
  };
}
