import { invariant } from '@paravirt/event-bus/contract';
import type { UnmapBatch, UnmapOp } from '@paravirt/gnttab';
import { BLKIF_MAX_SEGMENTS_PER_REQUEST, BlockRequest } from '@paravirt/xen-abi';
import type { DiskWaiter } from '../disks/disk.ts';

/** Who is told when a request may go on. */
export interface RequestOwner {
  /** A disk call that answered `LATER` was not carried out, or its disk told something that is no answer. */
  diskFailed(request: BackRequest, status: number): void;
  /** The last disk call of the stage that answered `LATER` is over. */
  diskDone(request: BackRequest): void;
  /** The request's pages are unmapped. */
  unmapDone(request: BackRequest, result: number): void;
}

/** Where a request under way stands: the flush before its data. For flushes and barriers. */
export const PREFLUSH = 0;
/** Its data. */
export const DATA = 1;
/** The flush behind the data of a barrier, where the disk does not write through. */
export const POSTFLUSH = 2;
/** A discard. */
export const DISCARDING = 3;
/** Nothing is left to do. */
export const DONE = 4;

/**
 * A request that was taken from a ring: what it said, copied once, and what it holds. Made once and used again; the arrays for 256
 * segments come with the first indirect request. Of an indirect request `operation` becomes the inner one.
 */
export class BackRequest extends BlockRequest implements DiskWaiter {
  readonly owner: RequestOwner;
  /** Of all segments, or of the discard. */
  sectors = 0;
  segments = 0;
  secure = false;
  /** The page that names the segments, and whether they were copied from it; a direct request has nothing to copy. */
  indirectGref = 0;
  indirectParsed = true;
  stage: number = DATA;
  /** Disk calls of this stage that were not answered. */
  waiting = 0;
  /** First error of the disk, 0 or a negative errno. */
  error = 0;
  /** A disk that threw had it as its waiter, so that it is no other request's any more. */
  forsaken = false;
  /** BLKIF_RSP_*, and why it is not OKAY. */
  status = 0;
  reason = '';
  /** Segment arrays, `capacity` long. */
  declare grefs: Uint32Array;
  declare firstSect: Uint8Array;
  declare lastSect: Uint8Array;
  /** Virtual frame of each segment. */
  vfns: number[] = new Array<number>(BLKIF_MAX_SEGMENTS_PER_REQUEST).fill(0);
  /** By segment: 1 where the disk writes to its page, and where the page is. */
  writable: Uint8Array = new Uint8Array(BLKIF_MAX_SEGMENTS_PER_REQUEST);
  offsets: number[] = new Array<number>(BLKIF_MAX_SEGMENTS_PER_REQUEST).fill(0);
  /** Entry among the persistent grants, or -1. */
  persistent: Int32Array = new Int32Array(BLKIF_MAX_SEGMENTS_PER_REQUEST);
  capacity: number = BLKIF_MAX_SEGMENTS_PER_REQUEST;
  /** How many elements of `persistent` count. */
  held = 0;
  /** What this request mapped for itself. */
  readonly mapped: UnmapBatch & { readonly ops: UnmapOp[] };
  /** Next of a list: free, finished or parked. */
  next: BackRequest | undefined = undefined;

  constructor(owner: RequestOwner) {
    super();
    this.owner = owner;
    this.mapped = { ops: [], count: 0, done: (result) => owner.unmapDone(this, result) };
    this.growOps(BLKIF_MAX_SEGMENTS_PER_REQUEST);
  }

  /** Makes room for `segments`. */
  ensure(segments: number): void {
    if (segments <= this.capacity) return;
    this.capacity = segments;
    this.grefs = new Uint32Array(segments);
    this.firstSect = new Uint8Array(segments);
    this.lastSect = new Uint8Array(segments);
    this.vfns = new Array<number>(segments).fill(0);
    this.writable = new Uint8Array(segments);
    this.offsets = new Array<number>(segments).fill(0);
    this.persistent = new Int32Array(segments);
    this.growOps(segments);
  }

  /** One disk call of this request, which had answered `LATER`, is over. */
  done(status: number): void {
    invariant(this.waiting > 0, () => 'a disk told its waiter more often than it answered later');
    if (status !== 0) this.owner.diskFailed(this, status);
    this.waiting--;
    if (this.waiting === 0) this.owner.diskDone(this);
  }

  /** As new, after an error: a request that went well has nothing to forget. */
  forgive(): void {
    this.status = 0;
    this.reason = '';
    this.error = 0;
    this.indirectParsed = true;
  }

  private growOps(count: number): void {
    while (this.mapped.ops.length < count) this.mapped.ops.push({ vfn: 0, handle: 0, status: 0 });
  }
}

/** Requests in a row, linked through `next`. */
export class RequestList {
  first: BackRequest | undefined = undefined;
  private last: BackRequest | undefined = undefined;

  push(request: BackRequest): void {
    request.next = undefined;
    if (this.last === undefined) this.first = request;
    else this.last.next = request;
    this.last = request;
  }

  /** The first, or undefined. */
  shift(): BackRequest | undefined {
    const request = this.first;
    if (request === undefined) return undefined;
    this.first = request.next;
    if (this.first === undefined) this.last = undefined;
    return request;
  }
}
