export { Area } from './area.ts';
export { type Occupant, VmapError, type VmapRefusal } from './errors.ts';
export type { VmapEvents } from './events.ts';
export { createPageHeap, type PageHeap, type PageHeapOptions } from './page-heap.ts';
export { createPageTable, type MemoryPageTable, type PageTableOptions } from './page-table.ts';
export { type VmapDeps, type VmapPluginOptions, vmap } from './plugin.ts';
export type {
  Access,
  Allocation,
  AllocOptions,
  AreaKind,
  CompatOptions,
  FindFree,
  LazyOptions,
  MallocOptions,
  MapCallback,
  MapFlags,
  MapOptions,
  PageAllocator,
  PageTable,
  RegionOptions,
  StrictOptions,
  Vmap,
  VmapCounters,
  VmapSetup,
  VmRegion,
} from './types.ts';
export { createVmap } from './vmap.ts';
