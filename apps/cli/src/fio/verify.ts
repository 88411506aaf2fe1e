import { createHash } from 'node:crypto';
import { crc32 as zlibCrc32 } from 'node:zlib';
import type { VerifyMethod } from './options.ts';
import { Random } from './random.ts';

/**
 * Blocks that know what they should hold. A header at the start of each block tells its offset, length, seed and generation; its
 * digest covers everything behind the header. `pattern` has no header, as in fio: the pattern is the check.
 */
const MAGIC = 0xacca;
const HEADER_BYTES = 40;

const digestBytes: Readonly<Record<VerifyMethod, number>> = {
  crc32c: 4,
  crc32: 4,
  md5: 16,
  sha1: 20,
  sha256: 32,
  sha512: 64,
  pattern: 0,
  meta: 0,
  null: 0,
};
const methodNumbers: readonly VerifyMethod[] = ['null', 'meta', 'crc32', 'crc32c', 'md5', 'sha1', 'sha256', 'sha512', 'pattern'];

/** CRC-32C (Castagnoli), as in iSCSI. @see RFC 3720, appendix B.4 */
const castagnoli = /* @__PURE__ */ (() => {
  const tables = Array.from({ length: 4 }, () => new Uint32Array(256));
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
    (tables[0] as Uint32Array)[byte] = crc >>> 0;
  }
  for (let byte = 0; byte < 256; byte += 1) {
    for (let slice = 1; slice < 4; slice += 1) {
      const before = (tables[slice - 1] as Uint32Array)[byte] as number;
      (tables[slice] as Uint32Array)[byte] = ((tables[0] as Uint32Array)[before & 0xff] as number) ^ (before >>> 8);
    }
  }
  return tables as [Uint32Array, Uint32Array, Uint32Array, Uint32Array];
})();

export function crc32c(bytes: Uint8Array, from: number, to: number): number {
  const [t0, t1, t2, t3] = castagnoli;
  let crc = 0xffff_ffff;
  let at = from;
  for (; at + 4 <= to; at += 4) {
    crc ^= (bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24);
    crc =
      (t3[crc & 0xff] as number) ^ (t2[(crc >>> 8) & 0xff] as number) ^ (t1[(crc >>> 16) & 0xff] as number) ^ (t0[crc >>> 24] as number);
  }
  for (; at < to; at += 1) crc = (t0[(crc ^ (bytes[at] as number)) & 0xff] as number) ^ (crc >>> 8);
  return ~crc >>> 0;
}

function digest(method: VerifyMethod, bytes: Uint8Array, from: number, out: Uint8Array): void {
  const view = new DataView(out.buffer, out.byteOffset);
  if (method === 'crc32c') view.setUint32(0, crc32c(bytes, from, bytes.length), true);
  else if (method === 'crc32') view.setUint32(0, zlibCrc32(bytes.subarray(from)), true);
  else if (digestBytes[method] > 0) out.set(createHash(method).update(bytes.subarray(from)).digest());
}

/** Random content: cheap, and different in each block. */
export function fillRandom(bytes: Uint8Array, seed: number): void {
  const random = new Random(seed, 7);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteOffset % 4 === 0 ? bytes.length >>> 2 : 0);
  for (let at = 0; at < words.length; at += 1) words[at] = random.next();
  for (let at = words.length * 4; at < bytes.length; at += 1) bytes[at] = random.next();
}

export interface Stamp {
  readonly offset: number;
  /** Which write of the job this is: a stale block has an older one. */
  readonly generation: number;
  readonly seed: number;
}

/** Makes `bytes` a block that can be checked. Too short for a header: the pattern method serves. */
export function stampBlock(method: VerifyMethod, bytes: Uint8Array, pattern: Uint8Array, stamp: Stamp): void {
  if (method === 'pattern') {
    for (let at = 0; at < bytes.length; at += 1) bytes[at] = pattern[at % pattern.length] as number;
    return;
  }
  fillRandom(bytes, stamp.seed);
  const start = HEADER_BYTES + digestBytes[method];
  if (bytes.length < start || method === 'null') return;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  view.setUint16(0, MAGIC, true);
  view.setUint16(2, methodNumbers.indexOf(method), true);
  view.setUint32(4, bytes.length, true);
  view.setUint32(8, stamp.seed >>> 0, true);
  view.setUint32(12, Math.floor(stamp.seed / 0x1_0000_0000), true);
  view.setBigUint64(16, BigInt(stamp.offset), true);
  view.setBigUint64(24, BigInt(stamp.generation), true);
  view.setUint32(32, 0, true);
  view.setUint32(36, crc32c(bytes, 0, 36), true);
  digest(method, bytes, start, bytes.subarray(HEADER_BYTES, start));
}

/** What is wrong with a block that was read back, in fio's words, or undefined. */
export function checkBlock(
  method: VerifyMethod,
  bytes: Uint8Array,
  pattern: Uint8Array,
  offset: number,
  generation?: number,
): string | undefined {
  if (method === 'null') return undefined;
  if (method === 'pattern') {
    for (let at = 0; at < bytes.length; at += 1) {
      const want = pattern[at % pattern.length] as number;
      if (bytes[at] !== want)
        return `pattern: at byte ${at} of the block 0x${(bytes[at] as number).toString(16)}, wanted 0x${want.toString(16)}`;
    }
    return undefined;
  }
  const start = HEADER_BYTES + digestBytes[method];
  if (bytes.length < start) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint16(0, true) !== MAGIC) return `bad magic header ${view.getUint16(0, true).toString(16)}, wanted acca`;
  if (view.getUint32(36, true) !== crc32c(bytes, 0, 36)) return 'bad header crc';
  if (view.getUint32(4, true) !== bytes.length) return `bad header length ${view.getUint32(4, true)}, wanted ${bytes.length}`;
  if (view.getBigUint64(16, true) !== BigInt(offset)) return `bad header offset ${view.getBigUint64(16, true)}, wanted ${offset}`;
  if (generation !== undefined && view.getBigUint64(24, true) !== BigInt(generation)) {
    return `stale block: write ${view.getBigUint64(24, true)}, wanted ${generation}`;
  }
  const found = new Uint8Array(start - HEADER_BYTES);
  digest(method, bytes, start, found);
  for (const [at, byte] of found.entries()) if (bytes[HEADER_BYTES + at] !== byte) return `${method}: verify failed`;
  return undefined;
}
