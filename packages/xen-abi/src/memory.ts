import { XenAbiError } from './errors.ts';

/** The three targets whose layouts this package knows. All are little endian; `arm64` has the block layout of `x86_64`. */
export type Abi = 'x86_64' | 'x86_32' | 'arm64';

/** Every `Abi`, in the order of the layout tables. */
export const ABIS: readonly Abi[] = ['x86_64', 'x86_32', 'arm64'];

/** Bytes of a page on every target. */
export const PAGE_BYTES = 4096;

/**
 * Views over one stretch of memory. Their owner renews the fields when the memory grows, so this package keeps the object and
 * fetches a field for each use.
 */
export interface MemoryViews {
  u8: Uint8Array;
  u16: Uint16Array;
  u32: Uint32Array;
}

/** A page of 4096 bytes; `offset` is in bytes from the start of the views and a multiple of 4. */
export interface MemoryPage {
  readonly views: MemoryViews;
  readonly offset: number;
}

/**
 * Makes pages over plain bytes, such as a file read whole: one page for each started 4096 bytes. The bytes are copied when
 * they do not start on a 4-byte boundary or do not fill the last page.
 */
export function pagesOfBytes(bytes: Uint8Array): MemoryPage[] {
  const count = Math.ceil(bytes.length / PAGE_BYTES);
  let whole = bytes;
  if (bytes.byteOffset % 4 !== 0 || bytes.length % PAGE_BYTES !== 0) {
    whole = new Uint8Array(count * PAGE_BYTES);
    whole.set(bytes);
  }
  const views = {
    u8: whole,
    u16: new Uint16Array(whole.buffer, whole.byteOffset, whole.length >>> 1),
    u32: new Uint32Array(whole.buffer, whole.byteOffset, whole.length >>> 2),
  };
  const pages: MemoryPage[] = [];
  for (let i = 0; i < count; i++) pages.push({ views, offset: i * PAGE_BYTES });
  return pages;
}

/** @throws {XenAbiError} `bad-abi` unless `abi` is one of the three. */
export function checkAbi(abi: string): Abi {
  if (abi === 'x86_64' || abi === 'x86_32' || abi === 'arm64') return abi;
  throw new XenAbiError({ code: 'bad-abi', what: 'abi', value: JSON.stringify(abi), allowed: ABIS.join(', ') });
}

/** 2^32: the weight of the high half of a 64-bit value. */
const HIGH = 0x1_0000_0000;

/**
 * A 64-bit value out of its halves: exact up to 2^53 - 1, and `Infinity` above, so that every bound check of the form
 * `value + n > limit` refuses it.
 */
export function joinHalves(lo: number, hi: number): number {
  return hi < 0x20_0000 ? hi * HIGH + lo : Number.POSITIVE_INFINITY;
}

/** The high half of a whole number up to 2^53 - 1; `Infinity` (what `joinHalves` gives above that) yields 0. */
export function highHalf(value: number): number {
  return Math.floor(value / HIGH) >>> 0;
}
