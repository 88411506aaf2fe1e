import type { EventBus } from '@paravirt/event-bus';
import type { VmapEvents } from './events.ts';
import { createPageHeap, type PageHeap } from './page-heap.ts';
import { createPageTable, type MemoryPageTable } from './page-table.ts';
import type { LazyOptions, PageAllocator, PageTable, RegionOptions, Vmap } from './types.ts';
import { createVmap } from './vmap.ts';

/** Which kind of call fails: a page from the heap, a mapping, a small allocation. */
export type FaultPoint = 'page' | 'map' | 'small';

/** What is held at a moment; two ledgers are equal when nothing was lost or left. */
export interface Ledger {
  /** Frames out that do not hold a bitmap. */
  readonly frames: number;
  /** Mapped pages that do not hold a bitmap, as `address>frame`, in order of address. */
  readonly mapped: readonly string[];
  /** Areas in order of address, as `start+pages kind`, bitmaps left out. */
  readonly areas: readonly string[];
  /** `low` of each region. */
  readonly low: readonly number[];
}

/** Options of `vmapFixture`. */
export interface VmapFixtureOptions {
  /** Default: `default` at 0xffff82c000000000 and `xen` at 0xffff82d040a00000, 32,768 pages each. */
  readonly regions?: readonly RegionOptions[];
  /** Default false: strict. */
  readonly compat?: boolean;
  readonly lazy?: LazyOptions;
  /** Most frames out at once. */
  readonly heapPages?: number;
  readonly bus?: EventBus<VmapEvents>;
  /** Whether frames have bytes. Default false. */
  readonly memory?: boolean;
  /** A call that fails while the allocator is made. */
  readonly failFirst?: readonly [FaultPoint, number];
  /** Where frames come from, when more than one allocator shares them or a test looks at them after a refusal. */
  readonly heap?: PageHeap;
  readonly table?: MemoryPageTable;
}

/** An allocator on a page table and a heap in memory. `Failure` is as in `Vmap`: fixtures type it for `compat`. */
export interface VmapFixture {
  readonly vmap: Vmap<null>;
  /** What the allocator maps through: `table`, with the faults. */
  readonly pageTable: PageTable;
  readonly table: MemoryPageTable;
  readonly heap: PageHeap;
  /** Lets the `nth` call of this kind from now on fail, once; the first is 0. */
  failAt(point: FaultPoint, nth: number): void;
  /** Whether the fault that was asked for has happened. Forgets it either way. */
  fired(): boolean;
  /** What the allocator holds of its surroundings now. */
  ledger(): Ledger;
}

const TWO_REGIONS: readonly RegionOptions[] = [
  { name: 'default', start: 0xffff_82c0_0000_0000n, pages: 32_768 },
  { name: 'xen', start: 0xffff_82d0_40a0_0000n, pages: 32_768 },
];

/** Makes an allocator whose surroundings keep a ledger and fail on demand. */
export function vmapFixture(options: VmapFixtureOptions = {}): VmapFixture {
  const { regions = TWO_REGIONS, compat = false, lazy, heapPages, bus } = options;
  const table = options.table ?? createPageTable({ caching: true });
  const heap =
    options.heap ?? createPageHeap({ memory: options.memory ?? false, ...(heapPages === undefined ? {} : { pages: heapPages }) });
  let [point, countdown]: readonly [FaultPoint | null, number] = options.failFirst ?? [null, 0];
  let fired = false;
  const fails = (kind: FaultPoint): boolean => {
    if (kind !== point || countdown-- > 0) return false;
    point = null;
    fired = true;
    return true;
  };
  const pages: PageAllocator = {
    alloc: () => (fails('page') ? -1 : heap.alloc()),
    free: (mfn) => heap.free(mfn),
    clear: (mfn) => heap.clear(mfn),
  };
  const pageTable: PageTable = {
    map: (vfn, mfn, count, flags) => !fails('map') && table.map(vfn, mfn, count, flags),
    unmap: (vfn, count) => table.unmap(vfn, count),
    translate: (vfn) => table.translate(vfn),
    flush: () => table.flush(),
  };
  const setup = { regions, pageTable, pages, smallAlloc: () => !fails('small'), ...(bus === undefined ? {} : { bus }) };
  const vmap = compat
    ? createVmap({ ...setup, compat: 'xen' })
    : (createVmap({ ...setup, ...(lazy === undefined ? {} : { lazy }) }) as Vmap<null>);
  return {
    vmap,
    pageTable,
    table,
    heap,
    failAt(kind, nth) {
      point = kind;
      countdown = nth;
      fired = false;
    },
    fired() {
      point = null;
      return fired;
    },
    ledger: () => ledgerOf(vmap, table, heap),
  };
}

function ledgerOf(vmap: Vmap<null>, table: MemoryPageTable, heap: PageHeap): Ledger {
  const isBitmap = (vfn: number): boolean =>
    vmap.regions.some(({ startVfn, pages }) => vfn >= startVfn && vfn < startVfn + Math.ceil(pages / 32_768));
  const mapped: [number, number][] = [];
  table.each((vfn, mfn) => {
    if (!isBitmap(vfn)) mapped.push([vfn, mfn]);
  });
  return {
    frames: heap.live - vmap.counters.bitmapPages,
    mapped: mapped.sort(([a], [b]) => a - b).map(([vfn, mfn]) => `${vfn.toString(16)}>${mfn.toString(16)}`),
    areas: [...vmap.areas()]
      .filter(({ kind }) => kind !== 'bitmap')
      .map(({ start, pages, kind }) => `${start.toString(16)}+${pages} ${kind}`),
    low: vmap.regions.map(({ low }) => low),
  };
}
