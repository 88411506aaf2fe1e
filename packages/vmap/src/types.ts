/**
 * What the allocator needs of its surroundings (where virtual pages are mapped, where frames come from) and what it offers.
 *
 * Two ways to say an address, one for each layer. The outer layer, `Vmap`, takes and returns whole 64-bit addresses as `bigint`, and
 * checks them. The hot layer, `VmRegion` and `PageTable`, speaks of virtual frame numbers: `vfn = va / 4096`, a plain number, exact
 * below 2^52, so that nothing there makes a bigint.
 */
import type { EventBus } from '@paravirt/event-bus';
import type { Area } from './area.ts';
import type { VmapEvents } from './events.ts';

/** Flags of a mapping. */
export interface MapFlags {
  readonly writable: boolean;
  readonly executable: boolean;
}

/** One address space. Page numbers are `va / 4096`, exact up to 2^52. */
export interface PageTable {
  /**
   * Maps `count` pages from `vfn` on to the frames `mfn, mfn + 1, ...`; a page that is mapped already is mapped anew.
   * @returns false when it cannot (no memory for a table page); then nothing is mapped.
   */
  map(vfn: number, mfn: number, count: number, flags: MapFlags): boolean;
  /** Unmaps `count` pages from `vfn` on; pages that are not mapped are passed over. Cannot fail. */
  unmap(vfn: number, count: number): void;
  /** The frame mapped at `vfn`, or -1. */
  translate(vfn: number): number;
  /**
   * Forgets every cached translation of pages that were unmapped. Called once for each purge of lazily freed areas, before their
   * addresses and frames may be used again; never called without `lazy`. A page table that caches nothing leaves it out.
   */
  flush?(): void;
}

/** A heap of machine frames. */
export interface PageAllocator {
  /** One frame, or -1 when there is none. */
  alloc(): number;
  /** Takes back a frame that `alloc` gave. */
  free(mfn: number): void;
  /** Fills the frame with zeroes. */
  clear(mfn: number): void;
}

/** A range of addresses that the allocator hands out. */
export interface RegionOptions {
  /** `default` serves calls that name no region, `xen` serves `vmallocXen`; any other name is as good. */
  readonly name: string;
  /** Address of the first page, a multiple of 4096, above 0; the pages of the region's own bitmap lie here. */
  readonly start: bigint;
  /** Size in pages of 4096 bytes: 1 to 2^31, in `compat` to 2^32 - 32768. */
  readonly pages: number;
}

/** Freed areas wait, unmapped, until a batch of them is purged with one flush. */
export interface LazyOptions {
  /** Most pages that may wait, 1 to 2^20; the free that would pass it purges at once. */
  readonly pagesMax: number;
}

/** What `createVmap` takes in either mode. */
export interface VmapSetup {
  /** Looked up in this order; the original has `default`, then `xen`. Names and ranges must not overlap. */
  readonly regions: readonly RegionOptions[];
  readonly pageTable: PageTable;
  readonly pages: PageAllocator;
  /** Asked before each small allocation of the original (0 the frame array, 1 the list node of an area outside); false refuses it. */
  readonly smallAlloc?: () => boolean;
  readonly bus?: EventBus<VmapEvents>;
}

/** The default: misuse is refused with a `VmapError`, and an allocation that cannot be made throws. */
export interface StrictOptions extends VmapSetup {
  readonly strict?: true;
  readonly lazy?: LazyOptions;
}

/** Behaves as recorded of the original: misuse is counted as a warning, an allocation that cannot be made yields null. */
export interface CompatOptions extends VmapSetup {
  readonly compat: 'xen';
}

/** What an area is for: raw address space, a mapping of given frames, a mapping of its own frames, a range outside, the bitmap itself. */
export type AreaKind = 'raw' | 'vmap' | 'vmalloc' | 'outside' | 'reserved' | 'bitmap';

/** What an access to an address wants to do: load, store, or jump. */
export type Access = 'read' | 'write' | 'execute';

/** Options of `vmAlloc`. */
export interface AllocOptions {
  /** In pages; 0 counts as 1, a number that is no power of two counts as its lowest set bit. Default 1. */
  readonly align?: number;
  /** Name of the region. Default `default`. */
  readonly region?: string;
  /** Free text that `area(va).owner` repeats. */
  readonly owner?: string;
}

/** Options of `vmap`. */
export interface MapOptions extends AllocOptions {
  /** How many consecutive frames an element of `mfns` stands for. Default 1. */
  readonly granularity?: number;
  /** Default: writable, not executable. */
  readonly flags?: MapFlags;
}

/** Options of `vmalloc` and its kin. */
export interface MallocOptions {
  readonly region?: string;
  readonly owner?: string;
  readonly flags?: MapFlags;
}

/** An area with pages of its own. */
export interface Allocation {
  readonly va: bigint;
  /** The frame of each page, in order. */
  readonly frames: readonly number[];
}

/** Maps `frames`, page by page, at addresses of its own choice. Returns the first, or null after undoing what it did. */
export type MapCallback = (frames: readonly number[]) => bigint | null;

/** Where `findFree` may look: a window, or within reach of an address. */
export type FindFree = {
  readonly pages: number;
  /** In pages, a power of two. Default 1. */
  readonly align?: number;
} & (
  | { /** First address allowed. */ readonly lo: bigint /** First address past the window. */; readonly hi: bigint }
  | {
      /** Every byte of the area is less than `reach` bytes away from here. */
      readonly near: bigint;
      /** Default 2 GiB: what a signed 32-bit displacement spans. */
      readonly reach?: bigint;
    }
);

/** Counters since creation, and what waits for a purge. All are whole numbers. */
export interface VmapCounters {
  /** How often the original would have warned (`compat` only). */
  readonly warnings: number;
  /** How many debug assertions of the original would have fired (`compat` only). */
  readonly assertions: number;
  readonly lazyAreas: number;
  readonly lazyPages: number;
  readonly purges: number;
  /** Frames that hold bitmaps, over all regions; never given back before `close`. */
  readonly bitmapPages: number;
}

/**
 * One region's addresses, by virtual frame number: the hot layer. Nothing here allocates, maps or unmaps, but for a page of the bitmap
 * when `top` has to grow.
 */
export interface VmRegion {
  readonly name: string;
  /** First page of the region. */
  readonly startVfn: number;
  /** Size in pages; the original's `end`. */
  readonly pages: number;
  /** Where the search starts: bit number. */
  readonly low: number;
  /** How far the bitmap is populated: bit number. */
  readonly top: number;
  /**
   * Finds `pages` pages of address space with a guard page on both sides, lowest hole first. Cost O(log n).
   * @param align in pages, default 1.
   * @returns the first page's vfn, or -1 when nothing fits or the bitmap cannot grow (both modes; nothing is thrown for lack of room).
   * @throws {VmapError} `bad-argument`, in strict mode: `pages` is no whole number from 1 to 2^32 - 1, or `align` none from 0.
   */
  vmAlloc(pages: number, align?: number): number;
  /**
   * Gives back the area that starts at `vfn`; unmaps nothing. Under `lazy` the address waits for a purge. Cost O(log n).
   * @returns whether there was one; false counts a warning in `compat`.
   * @throws {VmapError} `not-an-area`, in strict mode.
   */
  vmFree(vfn: number): boolean;
  /** Pages of the area that starts at `vfn`, 0 when none does. Cost O(1), whatever the size. */
  vmSize(vfn: number): number;
  /** First page of the area that holds `vfn`, or -1. Cost O(log n). */
  areaStart(vfn: number): number;
  /** Calls `visit(start, length)` for each maximal run of set bits, in order: the bitmap, derived. Cost O(areas). */
  eachRun(visit: (start: number, length: number) => void): void;
}

/**
 * The allocator. `Failure` is `null` in `compat` and nothing in strict mode, where what cannot be had throws.
 *
 * Every method that takes `va` throws {VmapError} `bad-address` unless it is a bigint from 0 to 2^64 - 1 (or null, where the original
 * lets a null pointer pass).
 */
export interface Vmap<Failure extends null = never> {
  readonly strict: boolean;
  readonly counters: VmapCounters;
  readonly regions: readonly VmRegion[];
  /** The hot layer of one region. @throws {VmapError} `no-region`. */
  region(name: string): VmRegion;

  /**
   * Address space only; nothing is mapped.
   * @throws {VmapError} strict: `bad-argument`, `no-region`, `no-room`, `no-memory` (the bitmap cannot grow).
   */
  vmAlloc(pages: number, options?: AllocOptions): bigint | Failure;
  /** Gives back address space; unmaps nothing. @throws {VmapError} strict: `not-an-area`, naming what is there. */
  vmFree(va: bigint | null): void;
  /**
   * Maps the frames `mfns` side by side. Element i maps `granularity` frames from `mfns[i]` on, by one call of the page table.
   * @throws {VmapError} strict: as `vmAlloc`, and `map-failed` with everything undone.
   */
  vmap(mfns: ArrayLike<number>, options?: MapOptions): bigint | Failure;
  /** Maps `pages` consecutive frames by one call of the page table. */
  vmapContig(mfn: number, pages: number, options?: Omit<MapOptions, 'granularity'>): bigint | Failure;
  /** Unmaps an area and gives back its addresses, not its frames. @throws {VmapError} strict: `not-an-area`. */
  vunmap(va: bigint | null): void;
  /** Pages of the area whose first page holds `va`, 0 when none does; in one region, or in all of them and outside. Cost O(1). */
  vmSize(va: bigint | null, region?: string): number;
  /**
   * Pages of memory for `size` bytes, mapped side by side.
   * @throws {VmapError} strict: as `vmap`, and `no-memory`; nothing is kept but bitmap pages.
   */
  vmalloc(size: number | bigint, options?: MallocOptions): bigint | Failure;
  /** As `vmalloc`, filled with zeroes. */
  vzalloc(size: number | bigint, options?: MallocOptions): bigint | Failure;
  /** As `vmalloc` in the region `xen`. */
  vmallocXen(size: number | bigint, options?: Omit<MallocOptions, 'region'>): bigint | Failure;
  /** Unmaps an area of `vmalloc` or of its kin and gives its frames back. @throws {VmapError} strict: `not-an-area`, `wrong-kind`. */
  vfree(va: bigint | null): void;
  /**
   * As `vmalloc`, with `callback` to map the frames where it wants; null is plain `vmalloc`. The area is remembered by its address.
   * @throws {VmapError} strict: `map-failed` (the callback returned null), `overlap`, `no-guard`, `inside-region`.
   */
  vmallocCb(size: number | bigint, callback: MapCallback | null, options?: MallocOptions): Allocation | Failure;
  /** Memory for `size` bytes at `va`, outside every region; checked before anything is mapped. @throws {VmapError} as `vmallocCb`. */
  vmallocAt(va: bigint, size: number | bigint, options?: Omit<MallocOptions, 'region'>): Allocation | Failure;
  /** Claims `pages` pages at `va`, outside every region, and maps nothing; `vmFree` ends it. @throws {VmapError} as `vmallocCb`. */
  reserve(va: bigint, pages: number, options?: { readonly owner?: string }): bigint;

  /** The area that holds `va`, any address of it, inside a region or outside. Cost O(log n). */
  area(va: bigint): Area | undefined;
  /** All areas, in order of address. */
  areas(): IterableIterator<Area>;
  /** Every area outside that is remembered, newest first: the order of the original's list. Cost O(n log n). */
  outsideNewestFirst(): readonly { readonly va: bigint; readonly pages: number }[];
  /**
   * The lowest address outside every region where `pages` pages fit with a free page on both sides; null when there is none. Claims
   * nothing. Cost O(log n) for align 1.
   */
  findFree(request: FindFree): bigint | null;
  /** The frame mapped at `va`, or -1. */
  translate(va: bigint): number;
  /**
   * What a load, a store or a jump at `va` meets.
   * @returns the frame.
   * @throws {VmapError} `fault`: a guard page, an unmapped page, or one whose flags forbid it.
   */
  touch(va: bigint, access?: Access): number;

  /** Ends the wait of lazily freed areas: one flush, then their addresses and frames are free. @returns how many there were. */
  purge(): { areas: number; pages: number };
  /** The regions, their fragmentation as a chart, and the areas outside, as text of at most 100 columns. */
  describe(): string;
  /** Unmaps and gives back everything, bitmap pages included. Every later call throws {VmapError} `closed`, but for `close`. */
  close(): void;
}
