import { BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP, type BlockRequest } from '@paravirt/xen-abi';
import type { Disk } from '../disks/disk.ts';
import { SECTOR } from './disk-io.ts';
import type { BackRequest } from './request.ts';

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

/**
 * Checks the request's own segments and its place on the disk, and counts its sectors.
 * @returns '' or what is wrong.
 */
export function transferFault(request: BackRequest, disk: Disk, readonly: boolean): string {
  const { firstSect, lastSect, segments } = request;
  const mask = disk.sectorBytes / SECTOR - 1;
  let sectors = 0;
  let misaligned = 0;
  for (let i = 0; i < segments; i++) {
    const last = lastSect[i]!;
    const first = firstSect[i]!;
    if (last > LAST_SECT || last < first) return 'bad segment';
    sectors += last - first + 1;
    misaligned |= last - first + 1;
  }
  request.sectors = sectors;
  if (request.operation !== BLKIF_OP.READ && readonly) return 'read-only disk';
  if (sectors === 0) return '';
  if (request.sector + sectors > disk.sizeBytes / SECTOR) return 'beyond the end';
  if (((request.sector % (mask + 1)) | (misaligned & mask)) !== 0) return 'misaligned';
  return '';
}

/** Checks a discard's place on the disk. A discard of nothing is good. @returns '' or what is wrong. */
export function discardFault(request: BackRequest, disk: Disk, readonly: boolean): string {
  if (readonly) return 'read-only disk';
  if (request.sectors === 0) return '';
  if (request.sector + request.sectors > disk.sizeBytes / SECTOR) return 'beyond the end';
  const granule = disk.sectorBytes / SECTOR;
  return request.sector % granule !== 0 || request.sectors % granule !== 0 ? 'misaligned' : '';
}
