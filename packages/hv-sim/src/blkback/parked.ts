import { BLKIF_OP } from '@paravirt/xen-abi';
import type { PagePool } from './page-pool.ts';
import { type BackRequest, RequestList } from './request.ts';

const { WRITE_BARRIER: BARRIER } = BLKIF_OP;

/**
 * Requests taken and not begun, for lack of pages or for a barrier; the ring waits behind them. They are several where the page of
 * segments of one was mapped late. A barrier goes last: whatever else waits was taken before it.
 */
export class Parked {
  count = 0;
  private readonly list: RequestList = new RequestList();
  private barrier: BackRequest | undefined = undefined;
  private readonly pool: PagePool;

  constructor(pool: PagePool) {
    this.pool = pool;
  }

  push(request: BackRequest): void {
    this.count++;
    if (request.operation === BARRIER) this.barrier = request;
    else this.list.push(request);
  }

  /** Takes out the next one, if it may begin: with `inFlight` requests taken and not answered, the parked among them. */
  next(inFlight: number): BackRequest | undefined {
    const request = this.list.first ?? this.barrier;
    if (request === undefined || !this.judge(request, inFlight, inFlight - this.count)) return undefined;
    return this.shift();
  }

  /** Takes out the next one, whatever it waits for. */
  shift(): BackRequest | undefined {
    let request = this.list.shift();
    if (request === undefined) {
      request = this.barrier;
      this.barrier = undefined;
    }
    if (request !== undefined) this.count--;
    return request;
  }

  /** Whether a request may begin that is not parked: a barrier when it is alone, every other when there are pages for it. */
  mayStart(request: BackRequest, inFlight: number): boolean {
    return this.judge(request, inFlight, inFlight - this.count - 1);
  }

  /** Where none but parked ones is under way no page will come back: then a request begins without pages, and is refused. */
  private judge(request: BackRequest, inFlight: number, underWay: number): boolean {
    if (request.operation === BARRIER && inFlight > 1) return false;
    return underWay === 0 || this.hasPages(request);
  }

  hasPages({ segments }: BackRequest): boolean {
    const { pool } = this;
    return pool.free >= segments || pool.grow(segments);
  }
}
