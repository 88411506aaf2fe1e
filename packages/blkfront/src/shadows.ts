import type { OnDone } from './types.ts';

/** Where a request of the driver stands. */
export const SLOT: { readonly FREE: 0; readonly ON_RING: 1; readonly STALLED: 2 } = { FREE: 0, ON_RING: 1, STALLED: 2 };

/** How a request's data reaches the backend. */
export const MODE: {
  readonly NONE: 0;
  readonly DIRECT: 1;
  readonly BOUNCED: 2;
  readonly PERSISTENT: 3;
  readonly PINNED: 4;
  readonly ZERO: 5;
} = {
  /** No data: a flush, a discard. */
  NONE: 0,
  /** The caller's own pages, each under a reference of this request. */
  DIRECT: 1,
  /** Pages of the driver's, each under a reference of this request. */
  BOUNCED: 2,
  /** Pages of the driver's under references that stay open. */
  PERSISTENT: 3,
  /** Pages that the caller had pinned, under references that stay open. */
  PINNED: 4,
  /** One page of zeroes under as many references as there are segments. */
  ZERO: 5,
};

const TICKS_MAX = 0x7fff_ffff;

/**
 * The driver's own record of one request on a ring: nothing of it is ever read back from shared memory. Made once for every slot
 * and used again, because a field of an object costs less than an element of an array for each of two dozen fields.
 */
export class Shadow {
  readonly id: number;
  /** Where the segments of this request stand in `segRef` and `segPage`. */
  readonly base: number;
  state = 0;
  generation = 0;
  /** `OP.*`, what the caller asked. */
  op = 0;
  /** BLKIF_OP_* that the answer must repeat: of an indirect request the inner one. */
  wireOp = 0;
  mode = 0;
  cookie = 0;
  /** Sectors of 512 bytes: where the request begins, its length, what is done of it, and what is on the ring. */
  sector = 0;
  count = 0;
  done = 0;
  chunk = 0;
  /** Bytes into the caller's buffer. */
  start = 0;
  /** Whether a flush is to follow (1) or under way (2), for a durable write without a barrier. */
  follow = 0;
  segments = 0;
  /** When it was taken, to issue again in order. */
  order = 0;
  /** The caller's buffer: frames, or bytes. */
  gfns: ArrayLike<number> | null = null;
  bytes: Uint8Array | null = null;
  sink: OnDone;
  /** The indirect page and its reference, or -1. */
  indirectPage = -1;
  indirectRef = -1;

  constructor(id: number, base: number, sink: OnDone) {
    this.id = id;
    this.base = base;
    this.sink = sink;
  }
}

/**
 * All shadows of a ring, by id. The id on the wire carries the slot in its low half and a generation in its high half, so an answer
 * to a request that is long over is not taken for one to its successor. A slot whose request `PageRequests` keeps is taken here, and
 * its shadow unused.
 */
export class Shadows {
  readonly slots: number;
  readonly maxSegments: number;
  readonly all: readonly Shadow[];
  /** By `base` + segment: the reference, and the page of the driver's own or -1. */
  readonly segRef: Uint32Array;
  readonly segPage: Int32Array;
  private readonly free: Int32Array;
  private freeCount: number;
  private clock = 0;

  constructor(slots: number, maxSegments: number, sink: OnDone) {
    this.slots = slots;
    this.maxSegments = maxSegments;
    this.all = Array.from({ length: slots }, (_, id) => new Shadow(id, id * maxSegments, sink));
    this.segRef = new Uint32Array(slots * maxSegments);
    this.segPage = new Int32Array(slots * maxSegments).fill(-1);
    this.free = Int32Array.from({ length: slots }, (_, i) => slots - 1 - i);
    this.freeCount = slots;
  }

  /** Requests the driver has taken and not completed. */
  get busy(): number {
    return this.slots - this.freeCount;
  }

  /** Counts on: makes generations, and the order of issue. */
  tick(): number {
    this.clock = (this.clock + 1) & TICKS_MAX;
    return this.clock;
  }

  /** A free slot's id, or -1. */
  takeId(): number {
    const left = this.freeCount - 1;
    if (left < 0) return -1;
    this.freeCount = left;
    return this.free[left]!;
  }

  giveId(id: number): void {
    this.free[this.freeCount++] = id;
  }

  /** A free shadow, or null. */
  take(): Shadow | null {
    const id = this.takeId();
    if (id < 0) return null;
    const shadow = this.all[id]!;
    shadow.order = this.tick();
    shadow.done = 0;
    shadow.follow = 0;
    shadow.segments = 0;
    return shadow;
  }

  give(shadow: Shadow): void {
    shadow.state = SLOT.FREE;
    shadow.gfns = null;
    shadow.bytes = null;
    this.giveId(shadow.id);
  }

  /** Shadows that wait for references, or for their ring, in the order in which they were taken. Allocates; for resume and for ends. */
  outstanding(): Shadow[] {
    const taken = this.all.filter(({ state }) => state !== SLOT.FREE);
    // The clock has 31 bits and wraps.
    return taken.sort((a, b) => ((a.order - b.order) << 1) >> 1);
  }
}
