import { BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP, type BlockRequest, type Segments } from '@paravirt/xen-abi';
import type { BackRequest } from './request.ts';

const { READ } = BLKIF_OP;

/** Highest sector of a page: a page has eight of 512 bytes. */
const LAST_SECT = 7;

/**
 * Checks the number of segments, on the copy of the request. 0 is for flushes only.
 * @returns '' or what is wrong.
 * @see linux/drivers/block/xen-blkback/blkback.c, dispatch_rw_block_io
 */
export function segmentCountFault(message: BlockRequest, operation: number, indirectMax: number): string {
  const count = message.nrSegments;
  if (count === 0) return operation === BLKIF_OP.FLUSH_DISKCACHE || operation === BLKIF_OP.WRITE_BARRIER ? '' : 'no segments';
  const max = message.operation === BLKIF_OP.INDIRECT ? indirectMax : BLKIF_MAX_SEGMENTS_PER_REQUEST;
  return count > max ? 'too many segments' : '';
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
 * Checks the segments of `from` and the request's place on the disk, and counts its sectors. Segments that are not the request's own
 * yet are copied into it in the same pass.
 * @returns '' or what is wrong.
 */
export function transferFault(request: BackRequest, from: Segments, bounds: Bounds): string {
  const { segments, sector } = request;
  const copies = from !== request;
  let sectors = 0;
  let lengths = 0;
  for (let i = 0; i < segments; i++) {
    const last = from.lastSect[i]!;
    const first = from.firstSect[i]!;
    if (last > LAST_SECT || last < first) return 'bad segment';
    const length = last - first + 1;
    sectors += length;
    lengths |= length;
    if (copies) {
      request.grefs[i] = from.grefs[i]!;
      request.firstSect[i] = first;
      request.lastSect[i] = last;
    }
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
