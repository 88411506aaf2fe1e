import { XenAbiError } from '../errors.ts';

export type Json = null | boolean | number | string | Json[] | JsonObject;
export interface JsonObject {
  format?: Json;
  subsystem?: Json;
  op?: Json;
  ret?: Json;
  readBackDifferently?: Json;
  [key: string]: Json | undefined;
}

/** What a replay lacks and takes from its caller. */
export interface ReplayNeeds {
  /** The SHA-256 digest in lower-case hex. */
  sha256(bytes: Uint8Array): string;
}

/** Carries out one line and gives its result, `undefined` where the operation has none. */
export type Replayer = (operation: JsonObject) => Json | undefined;

function refuse(what: string, value: unknown, allowed: string): never {
  const shown = typeof value === 'string' ? value : (JSON.stringify(value) ?? 'missing');
  throw new XenAbiError({ code: 'bad-recording', what, value: shown.slice(0, 80), allowed });
}

export function readLine(line: string, number: number): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return refuse(`line ${number}`, line, 'JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return refuse(`line ${number}`, line, 'a JSON object');
  return value as JsonObject;
}

/** JSON with the keys of every object in order, so that equal values are equal texts; no result is an empty text. */
export function canonical(value: Json | undefined): string {
  if (value === undefined) return '';
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner !== 'object' || inner === null || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
  });
}

export function numberIn(object: JsonObject, key: string, low: number, high: number): number {
  const value = object[key];
  if (typeof value === 'number' && Number.isInteger(value) && value >= low && value <= high) return value;
  return refuse(key, value, `a whole number from ${low} to ${high}`);
}

export const u32In = (object: JsonObject, key: string): number => numberIn(object, key, 0, 0xffff_ffff);

export function textIn(object: JsonObject, key: string): string {
  const value = object[key];
  return typeof value === 'string' ? value : refuse(key, value, 'a text');
}

export function objectIn(object: JsonObject, key: string): JsonObject {
  const value = object[key];
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : refuse(key, value, 'an object');
}

export function listIn(object: JsonObject, key: string): Json[] {
  const value = object[key];
  return Array.isArray(value) ? value : refuse(key, value, 'a list');
}

/** A list of at most `most` unsigned 32-bit numbers. */
export function numbersIn(list: Json, what: string, most: number): number[] {
  const allowed = `a list of at most ${most} unsigned 32-bit numbers`;
  if (!Array.isArray(list) || list.length > most) return refuse(what, list, allowed);
  return list.map((value) => (typeof value === 'number' && value >>> 0 === value ? value : refuse(what, value, allowed)));
}

/** A text `0x` and 16 hex digits as two u32, low half first. */
export function halvesIn(object: JsonObject, key: string): [lo: number, hi: number] {
  const text = textIn(object, key);
  if (!/^0x[0-9a-f]{16}$/i.test(text)) return refuse(key, text, '"0x" and 16 hex digits');
  return [Number.parseInt(text.slice(10), 16), Number.parseInt(text.slice(2, 10), 16)];
}

export function hex64(lo: number, hi: number): string {
  return `0x${hi.toString(16).padStart(8, '0')}${lo.toString(16).padStart(8, '0')}`;
}

export function hexBytes(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}
