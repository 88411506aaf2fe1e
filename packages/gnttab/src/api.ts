import type { EventBus } from '@paravirt/event-bus';
import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import type { SchedulerLike } from 'rxjs';
import type { GnttabEvents } from './events.ts';
import type {
  CopyOp,
  ForeignPage,
  FreeCallback,
  GrantHypercalls,
  GrantList,
  MapOp,
  PageUse,
  UnmapBatch,
  UnmapOp,
  UnmapResult,
} from './types.ts';

/** Options of a grant table, all with a default. */
export interface GrantTableOptions {
  /** The domain whose table it is; it stands in the facts. Default 0. */
  readonly owner?: DomId;
  /** Layout of the entries. Default 1. */
  readonly version?: 1 | 2;
  /** Frames at the start, 1 to `maxFrames`. Default 1. */
  readonly initialFrames?: number;
  /** The table never exceeds this many frames, nor what the hypervisor allows. Default: what the hypervisor allows. */
  readonly maxFrames?: number;
  /** References from 0 that are never handed out. Default 8 (GNTTAB_NR_RESERVED_ENTRIES). */
  readonly reservedEntries?: number;
  /** Most deferred ends looked at in one pass, 0 = all. Default 10. */
  readonly freePerIteration?: number;
  /**
   * Asked before a busy end is queued: false stands for "no memory for the record", and the reference leaks as in the
   * original. Default: always true. A fault injector's handle.
   */
  readonly canDefer?: () => boolean;
}

/** What a grant table is attached to. */
export interface GrantTableDeps {
  readonly hypercalls: GrantHypercalls;
  /** Time for retries; delays are in milliseconds. */
  readonly scheduler: SchedulerLike;
  /** Facts go here; without it, or while nobody listens, they cost a branch. */
  readonly bus?: EventBus<GnttabEvents>;
  /** Without it no mapped page counts as in use, and granted pages are neither held nor released. */
  readonly pages?: PageUse;
}

/** How many references are where, kept up to date as they move. */
export interface GrantUsage {
  readonly frames: number;
  readonly maxFrames: number;
  /** Entries in the table, the reserved ones included. */
  readonly entries: number;
  readonly free: number;
  /** Length of the run at the end of the table that consecutive requests are served from without a search. */
  readonly tailRun: number;
  /** Length of the longest run of free references. */
  readonly largestRun: number;
  /** Taken, but not granted: in private lists or claimed. */
  readonly private: number;
  /** Entries that are published, `busy` ones included. */
  readonly granted: number;
  /** Of those, the ones that were in use when their end was last tried. */
  readonly busy: number;
  /** Ends that wait for the peer. */
  readonly deferred: number;
  /** References lost because their end could not be queued. */
  readonly leaked: number;
  /** Pages of others that are mapped here. */
  readonly mapped: number;
  /** Batches whose unmap waits for pages to fall out of use. */
  readonly unmapsPending: number;
  /** Entries published to each peer, deferred and leaked ones included. */
  readonly peers: readonly { readonly peer: DomId; readonly granted: number }[];
}

/** A published entry, as its bytes are at the moment it is looked at. */
export interface LiveEntry {
  readonly gref: Gref;
  readonly peer: DomId;
  /** GTF_* bits. */
  readonly flags: number;
  readonly kind: 'full-page' | 'sub-page' | 'transitive';
  /** The granted frame; undefined for a transitive entry. */
  readonly gfn: Gfn | undefined;
  readonly inUse: boolean;
  readonly state: 'granted' | 'busy' | 'deferred' | 'leaked';
}

/**
 * One domain's grant table: which references are free, what their entries say, and when they may be used again; and the
 * mapping of other domains' grants. Its answers are those of Linux 6.6, drivers/xen/grant-table.c.
 *
 * Calls never wait. A refusal is a `GrantError` and changes nothing, except that a failed `allocGrantReferenceSeq` may have put
 * the free list in order and may have grown the table, as the original does.
 */
export interface GrantTable {
  readonly owner: DomId;
  readonly version: 1 | 2;
  /** Frames the table has now. */
  readonly frames: number;
  /** Entries the table has now, reserved ones included. */
  readonly entries: number;
  /** Free references. */
  readonly free: number;

  /** Takes one reference off the free list. O(1). @throws {GrantError} `exhausted`. */
  allocGrantReference(): Gref;
  /**
   * Takes `count` references, in the order of the free list, as a private list. O(count).
   * @throws {GrantError} `bad-argument`: `count` is not a whole number from 1 up. `exhausted`.
   */
  allocGrantReferences(count: number): GrantList;
  /** Takes the head of a private list, undefined when it is empty. O(1). @throws {GrantError} `bad-list`. */
  claimGrantReference(list: GrantList): Gref | undefined;
  /** Puts a claimed reference in front of a private list. O(1). @throws {GrantError} `bad-list`, `bad-gref`. */
  releaseGrantReference(list: GrantList, gref: Gref): void;
  /** Whether the list is empty. @throws {GrantError} `bad-list`. */
  emptyGrantReferences(list: GrantList): boolean;
  /** Frees what is left in a private list, which ends with it. Its members stand reversed at the front of the free list. @throws {GrantError} `bad-list`. */
  freeGrantReferences(list: GrantList): void;
  /** Frees a claimed reference; a reserved one is ignored. O(1). @throws {GrantError} `bad-gref`: it is free, in a private list, or granted. */
  freeGrantReference(gref: Gref): void;
  /**
   * Takes `count` references in a row and gives the first. O(log n), and what was freed since the last search is looked over once.
   * @throws {GrantError} `bad-argument`, `exhausted`. The free list may be in order, and the table grown, afterwards.
   */
  allocGrantReferenceSeq(count: number): Gref;
  /** `allocGrantReference` for callers who expect to find none: undefined instead of `exhausted`, whose stack costs microseconds. */
  tryAllocGrantReference(): Gref | undefined;
  /** `allocGrantReferenceSeq` for callers who expect to find no place: undefined instead of `exhausted`. @throws {GrantError} `bad-argument`. */
  tryAllocGrantReferenceSeq(count: number): Gref | undefined;
  /**
   * Frees `count` claimed references from `first` on; reserved ones are ignored. `first` is the next to be handed out.
   * @throws {GrantError} `bad-argument`, `bad-gref`: one of them is not claimed; none is freed.
   */
  freeGrantReferenceSeq(first: Gref, count: number): void;

  /** Calls `callback.notify()` once, as soon as `count` references (0 to 65535) are free, perhaps at once. Nothing happens when it already waits. @throws {GrantError} `bad-argument`. */
  requestFreeCallback(callback: FreeCallback, count: number): void;
  /** Takes a waiting callback off. @returns whether it was waiting. */
  cancelFreeCallback(callback: FreeCallback): boolean;

  /**
   * Lets `peer` map `gfn` (a guest frame number); the peer quotes the returned reference. O(1).
   * @throws {GrantError} `exhausted`, `bad-argument`.
   */
  grantForeignAccess(options: { readonly peer: DomId; readonly gfn: Gfn; readonly readonly: boolean }): Gref;
  /**
   * Points a claimed reference's entry at `gfn` and opens it to `peer`; flags are written last. A few ns, nothing allocated.
   * @throws {GrantError} `bad-gref`: it is not claimed. `bad-argument`: version 1 has 32 bits for a frame.
   * @see xen/include/public/grant_table.h, "Introducing a valid entry into the grant table"
   */
  publish(gref: Gref, peer: DomId, gfn: Gfn, readonly: boolean): void;
  /**
   * `publish` of `count` references, those of `refs` from `at` on, for the frames of `gfns` from `from` on: what as many calls would
   * do, in the same order.
   * @throws {GrantError} as `publish`, at the first that it would refuse; those before it are published.
   */
  publishMany(refs: Uint32Array, at: number, peer: DomId, gfns: ArrayLike<number>, from: number, count: number, readonly: boolean): void;
  /** Version 2: opens `bytes` bytes from `pageOffset` on of `gfn`, for copies only. @throws {GrantError} as `publish`; `wrong-version`. */
  publishSubPage(gref: Gref, peer: DomId, gfn: Gfn, readonly: boolean, pageOffset: number, bytes: number): void;
  /** Version 2: lets `peer` copy through this reference what `through` granted to this domain as `throughGref`. @throws {GrantError} as `publish`; `wrong-version`. */
  publishTransitive(gref: Gref, peer: DomId, through: DomId, throughGref: Gref, readonly: boolean): void;
  /**
   * Closes a published entry and opens it for another frame: for pools. One attempt.
   * @returns false, with the entry as `tryEnd` leaves it, when the peer still maps it.
   */
  update(gref: Gref, peer: DomId, gfn: Gfn, readonly: boolean): boolean;
  /**
   * Closes a published entry if the peer neither reads nor writes it: one compare-and-swap attempt, never a test and then an
   * act. The reference stays claimed. A few ns, nothing allocated.
   *
   * On `false` the reference stays granted and its page must not be given back. A version 1 entry is then unchanged; of a
   * version 2 entry the flags are closed, so that no new mapping can be made, and the status word is looked at next time.
   * @throws {GrantError} `bad-gref`: it is not published.
   */
  tryEnd(gref: Gref): boolean;
  /**
   * `tryEnd` of the `count` references of `refs` from `at` on, in order, up to the first that the peer still uses.
   * @returns how many were ended; the one behind them is as `tryEnd` leaves it.
   * @throws {GrantError} `bad-gref`: one is not published; those before it are ended.
   */
  tryEndMany(refs: Uint32Array, at: number, count: number): number;
  /** `tryEnd`, and frees the reference when it succeeds. @throws {GrantError} `bad-gref`. */
  tryEndForeignAccess(gref: Gref): boolean;
  /**
   * Ends a grant, now or when the peer lets go. When it ends, the reference is freed and one hold of `page` is released. While
   * it is busy the reference stays out of use, `page` stays held, and the end is tried again every second; where no `page` is
   * given, the entry's own frame is held for that time.
   * @returns whether it ended at once.
   * @throws {GrantError} `bad-gref`: it is not published.
   */
  endForeignAccess(gref: Gref, page?: Gfn): boolean;
  /** Whether the peer reads or writes the page through this entry right now. A few ns, nothing allocated. @throws {GrantError} `bad-gref`: beyond the table. */
  isInUse(gref: Gref): boolean;

  /**
   * Maps the first `count` elements; each gets its own status (0 or negative), handle and frame. Mapped pages are known to
   * `foreignPageOf` from then on.
   *
   * With `done`, elements that met GNTST_eagain are tried again together after 1, 2, ... 255 ms and then have
   * GNTST_bad_page; `done` is called once, after the last retry, only if the return value is above 0, and `ops` is busy until
   * then. Without `done` they keep GNTST_eagain.
   * @returns 0: every status is final. Above 0: as many elements are tried again. Below 0: the hypercall's errno; every status is GNTST_general_error.
   * @throws {GrantError} `bad-argument`.
   */
  mapRefs(ops: readonly MapOp[], count: number, done?: () => void): number;
  /** Copies between frames and references, with per-element status and retries as `mapRefs`. */
  copy(ops: readonly CopyOp[], count: number, done?: () => void): number;
  /** Unmaps the first `count` elements now, whoever uses the pages. @returns 0 or the hypercall's errno; elements carry their own status. */
  unmapRefs(ops: readonly UnmapOp[], count: number): number;
  /**
   * Unmaps a batch when none of its pages (`ops[i].vfn`) is in use: tried at once, then after 5 ms, 10 ms more, 15 ms more ...
   * Errors are not retried. `batch.done` may be called before this returns.
   * @throws {GrantError} `bad-argument`; `batch-pending`: the batch still waits.
   */
  unmapRefsAsync(batch: UnmapBatch): void;
  /** `unmapRefsAsync` with a promise. */
  unmapRefsWhenIdle(ops: readonly UnmapOp[], count: number): Promise<UnmapResult>;
  /** Fills `out` with who granted the page mapped at `vfn`. O(1). @returns false when no grant is mapped there. */
  foreignPageOf(vfn: number, out: ForeignPage): boolean;

  /** Switches the layout of the entries. Allowed only while every reference is free; afterwards the table is as a new one of as many frames. @throws {GrantError} `version-busy`, `hypercall`, `bad-argument`. */
  setVersion(version: 1 | 2): void;

  /** O(log n), and what moved since the last search is looked over once. */
  usage(): GrantUsage;
  /** Entries published to `peer`. O(1). */
  grantedTo(peer: DomId): number;
  /** Every published entry, in ascending order. O(entries). */
  liveEntries(): IterableIterator<LiveEntry>;
  /** The free references in the order of the free list. O(n): for tests and tools. */
  freeReferences(): IterableIterator<Gref>;
  /** The references whose end waits, front of the queue first. */
  deferredReferences(): Gref[];
  /** The waiting free callbacks, head of the list first. */
  waitingCallbacks(): FreeCallback[];
  /** The entry's bytes, 8 or 16. A copy. @throws {GrantError} `bad-gref`. */
  entryBytes(gref: Gref): Uint8Array;

  /**
   * Stops every timer and forgets what waits. Batches that wait are not unmapped and are told -108 (ESHUTDOWN); elements that
   * wait for another try have GNTST_general_error; deferred references leak, their entries as they are. Afterwards nothing is handed out, granted,
   * mapped or copied any more (`closed`); giving back still works, and a busy end leaks at once.
   */
  close(): void;
}
