import { XenAbiError } from '../errors.ts';
import { type Abi, checkAbi } from '../memory.ts';

/** The scalar types of the layout tables; `ptr` is as wide as an address of the target, `bytes` is opaque. */
export type ScalarType = 'u8' | 'u16' | 'u32' | 'u64' | 's8' | 's16' | 's32' | 's64' | 'ptr' | 'bytes';

/**
 * A field: its type (a scalar or another structure), its offset in bytes, and for an array how many elements. Arrays of single
 * bytes, and `bytes`, are read as a `Uint8Array`.
 */
export type FieldLayout = readonly [type: ScalarType | AnyStruct, offset: number, count?: number];

/** One target's layout; bytes no field covers are padding, fields that overlap are arms of a union. */
export interface StructLayout {
  readonly size: number;
  readonly align: number;
  /** By the header's own names, those of nested members and union arms dotted. */
  readonly fields: Readonly<Record<string, FieldLayout>>;
}

/** A structure of the interface; `Fields` says what its fields are read as. A target that lacks it has null. */
export interface Struct<Fields extends object> {
  readonly name: string;
  readonly layouts: Readonly<Record<Abi, StructLayout | null>>;
  /** Never present; carries the type. */
  readonly fields?: Fields;
}

/** Any structure, its fields unknown. */
export type AnyStruct = Struct<object>;

/** What may be stored: 64-bit fields also as numbers up to 2^53 - 1, arrays shorter than the field (the rest is zeroed). */
export type Encodable<Fields> = {
  readonly [Name in keyof Fields]?: Fields[Name] extends bigint
    ? bigint | number
    : Fields[Name] extends bigint[]
      ? readonly (bigint | number)[]
      : Fields[Name] extends number[]
        ? readonly number[]
        : Fields[Name] extends Uint8Array
          ? Uint8Array
          : Fields[Name] extends (infer Element extends object)[]
            ? readonly Encodable<Element>[]
            : Fields[Name] extends object
              ? Encodable<Fields[Name]>
              : Fields[Name];
};

/** @throws {XenAbiError} `bad-abi`: no such target, or the structure does not exist on it. */
export function layoutOf(struct: AnyStruct, abi: Abi): StructLayout {
  const layout = struct.layouts[checkAbi(abi)];
  if (layout) return layout;
  const allowed = (Object.keys(struct.layouts) as Abi[]).filter((target) => struct.layouts[target]).join(', ');
  throw new XenAbiError({ code: 'bad-abi', what: `target of ${struct.name}`, value: JSON.stringify(abi), allowed });
}

/** Bytes of a structure. @throws {XenAbiError} `bad-abi`. */
export function sizeOf(struct: AnyStruct, abi: Abi): number {
  return layoutOf(struct, abi).size;
}

/** A field's offset in bytes. @throws {XenAbiError} `bad-abi`, `bad-field`. */
export function offsetOf<Fields extends object>(struct: Struct<Fields>, abi: Abi, field: keyof Fields & string): number {
  return fieldOf(struct, layoutOf(struct, abi), field)[1];
}

function fieldOf(struct: AnyStruct, layout: StructLayout, name: string): FieldLayout {
  if (Object.hasOwn(layout.fields, name)) return layout.fields[name]!;
  const allowed = Object.keys(layout.fields).join(', ');
  throw new XenAbiError({ code: 'bad-field', what: `field of ${struct.name}`, value: JSON.stringify(name), allowed });
}

const BITS: Readonly<Record<ScalarType, number>> = { u8: 8, u16: 16, u32: 32, u64: 64, s8: 8, s16: 16, s32: 32, s64: 64, ptr: 0, bytes: 8 };

function bitsOf(type: ScalarType, abi: Abi): number {
  return type === 'ptr' ? (abi === 'x86_32' ? 32 : 64) : BITS[type];
}

/**
 * Reads every field: up to 32 bits as a number, wider (or wider on another target) as a bigint. Of a union every arm is read.
 * Meant for dumps, tests and rare calls; it allocates.
 * @param at offset in bytes of the structure, of any alignment.
 * @throws {XenAbiError} `bad-abi`, `short-buffer`.
 */
export function decodeStruct<Fields extends object>(struct: Struct<Fields>, abi: Abi, bytes: Uint8Array, at = 0): Fields {
  const layout = layoutOf(struct, abi);
  checkRoom(struct, layout, bytes, at);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out: Record<string, unknown> = {};
  for (const [name, field] of Object.entries(layout.fields)) out[name] = readField(struct, name, field, abi, view, at);
  return out as Fields;
}

function checkRoom(struct: AnyStruct, layout: StructLayout, bytes: Uint8Array, at: number): void {
  if (Number.isInteger(at) && at >= 0 && at + layout.size <= bytes.length) return;
  const allowed = `0 to ${bytes.length - layout.size}, for ${layout.size} bytes to fit in ${bytes.length}`;
  throw new XenAbiError({ code: 'short-buffer', what: `offset of ${struct.name}`, value: at, allowed });
}

function readField(struct: AnyStruct, name: string, field: FieldLayout, abi: Abi, view: DataView, base: number): unknown {
  const [type, offset, count] = field;
  const at = base + offset;
  if (typeof type === 'object') {
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    if (count === undefined) return decodeStruct(type, abi, bytes, at);
    const step = sizeOf(type, abi);
    return Array.from({ length: count }, (_, i) => decodeStruct(type, abi, bytes, at + i * step));
  }
  const bits = bitsOf(type, abi);
  if (count === undefined) return readScalar(type, bits, isWide(struct, name), view, at);
  if (bits === 8) return new Uint8Array(view.buffer, view.byteOffset + at, count).slice();
  const wide = isWide(struct, name);
  return Array.from({ length: count }, (_, i) => readScalar(type, bits, wide, view, at + (i * bits) / 8));
}

/** A field that has 64 bits on some target is a bigint on every one, so that its type does not depend on the target. */
function isWide(struct: AnyStruct, name: string): boolean {
  for (const layout of Object.values(struct.layouts)) {
    const type = layout?.fields[name]?.[0];
    if (type === 'u64' || type === 's64' || type === 'ptr') return true;
  }
  return false;
}

function readScalar(type: ScalarType, bits: number, wide: boolean, view: DataView, at: number): number | bigint {
  const signed = type.startsWith('s');
  if (bits === 64) return signed ? view.getBigInt64(at, true) : view.getBigUint64(at, true);
  let value: number;
  if (bits === 8) value = signed ? view.getInt8(at) : view.getUint8(at);
  else if (bits === 16) value = signed ? view.getInt16(at, true) : view.getUint16(at, true);
  else value = signed ? view.getInt32(at, true) : view.getUint32(at, true);
  return wide ? BigInt(value) : value;
}

/**
 * Stores the fields given, in their order, and leaves every other byte alone. Everything is checked before the first byte is
 * written.
 * @param into where to store; without it a fresh array of zero bytes.
 * @returns the bytes stored into.
 * @throws {XenAbiError} `bad-abi`, `bad-field`, `bad-value` (out of the field's range), `short-buffer`.
 */
export function encodeStruct<Fields extends object>(
  struct: Struct<Fields>,
  abi: Abi,
  fields: Encodable<Fields>,
  into?: Uint8Array,
  at = 0,
): Uint8Array {
  const layout = layoutOf(struct, abi);
  const bytes = into ?? new Uint8Array(layout.size + at);
  checkRoom(struct, layout, bytes, at);
  for (const [name, value] of Object.entries(fields)) checkField(struct, name, fieldOf(struct, layout, name), abi, value);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const [name, value] of Object.entries(fields)) writeField(layout.fields[name]!, abi, value, bytes, view, at);
  return bytes;
}

function refuseValue(struct: AnyStruct, name: string, value: unknown, allowed: string): never {
  throw new XenAbiError({ code: 'bad-value', what: `${struct.name}.${name}`, value: String(value), allowed });
}

function checkField(struct: AnyStruct, name: string, field: FieldLayout, abi: Abi, value: unknown): void {
  const [type, , count] = field;
  if (count !== undefined) {
    if (!(Array.isArray(value) || value instanceof Uint8Array) || value.length > count) {
      refuseValue(struct, name, Array.isArray(value) ? `${value.length} elements` : value, `an array of at most ${count} elements`);
    }
    if (value instanceof Uint8Array) {
      if (typeof type === 'object' || bitsOf(type, abi) !== 8) refuseValue(struct, name, 'bytes', 'an array of elements');
      return;
    }
    for (const element of value) checkElement(struct, name, type, abi, element);
    return;
  }
  checkElement(struct, name, type, abi, value);
}

function checkElement(struct: AnyStruct, name: string, type: ScalarType | AnyStruct, abi: Abi, value: unknown): void {
  if (typeof type === 'object') {
    if (typeof value !== 'object' || value === null) refuseValue(struct, name, value, `fields of ${type.name}`);
    const layout = layoutOf(type, abi);
    for (const [inner, element] of Object.entries(value)) checkField(type, inner, fieldOf(type, layout, inner), abi, element);
    return;
  }
  const bits = bitsOf(type, abi);
  const signed = type.startsWith('s');
  const low = signed ? -(2n ** BigInt(bits - 1)) : 0n;
  const high = 2n ** BigInt(signed ? bits - 1 : bits) - 1n;
  const exact = typeof value === 'bigint' || (typeof value === 'number' && Number.isSafeInteger(value));
  if (!exact || BigInt(value) < low || BigInt(value) > high) refuseValue(struct, name, value, `a whole number from ${low} to ${high}`);
}

function writeField(field: FieldLayout, abi: Abi, value: unknown, bytes: Uint8Array, view: DataView, base: number): void {
  const [type, offset, count] = field;
  const at = base + offset;
  if (count === undefined) {
    writeElement(type, abi, value, bytes, view, at);
    return;
  }
  const elements = value as ArrayLike<unknown>;
  const step = typeof type === 'object' ? sizeOf(type, abi) : bitsOf(type, abi) / 8;
  bytes.fill(0, at, at + count * step);
  for (let i = 0; i < elements.length; i++) writeElement(type, abi, elements[i], bytes, view, at + i * step);
}

function writeElement(type: ScalarType | AnyStruct, abi: Abi, value: unknown, bytes: Uint8Array, view: DataView, at: number): void {
  if (typeof type === 'object') {
    const layout = layoutOf(type, abi);
    for (const [name, inner] of Object.entries(value as object)) writeField(layout.fields[name]!, abi, inner, bytes, view, at);
    return;
  }
  const bits = bitsOf(type, abi);
  if (bits === 64) view.setBigUint64(at, BigInt.asUintN(64, BigInt(value as number | bigint)), true);
  else if (bits === 32) view.setUint32(at, Number(value), true);
  else if (bits === 16) view.setUint16(at, Number(value), true);
  else view.setUint8(at, Number(value));
}
