/** Operations of a block request. @see io/blkif.h, BLKIF_OP_* */
export const BLKIF_OP = {
  READ: 0,
  WRITE: 1,
  WRITE_BARRIER: 2,
  FLUSH_DISKCACHE: 3,
  RESERVED_1: 4,
  DISCARD: 5,
  INDIRECT: 6,
} as const;

/** Status of a block response. @see io/blkif.h, BLKIF_RSP_* */
export const BLKIF_RSP = {
  EOPNOTSUPP: -2,
  ERROR: -1,
  OKAY: 0,
} as const;

/** `flag` of a discard: erase what is discarded. @see io/blkif.h, BLKIF_DISCARD_SECURE */
export const BLKIF_DISCARD_SECURE = 1;

/** Bits of the backend's `info` key. @see io/blkif.h, VDISK_* */
export const VDISK = {
  CDROM: 1,
  REMOVABLE: 2,
  READONLY: 4,
} as const;

/** A `BLKIF_OP` value. */
export type BlkifOp = (typeof BLKIF_OP)[keyof typeof BLKIF_OP];
/** A `BLKIF_RSP` value. */
export type BlkifRsp = (typeof BLKIF_RSP)[keyof typeof BLKIF_RSP];
/** The name of an operation as this package prints it. */
export type BlkifOpName = 'read' | 'write' | 'write_barrier' | 'flush_diskcache' | 'reserved_1' | 'discard' | 'indirect';

const OP_NAMES: readonly BlkifOpName[] = ['read', 'write', 'write_barrier', 'flush_diskcache', 'reserved_1', 'discard', 'indirect'];

/** The operation's name, or `undefined` where the number is none. */
export function blkifOpName(operation: number): BlkifOpName | undefined {
  return OP_NAMES[operation];
}
