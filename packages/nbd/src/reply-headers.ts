import { putU32, putU64 } from './bytes.ts';
import { SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC } from './constants.ts';

/** The request's name for itself, as two u32; it passes through unchanged. */
export interface Handle {
  readonly handleHi: number;
  readonly handleLo: number;
}

export function putSimple(handle: Handle, place: { readonly bytes: Uint8Array; readonly at: number }, errno: number): void {
  const { bytes, at } = place;
  putU32(bytes, at, SIMPLE_REPLY_MAGIC);
  putU32(bytes, at + 4, errno);
  putU32(bytes, at + 8, handle.handleHi);
  putU32(bytes, at + 12, handle.handleLo);
}

export function putChunk(handle: Handle, bytes: Uint8Array, at: number, flags: number, type: number, length: number): void {
  putU32(bytes, at, STRUCTURED_REPLY_MAGIC);
  putU32(bytes, at + 4, flags * 0x1_0000 + type);
  putU32(bytes, at + 8, handle.handleHi);
  putU32(bytes, at + 12, handle.handleLo);
  putU32(bytes, at + 16, length);
}

export const putOffset: (bytes: Uint8Array, at: number, offset: number) => void = putU64;
