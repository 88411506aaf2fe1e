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
import { MODE, type Shadows, SLOT } from './shadows.ts';
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
  private readonly wire: BlockRequest = new BlockRequest();
  private readonly answer: BlockResponse = new BlockResponse();
  private readonly stalled: number[] = [];
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
    const s = this.shadows;
    const id = s.take();
    if (id === -1) return this.refused(ERRNO.EBUSY);
    s.op[id] = op;
    s.sector[id] = sector;
    s.count[id] = count;
    s.start[id] = start;
    s.cookie[id] = cookie;
    s.gfns[id] = gfns;
    s.bytes[id] = bytes;
    s.sinks[id] = sink;
    if (!this.issue(id)) {
      s.give(id);
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
    const s = this.shadows;
    const id = s.take();
    if (id === -1) return false;
    s.op[id] = carried.op;
    s.sector[id] = carried.sector;
    s.count[id] = carried.count;
    s.done[id] = carried.done;
    s.start[id] = carried.start;
    s.cookie[id] = carried.cookie;
    s.gfns[id] = carried.gfns;
    s.bytes[id] = carried.bytes;
    s.sinks[id] = carried.sink;
    s.follow[id] = carried.follow === 2 ? 1 : carried.follow;
    this.figures.reissued++;
    // What the new backend cannot do any more is settled as if it had said so.
    const status = this.check(carried.op, carried.sector, carried.gfns, carried.bytes, carried.start, carried.count);
    if (status !== 0) this.finish(id, carried.op === OP.FLUSH && status === ERRNO.EOPNOTSUPP ? 0 : status);
    else if (!this.proceed(id)) this.stall(id);
    return true;
  }

  /** Handles every answer there is. Not to be called from inside itself; then it does nothing. @returns answers handled. */
  poll(): number {
    if (this.polling || this.stopped) return 0;
    this.polling = true;
    this.plugs++;
    let handled = 0;
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
    } finally {
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
    for (const id of this.stalled.splice(0)) this.finish(id, status);
    this.tellRoom();
  }

  /** Ends the ring: nothing is read from it any more, and every reference of a request is closed or set aside. */
  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    const s = this.shadows;
    for (let id = 0; id < s.slots; id++) if (s.state[id] === SLOT.ON_RING) this.segments.close(id, false);
    this.segments.destroy();
  }

  /** What `stop` left: every request not completed, in the order of issue. */
  carry(): Carried[] {
    const s = this.shadows;
    const out: Carried[] = s.outstanding().map((id) => ({
      op: s.op[id]!,
      sector: s.sector[id]!,
      count: s.count[id]!,
      done: s.done[id]!,
      follow: s.follow[id]!,
      gfns: s.gfns[id]!,
      bytes: s.bytes[id]!,
      start: s.start[id]!,
      cookie: s.cookie[id]!,
      sink: s.sinks[id]!,
    }));
    for (let id = 0; id < s.slots; id++) if (s.state[id] !== SLOT.FREE) s.give(id);
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
  private issue(id: number): boolean {
    const s = this.shadows;
    const f = this.features;
    const wire = this.wire;
    const op = s.op[id]!;
    let operation: number = BLKIF_OP.READ;
    if (op === OP.FLUSH || s.follow[id] === 2) {
      operation = f.flush ? BLKIF_OP.FLUSH_DISKCACHE : BLKIF_OP.WRITE_BARRIER;
      s.mode[id] = MODE.NONE;
      wire.nrSegments = 0;
      // Linux leaves the sector of a request without data at -1.
      wire.setSectorHalves(0xffff_ffff, 0xffff_ffff);
    } else if (op === OP.DISCARD || op === OP.DISCARD_SECURE || (op === OP.WRITE_ZEROES && f.zeroByDiscard && f.discard)) {
      operation = BLKIF_OP.DISCARD;
      s.mode[id] = MODE.NONE;
      s.chunk[id] = s.count[id]! - s.done[id]!;
      wire.flag = op === OP.DISCARD_SECURE ? BLKIF_DISCARD_SECURE : 0;
      wire.setSector(s.sector[id]! + s.done[id]!);
      wire.setNrSectors(s.chunk[id]!);
    } else {
      let limit = this.parts.maxSegments;
      if (op !== OP.READ) operation = BLKIF_OP.WRITE;
      s.mode[id] = this.modeOf(id, op);
      if (s.mode[id] === MODE.ZERO && !this.segments.makeZeroPage()) return false;
      if (op === OP.WRITE_FUA && s.follow[id] === 0) {
        const offset = s.mode[id] === MODE.DIRECT || s.mode[id] === MODE.PINNED ? s.start[id]! & 4095 : 0;
        const whole = offset + s.count[id]! * 512 <= BLKIF_MAX_SEGMENTS_PER_REQUEST * 4096;
        if (f.barrier && whole && s.done[id] === 0) {
          operation = BLKIF_OP.WRITE_BARRIER;
          limit = BLKIF_MAX_SEGMENTS_PER_REQUEST;
        } else s.follow[id] = 1;
      }
      if (!this.segments.open(id, limit, wire)) return false;
      // A durable write cut short for want of references cannot be one barrier.
      if (operation === BLKIF_OP.WRITE_BARRIER && s.chunk[id] !== s.count[id]) {
        operation = BLKIF_OP.WRITE;
        s.follow[id] = 1;
      }
      wire.setSector(s.sector[id]! + s.done[id]!);
    }
    s.wireOp[id] = operation;
    wire.operation = operation;
    if (s.indirectPage[id] !== -1) {
      wire.operation = BLKIF_OP.INDIRECT;
      wire.indirectOp = operation;
    }
    const generation = (s.generation[id]! + 1) >>> 0;
    s.generation[id] = generation;
    wire.idLo = id;
    wire.idHi = generation;
    s.state[id] = SLOT.ON_RING;
    this.ring.putRequest(wire);
    this.figures.requests++;
    if (this.bus?.observed('blkfront:requested')) this.tellRequested(id, op);
    return true;
  }

  private modeOf(id: number, op: number): number {
    const s = this.shadows;
    const { bounceAll, persistent } = this.parts;
    if (op === OP.WRITE_ZEROES) return persistent ? MODE.PERSISTENT : MODE.ZERO;
    const gfns = s.gfns[id];
    const start = s.start[id]!;
    if (gfns && (start & this.features.alignMask) === 0) {
      if (!bounceAll && !persistent) return MODE.DIRECT;
      if (persistent && this.segments.allPinned(gfns, start, s.count[id]!)) return MODE.PINNED;
    }
    return persistent ? MODE.PERSISTENT : MODE.BOUNCED;
  }

  /** Checks the answer just copied and completes its request. False when the device is over. */
  private complete(): boolean {
    const s = this.shadows;
    const answer = this.answer;
    const id = answer.idLo;
    if (id >= s.slots || s.state[id] !== SLOT.ON_RING || answer.idHi !== s.generation[id]) {
      return this.breakDown(`a response names request ${answer.idHi}:${answer.idLo}, which is not under way`);
    }
    const wireOp = s.wireOp[id]!;
    if (answer.operation !== wireOp) return this.breakDown(`a response to operation ${wireOp} says ${answer.operation}`);
    this.figures.responses++;
    const status = answer.status;
    this.segments.close(id, status === 0 && wireOp === BLKIF_OP.READ);
    // From here the request is the driver's alone; a second answer to it is one to nothing.
    s.state[id] = SLOT.STALLED;
    if (status === 0) {
      if (s.follow[id] === 2 || s.op[id] === OP.FLUSH) return this.finish(id, 0);
      s.done[id] = s.done[id]! + s.chunk[id]!;
      if (s.done[id]! < s.count[id]! || (s.follow[id] === 1 && (this.features.flush || this.features.barrier))) {
        if (!this.proceed(id)) this.stall(id);
        return true;
      }
      return this.finish(id, 0);
    }
    if (status === -2) return this.unsupported(id, wireOp);
    return this.finish(id, ERRNO.EIO);
  }

  /** The backend does not know an operation that it offered: it is not asked again, and the request gets what else there is. */
  private unsupported(id: number, wireOp: number): boolean {
    const s = this.shadows;
    const f = this.features;
    const op = s.op[id]!;
    if (wireOp === BLKIF_OP.FLUSH_DISKCACHE) f.flush = false;
    else if (wireOp === BLKIF_OP.WRITE_BARRIER) f.barrier = false;
    else if (wireOp === BLKIF_OP.DISCARD) {
      if (op === OP.DISCARD_SECURE) f.secure = false;
      else f.discard = false;
      if (op !== OP.WRITE_ZEROES) return this.finish(id, ERRNO.EOPNOTSUPP);
    } else return this.finish(id, ERRNO.EOPNOTSUPP);
    const empty = op === OP.FLUSH || s.follow[id] === 2;
    // A device that can neither flush nor drain has no cache to lose: that is success, as Linux has it.
    if (empty && !f.flush && !f.barrier) return this.finish(id, 0);
    if (!this.proceed(id)) this.stall(id);
    return true;
  }

  /** Issues what comes next of a request: its next part, or the flush after its last. */
  private proceed(id: number): boolean {
    const s = this.shadows;
    if (s.follow[id] === 1 && s.done[id]! >= s.count[id]!) {
      if (!this.features.flush && !this.features.barrier) return this.finish(id, 0);
      s.follow[id] = 2;
    }
    return this.issue(id);
  }

  private finish(id: number, status: number): true {
    const s = this.shadows;
    const sink = s.sinks[id]!;
    const cookie = s.cookie[id]!;
    const op = s.op[id]!;
    const { tap } = this.parts;
    const seen = tap.completed === null ? null : { queue: this.index, op, sector: s.sector[id]!, sectors: s.count[id]!, status };
    s.give(id);
    if (seen !== null) tap.completed?.(seen);
    if (this.bus?.observed('blkfront:completed')) {
      this.bus.emit('blkfront:completed', { path: this.parts.path, queue: this.index, id, op, status });
    }
    sink(cookie, status);
    return true;
  }

  private stall(id: number): void {
    this.shadows.state[id] = SLOT.STALLED;
    this.stalled.push(id);
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

  private tellRequested(id: number, op: number): void {
    const s = this.shadows;
    this.bus!.emit('blkfront:requested', {
      path: this.parts.path,
      queue: this.index,
      id,
      op,
      sector: s.sector[id]! + s.done[id]!,
      sectors: s.mode[id] === MODE.NONE && s.op[id] === OP.FLUSH ? 0 : s.chunk[id]!,
      segments: s.segments[id]!,
    });
  }
}
