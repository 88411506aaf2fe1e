import type { BlkbackCounters } from './types.ts';

/** A set of counters, all 0. */
export function blkbackCounters(): BlkbackCounters {
  return {
    requests: 0,
    reads: 0,
    writes: 0,
    flushes: 0,
    barriers: 0,
    discards: 0,
    indirect: 0,
    segments: 0,
    bytesRead: 0,
    bytesWritten: 0,
    bytesDiscarded: 0,
    errors: 0,
    unsupported: 0,
    maps: 0,
    unmaps: 0,
    unmapsDeferred: 0,
    persistentHits: 0,
    diskCalls: 0,
    doorbellsIn: 0,
    doorbellsSpurious: 0,
    doorbellsOut: 0,
  };
}

/** Adds `from` to `to`. */
export function addCounters(to: BlkbackCounters, from: Readonly<BlkbackCounters>): void {
  for (const key of Object.keys(to) as (keyof BlkbackCounters)[]) to[key] += from[key];
}
