export type { GrantTable, GrantTableDeps, GrantTableOptions, GrantUsage, LiveEntry } from './api.ts';
export { GrantError, type GrantRefusal, type GrefState } from './errors.ts';
export type { GnttabEvents } from './events.ts';
export type {
  CopyOp,
  CopyPtr,
  ForeignPage,
  FreeCallback,
  GrantHypercalls,
  GrantList,
  MapOp,
  MemoryFrame,
  MemoryViews,
  PageUse,
  UnmapBatch,
  UnmapOp,
  UnmapResult,
} from './types.ts';
