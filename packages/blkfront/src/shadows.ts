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
 * The driver's own record of every request on a ring, as parallel arrays indexed by the request's id: nothing of it is ever read
 * back from shared memory. The id on the wire carries the slot in its low half and the slot's generation in its high half, so an
 * answer to a request that is long over is not taken for one to its successor.
 */
export class Shadows {
  readonly slots: number;
  readonly maxSegments: number;
  readonly state: Uint8Array;
  readonly generation: Uint32Array;
  /** `OP.*`, what the caller asked. */
  readonly op: Uint8Array;
  /** BLKIF_OP_* that the answer must repeat: of an indirect request the inner one. */
  readonly wireOp: Uint8Array;
  readonly mode: Uint8Array;
  readonly cookie: Float64Array;
  /** Sectors of 512 bytes: the whole request, what is done of it, and what is on the ring. */
  readonly sector: Float64Array;
  readonly count: Float64Array;
  readonly done: Float64Array;
  readonly chunk: Float64Array;
  /** Bytes into the caller's buffer. */
  readonly start: Float64Array;
  /** Whether a flush is to follow (1) or under way (2), for a durable write without a barrier. */
  readonly follow: Uint8Array;
  readonly segments: Uint16Array;
  /** When it was first put on a ring, to issue again in order. */
  readonly order: Float64Array;
  /** The caller's buffer: frames, or bytes. */
  readonly gfns: (ArrayLike<number> | null)[];
  readonly bytes: (Uint8Array | null)[];
  readonly sinks: OnDone[];
  /** By id x maxSegments + segment. */
  readonly segRef: Uint32Array;
  readonly segPage: Int32Array;
  /** The indirect page and its reference, or -1. */
  readonly indirectPage: Int32Array;
  readonly indirectRef: Int32Array;
  private readonly freeIds: Uint16Array;
  private freeCount: number;
  private next = 0;

  constructor(slots: number, maxSegments: number, sink: OnDone) {
    this.slots = slots;
    this.maxSegments = maxSegments;
    this.state = new Uint8Array(slots);
    this.generation = new Uint32Array(slots);
    this.op = new Uint8Array(slots);
    this.wireOp = new Uint8Array(slots);
    this.mode = new Uint8Array(slots);
    this.cookie = new Float64Array(slots);
    this.sector = new Float64Array(slots);
    this.count = new Float64Array(slots);
    this.done = new Float64Array(slots);
    this.chunk = new Float64Array(slots);
    this.start = new Float64Array(slots);
    this.follow = new Uint8Array(slots);
    this.segments = new Uint16Array(slots);
    this.order = new Float64Array(slots);
    this.gfns = new Array<ArrayLike<number> | null>(slots).fill(null);
    this.bytes = new Array<Uint8Array | null>(slots).fill(null);
    this.sinks = new Array<OnDone>(slots).fill(sink);
    this.segRef = new Uint32Array(slots * maxSegments);
    this.segPage = new Int32Array(slots * maxSegments).fill(-1);
    this.indirectPage = new Int32Array(slots).fill(-1);
    this.indirectRef = new Int32Array(slots).fill(-1);
    this.freeIds = new Uint16Array(slots);
    for (let i = 0; i < slots; i++) this.freeIds[i] = slots - 1 - i;
    this.freeCount = slots;
  }

  /** Requests the driver has taken and not completed. */
  get busy(): number {
    return this.slots - this.freeCount;
  }

  /** A free id, or -1. */
  take(): number {
    if (this.freeCount === 0) return -1;
    const id = this.freeIds[--this.freeCount]!;
    this.order[id] = this.next++;
    this.done[id] = 0;
    this.follow[id] = 0;
    this.segments[id] = 0;
    return id;
  }

  /** Frees an id; its generation moves on. */
  give(id: number): void {
    this.state[id] = SLOT.FREE;
    this.generation[id] = this.generation[id]! + 1;
    this.gfns[id] = null;
    this.bytes[id] = null;
    this.freeIds[this.freeCount++] = id;
  }

  /** Ids not free, in the order in which they were first issued. Allocates; for resume and for ends. */
  outstanding(): number[] {
    const ids: number[] = [];
    for (let id = 0; id < this.slots; id++) if (this.state[id] !== SLOT.FREE) ids.push(id);
    return ids.sort((a, b) => this.order[a]! - this.order[b]!);
  }
}
