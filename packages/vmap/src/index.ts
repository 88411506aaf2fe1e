export { Area } from './area.ts';
export { type Occupant, VmapError, type VmapRefusal } from './errors.ts';
export type { VmapEvents } from './events.ts';
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
