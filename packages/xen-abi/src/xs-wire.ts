import { XenAbiError } from './errors.ts';
import { XENSTORE, XS_TYPE } from './store-constants.ts';

/** Bytes of a message's header: type, request id, transaction id, length, u32 each. @see io/xs_wire.h, xsd_sockmsg */
export const XS_HEADER_BYTES = 16;

/** A message of the store, either way. Texts in a payload end with NUL where the message type says so. */
export interface XsMessage {
  /** `XS_TYPE`. */
  readonly type: number;
  /** Chosen by the client and repeated in the reply. */
  readonly reqId: number;
  /** 0 outside a transaction. */
  readonly txId: number;
  /** At most 4096 bytes. */
  readonly payload: Uint8Array;
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/**
 * A message as it goes over the wire.
 * @throws {XenAbiError} `bad-value`: a payload of more than 4096 bytes, or a header field that is no unsigned 32-bit number.
 */
export function encodeXsMessage(message: XsMessage): Uint8Array {
  const { type, reqId, txId, payload } = message;
  if (payload.length > XENSTORE.PAYLOAD_MAX) refuseLength(payload.length);
  const bytes = new Uint8Array(XS_HEADER_BYTES + payload.length);
  const view = new DataView(bytes.buffer);
  const header = { type, reqId, txId };
  for (const [name, value] of Object.entries(header)) {
    if (value >>> 0 !== value) {
      throw new XenAbiError({ code: 'bad-value', what: `store message's ${name}`, value: String(value), allowed: '0 to 4294967295' });
    }
  }
  view.setUint32(0, type, true);
  view.setUint32(4, reqId, true);
  view.setUint32(8, txId, true);
  view.setUint32(12, payload.length, true);
  bytes.set(payload, XS_HEADER_BYTES);
  return bytes;
}

function refuseLength(length: number): never {
  const allowed = `0 to ${XENSTORE.PAYLOAD_MAX} bytes`;
  throw new XenAbiError({ code: 'bad-value', what: "store message's payload", value: String(length), allowed });
}

/**
 * The message that starts at `at`, its payload copied; null while it is not whole. Of `XS_HEADER_BYTES + payload.length` bytes.
 * @throws {XenAbiError} `bad-value`: the header claims more than 4096 bytes, after which the stream has no sense.
 */
export function decodeXsMessage(bytes: Uint8Array, at = 0): XsMessage | null {
  if (at + XS_HEADER_BYTES > bytes.length) return null;
  const length = word(bytes, at + 12);
  if (length > XENSTORE.PAYLOAD_MAX) refuseLength(length);
  const end = at + XS_HEADER_BYTES + length;
  if (end > bytes.length) return null;
  return { type: word(bytes, at), reqId: word(bytes, at + 4), txId: word(bytes, at + 8), payload: bytes.slice(at + XS_HEADER_BYTES, end) };
}

/** A message found in the bytes that a store ring still holds. */
export interface RecentXsMessage extends XsMessage {
  /** Where its header started, in bytes since the ring was made, modulo 2^32. */
  readonly streamOffset: number;
}

const KNOWN_TYPES: ReadonlySet<number> = new Set(Object.values(XS_TYPE).filter((type) => type < XS_TYPE.TYPE_COUNT));

/**
 * The messages that lie whole in one direction's 1024 bytes, oldest first: what was said last, read or not. Where the window
 * starts in the middle of a message the next one is found by its chain: the earliest place from which header follows header to
 * the producer's index (or to a message not yet whole). Cost O(1024).
 * @param window the 1024 bytes of the direction.
 * @param prod the direction's producer index.
 */
export function recentXsMessages(window: Uint8Array, prod: number): RecentXsMessage[] {
  const size = Math.min(window.length, XENSTORE.RING_SIZE);
  const held = Math.min(prod, size);
  const first = (prod - held) >>> 0;
  const bytes = new Uint8Array(held);
  for (let i = 0; i < held; i++) bytes[i] = window[((first + i) >>> 0) % size]!;
  let at = held < size ? 0 : chainStart(bytes);
  const messages: RecentXsMessage[] = [];
  while (at + XS_HEADER_BYTES <= held && word(bytes, at + 12) <= XENSTORE.PAYLOAD_MAX) {
    const message = decodeXsMessage(bytes, at);
    if (!message) break;
    messages.push({ streamOffset: (first + at) >>> 0, ...message });
    at += XS_HEADER_BYTES + message.payload.length;
  }
  return messages;
}

function chainStart(bytes: Uint8Array): number {
  const end = bytes.length;
  /** By position: 2 = headers lead from here to the end exactly, 1 = to a message not yet whole, 0 = nowhere. */
  const leads = new Uint8Array(end + 1);
  leads[end] = 2;
  for (let at = end - XS_HEADER_BYTES; at >= 0; at--) {
    const length = word(bytes, at + 12);
    if (!KNOWN_TYPES.has(word(bytes, at)) || length > XENSTORE.PAYLOAD_MAX) continue;
    const next = at + XS_HEADER_BYTES + length;
    leads[at] = next <= end ? leads[next]! : 1;
  }
  const exact = leads.indexOf(2);
  if (exact < end) return exact;
  const partial = leads.indexOf(1);
  return partial === -1 ? end : partial;
}
