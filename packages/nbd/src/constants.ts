/** Numbers of the network block device protocol. Everything on the wire is big-endian. @see doc/proto.md of NetworkBlockDevice/nbd */

/** "NBDMAGIC", as two u32. */
export const NBDMAGIC: readonly [number, number] = [0x4e42_444d, 0x4147_4943];
/** "IHAVEOPT", as two u32. */
export const IHAVEOPT: readonly [number, number] = [0x4948_4156, 0x454f_5054];
/** Starts every option reply. */
export const OPTION_REPLY_MAGIC: readonly [number, number] = [0x0003_e889, 0x0455_65a9];
export const REQUEST_MAGIC = 0x2560_9513;
export const SIMPLE_REPLY_MAGIC = 0x6744_6698;
export const STRUCTURED_REPLY_MAGIC = 0x668e_33ef;

export const HandshakeFlag = { FIXED_NEWSTYLE: 1, NO_ZEROES: 2 } as const;

export const Opt = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
} as const;

export const Rep = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: 0x8000_0001,
  ERR_POLICY: 0x8000_0002,
  ERR_INVALID: 0x8000_0003,
  ERR_UNKNOWN: 0x8000_0006,
  ERR_TOO_BIG: 0x8000_0009,
} as const;

export const Info = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;

/** Transmission flags, told at the end of the handshake. */
export const TransmissionFlag = {
  HAS_FLAGS: 1,
  READ_ONLY: 2,
  SEND_FLUSH: 4,
  SEND_FUA: 8,
  SEND_TRIM: 32,
  SEND_WRITE_ZEROES: 64,
  SEND_DF: 128,
  CAN_MULTI_CONN: 256,
  SEND_FAST_ZERO: 2048,
} as const;

export const Cmd = { READ: 0, WRITE: 1, DISC: 2, FLUSH: 3, TRIM: 4, CACHE: 5, WRITE_ZEROES: 6, BLOCK_STATUS: 7 } as const;

export const CmdFlag = { FUA: 1, NO_HOLE: 2, DF: 4, REQ_ONE: 8, FAST_ZERO: 16 } as const;

export const ReplyFlag = { DONE: 1 } as const;

export const ReplyType = { NONE: 0, OFFSET_DATA: 1, OFFSET_HOLE: 2, BLOCK_STATUS: 5, ERROR: 0x8001 } as const;

/** Flags of an extent of `base:allocation`. */
export const Extent = { HOLE: 1, ZERO: 2 } as const;

/** Error numbers that a reply may carry; they are Linux's on every system. */
export const Errno = {
  OK: 0,
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

const known: readonly number[] = Object.values(Errno);

/** The wire's number for an errno of either sign; what the protocol does not know becomes EIO, as does what is no errno at all. */
export function wireErrno(errno: number): number {
  const value = Math.abs(errno);
  return value !== Errno.OK && known.includes(value) ? value : Errno.EIO;
}

/** Longest export name and option string that the protocol allows, in bytes. */
export const STRING_BYTES_MAX = 4096;
/** A request on the wire. */
export const REQUEST_BYTES = 28;
export const SIMPLE_REPLY_BYTES = 16;
export const STRUCTURED_REPLY_BYTES = 20;
