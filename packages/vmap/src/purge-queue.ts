import type { EventBus } from '@paravirt/event-bus';
import type { VmapEvents } from './events.ts';
import type { OutsideArea, OutsideAreas } from './outside.ts';
import type { Region } from './region.ts';
import type { PageAllocator, PageTable } from './types.ts';

/**
 * Freed areas that wait, unmapped, for one flush of the page table. Their addresses stay taken and their frames stay allocated until
 * then, so that a translation which is still cached somewhere never reaches a page that has a new owner. Linux's vmalloc waits alike
 * (mm/vmalloc.c, lazy_max_pages), but gives frames back before the flush.
 */
export class PurgeQueue {
  /** Pages that wait; never above the bound once a call has returned. */
  pages = 0;
  purged = 0;
  readonly #pagesMax: number;
  readonly #table: PageTable;
  readonly #heap: PageAllocator;
  readonly #bus: EventBus<VmapEvents> | undefined;
  readonly #regions: Region[] = [];
  readonly #bits: number[] = [];
  readonly #outside: OutsideArea[] = [];
  readonly #frames: number[] = [];
  readonly #areasOutside: OutsideAreas;
  #purging = false;

  constructor(pagesMax: number, table: PageTable, heap: PageAllocator, areasOutside: OutsideAreas, bus: EventBus<VmapEvents> | undefined) {
    this.#pagesMax = pagesMax;
    this.#table = table;
    this.#heap = heap;
    this.#areasOutside = areasOutside;
    this.#bus = bus;
  }

  get areas(): number {
    return this.#bits.length + this.#outside.length;
  }

  defer(region: Region, bit: number, pages: number): void {
    this.#regions.push(region);
    this.#bits.push(bit);
    this.#hold(pages);
  }

  deferOutside(area: OutsideArea): void {
    this.#areasOutside.markFreed(area);
    this.#outside.push(area);
    this.#hold(area.pages);
  }

  /** Frames to give back at the purge; said before the area that they belong to is deferred. */
  deferFrames(frames: readonly number[]): void {
    for (const frame of frames) this.#frames.push(frame);
  }

  #hold(pages: number): void {
    this.pages += pages;
    if (this.pages > this.#pagesMax) this.purge();
  }

  /** Cost O(areas that wait), and one flush. A free from inside the flush waits for the next purge. */
  purge(): { areas: number; pages: number } {
    const areas = this.areas;
    const { pages } = this;
    if (areas === 0 || this.#purging) return { areas: 0, pages: 0 };
    this.#purging = true;
    const inside = this.#bits.length;
    const outside = this.#outside.length;
    const frames = this.#frames.length;
    try {
      this.#table.flush?.();
    } finally {
      this.#purging = false;
    }
    for (let i = 0; i < inside; i++) this.#regions[i]!.settle(this.#bits[i]!);
    for (let i = 0; i < outside; i++) this.#areasOutside.remove(this.#outside[i]!);
    for (let i = 0; i < frames; i++) this.#heap.free(this.#frames[i]!);
    drop(this.#regions, inside);
    drop(this.#bits, inside);
    drop(this.#outside, outside);
    drop(this.#frames, frames);
    this.pages -= pages;
    this.purged++;
    if (this.#bus?.observed('vmap:purged')) this.#bus.emit('vmap:purged', { areas, pages });
    return { areas, pages };
  }
}

function drop(list: unknown[], count: number): void {
  if (count === list.length) list.length = 0;
  else list.splice(0, count);
}
