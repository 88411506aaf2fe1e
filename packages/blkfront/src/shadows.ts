import type { Gfn, Gref } from '@paravirt/event-bus/contract';
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

const GENERATION_MAX = 0x7fff_ffff;
/** In a row's first word beside the operation, so that a read is not 0 either. */
const LIVE = 0x1000;

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
 * All requests of a ring, by id. The id on the wire carries the slot in its low half and a generation in its high half, so an answer
 * to a request that is long over is not taken for one to its successor.
 *
 * A request of one page, as nearly all are, is kept in a row of eight numbers, half a cache line, and in no `Shadow`: 0 what it is
 * (0: the row is empty), 1 its generation, 2 its reference, 3 its sector, 4 its start, 5 its cookie. `at` brings it into its shadow
 * when it needs more than an answer that all went well. The generation is there for requests of every kind. The words' numbers stand
 * in the code as they are, because each name would cost the compiler as much as the access.
 */
export class Shadows {
  readonly slots: number;
  readonly maxSegments: number;
  /** By `base` + segment: the reference, and the page of the driver's own or -1. */
  readonly segRef: Uint32Array;
  readonly segPage: Int32Array;
  private readonly rows: Int32Array;
  /**
   * What a row cannot hold, by id. Kept until the slot's next request of one page, which as a rule has the same buffer and the same
   * completer: a reference to an object costs more to write than to compare.
   */
  private readonly gfns: (ArrayLike<number> | null)[];
  private readonly sinks: OnDone[];
  /** `MODE.*` of all requests in rows. */
  private readonly rowMode: number;
  private readonly all: readonly Shadow[];
  private readonly free: Int32Array;
  private freeCount: number;
  /** Counts requests, which makes generations and the order of issue. */
  private clock = 0;

  constructor(slots: number, maxSegments: number, sink: OnDone, rowMode: number) {
    this.slots = slots;
    this.maxSegments = maxSegments;
    this.rowMode = rowMode;
    this.all = Array.from({ length: slots }, (_, id) => new Shadow(id, id * maxSegments, sink));
    this.rows = new Int32Array(slots * 8);
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

  /** A generation for the slot's next request on the ring. */
  renew(id: number): number {
    const generation = this.tick();
    this.rows[(id << 3) | 1] = generation;
    return generation;
  }

  generationOf(id: number): number {
    return this.rows[(id << 3) | 1]!;
  }

  /**
   * Keeps a read or a write of one page that goes on the ring. All are signed 32-bit numbers, `count` is at most 8.
   * @returns its generation.
   */
  keep(id: number, op: number, count: number, gref: number, sector: number, start: number, cookie: number): number {
    const { rows } = this;
    const row = id << 3;
    const generation = (this.clock + 1) & GENERATION_MAX;
    this.clock = generation;
    rows[row] = op | (count << 8) | LIVE;
    rows[row | 1] = generation;
    rows[row | 2] = gref;
    rows[row | 3] = sector;
    rows[row | 4] = start;
    rows[row | 5] = cookie;
    return generation;
  }

  /** Keeps the objects that belong to it. */
  keepObjects(id: number, gfns: ArrayLike<number>, sink: OnDone): void {
    if (this.gfns[id] !== gfns) this.gfns[id] = gfns;
    if (this.sinks[id] !== sink) this.sinks[id] = sink;
  }

  /** Empties the row that an answer names. @returns the row, or -1 where none matches in every word. */
  settle(id: number, generation: number, op: number): number {
    if (id >= this.slots) return -1;
    const { rows } = this;
    const row = id << 3;
    if ((rows[row]! & (LIVE | 0xff)) !== (op | LIVE) || rows[row | 1] !== (generation | 0)) return -1;
    rows[row] = 0;
    return row;
  }

  /** The reference of a row just emptied. */
  grefAt(row: number): Gref {
    return this.rows[row | 2]! as Gref;
  }

  /** Its page. */
  gfnAt(row: number): Gfn {
    return this.gfns[row >>> 3]![this.rows[row | 4]! >>> 12]! as Gfn;
  }

  /** Gives its slot back and calls its completer. */
  complete(row: number): void {
    const id = row >>> 3;
    this.giveId(id);
    this.sinks[id]!(this.rows[row | 5]!, 0);
  }

  /** A slot's shadow. What stood in its row goes on in there. */
  at(id: number): Shadow {
    const r = this.all[id]!;
    if (this.rows[id << 3] !== 0) this.unfold(r);
    return r;
  }

  private unfold(r: Shadow): void {
    const { rows } = this;
    const { id } = r;
    const row = id << 3;
    const what = rows[row]!;
    r.state = SLOT.ON_RING;
    // A read and a write have the same numbers here and on the wire.
    r.op = what & 0xff;
    r.wireOp = r.op;
    r.mode = this.rowMode;
    r.sector = rows[row | 3]!;
    r.count = (what >>> 8) & 15;
    r.done = 0;
    r.chunk = r.count;
    r.start = rows[row | 4]!;
    r.cookie = rows[row | 5]!;
    r.follow = 0;
    r.segments = 1;
    r.order = rows[row | 1]!;
    r.gfns = this.gfns[id]!;
    r.bytes = null;
    r.sink = this.sinks[id]!;
    this.segRef[r.base] = rows[row | 2]!;
    rows[row] = 0;
  }

  /** Shadows that wait for references, or for their ring, in the order in which they were taken. Allocates; for resume and for ends. */
  outstanding(): Shadow[] {
    return (
      this.all
        .map(({ id }) => this.at(id))
        .filter(({ state }) => state !== SLOT.FREE)
        // The clock wraps at 2^31.
        .sort((a, b) => ((a.order - b.order) << 1) >> 1)
    );
  }

  private tick(): number {
    this.clock = (this.clock + 1) & GENERATION_MAX;
    return this.clock;
  }
}
