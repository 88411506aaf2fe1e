import type { OnDone } from './types.ts';

/** Operations of a `BlkReq`. */
export const BLKREQ: { readonly READ: 0; readonly WRITE: 1; readonly FFLUSH: 4 } = { READ: 0, WRITE: 1, FFLUSH: 4 };
/** States of a `BlkReq`. */
export const BLKREQ_STATE: { readonly FINISHED: 0; readonly UNFINISHED: 1 } = { FINISHED: 0, UNFINISHED: 1 };

/** A request as drivers have it; reused by its owner once it is finished. Sectors are of `capabilities.ssize` bytes. */
export interface BlkReq {
  readonly operation: number;
  readonly startSector: number;
  readonly nbSectors: number;
  /** Guest frames of the buffer, and the byte in them at which the data begins; any byte. */
  readonly gfns: ArrayLike<number> | null;
  readonly offset: number;
  /** Called when `result` stands; the request counts as finished when it returned. */
  readonly cb?: (req: BlkReq) => void;
  state: number;
  /** 0 or a negative errno. */
  result: number;
}

/** Requests under way by cookie. */
export interface RequestTable {
  put(req: BlkReq): number;
  take(cookie: number): BlkReq;
  readonly done: OnDone;
}

/** Makes a table that grows to as many requests as were ever under way. */
export function createRequests(): RequestTable {
  const table: (BlkReq | null)[] = [];
  const free: number[] = [];
  const take = (cookie: number): BlkReq => {
    const req = table[cookie]!;
    table[cookie] = null;
    free.push(cookie);
    return req;
  };
  return {
    put(req) {
      const cookie = free.pop() ?? table.length;
      table[cookie] = req;
      return cookie;
    },
    take,
    done(cookie, status) {
      const req = take(cookie);
      req.result = status;
      req.cb?.(req);
      // Last: whoever polls the state may reuse the request from here on.
      req.state = BLKREQ_STATE.FINISHED;
    },
  };
}
