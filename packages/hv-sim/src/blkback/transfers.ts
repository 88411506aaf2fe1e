import type { EventBus } from '@paravirt/event-bus';
import { type BackRing, BLKIF_OP, BLKIF_RSP, GNTST } from '@paravirt/xen-abi';
import type { Disk } from '../disks/disk.ts';
import { type DiskIo, SECTOR as SECTOR_BYTES } from './disk-io.ts';
import type { BlkbackEvents } from './events.ts';
import { type QueueMappings, REFUSED, RETRYING } from './mapping.ts';
import type { PersistentGrants } from './persistent-grants.ts';
import type { QueueFacts } from './queue-facts.ts';
import type { QueueSetup } from './queue-setup.ts';
import { type BackRequest, DONE } from './request.ts';
import { BATCH_PAGES, BATCH_REQUESTS, type BatchOwner, ROW, type TransferBatch, type TransferBatches } from './transfer-batch.ts';
import { TransferIntake } from './transfer-intake.ts';
import type { BlkbackCounters, GrantMapper, MappedMemory } from './types.ts';
import type { Bounds } from './validation.ts';

// Plain constants of this module: an imported one is loaded at each use.
const { READ } = BLKIF_OP;
const { OKAY } = BLKIF_RSP;
const { okay: MAP_OKAY } = GNTST;
const BYTES = SECTOR_BYTES;
const {
  shift: SHIFT,
  idHi: ID_HI,
  kind: KIND,
  firstPage: FIRST_PAGE,
  sectors: SECTORS,
  sectorLo: ROW_SECTOR_LO,
  sectorHi: ROW_SECTOR_HI,
  oneMask: ONE_MASK,
  one: ONE,
  operationMask: OPERATION_MASK,
  segmentsShift: SEGMENTS_SHIFT,
  gone: GONE,
} = ROW;

/** The queue that transfers belong to. */
export interface TransferOwner {
  /** In a turn answers are written at once; outside one they wait for the next. */
  readonly inTurn: boolean;
  /** The connection ends, or the domain did: nothing more is begun. */
  readonly over: boolean;
  /** A record for a request that cannot stay in its batch. */
  acquire(): BackRequest;
  /** A record that was not needed after all. */
  giveBack(request: BackRequest): void;
  /** A request of a batch in which not everything could be mapped. */
  dataMapped(request: BackRequest, outcome: number): void;
  /** The same, outside a turn. */
  mappedLater(request: BackRequest, outcome: number): void;
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
  private readonly grants: GrantMapper;
  private readonly io: DiskIo;
  private readonly disk: Disk;
  private readonly memory: MappedMemory;
  private readonly counters: BlkbackCounters;
  private readonly bus: EventBus<BlkbackEvents>;
  private readonly facts: QueueFacts;
  private readonly resume: (request: BackRequest, result: number) => void;
  private batch: TransferBatch | undefined = undefined;
  /** Unmapped outside a turn, to be answered in the next. */
  private done: TransferBatch[] | undefined = undefined;
  /** Takes the place of a request at the disk; becomes its record where that answers later. */
  private spare: BackRequest | undefined = undefined;
  private readonly intake: TransferIntake;
  private time = 0;

  constructor(setup: QueueSetup, owner: TransferOwner, ring: BackRing, facts: QueueFacts) {
    const { mappings } = setup;
    this.owner = owner;
    this.ring = ring;
    this.batches = setup.batches;
    this.mappings = mappings;
    this.table = mappings.persistent;
    this.grants = mappings.grants;
    this.io = setup.io;
    this.disk = setup.disk;
    this.memory = setup.memory;
    this.counters = setup.counters;
    this.bus = setup.bus;
    this.facts = facts;
    this.intake = new TransferIntake(setup, ring);
    this.resume = (request, result) => owner.mappedLater(request, result);
  }

  /** A turn begins. */
  begin(now: number): void {
    this.time = now;
    if (this.done !== undefined) this.answerDone(this.done);
    this.batch = this.batches.take(this);
  }

  private answerDone(done: TransferBatch[]): void {
    this.done = undefined;
    for (const batch of done) {
      this.answer(batch);
      this.batches.give(batch);
    }
  }

  /** The turn ends. */
  end(): void {
    this.run();
    this.batches.give(this.batch!);
    this.batch = undefined;
  }

  /** @see TransferIntake.takeOnes */
  takeOnes(current: BackRequest, bounds: Bounds, most: number): number {
    const { batch } = this;
    if (batch!.count === BATCH_REQUESTS || batch!.pages === BATCH_PAGES) this.run();
    return this.intake.takeOnes(this.batch!, current, bounds, most, this.time);
  }

  /** Requests that the last `takeOnes` took into the batch. */
  get taken(): number {
    return this.intake.taken;
  }

  /** @see TransferIntake.add */
  add(request: BackRequest, bounds: Bounds): boolean {
    const { count, pages } = this.batch!;
    if (count === BATCH_REQUESTS || pages + request.nrSegments > BATCH_PAGES) this.run();
    return this.intake.add(this.batch!, request, bounds, this.time);
  }

  /** Carries out what was taken. */
  run(): void {
    const batch = this.batch!;
    const { count, pages } = batch;
    if (count === 0) return;
    const { table, mappings } = this;
    batch.pages = 0;
    if (this.owner.over) {
      this.refuse(batch, count, pages);
      return;
    }
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
    // Where a page that is gone ends this, what it had may be the record of a request by then.
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
        let answer = 0;
        try {
          answer =
            kind === ONE
              ? disk.read(located, start, sector * BYTES, bytes, waiter)
              : disk.write(located, start, sector * BYTES, bytes, waiter, false);
        } catch (error) {
          answer = io.threw(waiter, error);
        }
        if (answer === 0) continue;
        io.unanswered(waiter, answer);
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
    // Bytes soon are more than a small integer, so that each of the two is a number in memory of its own.
    if (reads > 0) {
      counters.reads += reads;
      counters.bytesRead += sectorsRead * BYTES;
    }
    if (reads < count) {
      counters.writes += count - reads;
      counters.bytesWritten += sectorsWritten * BYTES;
    }
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

  /** The connection ended since the batch was taken: none of it is begun. */
  private refuse(batch: TransferBatch, count: number, pages: number): void {
    const { owner } = this;
    const alone: BackRequest[] = [];
    if (this.table === undefined) for (let i = 0; i < pages; i++) this.mappings.pool.give(batch.ops[i]!.vfn);
    batch.unmaps.count = 0;
    batch.count = 0;
    for (let i = 0; i < count; i++) alone.push(this.fill(owner.acquire(), batch, i));
    for (const request of alone) owner.dataMapped(request, REFUSED);
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
      this.done ??= [];
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
      // Who was told of one may have ended this very domain: the ring is somebody else's memory then.
      if (told && this.facts.gone) continue;
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
