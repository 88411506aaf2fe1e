import type { EventBus } from '@paravirt/event-bus';
import { type BackRing, BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP, BLKIF_RSP, GNTMAP, GNTST, ONE_SEGMENT } from '@paravirt/xen-abi';
import type { Disk } from '../disks/disk.ts';
import { type DiskIo, SECTOR as SECTOR_BYTES, unanswered } from './disk-io.ts';
import type { BlkbackEvents } from './events.ts';
import { type QueueMappings, RETRYING } from './mapping.ts';
import type { PagePool } from './page-pool.ts';
import type { PersistentGrants } from './persistent-grants.ts';
import type { QueueFacts } from './queue-facts.ts';
import type { QueueSetup } from './queue-setup.ts';
import { type BackRequest, DONE } from './request.ts';
import { BATCH_PAGES, BATCH_REQUESTS, type BatchOwner, ROW, type TransferBatch, type TransferBatches } from './transfer-batch.ts';
import type { BlkbackCounters, GrantMapper, MappedMemory } from './types.ts';
import { type Bounds, LAST_SECT, transferFault } from './validation.ts';

// Plain constants of this module: an imported one is loaded at each use.
const { READ, WRITE } = BLKIF_OP;
const { OKAY } = BLKIF_RSP;
const { okay: MAP_OKAY } = GNTST;
const { host_map: HOST_MAP } = GNTMAP;
const HOST_MAP_READONLY: number = GNTMAP.host_map | GNTMAP.readonly;
const BYTES = SECTOR_BYTES;
const SEGMENTS_MAX = BLKIF_MAX_SEGMENTS_PER_REQUEST;
const REQUESTS_MAX = BATCH_REQUESTS;
const PAGES_MAX = BATCH_PAGES;
const { idHi: HI, sectorLo: SECTOR_LO, sectorHi: SECTOR_HI, gref: GREF, sects: SECTS } = ONE_SEGMENT;
/** Operation and number of segments in a request's first word, and what they are in a read or a write of one segment. */
const ONE_MASK = 0xfffe;
const ONE = 0x0100;
const OPERATION_MASK = 0xff;
const SEGMENTS_SHIFT = 8;
const SECT_MAX = LAST_SECT;
const { shift: SHIFT, idHi: ID_HI, kind: KIND, firstPage: FIRST_PAGE, sectors: SECTORS, sectorLo: ROW_SECTOR_LO, sectorHi: ROW_SECTOR_HI, gref: ONE_GREF, gone: GONE } = ROW;
const ROW_WORDS = 1 << SHIFT;

/** `takeOnes` took all that it might. No first word is below 0. */
export const NO_MORE = -1;
/** `takeOnes` took a request that has to go the long way. */
export const ONE_IN_CURRENT = -2;
/** The next request does not lie in one piece. */
export const ONE_IN_PIECES = -3;

/** The queue that transfers belong to. */
export interface TransferOwner {
  /** In a turn answers are written at once; outside one they wait for the next. */
  readonly inTurn: boolean;
  /** A record for a request that cannot stay in its batch. */
  acquire(): BackRequest;
  /** A record that was not needed after all. */
  giveBack(request: BackRequest): void;
  /** A request of a batch in which not everything could be mapped. */
  dataMapped(request: BackRequest, outcome: number): void;
  /** The disk refused the request. */
  finish(request: BackRequest): void;
  /** So many requests were answered. */
  answered(count: number): void;
  /** Asks for a turn. */
  wake(): void;
}

/**
 * The short way of nearly all requests: direct reads and writes, in batches, over a disk that answers at once. Whatever is found to be
 * anything else on the way gets a record of its own and goes on alone.
 */
export class Transfers implements BatchOwner {
  private readonly owner: TransferOwner;
  private readonly ring: BackRing;
  private readonly batches: TransferBatches;
  private readonly mappings: QueueMappings;
  private readonly table: PersistentGrants | undefined;
  private readonly pool: PagePool;
  private readonly grants: GrantMapper;
  private readonly frontend: number;
  private readonly io: DiskIo;
  private readonly disk: Disk;
  private readonly memory: MappedMemory;
  private readonly counters: BlkbackCounters;
  private readonly bus: EventBus<BlkbackEvents>;
  private readonly facts: QueueFacts;
  private readonly resume: (request: BackRequest, result: number) => void;
  private batch: TransferBatch | undefined = undefined;
  /** Unmapped outside a turn, to be answered in the next. */
  private readonly done: TransferBatch[] = [];
  /** Takes the place of a request at the disk; becomes its record where that answers later. */
  private spare: BackRequest | undefined = undefined;
  private time = 0;
  /** Requests that the last `takeOnes` took into the batch. */
  taken = 0;

  constructor(setup: QueueSetup, owner: TransferOwner, ring: BackRing, facts: QueueFacts) {
    const { mappings } = setup;
    this.owner = owner;
    this.ring = ring;
    this.batches = setup.batches;
    this.mappings = mappings;
    this.table = mappings.persistent;
    this.pool = mappings.pool;
    this.grants = mappings.grants;
    this.frontend = setup.frontend;
    this.io = setup.io;
    this.disk = setup.disk;
    this.memory = setup.memory;
    this.counters = setup.counters;
    this.bus = setup.bus;
    this.facts = facts;
    this.resume = (request, result) => owner.dataMapped(request, result);
  }

  /** A turn begins. */
  begin(now: number): void {
    this.time = now;
    while (this.done.length > 0) {
      const batch = this.done.shift()!;
      this.answer(batch);
      this.batches.give(batch);
    }
    this.batch = this.batches.take(this);
  }

  /** The turn ends. */
  end(): void {
    this.run();
    this.batches.give(this.batch!);
    this.batch = undefined;
  }

  /**
   * Takes requests of one segment from the ring into the batch, at most `most`, as long as the next one is such. In one loop and
   * without an object for each: nearly all requests pass here. One that is found to be wrong, or to need the long way, stands in
   * `current` when this returns.
   * @returns the first word of the next request where it is another kind; `NO_MORE`; `ONE_IN_CURRENT`; `ONE_IN_PIECES`.
   */
  takeOnes(current: BackRequest, bounds: Bounds, most: number): number {
    let { batch } = this;
    if (batch!.count === REQUESTS_MAX || batch!.pages === PAGES_MAX) {
      this.run();
      batch = this.batch;
    }
    const { ring, table, pool } = this;
    const { shared } = ring;
    const { words: u32, idWord } = shared;
    const { words, firstSect, lastSect } = batch!;
    const { sectors: end, mask } = bounds;
    const readonly = bounds.readonly === true;
    const start = batch!.count;
    let { count, pages } = batch!;
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
    const placed = table === undefined ? this.place(batch!, before, pages) : this.find(table, batch!, before, pages);
    if (placed < pages - before) left = ONE_IN_CURRENT;
    const taken = placed;
    if (left === ONE_IN_CURRENT) takeOut(current, batch!, start + taken);
    ring.skipRequests(left === ONE_IN_CURRENT ? taken + 1 : taken);
    batch!.count = start + taken;
    batch!.pages = before + taken;
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
  private find(table: PersistentGrants, batch: TransferBatch, from: number, end: number): number {
    const { time } = this;
    const { words, vfns, entries, writable } = batch;
    let at = (batch.count << SHIFT) | 0;
    let page = from;
    for (; page < end; page++, at += ROW_WORDS) {
      const entry = table.find(words[at | ONE_GREF]! >>> 0);
      if (entry < 0) break;
      table.touch(entry, time);
      entries[page] = entry;
      vfns[page] = table.vfns[entry]!;
      writable[page] = (words[at | KIND]! & OPERATION_MASK) === READ ? 1 : 0;
    }
    this.counters.persistentHits += page - from;
    return page - from;
  }

  /**
   * Takes a request into the batch.
   * @returns false, with nothing done but `run` perhaps, where it is not a good direct read or write of which every page can be had.
   */
  add(request: BackRequest, bounds: Bounds): boolean {
    const { operation, nrSegments: count } = request;
    if ((operation !== READ && operation !== WRITE) || count === 0 || count > SEGMENTS_MAX) return false;
    request.segments = count;
    if (transferFault(request, bounds) !== '') return false;
    if (this.batch!.count === REQUESTS_MAX || this.batch!.pages + count > PAGES_MAX) this.run();
    const batch = this.batch!;
    const first = batch.pages;
    const { grefs, firstSect, lastSect } = request;
    const { table, pool } = this;
    const { vfns, writable, firstSect: firsts, lastSect: lasts } = batch;
    if (table !== undefined) {
      if (!this.findAll(table, request, count, batch)) return false;
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
  private findAll(table: PersistentGrants, request: BackRequest, count: number, batch: TransferBatch): boolean {
    const { vfns, pages, entries } = batch;
    const { grefs } = request;
    const { time } = this;
    for (let i = 0; i < count; i++) {
      const entry = table.find(grefs[i]!);
      if (entry < 0) return false;
      table.touch(entry, time);
      vfns[pages + i] = table.vfns[entry]!;
      entries[pages + i] = entry;
    }
    this.counters.persistentHits += count;
    return true;
  }

  /** Carries out what was taken. */
  run(): void {
    const batch = this.batch!;
    const { count, pages } = batch;
    if (count === 0) return;
    const { table, mappings } = this;
    batch.pages = 0;
    if (table === undefined) {
      const result = this.grants.mapRefs(batch.ops, pages);
      if (result !== 0 || !allMapped(batch, pages)) {
        this.runAlone(batch, count, result);
        return;
      }
      this.counters.maps += pages;
    }
    this.transfer(batch, count, pages);
    if (batch.unmaps.count === 0) {
      this.answer(batch);
      return;
    }
    mappings.unmap(batch.unmaps);
    // A page is in use: the batch waits for it, and another takes its place.
    if (batch.unmaps.count > 0) this.batch = this.batches.take(this);
  }

  /** Hands every request to the disk, in their order. */
  private transfer(batch: TransferBatch, count: number, pages: number): void {
    const { io, counters, disk, bus } = this;
    const { words, offsets, firstSect } = batch;
    const told = bus.observed('blkback:requested');
    // Before the first page is copied: a copy leaves little of the page table in the nearest cache.
    const { memory } = this;
    let located = memory.locateAll?.(batch.vfns, batch.writable, pages, offsets);
    const mapped = memory.pages;
    this.count(batch, count);
    let whole = true;
    let waiter = this.spare ?? this.owner.acquire();
    // A disk that throws leaves none: the one it had may be the record of a request by then.
    this.spare = undefined;
    let ones = 0;
    for (let i = 0; i < count; i++) {
      const at = i << SHIFT;
      const kind = words[at | KIND]!;
      const page = words[at | FIRST_PAGE]!;
      const sector = words[at | ROW_SECTOR_LO]!;
      if (told) this.facts.requested(this.fill(waiter, batch, i));
      // Who heard of a request, or a disk, may have ended this very domain.
      if (memory.pages !== mapped) located = undefined;
      if ((kind & ONE_MASK) === ONE && sector >= 0 && words[at | ROW_SECTOR_HI] === 0 && located !== undefined) {
        ones++;
        const start = offsets[page]! + firstSect[page]! * BYTES;
        const bytes = words[at | SECTORS]! * BYTES;
        const answer =
          kind === ONE
            ? disk.read(located, start, sector * BYTES, bytes, waiter)
            : disk.write(located, start, sector * BYTES, bytes, waiter, false);
        if (answer === 0) continue;
        unanswered(waiter, answer);
      } else {
        const write = (kind & OPERATION_MASK) !== READ;
        if (io.transfer(batch, page, kind >>> SEGMENTS_SHIFT, sectorOf(batch, i), write, false, waiter, located)) continue;
      }
      whole = false;
      this.separate(waiter, batch, i);
      waiter = this.owner.acquire();
    }
    counters.diskCalls += ones;
    this.spare = waiter;
    if (!whole) closeUp(batch, count);
  }

  /** Counts the requests of a batch, each of which is good. */
  private count(batch: TransferBatch, count: number): void {
    const { words } = batch;
    let reads = 0;
    let sectorsRead = 0;
    let sectorsWritten = 0;
    let segments = 0;
    for (let i = 0; i < count; i++) {
      const at = i << SHIFT;
      const kind = words[at | KIND]!;
      segments += kind >>> SEGMENTS_SHIFT;
      if ((kind & OPERATION_MASK) === READ) {
        reads++;
        sectorsRead += words[at | SECTORS]!;
      } else sectorsWritten += words[at | SECTORS]!;
    }
    const { counters } = this;
    counters.segments += segments;
    counters.reads += reads;
    counters.writes += count - reads;
    counters.bytesRead += sectorsRead * BYTES;
    counters.bytesWritten += sectorsWritten * BYTES;
  }

  /** The disk did not simply carry the request out: it leaves the batch, with its pages. */
  private separate(request: BackRequest, batch: TransferBatch, index: number): void {
    const at = index << SHIFT;
    const { words } = batch;
    this.fill(request, batch, index);
    words[at | KIND] = GONE;
    request.stage = DONE;
    const first = words[at | FIRST_PAGE]!;
    const { segments, mapped } = request;
    if (this.table !== undefined) this.mappings.hold(request, batch.entries, first);
    else {
      mapped.count = segments;
      for (let i = 0; i < segments; i++) {
        const op = batch.ops[first + i]!;
        mapped.ops[i]!.vfn = op.vfn;
        mapped.ops[i]!.handle = op.handle;
      }
    }
    if (request.waiting === 0) this.owner.finish(request);
  }

  /** Not everything could be mapped: what could is carried out, request by request. */
  private runAlone(batch: TransferBatch, count: number, result: number): void {
    const { mappings, owner } = this;
    const alone: BackRequest[] = [];
    const outcomes: number[] = [];
    batch.unmaps.count = 0;
    batch.count = 0;
    for (let i = 0; i < count; i++) alone.push(this.fill(owner.acquire(), batch, i));
    for (let i = 0; i < count; i++) {
      const first = batch.words[(i << SHIFT) | FIRST_PAGE]!;
      const own = batch.ops.slice(first, first + alone[i]!.segments);
      outcomes.push(mappings.settleOne(alone[i]!, own, this.time, this.resume, result));
    }
    for (let i = 0; i < count; i++) if (outcomes[i] !== RETRYING) owner.dataMapped(alone[i]!, outcomes[i]!);
  }

  /** A request of the batch as a record of its own. */
  private fill(request: BackRequest, batch: TransferBatch, index: number): BackRequest {
    const at = index << SHIFT;
    const { words, vfns, firstSect, lastSect } = batch;
    const first = words[at | FIRST_PAGE]!;
    const segments = words[at | KIND]! >>> SEGMENTS_SHIFT;
    request.idLo = words[at]! >>> 0;
    request.idHi = words[at | ID_HI]! >>> 0;
    request.operation = words[at | KIND]! & OPERATION_MASK;
    request.sector = sectorOf(batch, index);
    request.sectors = words[at | SECTORS]!;
    request.segments = segments;
    for (let i = 0; i < segments; i++) {
      request.vfns[i] = vfns[first + i]!;
      request.firstSect[i] = firstSect[first + i]!;
      request.lastSect[i] = lastSect[first + i]!;
    }
    return request;
  }

  batchDone(batch: TransferBatch, result: number): void {
    this.mappings.reclaim(batch.unmaps, result);
    if (batch === this.batch) this.answer(batch);
    else if (this.owner.inTurn) {
      this.answer(batch);
      this.batches.give(batch);
    } else {
      this.done.push(batch);
      this.owner.wake();
    }
  }

  /** Answers what is left in the batch. */
  private answer(batch: TransferBatch): void {
    const { ring } = this;
    const { words, count } = batch;
    const told = this.bus.observed('blkback:completed');
    batch.count = 0;
    let answered = 0;
    for (let i = 0; i < count; i++) {
      const at = i << SHIFT;
      const kind = words[at | KIND]!;
      if (kind === GONE) continue;
      answered++;
      ring.putResponse(words[at]!, words[at | ID_HI]!, kind & OPERATION_MASK, OKAY);
      if (told) this.tellCompleted(batch, i);
    }
    this.owner.answered(answered);
  }

  private tellCompleted(batch: TransferBatch, index: number): void {
    const request = this.fill(this.owner.acquire(), batch, index);
    this.facts.completed(request);
    this.owner.giveBack(request);
  }
}

/** Whether every page was mapped; then every one is to be unmapped. */
function allMapped(batch: TransferBatch, pages: number): boolean {
  const { ops } = batch;
  for (let i = 0; i < pages; i++) if (ops[i]!.status !== MAP_OKAY) return false;
  batch.unmaps.count = pages;
  return true;
}

function sectorOf(batch: TransferBatch, index: number): number {
  const at = index << SHIFT;
  return (batch.words[at | ROW_SECTOR_HI]! >>> 0) * 0x1_0000_0000 + (batch.words[at | ROW_SECTOR_LO]! >>> 0);
}

/** Takes what left the batch out of its unmap operations. */
function closeUp(batch: TransferBatch, count: number): void {
  const { words, unmaps, ops } = batch;
  if (unmaps.count === 0) return;
  let left = 0;
  for (let i = 0; i < count; i++) {
    const at = i << SHIFT;
    if (words[at | KIND] === GONE) continue;
    const first = words[at | FIRST_PAGE]!;
    for (let k = first; k < first + (words[at | KIND]! >>> SEGMENTS_SHIFT); k++) {
      const op = ops[k]!;
      ops[k] = ops[left]!;
      ops[left] = op;
      left++;
    }
  }
  unmaps.count = left;
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
