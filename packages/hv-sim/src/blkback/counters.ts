import { BLKIF_OP } from '@paravirt/xen-abi';
import { SECTOR as SECTOR_BYTES } from './disk-io.ts';
import type { BackRequest } from './request.ts';
import type { BlkbackCounters } from './types.ts';

// A plain constant of this module: an imported one is loaded at each use.
const SECTOR = SECTOR_BYTES;

/** A set of counters, all 0. */
export function blkbackCounters(): BlkbackCounters {
  return {
    // What every turn counts comes first.
    doorbellsIn: 0,
    requests: 0,
    maps: 0,
    segments: 0,
    reads: 0,
    bytesRead: 0,
    diskCalls: 0,
    unmaps: 0,
    doorbellsOut: 0,
    writes: 0,
    bytesWritten: 0,
    persistentHits: 0,
    flushes: 0,
    barriers: 0,
    discards: 0,
    indirect: 0,
    bytesDiscarded: 0,
    errors: 0,
    unsupported: 0,
    unmapsDeferred: 0,
    doorbellsSpurious: 0,
  };
}

/** Adds `from` to `to`. */
export function addCounters(to: BlkbackCounters, from: Readonly<BlkbackCounters>): void {
  for (const key of Object.keys(to) as (keyof BlkbackCounters)[]) to[key] += from[key];
}

/** Counts a request that was found good: its kind, segments and bytes. */
export function countRequest(counters: BlkbackCounters, request: BackRequest): void {
  const { operation, segments, sectors } = request;
  const bytes = sectors * SECTOR;
  counters.segments += segments;
  if (operation === BLKIF_OP.READ) {
    counters.reads++;
    counters.bytesRead += bytes;
  } else if (operation === BLKIF_OP.DISCARD) {
    counters.discards++;
    counters.bytesDiscarded += bytes;
  } else {
    counters.bytesWritten += bytes;
    if (operation === BLKIF_OP.WRITE) counters.writes++;
    else if (operation === BLKIF_OP.FLUSH_DISKCACHE) counters.flushes++;
    else counters.barriers++;
  }
}
