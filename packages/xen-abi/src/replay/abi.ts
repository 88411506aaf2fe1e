import { XenAbiError } from '../errors.ts';
import { type Abi, checkAbi } from '../memory.ts';
import {
  BLKIF_REQUEST,
  BLKIF_REQUEST_DISCARD,
  BLKIF_REQUEST_INDIRECT,
  BLKIF_REQUEST_SEGMENT,
  BLKIF_RESPONSE,
  BLKIF_SRING,
  BLKIF_SRING_ENTRY,
} from '../structs/block.ts';
import { type AnyStruct, decodeStruct, type Encodable, encodeStruct } from '../structs/codec.ts';
import { SHARED_INFO, START_INFO, VCPU_INFO, VCPU_TIME_INFO } from '../structs/domain.ts';
import * as event from '../structs/event.ts';
import * as grant from '../structs/grant.ts';
import * as entry from '../structs/grant-entry.ts';
import { XENSTORE_DOMAIN_INTERFACE, XSD_SOCKMSG } from '../structs/store.ts';
import { canonical, hexBytes, type Json, type JsonObject, objectIn, type Replayer, textIn } from './line.ts';

const STRUCTS: ReadonlyMap<string, AnyStruct> = new Map(
  [
    BLKIF_REQUEST,
    BLKIF_REQUEST_DISCARD,
    BLKIF_REQUEST_INDIRECT,
    BLKIF_REQUEST_SEGMENT,
    BLKIF_RESPONSE,
    BLKIF_SRING,
    BLKIF_SRING_ENTRY,
    SHARED_INFO,
    START_INFO,
    VCPU_INFO,
    VCPU_TIME_INFO,
    XENSTORE_DOMAIN_INTERFACE,
    XSD_SOCKMSG,
    ...Object.values(event),
    ...Object.values(grant),
    ...Object.values(entry),
  ].map((struct: AnyStruct) => [struct.name, struct]),
);

/** 64-bit values are texts in a recording and bigints here; a segment is a list there and fields here. */
function fromJson(value: Json): unknown {
  if (typeof value === 'string') {
    if (!/^0x[0-9a-f]{1,16}$/i.test(value)) {
      throw new XenAbiError({ code: 'bad-recording', what: 'value', value, allowed: 'a number, or "0x" and up to 16 hex digits' });
    }
    return BigInt(value);
  }
  if (Array.isArray(value)) {
    return value.map((element) => {
      if (!Array.isArray(element)) return fromJson(element);
      const [gref, first, last] = element;
      return { gref: fromJson(gref ?? 0), first_sect: fromJson(first ?? 0), last_sect: fromJson(last ?? 0) };
    });
  }
  return value;
}

/** Whether a value that was read equals the one stored; elements that were not given read as 0. */
function sameValue(stored: unknown, read: unknown): boolean {
  if (typeof stored === 'bigint' || typeof stored === 'number') {
    return (typeof read === 'bigint' || typeof read === 'number') && BigInt(stored) === BigInt(read);
  }
  if (Array.isArray(stored)) {
    const elements = Array.from(read as ArrayLike<unknown>);
    return elements.every((element, i) => (i < stored.length ? sameValue(stored[i], element) : isZero(element)));
  }
  return Object.entries(stored as object).every(([key, inner]) => sameValue(inner, (read as Record<string, unknown>)[key]));
}

function isZero(value: unknown): boolean {
  return typeof value === 'object' && value !== null ? Object.values(value).every(isZero) : BigInt(value as number) === 0n;
}

function encode(operation: JsonObject): Json {
  const abi: Abi = checkAbi(textIn(operation, 'abi'));
  const name = textIn(operation, 'struct');
  const struct = STRUCTS.get(name);
  if (!struct) {
    throw new XenAbiError({ code: 'bad-recording', what: 'struct', value: name, allowed: 'a structure of the interface' });
  }
  const fields: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(objectIn(operation, 'fields'))) fields[key] = fromJson(value ?? null);
  const bytes = encodeStruct(struct, abi, fields as Encodable<object>);
  const read = decodeStruct(struct, abi, bytes) as Record<string, unknown>;
  const lost = Object.keys(fields).filter((key) => !sameValue(fields[key], read[key]));
  const ret: JsonObject = { size: bytes.length, bytes: hexBytes(bytes) };
  // Only what does not come back the same is named, so that it shows as a difference.
  if (lost.length > 0) ret.readBackDifferently = lost.join(', ');
  return ret;
}

/** Stores the fields of each line and reads them back. */
export function createAbiReplayer(): Replayer {
  return (operation) => {
    if (operation.op === 'encode') return encode(operation);
    throw new XenAbiError({ code: 'bad-recording', what: 'op', value: canonical(operation.op), allowed: '"encode"' });
  };
}
