import { putU32 } from './bytes.ts';
import { Extent, ReplyFlag, ReplyType, STRUCTURED_REPLY_BYTES } from './constants.ts';
import { dataAndHoles } from './extents.ts';
import type { Pending } from './pending.ts';
import { putChunk, putOffset } from './reply-headers.ts';
import type { NbdTarget } from './types.ts';

/** Header of a chunk of data: the chunk's own, and the offset. */
export const DATA_CHUNK_BYTES: number = STRUCTURED_REPLY_BYTES + 8;

/** Writes a data chunk's header at `at` of the request's region. */
export function putData(pending: Pending, at: number, offset: number, bytes: number, flags: number): void {
  const buffer = pending.region.bytes;
  putChunk(pending, buffer, at, flags, ReplyType.OFFSET_DATA, 8 + bytes);
  putOffset(buffer, at + STRUCTURED_REPLY_BYTES, offset);
}

/**
 * Tells the holes of what was read instead of sending their zeroes. The whole range was read all the same: so whatever stands in
 * front of the disk saw it. Data behind a hole moves to the left, which there is always room for: a hole worth telling is longer
 * than the headers around it. Returns the length of the reply.
 */
export function withHoles(pending: Pending, target: NbdTarget): number {
  const pieces = dataAndHoles(target, pending.offset, pending.bytes);
  if (pieces === undefined) return pending.replyBytes;
  const { bytes: buffer, at: start } = pending.region;
  let at = start;
  let from = start + DATA_CHUNK_BYTES;
  let { offset } = pending;
  for (const [index, [bytes, flags]] of pieces.entries()) {
    const last = index === pieces.length - 1 ? ReplyFlag.DONE : 0;
    if ((flags & Extent.ZERO) !== 0) {
      putChunk(pending, buffer, at, last, ReplyType.OFFSET_HOLE, 12);
      putOffset(buffer, at + STRUCTURED_REPLY_BYTES, offset);
      putU32(buffer, at + STRUCTURED_REPLY_BYTES + 8, bytes);
      at += STRUCTURED_REPLY_BYTES + 12;
    } else {
      if (at + DATA_CHUNK_BYTES !== from) buffer.copyWithin(at + DATA_CHUNK_BYTES, from, from + bytes);
      putData(pending, at, offset, bytes, last);
      at += DATA_CHUNK_BYTES + bytes;
    }
    from += bytes;
    offset += bytes;
  }
  return at - start;
}
