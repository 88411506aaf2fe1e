import type { EventBus } from '@paravirt/event-bus';
import {
  BackRing,
  BLKIF_DISCARD_SECURE,
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP,
  BLKIF_RSP,
  readIndirectSegments,
} from '@paravirt/xen-abi';
import type { SchedulerLike } from 'rxjs';
import { DISK_ERRNO, type Disk } from '../disks/disk.ts';
import { countRequest } from './counters.ts';
import { type DiskIo, SECTOR } from './disk-io.ts';
import type { BlkbackEvents } from './events.ts';
import { MAPPED, type QueueMappings, REFUSED, RETRYING } from './mapping.ts';
import { Parked } from './parked.ts';
import { PersistentCare } from './persistent-care.ts';
import { Publisher } from './publisher.ts';
import { QueueFacts } from './queue-facts.ts';
import type { QueueSetup } from './queue-setup.ts';
import { BackRequest, DATA, DISCARDING, DONE, PREFLUSH, RequestList, type RequestOwner } from './request.ts';
import { NO_MORE, ONE_IN_CURRENT, ONE_IN_PIECES } from './transfer-intake.ts';
import { type TransferOwner, Transfers } from './transfers.ts';
import type { BlkbackCounters } from './types.ts';
import { type Bounds, discardFault, segmentCountFault, transferFault } from './validation.ts';

const { READ, WRITE, FLUSH_DISKCACHE: FLUSH, WRITE_BARRIER: BARRIER, DISCARD, INDIRECT } = BLKIF_OP;
const { OKAY, ERROR, EOPNOTSUPP } = BLKIF_RSP;

// Plain constants of this module: an imported one is loaded at each use.
const SEGMENTS_MAX = BLKIF_MAX_SEGMENTS_PER_REQUEST;

/** Why a request is refused that was not begun. */
const ENDING = 'the connection ends';

/** Segments of the longest indirect request. */
const INDIRECT_MAX = 256;

/** Looks at the producer index a turn: a frontend that moves it under our eyes gets its next turn after the others. */
const LOOKS_MAX = 16;

/**
 * One ring: takes requests, checks a copy of each, carries them out and answers. A turn is bounded by its cost; answers made during
 * a turn are published together at its end.
 */
export class BackQueue implements RequestOwner, TransferOwner {
  // What every turn uses stands first and together: with many queues it comes from far memory every time.
  readonly counters: BlkbackCounters;
  readonly ring: BackRing;
  /** Reads and writes taken and not begun stand here. */
  private readonly transfers: Transfers;
  private readonly publisher: Publisher;
  private readonly disk: Disk;
  private readonly bounds: Bounds;
  inTurn = false;
  private cost = 0;
  private time = 0;
  /** Requests of `finished` wait to be answered. */
  private late = false;
  /** Stopped for good: the frontend's index was impossible. */
  halted = false;
  /** No new requests: the connection ends. */
  private stopped = false;
  /** Requests taken and not answered. */
  inFlight = 0;
  /** Taken, but for lack of pages or for a barrier not begun. The ring waits behind them. */
  private readonly parked: Parked;
  /** A barrier is under way: the ring waits. */
  private fenced = false;
  /** Where the next request is read to: most are over before the one after them is. */
  private current: BackRequest = new BackRequest(this);
  /** Turns in a row in which there was nothing to do. */
  idleTurns = 0;
  /** A turn was due inside this one. */
  private again = false;
  /** Whether there are persistent grants to be looked after. */
  private readonly persistent: boolean;
  private readonly scheduler: SchedulerLike;
  readonly setup: QueueSetup;
  private readonly mappings: QueueMappings;
  private readonly io: DiskIo;
  private readonly bus: EventBus<BlkbackEvents>;
  private readonly facts: QueueFacts;
  private readonly care: PersistentCare;
  /** In the list of those who want a turn. */
  queued = false;
  nextReady: BackQueue | undefined = undefined;
  private free: BackRequest | undefined = undefined;
  /** Answered, waiting for the turn that publishes it. */
  private readonly finished: RequestList = new RequestList();
  private readonly resumeData = (request: BackRequest, result: number): void => this.mappedLater(request, result);
  private readonly resumeIndirect = (request: BackRequest, result: number): void => {
    this.indirectMapped(request, result);
    this.raise();
  };

  constructor(setup: QueueSetup) {
    this.setup = setup;
    this.mappings = setup.mappings;
    this.parked = new Parked(setup.mappings.pool);
    this.disk = setup.disk;
    this.io = setup.io;
    this.persistent = setup.mappings.persistent !== undefined;
    this.scheduler = setup.scheduler;
    this.counters = setup.counters;
    this.bus = setup.bus;
    this.facts = new QueueFacts(setup);
    this.care = new PersistentCare(setup, this.facts, this);
    this.bounds = { sectors: 0, mask: setup.disk.sectorBytes / SECTOR - 1, readonly: setup.readonly };
    this.ring = new BackRing(setup.shared);
    this.ring.attach(setup.rspProd);
    this.publisher = new Publisher(setup, this.ring, this.facts);
    this.transfers = new Transfers(setup, this, this.ring, this.facts);
  }

  /**
   * Does up to `budget` of work (a request costs 1 and each segment 1) and publishes what is answered.
   * @returns the cost; more than `budget` where the last request was larger than what was left. 0: there was nothing to do.
   */
  turn(budget: number): number {
    // A disk that waits inside its call lets the machine run on, and this ring's doorbell with it.
    if (this.inTurn) {
      this.again = true;
      return 1;
    }
    this.inTurn = true;
    this.cost = 0;
    try {
      this.work(budget);
    } finally {
      this.inTurn = false;
      if (this.again) {
        this.again = false;
        this.setup.ready(this);
      }
    }
    this.idleTurns = this.cost > 0 || this.inFlight > 0 ? 0 : this.idleTurns + 1;
    if (this.publisher.publish()) this.idleTurns = 0;
    if (this.persistent) this.care.tend(this.stopped);
    if (this.inFlight === 0 && this.stopped) this.setup.idle();
    const { count } = this.parked;
    // Nobody else's end gives what is parked its turn.
    if (count > 0 && (this.stopped || count === this.inFlight)) this.setup.ready(this);
    this.raise();
    return this.cost;
  }

  private work(budget: number): void {
    this.time = this.scheduler.now();
    this.bounds.sectors = Math.floor(this.disk.sizeBytes / SECTOR);
    this.transfers.begin(this.time);
    if (this.late || this.stopped) this.answerFinished();
    if (this.parked.count > 0) this.unpark(budget);
    if (!this.halted && !this.over) this.consume(budget);
    this.transfers.end();
  }

  get over(): boolean {
    return this.stopped || this.facts.gone;
  }

  /** Takes no more requests; `idle` is called when none is under way. */
  stop(): void {
    this.stopped = true;
    this.care.stop();
    if (this.parked.count > 0 && !this.inTurn) this.setup.ready(this);
  }

  private consume(budget: number): void {
    const ring = this.ring;
    const { shared } = ring;
    for (let look = 0; look < LOOKS_MAX; look++) {
      // The producer index is fetched once: what is checked is what is used.
      const prod = shared.reqProd;
      if (ring.prodOverflow(prod)) {
        this.halt(prod);
        return;
      }
      while (ring.reqCons !== prod) {
        if (this.parked.count > 0 || this.fenced || this.over) return;
        if (this.cost >= budget) {
          this.setup.ready(this);
          return;
        }
        const room = ring.entries - ((ring.reqCons - ring.rspProdPvt) >>> 0);
        if (room <= 0) return;
        this.take(Math.min((prod - ring.reqCons) >>> 0, room, Math.ceil((budget - this.cost) / 2)));
      }
      if (this.parked.count > 0 || this.fenced || this.over) return;
      if (ring.finalCheck() === 0) return;
    }
    // Looked often and took nothing: no honest frontend's index does that, and it gets no further turn before it rings.
    if (this.cost > 0) this.setup.ready(this);
  }

  /** Linux halts the ring for good and says so once; the frontend may close and connect again. */
  private halt(reqProd: number): void {
    this.halted = true;
    this.counters.errors++;
    this.facts.halted(reqProd, this.ring.rspProdPvt, this.ring.entries);
  }

  /** Takes up to `most` requests, each of which costs at least 2 if all is well; the first that is not short and good ends it. */
  private take(most: number): void {
    const request = this.current;
    const { transfers, counters } = this;
    const next = transfers.takeOnes(request, this.bounds, most);
    const { taken } = transfers;
    this.cost += taken * 2;
    this.inFlight += taken;
    counters.requests += taken;
    if (next === NO_MORE) return;
    if (next >= 0) this.ring.getRequestBehind(next, request);
    else if (next === ONE_IN_PIECES) this.ring.getRequest(request);
    this.cost++;
    this.inFlight++;
    counters.requests++;
    if (next !== ONE_IN_CURRENT && transfers.add(request, this.bounds)) {
      this.cost += request.segments;
      return;
    }
    // What came before it goes first.
    transfers.run();
    this.current = this.acquire();
    if (this.over) this.refuse(request, ERROR, ENDING);
    else this.dispatch(request);
  }

  private dispatch(request: BackRequest): void {
    const { operation } = request;
    switch (operation) {
      case READ:
      case WRITE:
        this.direct(request);
        return;
      case FLUSH:
        if (!this.setup.flush) break;
        this.direct(request);
        return;
      case BARRIER:
        if (!this.setup.barrier) break;
        this.direct(request);
        return;
      case INDIRECT:
        if (!this.setup.indirectMax) break;
        this.indirect(request);
        return;
      case DISCARD:
        if (!this.setup.discard || !this.disk.discards) break;
        this.discard(request);
        return;
    }
    this.refuse(request, EOPNOTSUPP, 'not offered');
  }

  private direct(request: BackRequest): void {
    request.segments = request.nrSegments;
    const fault = segmentCountFault(request, SEGMENTS_MAX);
    if (fault === '') this.check(request);
    else this.refuse(request, ERROR, fault);
  }

  private indirect(request: BackRequest): void {
    const operation = request.indirectOp;
    request.operation = operation;
    this.counters.indirect++;
    const inner = operation === READ || operation === WRITE;
    const fault = inner ? segmentCountFault(request, this.setup.indirectMax) : 'bad inner operation';
    if (fault !== '') {
      this.refuse(request, ERROR, fault);
      return;
    }
    request.ensure(INDIRECT_MAX);
    request.segments = request.nrSegments;
    // 256 segments fit into one page of 512.
    request.indirectGref = request.indirectGrefs[0]!;
    request.indirectParsed = false;
    this.start(request);
  }

  /** Maps the page of segments for as long as it takes to copy them. */
  private mapIndirect(request: BackRequest): void {
    request.grefs[0] = request.indirectGref;
    const result = this.mappings.map(request, request.grefs, 1, true, this.time, this.resumeIndirect);
    if (result !== RETRYING) this.indirectMapped(request, result);
  }

  private indirectMapped(request: BackRequest, result: number): void {
    const { mappings } = this;
    const { memory, page } = this.setup;
    if (result === REFUSED) {
      this.refuse(request, ERROR, 'the page of segments cannot be mapped');
      return;
    }
    memory.locate(request.vfns[0]!, false, page);
    readIndirectSegments(page, request.segments, request);
    mappings.releasePersistent(request);
    mappings.unmapNow(request);
    request.indirectParsed = true;
    this.check(request);
  }

  private check(request: BackRequest): void {
    const fault = transferFault(request, this.bounds);
    if (fault === '') this.start(request);
    else this.refuse(request, ERROR, fault);
  }

  private discard(request: BackRequest): void {
    const { disk } = this;
    request.segments = 0;
    request.sectors = request.nrSectors;
    const fault = discardFault(request, this.bounds);
    if (fault !== '') {
      this.refuse(request, ERROR, fault);
      return;
    }
    request.secure = disk.secureDiscards && (request.flag & BLKIF_DISCARD_SECURE) !== 0;
    this.accepted(request);
    if (request.sectors === 0) {
      this.finish(request);
      return;
    }
    // A long discard is more work than a short one: a GiB counts as much as 128 segments.
    this.cost += Math.floor(request.sectors / 16_384);
    request.stage = DISCARDING;
    this.advance(request);
  }

  /** Begins a checked request, or parks it: a barrier waits until it is alone, every request until there are pages for it. */
  private start(request: BackRequest): void {
    const { parked } = this;
    if (parked.mayStart(request, this.inFlight)) this.begin(request);
    else parked.push(request);
  }

  private begin(request: BackRequest): void {
    const { operation, segments, grefs } = request;
    if (!this.parked.hasPages(request)) this.refuse(request, ERROR, 'no addresses to map at');
    else if (!request.indirectParsed) this.mapIndirect(request);
    else {
      if (operation === BARRIER) this.fenced = true;
      this.cost += segments;
      const readonly = operation !== READ;
      const result = segments === 0 ? MAPPED : this.mappings.map(request, grefs, segments, readonly, this.time, this.resumeData);
      if (result !== RETRYING) this.dataMapped(request, result);
    }
  }

  /** Begins what is parked and may begin, in its order. */
  private unpark(budget: number): void {
    const { parked } = this;
    while (!this.over) {
      if (this.cost >= budget) {
        this.setup.ready(this);
        return;
      }
      const request = parked.next(this.inFlight);
      if (request === undefined) return;
      this.begin(request);
    }
  }

  dataMapped(request: BackRequest, result: number): void {
    if (result === REFUSED) {
      this.refuse(request, ERROR, 'a page cannot be mapped');
      return;
    }
    this.accepted(request);
    const flushes = request.operation === FLUSH || request.operation === BARRIER;
    request.stage = flushes ? PREFLUSH : DATA;
    this.advance(request);
  }

  mappedLater(request: BackRequest, result: number): void {
    this.dataMapped(request, result);
    this.raise();
  }

  /** Throws on what the disk threw; in a turn, at its end. */
  private raise(): void {
    if (!this.inTurn) this.io.raise();
  }

  /** Counts a good request and tells of it. */
  private accepted(request: BackRequest): void {
    countRequest(this.counters, request);
    if (this.bus.observed('blkback:requested')) this.facts.requested(request);
  }

  /** Carries the request out, stage by stage, until it is done or a disk answers later. */
  private advance(request: BackRequest): void {
    const { io } = this;
    while (request.error === 0 && request.stage !== DONE) {
      io.carryOut(request);
      if (request.waiting > 0) return;
    }
    this.finish(request);
  }

  diskFailed(request: BackRequest, status: number): void {
    this.io.failed(request, status);
  }

  diskDone(request: BackRequest): void {
    if (!this.setup.alive()) return;
    this.advance(request);
    this.raise();
  }

  /** The disk is done with the request: its status is known, its pages go. */
  finish(request: BackRequest): void {
    const error = request.error;
    if (error !== 0) {
      if (error === -DISK_ERRNO.EOPNOTSUPP && request.operation !== READ && request.operation !== WRITE) {
        request.status = EOPNOTSUPP;
        if (request.operation === FLUSH) this.setup.unsupported(false);
        else if (request.operation === BARRIER) this.setup.unsupported(true);
      } else request.status = ERROR;
      request.reason = `the disk answered ${error}`;
    }
    this.release(request);
  }

  private refuse(request: BackRequest, status: number, reason: string): void {
    request.status = status;
    request.reason = reason;
    this.release(request);
  }

  /** Gives up the request's pages; the answer follows when they are unmapped, never before. */
  private release(request: BackRequest): void {
    const { mappings } = this;
    if (request.held > 0) mappings.releasePersistent(request);
    if (request.mapped.count === 0) this.answer(request);
    else mappings.unmap(request.mapped);
  }

  unmapDone(request: BackRequest, result: number): void {
    this.mappings.reclaim(request.mapped, result);
    this.answer(request);
  }

  /** Writes the answer, or leaves that to the next turn, which publishes it. */
  private answer(request: BackRequest): void {
    if (this.inTurn) this.respond(request);
    else {
      this.finished.push(request);
      this.late = true;
      this.setup.ready(this);
    }
  }

  private answerFinished(): void {
    this.late = false;
    for (let request = this.finished.shift(); request !== undefined; request = this.finished.shift()) this.respond(request);
    if (!this.stopped) return;
    const { parked } = this;
    for (let request = parked.shift(); request !== undefined; request = parked.shift()) {
      this.refuse(request, ERROR, ENDING);
    }
  }

  private respond(request: BackRequest): void {
    const { idLo, idHi, operation, status } = request;
    if (!this.facts.gone) this.ring.putResponse(idLo, idHi, operation, status);
    if (operation === BARRIER) this.fenced = false;
    this.inFlight--;
    if (this.bus.observed('blkback:completed')) this.facts.completed(request);
    if (status !== OKAY) {
      if (status === ERROR) this.counters.errors++;
      else this.counters.unsupported++;
      request.forgive();
    }
    this.giveBack(request);
  }

  acquire(): BackRequest {
    const request = this.free ?? new BackRequest(this);
    this.free = request.next;
    return request;
  }

  giveBack(request: BackRequest): void {
    if (request.forsaken) return;
    request.next = this.free;
    this.free = request;
  }

  answered(count: number): void {
    this.inFlight -= count;
  }

  wake(): void {
    this.setup.ready(this);
  }
}
