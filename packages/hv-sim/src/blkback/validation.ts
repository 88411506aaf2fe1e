import { BLKIF_OP } from '@paravirt/xen-abi';
import type { BackRequest } from './request.ts';

const { READ } = BLKIF_OP;

/** Highest sector of a page: a page has eight of 512 bytes. */
export const LAST_SECT = 7;

/**
 * Checks the number of segments, on the copy of the request. 0 is for flushes only.
 * @param max the most there may be: what fits into a direct request, or what was agreed for indirect ones.
 * @returns '' or what is wrong.
 * @see linux/drivers/block/xen-blkback/blkback.c, dispatch_rw_block_io
 */
export function segmentCountFault(request: BackRequest, max: number): string {
  const { nrSegments, operation } = request;
  if (nrSegments === 0) return operation === BLKIF_OP.FLUSH_DISKCACHE || operation === BLKIF_OP.WRITE_BARRIER ? '' : 'no segments';
  return nrSegments > max ? 'too many segments' : '';
}

/** What a disk lets through: read once a turn. */
export interface Bounds {
  /** Sectors of 512 bytes there are. */
  sectors: number;
  /** Sectors of 512 bytes in a logical sector, less one: 0 or 7. */
  mask: number;
  readonly: boolean;
}

/**
 * Checks the request's segments and its place on the disk, and counts its sectors.
 * @returns '' or what is wrong.
 */
export function transferFault(request: BackRequest, bounds: Bounds): string {
  const { segments, sector, firstSect, lastSect } = request;
  let sectors = 0;
  let lengths = 0;
  for (let i = 0; i < segments; i++) {
    const last = lastSect[i]!;
    const first = firstSect[i]!;
    if (last > LAST_SECT || last < first) return 'bad segment';
    const length = last - first + 1;
    sectors += length;
    lengths |= length;
  }
  request.sectors = sectors;
  if (bounds.readonly && request.operation !== READ) return 'read-only disk';
  if (sectors === 0) return '';
  if (sector + sectors > bounds.sectors) return 'beyond the end';
  const { mask } = bounds;
  return mask !== 0 && ((lengths & mask) !== 0 || sector % (mask + 1) !== 0) ? 'misaligned' : '';
}

/** Checks a discard's place on the disk. A discard of nothing is good. @returns '' or what is wrong. */
export function discardFault(request: BackRequest, bounds: Bounds): string {
  if (bounds.readonly) return 'read-only disk';
  if (request.sectors === 0) return '';
  if (request.sector + request.sectors > bounds.sectors) return 'beyond the end';
  const granule = bounds.mask + 1;
  return request.sector % granule !== 0 || request.sectors % granule !== 0 ? 'misaligned' : '';
}
