import { joinHalves, type MemoryPage } from './memory.ts';

/** Segments that fit in a direct request (BLKIF_MAX_SEGMENTS_PER_REQUEST). */
export const BLKIF_MAX_SEGMENTS_PER_REQUEST = 11;
/** Grant references that fit in an indirect request (BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST). */
export const BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST = 8;
/** Segments in one indirect page: 4096 bytes of 8 each. */
export const BLKIF_SEGMENTS_PER_INDIRECT_PAGE = 512;

// Of this module alone: an exported constant is loaded from its module at every use, also here.
const OP_DISCARD = 5;
const OP_INDIRECT = 6;
const DIRECT_MAX = BLKIF_MAX_SEGMENTS_PER_REQUEST;

/**
 * Segments as parallel arrays: a granted page and the first and last of its eight 512-byte sectors, both included. The values
 * are as the peer wrote them: `firstSect` may be above `lastSect`, and both may be above 7.
 */
export interface Segments {
  readonly grefs: Uint32Array;
  readonly firstSect: Uint8Array;
  readonly lastSect: Uint8Array;
}

/**
 * A block request, made once and filled again and again. Which fields count follows from `operation`: 6 (indirect) has
 * `indirectOp`, `nrSegments` up to 65535 and `indirectGrefs`; 5 (discard) has `flag` and `nrSectors`; every other has
 * `nrSegments` up to 255, of which the first 11 are in the segment arrays. Fields that do not count keep older values.
 * @see xen/include/public/io/blkif.h, blkif_request, blkif_request_discard, blkif_request_indirect
 */
export class BlockRequest implements Segments {
  /** BLKIF_OP_*; a hostile peer may write any byte. */
  operation = 0;
  /** Indirect only: what is to be done, BLKIF_OP_READ or BLKIF_OP_WRITE. */
  indirectOp = 0;
  /** Discard only: BLKIF_DISCARD_SECURE or 0. */
  flag = 0;
  /** Segments the request claims; check it against 11, or against what was agreed for indirect requests. */
  nrSegments = 0;
  /** The virtual device number, 16 bits. */
  handle = 0;
  /** The id's low half; an id passes through unchanged. */
  idLo = 0;
  /** The id's high half. */
  idHi = 0;
  /** First sector of 512 bytes, or `Infinity` where the wire holds more than 2^53 - 1 (a flush carries 2^64 - 1). */
  sector = 0;
  /** The sector as it stands on the wire, low half. */
  sectorLo = 0;
  /** The sector as it stands on the wire, high half. */
  sectorHi = 0;
  /** Discard only: sectors of 512 bytes, or `Infinity` as for `sector`. */
  nrSectors = 0;
  /** Discard only: `nrSectors` on the wire, low half. */
  nrSectorsLo = 0;
  /** Discard only: `nrSectors` on the wire, high half. */
  nrSectorsHi = 0;
  readonly grefs: Uint32Array = new Uint32Array(BLKIF_MAX_SEGMENTS_PER_REQUEST);
  readonly firstSect: Uint8Array = new Uint8Array(BLKIF_MAX_SEGMENTS_PER_REQUEST);
  readonly lastSect: Uint8Array = new Uint8Array(BLKIF_MAX_SEGMENTS_PER_REQUEST);
  /** Indirect only: the pages that hold the segments, 512 each. */
  readonly indirectGrefs: Uint32Array = new Uint32Array(BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST);

  /** Whether `sector` is exact; where it is not, the halves still are. */
  get sectorExact(): boolean {
    return this.sectorHi < 0x20_0000;
  }

  /** Whether `nrSectors` is exact. */
  get nrSectorsExact(): boolean {
    return this.nrSectorsHi < 0x20_0000;
  }

  /**
   * Sets `sector` and its halves. @param sector a whole number from 0 to 2^53 - 1, which is not checked here: this is the hot
   * path.
   */
  setSector(sector: number): void {
    this.sector = sector;
    this.sectorLo = sector >>> 0;
    this.sectorHi = (sector / 0x1_0000_0000) >>> 0;
  }

  /** Sets the sector by its halves, for values that a number cannot hold. */
  setSectorHalves(lo: number, hi: number): void {
    this.sectorLo = lo >>> 0;
    this.sectorHi = hi >>> 0;
    this.sector = joinHalves(this.sectorLo, this.sectorHi);
  }

  /** Sets `nrSectors` and its halves; the range is as for `setSector`. */
  setNrSectors(sectors: number): void {
    this.nrSectors = sectors;
    this.nrSectorsLo = sectors >>> 0;
    this.nrSectorsHi = (sectors / 0x1_0000_0000) >>> 0;
  }

  /** Sets `nrSectors` by its halves. */
  setNrSectorsHalves(lo: number, hi: number): void {
    this.nrSectorsLo = lo >>> 0;
    this.nrSectorsHi = hi >>> 0;
    this.nrSectors = joinHalves(this.nrSectorsLo, this.nrSectorsHi);
  }

  /** Sets segment `i` (0 to 10). */
  setSegment(i: number, gref: number, firstSect: number, lastSect: number): void {
    this.grefs[i] = gref;
    this.firstSect[i] = firstSect;
    this.lastSect[i] = lastSect;
  }

  /** Sets segments 0 to `count - 1` (at most 11) to `grefs` from `from` on: whole pages, but for where the first begins and the last ends. */
  setSegments(grefs: Uint32Array, from: number, count: number, firstSect: number, lastSect: number): void {
    const { grefs: own, firstSect: firsts, lastSect: lasts } = this;
    for (let i = 0; i < count; i++) {
      own[i] = grefs[from + i]!;
      firsts[i] = 0;
      lasts[i] = 7;
    }
    firsts[0] = firstSect;
    lasts[count - 1] = lastSect;
  }
}

/** A block response, made once and filled again and again. @see xen/include/public/io/blkif.h, blkif_response */
export class BlockResponse {
  idLo = 0;
  idHi = 0;
  /** The operation of the request; of an indirect request the inner one. */
  operation = 0;
  /** BLKIF_RSP_*, signed 16 bits; a hostile peer may write any. */
  status = 0;
}

/*
 * The words of a slot. Reading and writing a request that moves data is one flat body each, the rest stands outside: the compiler
 * puts only so much of what it calls in place, and a call for each half of a slot costs as much as the half.
 */

/**
 * Reads a request out of `u32` from word `at` on, each word once; the first word was read before, as `head`. `idWord` is the word of
 * the id in the slot: 2 where a 64-bit field is aligned to 8 bytes, 1 where it is aligned to 4. Cost: O(segments); allocates nothing;
 * never throws.
 */
export function readRequestWords(u32: Uint32Array, at: number, head: number, idWord: number, out: BlockRequest): void {
  const operation = head & 0xff;
  let word = at + idWord;
  out.operation = operation;
  out.idLo = u32[word]!;
  out.idHi = u32[word + 1]!;
  const sectorLo = u32[word + 2]!;
  const sectorHi = u32[word + 3]!;
  out.sectorLo = sectorLo;
  out.sectorHi = sectorHi;
  out.sector = sectorHi === 0 ? sectorLo : joinHalves(sectorLo, sectorHi);
  word += 4;
  if (operation === OP_DISCARD || operation === OP_INDIRECT) {
    readOtherTail(u32, head, word, out);
    return;
  }
  const claimed = (head >>> 8) & 0xff;
  out.handle = head >>> 16;
  out.nrSegments = claimed;
  if (claimed !== 1) {
    readSegmentWords(u32, word, Math.min(claimed, DIRECT_MAX), out, 0);
    return;
  }
  out.grefs[0] = u32[word]!;
  const sectors = u32[word + 1]!;
  out.firstSect[0] = sectors;
  out.lastSect[0] = sectors >>> 8;
}

/**
 * The words of a direct request of one segment, from the word of its id on: for one who takes many where they stand, without an object
 * of each. `sects` holds the first and the last sector in its two low bytes. The word before them all is the slot's first: the operation
 * in the low byte, the number of segments in the next, and the handle.
 */
export const ONE_SEGMENT: {
  readonly idLo: 0;
  readonly idHi: 1;
  readonly sectorLo: 2;
  readonly sectorHi: 3;
  readonly gref: 4;
  readonly sects: 5;
} = { idLo: 0, idHi: 1, sectorLo: 2, sectorHi: 3, gref: 4, sects: 5 };

function readOtherTail(u32: Uint32Array, head: number, at: number, out: BlockRequest): void {
  if ((head & 0xff) === OP_INDIRECT) readIndirectTail(u32, head, at, out);
  else readDiscardTail(u32, head, at, out);
}

function readIndirectTail(u32: Uint32Array, head: number, at: number, out: BlockRequest): void {
  out.indirectOp = (head >>> 8) & 0xff;
  out.nrSegments = head >>> 16;
  out.handle = u32[at]! & 0xffff;
  const grefs = out.indirectGrefs;
  for (let i = 0; i < BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST; i++) grefs[i] = u32[at + 1 + i]!;
}

function readDiscardTail(u32: Uint32Array, head: number, at: number, out: BlockRequest): void {
  out.flag = (head >>> 8) & 0xff;
  out.handle = head >>> 16;
  out.nrSegments = 0;
  out.setNrSectorsHalves(u32[at]!, u32[at + 1]!);
}

/** Writes a request from word `at` on. Cost: O(segments); allocates nothing. @returns the first word behind it. */
export function writeRequestWords(u32: Uint32Array, at: number, idWord: number, request: BlockRequest): number {
  const operation = request.operation & 0xff;
  let word = at + idWord;
  // Word 1 is padding where the id is aligned to 8 bytes, and is overwritten by the id where it is not.
  u32[at + 1] = 0;
  u32[word] = request.idLo;
  u32[word + 1] = request.idHi;
  u32[word + 2] = request.sectorLo;
  u32[word + 3] = request.sectorHi;
  word += 4;
  if (operation === OP_DISCARD || operation === OP_INDIRECT) return writeOtherTail(u32, at, word, request);
  const claimed = request.nrSegments & 0xff;
  u32[at] = operation | (claimed << 8) | (request.handle << 16);
  return writeSegmentWords(u32, word, Math.min(claimed, DIRECT_MAX), request);
}

/** Two at a time: each turn of a loop looks at all four arrays anew. @returns the first word behind them. */
function writeSegmentWords(u32: Uint32Array, at: number, count: number, { grefs, firstSect, lastSect }: Segments): number {
  let word = at;
  let i = 0;
  for (; i + 2 <= count; i += 2) {
    u32[word] = grefs[i]!;
    u32[word + 1] = firstSect[i]! | (lastSect[i]! << 8);
    u32[word + 2] = grefs[i + 1]!;
    u32[word + 3] = firstSect[i + 1]! | (lastSect[i + 1]! << 8);
    word += 4;
  }
  if (i < count) {
    u32[word] = grefs[i]!;
    u32[word + 1] = firstSect[i]! | (lastSect[i]! << 8);
    word += 2;
  }
  return word;
}

/** Words that a request before left behind: few, for which `fill` costs more. */
export function clearWords(u32: Uint32Array, from: number, end: number): void {
  for (let word = from; word < end; word++) u32[word] = 0;
}

/** The tail of a request that moves no data in direct segments. Writes word 0 of the slot too. @returns the first word behind it. */
function writeOtherTail(u32: Uint32Array, at: number, tail: number, request: BlockRequest): number {
  return (request.operation & 0xff) === OP_INDIRECT ? writeIndirectTail(u32, at, tail, request) : writeDiscardTail(u32, at, tail, request);
}

function writeIndirectTail(u32: Uint32Array, at: number, tail: number, request: BlockRequest): number {
  const segments = request.nrSegments & 0xffff;
  u32[at] = OP_INDIRECT | ((request.indirectOp & 0xff) << 8) | (segments << 16);
  u32[tail] = request.handle & 0xffff;
  const pages = Math.min((segments + BLKIF_SEGMENTS_PER_INDIRECT_PAGE - 1) >>> 9, BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST);
  for (let i = 0; i < pages; i++) u32[tail + 1 + i] = request.indirectGrefs[i]!;
  return tail + 1 + pages;
}

function writeDiscardTail(u32: Uint32Array, at: number, tail: number, request: BlockRequest): number {
  u32[at] = OP_DISCARD | ((request.flag & 0xff) << 8) | (request.handle << 16);
  u32[tail] = request.nrSectorsLo;
  u32[tail + 1] = request.nrSectorsHi;
  return tail + 2;
}

/**
 * The words of a response: for one who takes many where they stand. The third holds the operation in its low byte and the status, signed,
 * in its high half.
 */
export const RESPONSE: { readonly idLo: 0; readonly idHi: 1; readonly tail: 2; readonly statusShift: 16 } = {
  idLo: 0,
  idHi: 1,
  tail: 2,
  statusShift: 16,
};

/** Reads a response from word `at` on, each word once. */
export function readResponseWords(u32: Uint32Array, at: number, out: BlockResponse): void {
  out.idLo = u32[at]!;
  out.idHi = u32[at + 1]!;
  const tail = u32[at + 2]!;
  out.operation = tail & 0xff;
  out.status = (tail | 0) >> 16;
}

/** Writes a response from word `at` on; the padding byte and what follows keep their values. */
export function writeResponseWords(u32: Uint32Array, at: number, idLo: number, idHi: number, operation: number, status: number): void {
  u32[at] = idLo;
  u32[at + 1] = idHi;
  u32[at + 2] = (u32[at + 2]! & 0xff00) | (operation & 0xff) | (status << 16);
}

/** Two at a time, as they are written. */
function readSegmentWords(u32: Uint32Array, at: number, count: number, { grefs, firstSect, lastSect }: Segments, outStart: number): void {
  const end = outStart + count;
  let word = at;
  let i = outStart;
  for (; i + 2 <= end; i += 2) {
    grefs[i] = u32[word]!;
    const sectors = u32[word + 1]!;
    firstSect[i] = sectors;
    lastSect[i] = sectors >>> 8;
    grefs[i + 1] = u32[word + 2]!;
    const more = u32[word + 3]!;
    firstSect[i + 1] = more;
    lastSect[i + 1] = more >>> 8;
    word += 4;
  }
  if (i < end) {
    grefs[i] = u32[word]!;
    const sectors = u32[word + 1]!;
    firstSect[i] = sectors;
    lastSect[i] = sectors >>> 8;
  }
}

/**
 * Copies the first `count` (at most 512) segments of an indirect page into `out` from `outStart` on, each word read once.
 * Allocates nothing; `out` must have room.
 */
export function readIndirectSegments(page: MemoryPage, count: number, out: Segments, outStart = 0): void {
  readSegmentWords(page.views.u32, page.offset >>> 2, Math.min(count, BLKIF_SEGMENTS_PER_INDIRECT_PAGE), out, outStart);
}

/** Writes segment `i` (0 to 511) of an indirect page. */
export function writeIndirectSegment(page: MemoryPage, i: number, gref: number, firstSect: number, lastSect: number): void {
  const u32 = page.views.u32;
  const word = (page.offset >>> 2) + i * 2;
  u32[word] = gref;
  u32[word + 1] = (firstSect & 0xff) | ((lastSect & 0xff) << 8);
}

/**
 * Writes segments 0 to `count - 1` (at most 512) of an indirect page: `grefs` from `from` on, whole pages, but for where the first
 * begins and the last ends.
 */
export function writeIndirectSegments(
  page: MemoryPage,
  grefs: Uint32Array,
  from: number,
  count: number,
  firstSect: number,
  lastSect: number,
): void {
  const { u32 } = page.views;
  const start = page.offset >>> 2;
  for (let i = 0; i < count; i++) {
    u32[start + i * 2] = grefs[from + i]!;
    u32[start + i * 2 + 1] = 0x0700;
  }
  if (count === 0) return;
  u32[start + 1] = (firstSect & 0xff) | 0x0700;
  u32[start + count * 2 - 1] = (count === 1 ? firstSect & 0xff : 0) | ((lastSect & 0xff) << 8);
}
