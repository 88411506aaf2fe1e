import type { Vfn } from '@paravirt/event-bus/contract';
import type { AreaKind } from './types.ts';

/** Facts the allocator tells, after they happened. Raw address space (`vmAlloc`, `vmFree`) is silent: nothing is mapped by it. */
export interface VmapEvents {
  /** An area was mapped: `pages` pages from `vfn` on. `region` is null outside every region. */
  'vmap:mapped': { vfn: Vfn; pages: number; kind: AreaKind; region: string | null; owner: string | null };
  /** An area was unmapped; under `lazy` its addresses still wait for a purge. */
  'vmap:unmapped': { vfn: Vfn; pages: number; kind: AreaKind; region: string | null; owner: string | null };
  /** Lazily freed areas were purged with one flush. */
  'vmap:purged': { areas: number; pages: number };
}
