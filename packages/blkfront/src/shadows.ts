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

/**
 * A request of one page, as nearly all are, is kept in a row of eight numbers, which is half a cache line, and in no object: word by
 * word what it is, its slot's generation, its reference, its sector, its start, its cookie and when it was taken. The generation and
 * the time are there for requests of every kind.
 */
export const ROW: {
  readonly SHIFT: 3;
  readonly WHAT: 0;
  readonly GENERATION: 1;
  readonly GREF: 2;
  readonly SECTOR: 3;
  readonly START: 4;
  readonly COOKIE: 5;
  readonly ORDER: 6;
  /** Of the word `WHAT`, which is 0 unless the row holds a request: that it does, and that its page is pinned. */
  readonly LIVE: 0x1000;
  readonly PINNED: 0x2000;
} = { SHIFT: 3, WHAT: 0, GENERATION: 1, GREF: 2, SECTOR: 3, START: 4, COOKIE: 5, ORDER: 6, LIVE: 0x1000, PINNED: 0x2000 };

const GENERATION_MAX = 0x7fff_ffff;
// Of this module alone: an exported constant is loaded from its module at every use, also here.
const { SHIFT, WHAT, GENERATION, GREF, SECTOR, START, COOKIE, ORDER, LIVE } = ROW;

/**
 * The driver's own record of one request on a ring: nothing of it is ever read back from shared memory. Made once for every slot
 * and used again, because a field of an object costs less than an element of an array for each of two dozen fields.
 */
export class Shadow {
  readonly id: number;
  /** Where the segments of this request stand in `segRef` and `segPage`. */
  readonly base: number;
  state = 0;
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
 * All shadows of a ring, by id. The id on the wire carries the slot in its low half and the slot's generation in its high half, so
 * an answer to a request that is long over is not taken for one to its successor.
 */
export class Shadows {
  readonly slots: number;
  readonly maxSegments: number;
  /** By id << `ROW.SHIFT`. */
  readonly rows: Int32Array;
  /** By `base` + segment: the reference, and the page of the driver's own or -1. */
  readonly segRef: Uint32Array;
  readonly segPage: Int32Array;
  /**
   * What a row cannot hold, by id. Kept until the slot's next request of one page, which as a rule has the same buffer and the same
   * completer: a reference to an object costs more to write than to compare.
   */
  private readonly gfns: (ArrayLike<number> | null)[];
  readonly sinks: OnDone[];
  private readonly all: readonly Shadow[];
  private readonly free: Int32Array;
  private freeCount: number;
  private next = 0;

  constructor(slots: number, maxSegments: number, sink: OnDone) {
    this.slots = slots;
    this.maxSegments = maxSegments;
    this.all = Array.from({ length: slots }, (_, id) => new Shadow(id, id * maxSegments, sink));
    this.rows = new Int32Array(slots << SHIFT);
    this.segRef = new Uint32Array(slots * maxSegments);
    this.segPage = new Int32Array(slots * maxSegments).fill(-1);
    this.gfns = Array.from({ length: slots }, () => null);
    this.sinks = Array.from({ length: slots }, () => sink);
    this.free = Int32Array.from({ length: slots }, (_, i) => slots - 1 - i);
    this.freeCount = slots;
  }

  /** Requests the driver has taken and not completed. */
  get busy(): number {
    return this.slots - this.freeCount;
  }

  /** A free slot's id for a request of one page, or -1. */
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
    this.rows[(id << SHIFT) + ORDER] = this.next++;
    const shadow = this.all[id]!;
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

  /** The slot's generation for its next request on the ring. */
  renew(id: number): number {
    const at = (id << SHIFT) + GENERATION;
    const generation = (this.rows[at]! + 1) & GENERATION_MAX;
    this.rows[at] = generation;
    return generation;
  }

  generationOf(id: number): number {
    return this.rows[(id << SHIFT) + GENERATION]!;
  }

  /** Keeps a request of one page that goes on the ring in its row; every number a signed 32-bit one. @returns its generation. */
  keep(
    id: number,
    what: number,
    gref: number,
    sector: number,
    start: number,
    cookie: number,
    gfns: ArrayLike<number>,
    sink: OnDone,
  ): number {
    const { rows } = this;
    const row = id << SHIFT;
    const generation = (rows[row + GENERATION]! + 1) & GENERATION_MAX;
    rows[row + WHAT] = what | LIVE;
    rows[row + GENERATION] = generation;
    rows[row + GREF] = gref;
    rows[row + SECTOR] = sector;
    rows[row + START] = start;
    rows[row + COOKIE] = cookie;
    rows[row + ORDER] = this.next++;
    if (this.gfns[id] !== gfns) this.gfns[id] = gfns;
    if (this.sinks[id] !== sink) this.sinks[id] = sink;
    return generation;
  }

  /** The page of a request that stands in a row. */
  gfnOf(id: number): number {
    return this.gfns[id]![this.rows[(id << SHIFT) + START]! >>> 12]!;
  }

  /** A slot's shadow. What stood in its row goes on in there. */
  at(id: number): Shadow {
    const r = this.all[id]!;
    const row = id << SHIFT;
    const what = this.rows[row + WHAT]!;
    if (what !== 0) this.unfold(r, row, what);
    return r;
  }

  private unfold(r: Shadow, row: number, what: number): void {
    const { rows } = this;
    r.state = SLOT.ON_RING;
    // A read and a write have the same numbers here and on the wire.
    r.op = what & 0xff;
    r.wireOp = r.op;
    r.mode = (what & ROW.PINNED) === 0 ? MODE.DIRECT : MODE.PINNED;
    r.cookie = rows[row + COOKIE]!;
    r.sector = rows[row + SECTOR]!;
    r.count = (what >>> 8) & 15;
    r.done = 0;
    r.chunk = r.count;
    r.start = rows[row + START]!;
    r.follow = 0;
    r.segments = 1;
    r.gfns = this.gfns[r.id]!;
    r.bytes = null;
    r.sink = this.sinks[r.id]!;
    this.segRef[r.base] = rows[row + GREF]!;
    rows[row + WHAT] = 0;
  }

  /** Shadows that wait for references, or for their ring, in the order in which they were taken. Allocates; for resume and for ends. */
  outstanding(): Shadow[] {
    const order = (r: Shadow): number => this.rows[(r.id << SHIFT) + ORDER]!;
    return (
      this.all
        .map(({ id }) => this.at(id))
        .filter(({ state }) => state !== SLOT.FREE)
        // The count of requests wraps.
        .sort((a, b) => (order(a) - order(b)) | 0)
    );
  }
}
