import { BLKIF_MAX_SEGMENTS_PER_REQUEST, BlockRequest, BlockResponse } from './blkif.ts';
import type { SharedRing } from './shared-ring.ts';

/** A slot read as a request: one of those from `rspProd` up to `reqProd`. */
export interface WindowRequest {
  readonly index: number;
  readonly slot: number;
  readonly request: BlockRequest;
  /**
   * Its id stands again in a later request of the window: ids are reused only after the answer, so this one was answered, and
   * its pages may hold something else by now.
   */
  readonly superseded: boolean;
}

/** A slot read as a response: its newest content. */
export interface WindowResponse {
  readonly index: number;
  readonly slot: number;
  readonly response: BlockResponse;
}

/** What a response left of the request that lay in its slot: everything behind the response's bytes. */
export interface RequestResidue {
  readonly index: number;
  readonly slot: number;
  readonly sectorLo: number;
  readonly sectorHi: number;
  /**
   * The residue's words as segments. How many of the 11 belong to the request cannot be read any more, and of an indirect
   * request the words mean something else: see `handle` and `indirectGrefs`.
   */
  readonly segments: readonly { readonly gref: number; readonly firstSect: number; readonly lastSect: number }[];
  /** The same words as those of an indirect request: its handle, and its references up to the first 0. */
  readonly handle: number;
  readonly indirectGrefs: readonly number[];
}

/** What a ring's memory tells of what is in flight. */
export interface RingWindow {
  readonly reqProd: number;
  readonly reqEvent: number;
  readonly rspProd: number;
  readonly rspEvent: number;
  /** Requests not answered: `reqProd - rspProd`. Above `entries` no honest pair of ends can have got. */
  readonly unanswered: number;
  readonly requests: readonly WindowRequest[];
  readonly responses: readonly WindowResponse[];
  /** Of each of `responses`, what is left of the request with the same index. */
  readonly residues: readonly RequestResidue[];
  /**
   * Outstanding requests that cannot be read as requests any more, because the response to another one was put over them:
   * answers come out of order, so for each superseded request of the window one lies hidden among the `residues`.
   */
  readonly hidden: number;
}

/**
 * Reads a whole ring, as for a dump: a window of indices alone does not tell what is in flight, since answers come out of order
 * and lie over older requests. Bounded by the ring's slots whatever the indices say; allocates.
 */
export function readRingWindow(shared: SharedRing): RingWindow {
  const { reqProd, reqEvent, rspProd, rspEvent, entries } = shared;
  const unanswered = (reqProd - rspProd) >>> 0;
  const readable = Math.min(unanswered, entries);
  const requests = windowRequests(shared, (reqProd - readable) >>> 0, readable);
  const superseded = requests.filter((request) => request.superseded).length;

  // Before the first wrap of the slots the older indices were never used; a producer that came round 2^32 has used them all.
  const round = rspProd > reqProd;
  const oldest = reqProd >= entries || round ? (reqProd - entries) >>> 0 : 0;
  const answered = unanswered > entries ? 0 : (rspProd - oldest) >>> 0;
  const responses: WindowResponse[] = [];
  const residues: RequestResidue[] = [];
  for (let i = 0; i < Math.min(answered, entries); i++) {
    const index = (oldest + i) >>> 0;
    const response = new BlockResponse();
    shared.readResponse(index, response);
    responses.push({ index, slot: shared.slotOf(index), response });
    residues.push(readResidue(shared, index));
  }
  return { reqProd, reqEvent, rspProd, rspEvent, unanswered, requests, responses, residues, hidden: superseded };
}

function windowRequests(shared: SharedRing, first: number, count: number): WindowRequest[] {
  const found: WindowRequest[] = [];
  const later = new Set<string>();
  for (let i = count - 1; i >= 0; i--) {
    const index = (first + i) >>> 0;
    const request = new BlockRequest();
    shared.readRequest(index, request);
    const id = `${request.idHi}:${request.idLo}`;
    found.push({ index, slot: shared.slotOf(index), request, superseded: later.has(id) });
    later.add(id);
  }
  return found.reverse();
}

function readResidue(shared: SharedRing, index: number): RequestResidue {
  const bytes = new Uint8Array(shared.slotBytes);
  shared.copySlot(index, bytes);
  const view = new DataView(bytes.buffer);
  // A 64-bit id is aligned to 8 bytes but on x86_32.
  const sector = shared.abi === 'x86_32' ? 12 : 16;
  const rest = sector + 8;
  const segments = Array.from({ length: BLKIF_MAX_SEGMENTS_PER_REQUEST }, (_, i) => ({
    gref: view.getUint32(rest + i * 8, true),
    firstSect: view.getUint8(rest + i * 8 + 4),
    lastSect: view.getUint8(rest + i * 8 + 5),
  }));
  const indirectGrefs: number[] = [];
  for (let i = 0; i < 8; i++) {
    const gref = view.getUint32(rest + 4 + i * 4, true);
    if (gref === 0) break;
    indirectGrefs.push(gref);
  }
  return {
    index,
    slot: shared.slotOf(index),
    sectorLo: view.getUint32(sector, true),
    sectorHi: view.getUint32(sector + 4, true),
    segments,
    handle: view.getUint16(rest, true),
    indirectGrefs,
  };
}
