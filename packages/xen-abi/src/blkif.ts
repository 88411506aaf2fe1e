import { joinHalves, type MemoryPage } from './memory.ts';

/** Segments that fit in a direct request (BLKIF_MAX_SEGMENTS_PER_REQUEST). */
export const BLKIF_MAX_SEGMENTS_PER_REQUEST = 11;
/** Grant references that fit in an indirect request (BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST). */
export const BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST = 8;
/** Segments in one indirect page: 4096 bytes of 8 each. */
export const BLKIF_SEGMENTS_PER_INDIRECT_PAGE = 512;

const OP_DISCARD = 5;
const OP_INDIRECT = 6;

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
 * The words of a slot. Small functions: the compiler then keeps each one's indices in registers, which halves the cost of a
 * request against one long function.
 */

/**
 * Reads a request out of `u32` from word `at` on, each word once. `idWord` is the word of the id in the slot: 2 where a
 * 64-bit field is aligned to 8 bytes, 1 where it is aligned to 4. Cost: O(segments); allocates nothing; never throws.
 */
export function readRequestWords(u32: Uint32Array, at: number, idWord: number, out: BlockRequest): void {
  const head = u32[at]!;
  const operation = head & 0xff;
  const id = at + idWord;
  out.operation = operation;
  out.idLo = u32[id]!;
  out.idHi = u32[id + 1]!;
  const sectorLo = u32[id + 2]!;
  const sectorHi = u32[id + 3]!;
  out.sectorLo = sectorLo;
  out.sectorHi = sectorHi;
  out.sector = joinHalves(sectorLo, sectorHi);
  if (operation === OP_INDIRECT) readIndirectTail(u32, head, id + 4, out);
  else if (operation === OP_DISCARD) readDiscardTail(u32, head, id + 4, out);
  else {
    const claimed = (head >>> 8) & 0xff;
    out.handle = head >>> 16;
    out.nrSegments = claimed;
    readSegmentWords(u32, id + 4, Math.min(claimed, BLKIF_MAX_SEGMENTS_PER_REQUEST), out, 0);
  }
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

/**
 * Writes a request from word `at` on and clears the rest of its `words` words, as a fresh slot has them.
 * Cost: O(words of a slot); allocates nothing.
 */
export function writeRequestWords(u32: Uint32Array, at: number, words: number, idWord: number, request: BlockRequest): void {
  const operation = request.operation & 0xff;
  const id = at + idWord;
  let filled: number;
  writeSharedHead(u32, at, id, request);
  if (operation === OP_INDIRECT) filled = writeIndirectTail(u32, at, id + 4, request);
  else if (operation === OP_DISCARD) filled = writeDiscardTail(u32, at, id + 4, request);
  else filled = writeDirectTail(u32, at, id + 4, operation, request);
  clearWords(u32, filled, at + words);
}

function writeSharedHead(u32: Uint32Array, at: number, id: number, request: BlockRequest): void {
  // Word 1 is padding where the id is aligned to 8 bytes, and is overwritten by the id where it is not.
  u32[at + 1] = 0;
  u32[id] = request.idLo;
  u32[id + 1] = request.idHi;
  u32[id + 2] = request.sectorLo;
  u32[id + 3] = request.sectorHi;
}

/** Each of the tails writes word 0 of the slot too, and gives the first word behind what it wrote. */
function writeDirectTail(u32: Uint32Array, at: number, tail: number, operation: number, request: BlockRequest): number {
  const claimed = request.nrSegments & 0xff;
  u32[at] = operation | (claimed << 8) | (request.handle << 16);
  const { grefs, firstSect, lastSect } = request;
  const count = Math.min(claimed, BLKIF_MAX_SEGMENTS_PER_REQUEST);
  let word = tail;
  for (let i = 0; i < count; i++) {
    u32[word] = grefs[i]!;
    u32[word + 1] = firstSect[i]! | (lastSect[i]! << 8);
    word += 2;
  }
  return word;
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

/** By fours: a third cheaper than one at a time, and cheaper than `fill` for so few. */
function clearWords(u32: Uint32Array, from: number, end: number): void {
  let word = from;
  for (; word + 4 <= end; word += 4) {
    u32[word] = 0;
    u32[word + 1] = 0;
    u32[word + 2] = 0;
    u32[word + 3] = 0;
  }
  for (; word < end; word++) u32[word] = 0;
}

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

function readSegmentWords(u32: Uint32Array, at: number, count: number, out: Segments, outStart: number): void {
  const { grefs, firstSect, lastSect } = out;
  let word = at;
  for (let i = outStart; i < outStart + count; i++) {
    grefs[i] = u32[word]!;
    const sectors = u32[word + 1]!;
    firstSect[i] = sectors & 0xff;
    lastSect[i] = (sectors >>> 8) & 0xff;
    word += 2;
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
