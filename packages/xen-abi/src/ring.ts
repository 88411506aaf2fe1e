import type { BlockRequest, BlockResponse } from './blkif.ts';
import type { SharedRing } from './shared-ring.ts';

/**
 * The frontend's end of a block ring: it produces requests and consumes responses. Every call is O(1) and allocates nothing.
 * The private indices are plain fields to be read; only this class writes them.
 * @see xen/include/public/io/ring.h, RING_*
 */
export class FrontRing {
  readonly shared: SharedRing;
  readonly entries: number;
  /** Requests written so far, published or not. */
  reqProdPvt = 0;
  /** Responses consumed so far. */
  rspCons = 0;

  /** Private indices start at 0 and shared memory is not touched: `shared.init()` is the frontend's to call. */
  constructor(shared: SharedRing) {
    this.shared = shared;
    this.entries = shared.entries;
  }

  /** Both private indices become 0. @see FRONT_RING_INIT */
  init(): void {
    this.attach(0);
  }

  /** Both private indices become `index`, to take over a ring in use. @see FRONT_RING_ATTACH */
  attach(index: number): void {
    this.reqProdPvt = index >>> 0;
    this.rspCons = index >>> 0;
  }

  /** Slots that may still be filled. @see RING_FREE_REQUESTS */
  free(): number {
    return (this.entries - ((this.reqProdPvt - this.rspCons) >>> 0)) >>> 0;
  }

  /** Whether no slot may be filled. @see RING_FULL */
  full(): boolean {
    return this.free() === 0;
  }

  /** Responses published and not consumed, as the peer claims: check `rspProdOverflow` before believing it. */
  unconsumed(): number {
    return (this.shared.rspProd - this.rspCons) >>> 0;
  }

  /** Whether no honest backend can have produced up to `prod`. @see RING_RESPONSE_PROD_OVERFLOW */
  rspProdOverflow(prod: number): boolean {
    return (prod - this.rspCons) >>> 0 > this.entries;
  }

  /**
   * Writes a request into the next slot and takes the slot; nobody sees it before `push`. Ask `full()` first: a full ring is
   * overwritten, as by the original.
   */
  putRequest(request: BlockRequest): void {
    this.shared.writeRequest(this.reqProdPvt, request);
    this.reqProdPvt = (this.reqProdPvt + 1) >>> 0;
  }

  /**
   * `putRequest` of a request that moves data in one segment and whose sector is below 2^32, without an object for it: most of all
   * requests are of this kind.
   */
  putPage(
    operation: number,
    handle: number,
    idLo: number,
    idHi: number,
    sector: number,
    gref: number,
    firstSect: number,
    lastSect: number,
  ): void {
    this.shared.writePage(this.reqProdPvt, operation, handle, idLo, idHi, sector, gref, firstSect, lastSect);
    this.reqProdPvt = (this.reqProdPvt + 1) >>> 0;
  }

  /** Publishes the requests. @returns whether the peer asked to be notified. @see RING_PUSH_REQUESTS_AND_CHECK_NOTIFY */
  push(): boolean {
    const shared = this.shared;
    const old = shared.reqProd;
    const now = this.reqProdPvt;
    shared.reqProd = now;
    return (now - shared.reqEvent) >>> 0 < (now - old) >>> 0;
  }

  /** Copies the next response out and takes it. Ask `unconsumed()` first. */
  getResponse(out: BlockResponse): void {
    this.shared.readResponse(this.rspCons, out);
    this.rspCons = (this.rspCons + 1) >>> 0;
  }

  /** Takes the next `count` responses, which were read where they stand. */
  skipResponses(count: number): void {
    this.rspCons = (this.rspCons + count) >>> 0;
  }

  /**
   * Before sleeping: when nothing is unconsumed, asks to be notified of the next response and looks again.
   * @returns unconsumed responses at the last look, 0 = sleep. @see RING_FINAL_CHECK_FOR_RESPONSES
   */
  finalCheck(): number {
    const count = this.unconsumed();
    if (count !== 0) return count;
    this.shared.rspEvent = this.rspCons + 1;
    return this.unconsumed();
  }
}

/**
 * The backend's end of a block ring: it consumes requests and produces responses. Every call is O(1) and allocates nothing.
 * @see xen/include/public/io/ring.h, RING_*
 */
export class BackRing {
  readonly shared: SharedRing;
  readonly entries: number;
  /** Responses written so far, published or not. */
  rspProdPvt = 0;
  /** Requests consumed so far. */
  reqCons = 0;

  /** Private indices start at 0; shared memory is not touched. */
  constructor(shared: SharedRing) {
    this.shared = shared;
    this.entries = shared.entries;
  }

  /** Both private indices become 0. @see BACK_RING_INIT */
  init(): void {
    this.attach(0);
  }

  /** Both private indices become `index` (a backend that takes over attaches at rsp_prod). @see BACK_RING_ATTACH */
  attach(index: number): void {
    this.rspProdPvt = index >>> 0;
    this.reqCons = index >>> 0;
  }

  /** Requests that may be consumed: never more than there are slots not yet answered. @see RING_HAS_UNCONSUMED_REQUESTS */
  unconsumed(): number {
    const published = (this.shared.reqProd - this.reqCons) >>> 0;
    const slots = (this.entries - ((this.reqCons - this.rspProdPvt) >>> 0)) >>> 0;
    return Math.min(published, slots);
  }

  /** Whether the request at `cons` must not be consumed yet. @see RING_REQUEST_CONS_OVERFLOW */
  consOverflow(cons: number): boolean {
    return (cons - this.rspProdPvt) >>> 0 >= this.entries;
  }

  /** Whether no honest frontend can have produced up to `prod`. @see RING_REQUEST_PROD_OVERFLOW */
  prodOverflow(prod: number): boolean {
    return (prod - this.rspProdPvt) >>> 0 > this.entries;
  }

  /** Copies the next request out of shared memory, each word once, and takes it. Ask `unconsumed()` first. */
  getRequest(out: BlockRequest): void {
    this.shared.readRequest(this.reqCons, out);
    this.reqCons = (this.reqCons + 1) >>> 0;
  }

  /** `getRequest` of a slot in one piece, whose first word was read before, as `head`. */
  getRequestBehind(head: number, out: BlockRequest): void {
    this.shared.readRequestBehind(this.reqCons, head, out);
    this.reqCons = (this.reqCons + 1) >>> 0;
  }

  /** Takes the next `count` requests, which were read where they stand. */
  skipRequests(count: number): void {
    this.reqCons = (this.reqCons + count) >>> 0;
  }

  /** Writes a response into the next slot; nobody sees it before `push`. `status` is a BLKIF_RSP_*. */
  putResponse(idLo: number, idHi: number, operation: number, status: number): void {
    this.shared.writeResponse(this.rspProdPvt, idLo, idHi, operation, status);
    this.rspProdPvt = (this.rspProdPvt + 1) >>> 0;
  }

  /** Publishes the responses. @returns whether the peer asked to be notified. @see RING_PUSH_RESPONSES_AND_CHECK_NOTIFY */
  push(): boolean {
    const shared = this.shared;
    const old = shared.rspProd;
    const now = this.rspProdPvt;
    shared.rspProd = now;
    return (now - shared.rspEvent) >>> 0 < (now - old) >>> 0;
  }

  /**
   * Before sleeping: when nothing is unconsumed, asks to be notified of the next request and looks again.
   * @returns unconsumed requests at the last look, 0 = sleep. @see RING_FINAL_CHECK_FOR_REQUESTS
   */
  finalCheck(): number {
    const count = this.unconsumed();
    if (count !== 0) return count;
    this.shared.reqEvent = this.reqCons + 1;
    return this.unconsumed();
  }
}
