import type { Region } from './replies.ts';

/** One request under way; objects are reused. */
export interface Pending {
  type: number;
  handleHi: number;
  handleLo: number;
  offset: number;
  bytes: number;
  /** What it counts against the connection's bound, bytes. */
  cost: number;
  region: Region;
  /** Length of the reply when the operation succeeds. */
  replyBytes: number;
  /** Holes of what was read are told as holes. */
  sparse: boolean;
  errno: number;
  /** It has no answer yet. */
  open: boolean;
  /** The target threw at it, and may still tell its end: the object is not used again. */
  forsaken: boolean;
  /** A buffer that holds a write's payload: the pool's, or lent by the target. */
  payload: Uint8Array | undefined;
  lent: boolean;
  /** A write's payload lies where it was received. */
  inChunk: boolean;
  done: (errno: number) => void;
}
