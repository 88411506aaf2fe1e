import type { EventBus, EventPorts } from '@paravirt/event-bus';
import type { Port } from '@paravirt/event-bus/contract';
import { BLKIF_OP, BlockResponse, type FrontRing } from '@paravirt/xen-abi';
import { ERRNO } from './errors.ts';
import type { BlkfrontEvents } from './events.ts';
import type { Features } from './features.ts';
import type { GrefPool } from './gref-pool.ts';
import { Issuer } from './issuer.ts';
import { DRY, PageRequests, TAKEN } from './page-requests.ts';
import { type Carried, type QueueParts, touches } from './queue-parts.ts';
import { checkRequest } from './request-check.ts';
import type { SegmentWriter } from './segments.ts';
import { type Shadow, type Shadows, SLOT } from './shadows.ts';
import { type OnDone, OP, type QueueFigures } from './types.ts';

// Of this module alone: what is imported is loaded from its module at every use.
const { FREE, ON_RING, STALLED } = SLOT;
const PAGE_SECTORS = 8;

/**
 * One ring and the requests on it: the hot path of the driver. Nothing here allocates per request. A response is copied out of
 * shared memory once and believed only as far as the driver's own record goes.
 */
export class Ring {
  // What every upcall and every short request uses comes first: with many rings it is not in the nearest caches.
  private readonly ring: FrontRing;
  private readonly pages: PageRequests;
  readonly figures: QueueFigures;
  private readonly answer: BlockResponse = new BlockResponse();
  private readonly stalled: Shadow[] = [];
  /** Flushes of a disk to which nothing is written: over at the next look at the ring, without a request. null: none. */
  private idle: Shadow[] | null = null;
  private published = 0;
  private plugs = 0;
  private polling = false;
  private wasRefused = false;
  private stopped = false;
  /** 0: requests may be put on the ring. Otherwise the errno that `submit` answers. */
  refusal: number = ERRNO.EBUSY;
  /** Upcalls in a row that found nothing. */
  idleUpcalls = 0;
  private readonly refs: GrefPool;
  private readonly persistent: boolean;
  private readonly events: EventPorts;
  readonly port: Port;
  readonly index: number;
  readonly shadows: Shadows;
  private readonly parts: QueueParts;
  private readonly segments: SegmentWriter;
  private readonly features: Features;
  private readonly bus: EventBus<BlkfrontEvents> | undefined;
  private readonly tap: QueueParts['tap'];
  private readonly issuer: Issuer;

  constructor(parts: QueueParts) {
    this.parts = parts;
    this.index = parts.index;
    this.port = parts.port;
    this.ring = parts.ring;
    this.shadows = parts.shadows;
    this.segments = parts.segments;
    this.features = parts.features;
    this.figures = parts.figures;
    this.bus = parts.bus;
    this.tap = parts.tap;
    this.refs = parts.refs;
    this.persistent = parts.persistent;
    this.events = parts.events;
    this.pages = new PageRequests(parts);
    this.issuer = new Issuer(parts);
  }

  /** Requests taken and not completed. */
  get busy(): number {
    return this.shadows.busy;
  }

  /** Whether a request could be taken now, as far as slots go. */
  get room(): boolean {
    return this.refusal === 0 && this.shadows.busy < this.shadows.slots;
  }

  /** Whether something may have to be seen to after answers: references set aside, or pages that stay granted. */
  get unsettled(): boolean {
    return this.refs.quarantined > 0 || this.persistent;
  }

  /** Answers that wait to be taken. */
  get unconsumed(): number {
    return Math.min(this.ring.unconsumed(), this.ring.entries);
  }

  /**
   * Takes a request. `gfns` or `bytes` is the buffer, `start` bytes into it, `count` sectors of 512 bytes.
   * @returns 0, or a negative errno with nothing done: -EBUSY (no slot, no reference, or not connected now: `onRoom` tells when to
   * try again), -ENODEV, -EINVAL, -EROFS, -EOPNOTSUPP.
   */
  submit(
    op: number,
    sector: number,
    gfns: ArrayLike<number> | null,
    bytes: Uint8Array | null,
    start: number,
    count: number,
    cookie: number,
    sink: OnDone,
  ): number {
    if (gfns !== null && gfns !== undefined && bytes === null && count <= PAGE_SECTORS && this.refusal === 0 && this.stalled.length === 0) {
      const taken = this.pages.submit(op, sector, gfns, start, count, cookie, sink);
      if (taken === TAKEN) {
        if (this.plugs === 0) this.push();
        return 0;
      }
      if (taken === DRY) return this.dry('references');
    }
    return this.submitAny(op, sector, gfns, bytes, start, count, cookie, sink);
  }

  private submitAny(
    op: number,
    sector: number,
    gfns: ArrayLike<number> | null,
    bytes: Uint8Array | null,
    start: number,
    count: number,
    cookie: number,
    sink: OnDone,
  ): number {
    if (this.refusal !== 0) return this.refused(this.refusal);
    const status = checkRequest(this.features, op, sector, gfns, bytes, start, count);
    if (status !== 0) return status;
    if (gfns !== null && op <= OP.WRITE_FUA && !this.issuer.reaches(gfns, start, count)) return ERRNO.EINVAL;
    if (this.stalled.length > 0) return this.refused(ERRNO.EBUSY);
    const r = this.shadows.take();
    if (r === null) return this.refused(ERRNO.EBUSY);
    r.op = op;
    r.sector = sector;
    r.count = count;
    r.start = start;
    r.cookie = cookie;
    r.gfns = gfns;
    r.bytes = bytes;
    r.sink = sink;
    if (op === OP.FLUSH && this.features.readonly) return this.putAside(r);
    if (!this.issuer.issue(r)) {
      this.shadows.give(r);
      return this.segments.takeAbsent() ? ERRNO.EINVAL : this.dry(this.segments.shortOf);
    }
    if (this.plugs === 0) this.push();
    return 0;
  }

  /** Takes a flush that asks the backend for nothing. */
  private putAside(r: Shadow): 0 {
    r.state = STALLED;
    this.idle ??= [];
    this.idle.push(r);
    this.parts.onBacklog(this.index);
    return 0;
  }

  /** Completes such flushes, no more than stand there now: a completer may flush again. @returns how many. */
  private finishIdle(idle: Shadow[]): number {
    let handled = 0;
    for (let left = idle.length; left > 0 && !this.stopped; left--, handled++) this.finish(idle.shift()!, 0);
    if (idle.length === 0) this.idle = null;
    return handled;
  }

  /** Refuses a request that found no reference or page. */
  private dry(what: 'references' | 'pages'): number {
    this.parts.onDry(this.index, what);
    return this.refused(ERRNO.EBUSY);
  }

  /** Holds requests back until `unplug`, so that a batch costs one doorbell. */
  plug(): void {
    this.plugs++;
  }

  unplug(): void {
    // The pages of a ring that has stopped are the guest's again.
    if (--this.plugs === 0 && !this.stopped) this.push();
  }

  /** Takes a request from a dead ring; it goes on where it stood. False when there is no slot. */
  adopt(carried: Carried): boolean {
    const r = this.shadows.take();
    if (r === null) return false;
    r.op = carried.op;
    r.sector = carried.sector;
    r.count = carried.count;
    r.done = carried.done;
    r.start = carried.start;
    r.cookie = carried.cookie;
    r.gfns = carried.gfns;
    r.bytes = carried.bytes;
    r.sink = carried.sink;
    r.follow = carried.follow === 2 ? 1 : carried.follow;
    this.figures.reissued++;
    // What the new backend cannot do any more is settled as if it had said so.
    const status = checkRequest(this.features, carried.op, carried.sector, carried.gfns, carried.bytes, carried.start, carried.count);
    if (status !== 0) this.finish(r, carried.op === OP.FLUSH && status === ERRNO.EOPNOTSUPP ? 0 : status);
    else if (!this.proceed(r)) this.stall(r);
    return true;
  }

  /** Handles every answer there is. Not to be called from inside itself; then it does nothing. @returns answers handled. */
  poll(): number {
    if (this.polling || this.stopped) return 0;
    this.polling = true;
    this.plugs++;
    let handled = 0;
    let whole = false;
    const most = this.ring.entries * 2;
    try {
      do {
        const waiting = this.ring.unconsumed();
        if (waiting > (this.published - this.ring.rspCons) >>> 0) {
          this.breakDown('the response producer index is beyond what was asked');
          break;
        }
        for (let left = waiting; left > 0 && !this.stopped; ) {
          const done = this.pages.completeAll(left);
          handled += done;
          left -= done;
          if (left === 0 || this.stopped) break;
          this.ring.getResponse(this.answer);
          handled++;
          left--;
          if (!this.complete()) break;
        }
        if (handled >= most && !this.stopped) {
          this.parts.onBacklog(this.index);
          break;
        }
      } while (!this.stopped && this.ring.finalCheck() > 0);
      if (!this.stopped && this.stalled.length > 0) this.retryStalled();
      if (this.idle !== null && !this.stopped) handled += this.finishIdle(this.idle);
      whole = true;
    } finally {
      // A completer that threw must not keep the others from their answers.
      if (!whole && !this.stopped) this.parts.onBacklog(this.index);
      this.polling = false;
      this.plugs--;
      if (this.plugs === 0 && !this.stopped) this.push();
    }
    if (handled > 0) this.tellRoom();
    return handled;
  }

  /** Tries again what waits for references. */
  retry(): void {
    if (this.stopped) return;
    if (this.stalled.length > 0) {
      this.plug();
      try {
        this.retryStalled();
      } finally {
        this.unplug();
      }
    }
    this.tellRoom();
  }

  /** Fails what waits for references or pages now. A completer that throws does not keep the others from their answers. */
  failStalled(status: number): void {
    const errors: unknown[] = [];
    // One by one: who is told may end the device, and what is left is carried then.
    for (let left = this.stalled.length; left > 0 && this.stalled.length > 0; left--) {
      try {
        this.finish(this.stalled.shift()!, status);
      } catch (error) {
        errors.push(error);
      }
    }
    this.tellRoom();
    if (errors.length > 0) throw errors[0];
  }

  /** Ends the ring: nothing is read from it any more, and every reference of a request is closed or set aside. */
  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    for (const { id } of this.shadows.all) {
      const r = this.pages.at(id);
      if (r.state === ON_RING) this.segments.close(r, false);
    }
    this.segments.destroy();
  }

  /** Whether the data of a request taken and not completed lies in one of `frames`. O(slots). */
  uses(frames: ReadonlySet<number>): boolean {
    return this.shadows.all.some(({ id }) => {
      const r = this.pages.at(id);
      return r.state !== FREE && touches(r, frames);
    });
  }

  /** What `stop` left: every request not completed, in the order of issue. */
  carry(): Carried[] {
    const left = this.shadows.outstanding();
    const out: Carried[] = left.map((r) => ({
      queue: this.index,
      id: r.id,
      op: r.op,
      sector: r.sector,
      count: r.count,
      done: r.done,
      follow: r.follow,
      gfns: r.gfns,
      bytes: r.bytes,
      start: r.start,
      cookie: r.cookie,
      sink: r.sink,
    }));
    for (const r of left) this.shadows.give(r);
    this.stalled.length = 0;
    this.idle = null;
    return out;
  }

  private refused(status: number): number {
    this.wasRefused = true;
    return status;
  }

  private tellRoom(): void {
    if (!this.wasRefused || !this.room || this.stalled.length > 0) return;
    this.wasRefused = false;
    this.parts.onRoom(this.index);
  }

  /** Checks the answer just copied and completes its request. False when the device is over. */
  private complete(): boolean {
    const { answer, shadows } = this;
    const id = answer.idLo;
    const r = id < shadows.slots ? this.pages.at(id) : null;
    if (r === null || r.state !== ON_RING || answer.idHi !== r.generation) {
      return this.breakDown(`a response names request ${answer.idHi}:${answer.idLo}, which is not under way`);
    }
    if (answer.operation !== r.wireOp) return this.breakDown(`a response to operation ${r.wireOp} says ${answer.operation}`);
    this.figures.responses++;
    return this.completeAny(r, answer.status);
  }

  private completeAny(r: Shadow, status: number): boolean {
    const { wireOp } = r;
    const whole = this.segments.close(r, status === 0 && wireOp === BLKIF_OP.READ);
    // From here the request is the driver's alone; a second answer to it is one to nothing.
    r.state = STALLED;
    if (!whole) return this.finish(r, ERRNO.EIO);
    if (status === 0) {
      if (r.follow === 2 || r.op === OP.FLUSH) return this.finish(r, 0);
      r.done += r.chunk;
      if (r.done < r.count || (r.follow === 1 && (this.features.flush || this.features.barrier))) {
        if (!this.proceed(r)) this.stall(r);
        return true;
      }
      return this.finish(r, 0);
    }
    if (status === -2) return this.unsupported(r, wireOp);
    return this.finish(r, ERRNO.EIO);
  }

  /** The backend does not know an operation that it offered: it is not asked again, and the request gets what else there is. */
  private unsupported(r: Shadow, wireOp: number): boolean {
    const f = this.features;
    const { op } = r;
    if (wireOp === BLKIF_OP.FLUSH_DISKCACHE) f.flush = false;
    else if (wireOp === BLKIF_OP.WRITE_BARRIER) f.barrier = false;
    else if (wireOp === BLKIF_OP.DISCARD) {
      if (op === OP.DISCARD_SECURE) f.secure = false;
      else f.discard = false;
      if (op !== OP.WRITE_ZEROES) return this.finish(r, ERRNO.EOPNOTSUPP);
    } else return this.finish(r, ERRNO.EOPNOTSUPP);
    const empty = op === OP.FLUSH || r.follow === 2;
    // A device that can neither flush nor drain has no cache to lose: that is success, as Linux has it.
    if (empty && !f.flush && !f.barrier) return this.finish(r, 0);
    if (!this.proceed(r)) this.stall(r);
    return true;
  }

  /** Issues what comes next of a request: its next part, or the flush after its last. False when it has to wait for that. */
  private proceed(r: Shadow): boolean {
    if (r.op === OP.FLUSH && this.features.readonly) return this.finish(r, 0);
    if (r.follow === 1 && r.done >= r.count) {
      if (!this.features.flush && !this.features.barrier) return this.finish(r, 0);
      r.follow = 2;
    }
    if (this.issuer.issue(r)) return true;
    // The request is the driver's already, so it ends here.
    return this.segments.takeAbsent() && this.finish(r, ERRNO.EIO);
  }

  private finish(r: Shadow, status: number): true {
    const { sink, cookie } = r;
    if (this.watched) this.finishWatched(r, status);
    else this.shadows.give(r);
    sink(cookie, status);
    return true;
  }

  private get watched(): boolean {
    return this.tap.completed !== null || this.bus?.observed('blkfront:completed') === true;
  }

  private finishWatched(r: Shadow, status: number): void {
    const { id, op, sector, count: sectors } = r;
    this.shadows.give(r);
    this.tap.completed?.({ queue: this.index, op, sector, sectors, status });
    if (this.bus?.observed('blkfront:completed')) {
      this.bus.emit('blkfront:completed', { path: this.parts.path, queue: this.index, id, op, status });
    }
  }

  private stall(r: Shadow): void {
    r.state = STALLED;
    this.stalled.push(r);
    this.parts.onDry(this.index, this.segments.shortOf);
  }

  private retryStalled(): void {
    // Off the list first: one that is over by now is told, and whoever hears of it may throw.
    for (let r = this.stalled.shift(); r !== undefined; r = this.stalled.shift()) {
      if (this.proceed(r)) continue;
      this.stalled.unshift(r);
      this.parts.onDry(this.index, this.segments.shortOf);
      return;
    }
  }

  private push(): void {
    if (this.published === this.ring.reqProdPvt) return;
    this.published = this.ring.reqProdPvt;
    if (!this.ring.push()) return;
    this.figures.doorbells++;
    try {
      this.events.send(this.port);
    } catch {
      // The requests stand on the ring whoever heard of it: a peer that closed its end is seen by its state, not here.
    }
  }

  private breakDown(reason: string): false {
    this.parts.onBroken(`queue ${this.index}: ${reason}`);
    return false;
  }
}
