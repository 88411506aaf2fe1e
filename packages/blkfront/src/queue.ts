import type { EventBus } from '@paravirt/event-bus';
import type { Port } from '@paravirt/event-bus/contract';
import {
  BLKIF_DISCARD_SECURE,
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP,
  BlockRequest,
  BlockResponse,
  type FrontRing,
} from '@paravirt/xen-abi';
import { ERRNO } from './errors.ts';
import type { BlkfrontEvents } from './events.ts';
import type { Features } from './features.ts';
import type { Carried, QueueParts } from './queue-parts.ts';
import type { SegmentWriter } from './segments.ts';
import { MODE, type Shadow, type Shadows, SLOT } from './shadows.ts';
import { type OnDone, OP, type QueueFigures } from './types.ts';

const BYTES_MAX = 0x8000_0000;

/**
 * One ring and the requests on it: the hot path of the driver. Nothing here allocates per request. A response is copied out of
 * shared memory once and believed only as far as the driver's own record goes.
 */
export class Ring {
  readonly index: number;
  readonly port: Port;
  readonly shadows: Shadows;
  readonly figures: QueueFigures;
  /** 0: requests may be put on the ring. Otherwise the errno that `submit` answers. */
  refusal: number = ERRNO.EBUSY;
  /** Whether the answers wait for `poll` to be called by the user rather than by an upcall. */
  private readonly parts: QueueParts;
  private readonly ring: FrontRing;
  private readonly segments: SegmentWriter;
  private readonly features: Features;
  private readonly bus: EventBus<BlkfrontEvents> | undefined;
  private readonly tap: QueueParts['tap'];
  private readonly maxSegments: number;
  private readonly bounceAll: boolean;
  private readonly persistent: boolean;
  private readonly wire: BlockRequest = new BlockRequest();
  private readonly answer: BlockResponse = new BlockResponse();
  private readonly stalled: Shadow[] = [];
  private published = 0;
  private plugs = 0;
  private polling = false;
  private wasRefused = false;
  private stopped = false;

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
    this.maxSegments = parts.maxSegments;
    this.bounceAll = parts.bounceAll;
    this.persistent = parts.persistent;
    this.wire.handle = parts.handle;
  }

  /** Requests taken and not completed. */
  get busy(): number {
    return this.shadows.busy;
  }

  /** Whether a request could be taken now, as far as slots go. */
  get room(): boolean {
    return this.refusal === 0 && this.shadows.busy < this.shadows.slots;
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
    if (this.refusal !== 0) return this.refused(this.refusal);
    const status = this.check(op, sector, gfns, bytes, start, count);
    if (status !== 0) return status;
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
    if (!this.issue(r)) {
      this.shadows.give(r);
      this.parts.onDry(this.index, this.segments.shortOf);
      return this.refused(ERRNO.EBUSY);
    }
    if (this.plugs === 0) this.push();
    return 0;
  }

  /** Holds requests back until `unplug`, so that a batch costs one doorbell. */
  plug(): void {
    this.plugs++;
  }

  unplug(): void {
    if (--this.plugs === 0) this.push();
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
    const status = this.check(carried.op, carried.sector, carried.gfns, carried.bytes, carried.start, carried.count);
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
        for (let i = 0; i < waiting && !this.stopped; i++) {
          this.ring.getResponse(this.answer);
          handled++;
          if (!this.complete()) break;
        }
        if (handled >= most && !this.stopped) {
          this.parts.onBacklog(this.index);
          break;
        }
      } while (!this.stopped && this.ring.finalCheck() > 0);
      if (!this.stopped && this.stalled.length > 0) this.retryStalled();
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
      this.retryStalled();
      this.unplug();
    }
    this.tellRoom();
  }

  /** Fails what waits for references or pages. */
  failStalled(status: number): void {
    for (const r of this.stalled.splice(0)) this.finish(r, status);
    this.tellRoom();
  }

  /** Ends the ring: nothing is read from it any more, and every reference of a request is closed or set aside. */
  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    for (const r of this.shadows.all) if (r.state === SLOT.ON_RING) this.segments.close(r, false);
    this.segments.destroy();
  }

  /** What `stop` left: every request not completed, in the order of issue. */
  carry(): Carried[] {
    const left = this.shadows.outstanding();
    const out: Carried[] = left.map((r) => ({
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

  private check(
    op: number,
    sector: number,
    gfns: ArrayLike<number> | null,
    bytes: Uint8Array | null,
    start: number,
    count: number,
  ): number {
    const f = this.features;
    if (op === OP.FLUSH) return f.flush || f.barrier ? 0 : ERRNO.EOPNOTSUPP;
    if (!(count > 0) || !(sector >= 0) || Math.floor(sector) !== sector || Math.floor(count) !== count) return ERRNO.EINVAL;
    if (!(sector + count <= f.sectors) || ((sector | count) & f.granule) !== 0) return ERRNO.EINVAL;
    if (op !== OP.READ && f.readonly) return ERRNO.EROFS;
    if (op === OP.READ || op === OP.WRITE || op === OP.WRITE_FUA) {
      if ((start | 0) !== start || start < 0) return ERRNO.EINVAL;
      const end = start + count * 512;
      if (end > BYTES_MAX || end > (gfns !== null ? gfns.length * 4096 : bytes !== null ? bytes.length : 0)) return ERRNO.EINVAL;
      return 0;
    }
    if (op === OP.WRITE_ZEROES) return 0;
    if (op === OP.DISCARD) return f.discard ? 0 : ERRNO.EOPNOTSUPP;
    if (op === OP.DISCARD_SECURE) return f.discard && f.secure ? 0 : ERRNO.EOPNOTSUPP;
    return ERRNO.EINVAL;
  }

  /** Puts the next part of request `id` on the ring. False when references or pages ran out, with nothing held. */
  private issue(r: Shadow): boolean {
    const f = this.features;
    const wire = this.wire;
    const op = r.op;
    let operation: number = BLKIF_OP.READ;
    if (op === OP.FLUSH || r.follow === 2) {
      operation = f.flush ? BLKIF_OP.FLUSH_DISKCACHE : BLKIF_OP.WRITE_BARRIER;
      r.mode = MODE.NONE;
      wire.nrSegments = 0;
      // Linux leaves the sector of a request without data at -1.
      wire.setSectorHalves(0xffff_ffff, 0xffff_ffff);
    } else if (op === OP.DISCARD || op === OP.DISCARD_SECURE || (op === OP.WRITE_ZEROES && f.zeroByDiscard && f.discard)) {
      operation = BLKIF_OP.DISCARD;
      r.mode = MODE.NONE;
      r.chunk = r.count - r.done;
      wire.flag = op === OP.DISCARD_SECURE ? BLKIF_DISCARD_SECURE : 0;
      wire.setSector(r.sector + r.done);
      wire.setNrSectors(r.chunk);
    } else {
      let limit = this.maxSegments;
      if (op !== OP.READ) operation = BLKIF_OP.WRITE;
      r.mode = this.modeOf(r);
      if (r.mode === MODE.ZERO && !this.segments.makeZeroPage()) return false;
      if (op === OP.WRITE_FUA && r.follow === 0) {
        const offset = r.mode === MODE.DIRECT || r.mode === MODE.PINNED ? r.start & 4095 : 0;
        const whole = offset + r.count * 512 <= BLKIF_MAX_SEGMENTS_PER_REQUEST * 4096;
        if (f.barrier && whole && r.done === 0) {
          operation = BLKIF_OP.WRITE_BARRIER;
          limit = BLKIF_MAX_SEGMENTS_PER_REQUEST;
        } else r.follow = 1;
      }
      if (!this.segments.open(r, limit, wire)) return false;
      // A durable write cut short for want of references cannot be one barrier.
      if (operation === BLKIF_OP.WRITE_BARRIER && r.chunk !== r.count) {
        operation = BLKIF_OP.WRITE;
        r.follow = 1;
      }
      const sector = r.sector + r.done;
      if ((sector | 0) === sector) {
        // Without the division that a sector beyond 2^31 needs.
        wire.sectorLo = sector;
        wire.sectorHi = 0;
      } else wire.setSector(sector);
    }
    r.wireOp = operation;
    wire.operation = operation;
    if (r.indirectPage !== -1) {
      wire.operation = BLKIF_OP.INDIRECT;
      wire.indirectOp = operation;
    }
    const generation = (r.generation + 1) & 0x7fff_ffff;
    r.generation = generation;
    wire.idLo = r.id;
    wire.idHi = generation;
    r.state = SLOT.ON_RING;
    this.ring.putRequest(wire);
    this.figures.requests++;
    if (this.bus?.observed('blkfront:requested')) this.tellRequested(r);
    return true;
  }

  private modeOf(r: Shadow): number {
    const { persistent } = this;
    if (r.op === OP.WRITE_ZEROES) return persistent ? MODE.PERSISTENT : MODE.ZERO;
    const { gfns, start } = r;
    if (gfns !== null && (start & this.features.alignMask) === 0) {
      if (!this.bounceAll && !persistent) return MODE.DIRECT;
      if (persistent && this.segments.allPinned(gfns, start, r.count)) return MODE.PINNED;
    }
    return persistent ? MODE.PERSISTENT : MODE.BOUNCED;
  }

  /** Checks the answer just copied and completes its request. False when the device is over. */
  private complete(): boolean {
    const { answer, shadows } = this;
    const id = answer.idLo;
    const r = id < shadows.slots ? shadows.all[id]! : null;
    if (r === null || r.state !== SLOT.ON_RING || answer.idHi !== r.generation) {
      return this.breakDown(`a response names request ${answer.idHi}:${answer.idLo}, which is not under way`);
    }
    const wireOp = r.wireOp;
    if (answer.operation !== wireOp) return this.breakDown(`a response to operation ${wireOp} says ${answer.operation}`);
    this.figures.responses++;
    const status = answer.status;
    this.segments.close(r, status === 0 && wireOp === BLKIF_OP.READ);
    // From here the request is the driver's alone; a second answer to it is one to nothing.
    r.state = SLOT.STALLED;
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

  /** Issues what comes next of a request: its next part, or the flush after its last. */
  private proceed(r: Shadow): boolean {
    if (r.follow === 1 && r.done >= r.count) {
      if (!this.features.flush && !this.features.barrier) return this.finish(r, 0);
      r.follow = 2;
    }
    return this.issue(r);
  }

  private finish(r: Shadow, status: number): true {
    const { sink, cookie } = r;
    const { tap } = this;
    const seen = tap.completed === null ? null : { queue: this.index, op: r.op, sector: r.sector, sectors: r.count, status };
    this.shadows.give(r);
    if (seen !== null) tap.completed?.(seen);
    if (this.bus?.observed('blkfront:completed')) {
      this.bus.emit('blkfront:completed', { path: this.parts.path, queue: this.index, id: r.id, op: r.op, status });
    }
    sink(cookie, status);
    return true;
  }

  private stall(r: Shadow): void {
    r.state = SLOT.STALLED;
    this.stalled.push(r);
    this.parts.onDry(this.index, this.segments.shortOf);
  }

  private retryStalled(): void {
    while (this.stalled.length > 0) {
      if (!this.proceed(this.stalled[0]!)) {
        this.parts.onDry(this.index, this.segments.shortOf);
        return;
      }
      this.stalled.shift();
    }
  }

  private push(): void {
    if (this.published === this.ring.reqProdPvt) return;
    this.published = this.ring.reqProdPvt;
    if (!this.ring.push()) return;
    this.figures.doorbells++;
    try {
      this.parts.events.send(this.port);
    } catch {
      // The requests stand on the ring whoever heard of it: a peer that closed its end is seen by its state, not here.
    }
  }

  private breakDown(reason: string): false {
    this.parts.onBroken(`queue ${this.index}: ${reason}`);
    return false;
  }

  private tellRequested(r: Shadow): void {
    this.bus!.emit('blkfront:requested', {
      path: this.parts.path,
      queue: this.index,
      id: r.id,
      op: r.op,
      sector: r.sector + r.done,
      sectors: r.mode === MODE.NONE && r.op === OP.FLUSH ? 0 : r.chunk,
      segments: r.segments,
    });
  }
}
