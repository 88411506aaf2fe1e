import type { MapOp, UnmapBatch } from '@paravirt/gnttab';

/** Requests of a batch at most: what a ring of one page holds. */
export const BATCH_REQUESTS = 32;
/** Pages of a batch at most: what one request may map, 256 segments and the pages that name them. */
export const BATCH_PAGES = 264;

/** Map operations for one batch. */
export function mapOps(): MapOp[] {
  return Array.from({ length: BATCH_PAGES }, () => ({ vfn: 0, flags: 0, ref: 0, domid: 0, status: 0, handle: 0, mfn: 0 }));
}

/** Words of a request in `words`, to be combined with `request << shift`. The kind of one that left the batch is `gone`. */
export const ROW: {
  readonly shift: 3;
  readonly idHi: 1;
  /** The operation in the low byte, and the number of segments above it: as in a request's first word. */
  readonly kind: 2;
  readonly firstPage: 3;
  readonly sectors: 4;
  /** The first sector, low and high half. */
  readonly sectorLo: 5;
  /** Of a request of one segment that is being taken: its reference. */
  readonly gref: 6;
  readonly sectorHi: 7;
  /** In `kind`: a read or a write of one segment has `one` under `oneMask`, and the operation is what `operationMask` leaves. */
  readonly oneMask: 0xfffe;
  readonly one: 0x0100;
  readonly operationMask: 0xff;
  readonly segmentsShift: 8;
  readonly gone: -1;
} = {
  shift: 3,
  idHi: 1,
  kind: 2,
  firstPage: 3,
  sectors: 4,
  sectorLo: 5,
  gref: 6,
  sectorHi: 7,
  oneMask: 0xfffe,
  one: 0x0100,
  operationMask: 0xff,
  segmentsShift: 8,
  gone: -1,
};

/** Who is told when the pages of a batch are unmapped. */
export interface BatchOwner {
  batchDone(batch: TransferBatch, result: number): void;
}

/**
 * Reads and writes that were taken one after the other in one turn: mapped in one batch, carried out in their order, and unmapped in
 * one batch. Flat, because the pages that are copied in between leave nothing else in the nearest cache: what a request needs is in
 * as few lines as can be.
 */
export class TransferBatch {
  owner: BatchOwner | undefined = undefined;
  count = 0;
  pages = 0;
  /** By request: the id's low half first, then as `ROW` says. */
  readonly words: Int32Array = new Int32Array(BATCH_REQUESTS << ROW.shift);
  /** By page: where it is mapped. A plain array, in which a virtual frame below 2^30 stays a small integer. */
  readonly vfns: number[] = new Array<number>(BATCH_PAGES).fill(0);
  /** By page: its entry among the persistent grants, where there are any. */
  readonly entries: Int32Array = new Int32Array(BATCH_PAGES);
  readonly firstSect: Uint8Array = new Uint8Array(BATCH_PAGES);
  readonly lastSect: Uint8Array = new Uint8Array(BATCH_PAGES);
  /** By page: 1 where the disk writes to it. */
  readonly writable: Uint8Array = new Uint8Array(BATCH_PAGES);
  /** By page: where it is, in the memory that all of them are in. */
  readonly offsets: number[] = new Array<number>(BATCH_PAGES).fill(0);
  /** By page: how it is mapped; what was mapped unmaps by the same operation. */
  readonly ops: MapOp[] = mapOps();
  readonly unmaps: UnmapBatch & { readonly ops: MapOp[] } = {
    ops: this.ops,
    count: 0,
    done: (result) => this.owner!.batchDone(this, result),
  };
  /** Next of the idle ones. */
  next: TransferBatch | undefined = undefined;
}

/** The idle batches of a backend: as many as ever filled or waited for pages in use at once. */
export class TransferBatches {
  private idle: TransferBatch | undefined = undefined;

  take(owner: BatchOwner): TransferBatch {
    const batch = this.idle ?? new TransferBatch();
    this.idle = batch.next;
    batch.next = undefined;
    batch.owner = owner;
    return batch;
  }

  give(batch: TransferBatch): void {
    batch.owner = undefined;
    batch.next = this.idle;
    this.idle = batch;
  }
}
