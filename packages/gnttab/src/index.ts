export type { GrantTable, GrantTableDeps, GrantTableOptions, GrantUsage, LiveEntry } from './api.ts';
export { GrantError, type GrantRefusal, type GrefState } from './errors.ts';
export type { GnttabEvents } from './events.ts';
export { createPageCache, type PageCache, type PageSource } from './page-cache.ts';
export { gnttab } from './plugin.ts';
export { END_OF_LIST } from './private-list.ts';
export { createGrantTable } from './table.ts';
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
