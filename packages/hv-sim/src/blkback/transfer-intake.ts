import { type BackRing, BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP, GNTMAP, ONE_SEGMENT } from '@paravirt/xen-abi';
import type { PagePool } from './page-pool.ts';
import type { PersistentGrants } from './persistent-grants.ts';
import type { QueueSetup } from './queue-setup.ts';
import type { BackRequest } from './request.ts';
import { BATCH_PAGES, BATCH_REQUESTS, ROW, type TransferBatch } from './transfer-batch.ts';
import type { BlkbackCounters } from './types.ts';
import { type Bounds, LAST_SECT, transferFault } from './validation.ts';

// Plain constants of this module: an imported one is loaded at each use.
const { READ, WRITE } = BLKIF_OP;
const { host_map: HOST_MAP } = GNTMAP;
const HOST_MAP_READONLY: number = GNTMAP.host_map | GNTMAP.readonly;
const SEGMENTS_MAX = BLKIF_MAX_SEGMENTS_PER_REQUEST;
const REQUESTS_MAX = BATCH_REQUESTS;
const PAGES_MAX = BATCH_PAGES;
const { idHi: HI, sectorLo: SECTOR_LO, sectorHi: SECTOR_HI, gref: GREF, sects: SECTS } = ONE_SEGMENT;
const {
  shift: SHIFT,
  idHi: ID_HI,
  kind: KIND,
  firstPage: FIRST_PAGE,
  sectors: SECTORS,
  sectorLo: ROW_SECTOR_LO,
  sectorHi: ROW_SECTOR_HI,
  gref: ONE_GREF,
  oneMask: ONE_MASK,
  one: ONE,
  operationMask: OPERATION_MASK,
  segmentsShift: SEGMENTS_SHIFT,
} = ROW;
const ROW_WORDS = 1 << SHIFT;
const SECT_MAX = LAST_SECT;

/** `takeOnes` took all that it might. No first word is below 0. */
export const NO_MORE = -1;
/** `takeOnes` took a request that has to go the long way. */
export const ONE_IN_CURRENT = -2;
/** The next request does not lie in one piece. */
export const ONE_IN_PIECES = -3;

/** Takes direct reads and writes from a ring into a batch, each checked as it was copied, and asks for or finds their pages. */
export class TransferIntake {
  private readonly ring: BackRing;
  private readonly table: PersistentGrants | undefined;
  private readonly pool: PagePool;
  private readonly frontend: number;
  private readonly counters: BlkbackCounters;
  /** Requests that the last `takeOnes` took into the batch. */
  taken = 0;

  constructor(setup: QueueSetup, ring: BackRing) {
    this.ring = ring;
    this.table = setup.mappings.persistent;
    this.pool = setup.mappings.pool;
    this.frontend = setup.frontend;
    this.counters = setup.counters;
  }

  /**
   * Takes at most `most` requests of one segment from the ring into the batch, which has room for one at least, as long as the next one
   * is such. In one loop and without an object for each: nearly all requests pass here. One that is found to be wrong, or to need the
   * long way, stands in `current` when this returns. What was copied of those behind it is forgotten: they are still on the ring, to be
   * copied and checked anew.
   * @returns the first word of the next request where it is another kind; `NO_MORE`; `ONE_IN_CURRENT`; `ONE_IN_PIECES`.
   */
  takeOnes(batch: TransferBatch, current: BackRequest, bounds: Bounds, most: number, now: number): number {
    const { ring, table, pool } = this;
    const { shared } = ring;
    const { words: u32, idWord } = shared;
    const { words, firstSect, lastSect } = batch;
    const { sectors: end, mask } = bounds;
    const readonly = bounds.readonly === true;
    const start = batch.count;
    let { count, pages } = batch;
    const before = pages;
    let room = Math.min(most, REQUESTS_MAX - count, PAGES_MAX - pages);
    // Without an address left the next one goes the long way, which knows how to wait for one.
    if (table === undefined && !pool.grow(room)) room = Math.min(room, Math.max(1, pool.free));
    const limit = count + room;
    let left = NO_MORE;
    // A loop that calls nothing: what the compiler knows of the arrays then holds from one turn to the next.
    for (let cons = ring.reqCons | 0; count < limit; count++, cons++) {
      const slot = shared.wordOf(cons);
      if (slot < 0) {
        left = ONE_IN_PIECES;
        break;
      }
      const head = u32[slot]!;
      if ((head & ONE_MASK) !== ONE) {
        left = head;
        break;
      }
      const word = slot + idWord;
      const sectorLo = u32[word + SECTOR_LO]!;
      const sectorHi = u32[word + SECTOR_HI]!;
      const sects = u32[word + SECTS]! & 0xffff;
      const first = sects & 0xff;
      const last = sects >>> 8;
      const length = last - first + 1;
      const at = count << SHIFT;
      words[at] = u32[word]!;
      words[at | ID_HI] = u32[word + HI]!;
      words[at | KIND] = head & 0xffff;
      words[at | FIRST_PAGE] = pages;
      words[at | SECTORS] = length;
      words[at | ONE_GREF] = u32[word + GREF]!;
      firstSect[pages] = first;
      lastSect[pages] = last;
      words[at | ROW_SECTOR_LO] = sectorLo;
      words[at | ROW_SECTOR_HI] = sectorHi;
      if (
        last > SECT_MAX ||
        first > last ||
        (sectorHi === 0 ? sectorLo : sectorHi * 0x1_0000_0000 + sectorLo) + length > end ||
        ((length | sectorLo) & mask) !== 0 ||
        (readonly && (head & 0xff) !== READ)
      ) {
        left = ONE_IN_CURRENT;
        break;
      }
      pages++;
    }
    const taken = table === undefined ? this.place(batch, before, pages) : this.find(table, batch, before, pages, now);
    if (taken < pages - before) left = ONE_IN_CURRENT;
    if (left === ONE_IN_CURRENT) takeOut(current, batch, start + taken);
    ring.skipRequests(left === ONE_IN_CURRENT ? taken + 1 : taken);
    batch.count = start + taken;
    batch.pages = before + taken;
    this.taken = taken;
    return left;
  }

  /** Asks for the pages of requests of one segment to be mapped. @returns for how many there were addresses. */
  private place(batch: TransferBatch, from: number, end: number): number {
    const { frontend, pool } = this;
    const { words, vfns, ops, writable } = batch;
    const { stack } = pool;
    const count = Math.min(end - from, pool.top);
    let { top } = pool;
    let at = (batch.count << SHIFT) | 0;
    for (let page = from; page < from + count; page++, at += ROW_WORDS) {
      top--;
      const vfn = stack[top]!;
      const op = ops[page]!;
      op.vfn = vfn;
      const read = (words[at | KIND]! & OPERATION_MASK) === READ;
      op.flags = read ? HOST_MAP : HOST_MAP_READONLY;
      writable[page] = read ? 1 : 0;
      op.ref = words[at | ONE_GREF]! >>> 0;
      op.domid = frontend;
      vfns[page] = vfn;
    }
    pool.top = top;
    return count;
  }

  /** Finds where persistent grants of requests of one segment are mapped. @returns how many are, before one that is not. */
  private find(table: PersistentGrants, batch: TransferBatch, from: number, end: number, now: number): number {
    const { words, vfns, entries, writable } = batch;
    let at = (batch.count << SHIFT) | 0;
    let page = from;
    for (; page < end; page++, at += ROW_WORDS) {
      const entry = table.find(words[at | ONE_GREF]! >>> 0);
      if (entry < 0) break;
      table.touch(entry, now);
      entries[page] = entry;
      vfns[page] = table.vfns[entry]!;
      writable[page] = (words[at | KIND]! & OPERATION_MASK) === READ ? 1 : 0;
    }
    this.counters.persistentHits += page - from;
    return page - from;
  }

  /**
   * Takes a request into the batch, which has room for it.
   * @returns false, with nothing done, where it is not a good direct read or write of which every page can be had.
   */
  add(batch: TransferBatch, request: BackRequest, bounds: Bounds, now: number): boolean {
    const { operation, nrSegments: count } = request;
    if ((operation !== READ && operation !== WRITE) || count === 0 || count > SEGMENTS_MAX) return false;
    request.segments = count;
    if (transferFault(request, bounds) !== '') return false;
    const first = batch.pages;
    const { grefs, firstSect, lastSect } = request;
    const { table, pool } = this;
    const { vfns, writable, firstSect: firsts, lastSect: lasts } = batch;
    if (table !== undefined) {
      if (!this.findAll(table, request, count, batch, now)) return false;
    } else {
      if (pool.free < count && !pool.grow(count)) return false;
      const { ops } = batch;
      const { frontend } = this;
      const flags = operation === READ ? HOST_MAP : HOST_MAP_READONLY;
      for (let i = 0; i < count; i++) {
        const op = ops[first + i]!;
        const vfn = pool.take();
        op.vfn = vfn;
        op.flags = flags;
        op.ref = grefs[i]!;
        op.domid = frontend;
        vfns[first + i] = vfn;
      }
    }
    for (let i = 0; i < count; i++) {
      firsts[first + i] = firstSect[i]!;
      lasts[first + i] = lastSect[i]!;
      writable[first + i] = operation === READ ? 1 : 0;
    }
    const index = batch.count;
    const { words } = batch;
    const at = index << SHIFT;
    words[at] = request.idLo;
    words[at | ID_HI] = request.idHi;
    words[at | KIND] = operation | (count << SEGMENTS_SHIFT);
    words[at | FIRST_PAGE] = first;
    words[at | SECTORS] = request.sectors;
    words[at | ROW_SECTOR_LO] = request.sectorLo;
    words[at | ROW_SECTOR_HI] = request.sectorHi;
    batch.count = index + 1;
    batch.pages = first + count;
    return true;
  }

  /** Where the request's persistent grants are mapped. @returns false where one is not mapped yet. */
  private findAll(table: PersistentGrants, request: BackRequest, count: number, batch: TransferBatch, now: number): boolean {
    const { vfns, pages, entries } = batch;
    const { grefs } = request;
    for (let i = 0; i < count; i++) {
      const entry = table.find(grefs[i]!);
      if (entry < 0) return false;
      table.touch(entry, now);
      vfns[pages + i] = table.vfns[entry]!;
      entries[pages + i] = entry;
    }
    this.counters.persistentHits += count;
    return true;
  }
}

/** A request of one segment of the batch, as it was read, for the long way. */
function takeOut(request: BackRequest, batch: TransferBatch, index: number): void {
  const at = index << SHIFT;
  const { words, firstSect, lastSect } = batch;
  const page = words[at | FIRST_PAGE]!;
  request.operation = words[at | KIND]! & OPERATION_MASK;
  request.nrSegments = 1;
  request.idLo = words[at]! >>> 0;
  request.idHi = words[at | ID_HI]! >>> 0;
  request.setSectorHalves(words[at | ROW_SECTOR_LO]!, words[at | ROW_SECTOR_HI]!);
  request.setSegment(0, words[at | ONE_GREF]! >>> 0, firstSect[page]!, lastSect[page]!);
}
