import type { MapOp, UnmapBatch, UnmapOp } from '@paravirt/gnttab';
import { GNTMAP, GNTST } from '@paravirt/xen-abi';
import { isRefusal } from './errors.ts';
import { PagePool } from './page-pool.ts';
import { PersistentGrants } from './persistent-grants.ts';
import type { BackRequest } from './request.ts';
import type { AddressSource, BlkbackCounters, GrantMapper } from './types.ts';

/** What a queue's mappings need. */
export interface MappingSetup {
  readonly grants: GrantMapper;
  readonly addresses: AddressSource;
  readonly frontend: number;
  readonly scratch: readonly MapOp[];
  readonly pagesMax: number;
  /** 0: not negotiated. */
  readonly persistentMax: number;
  readonly counters: BlkbackCounters;
}

/** What a batch is told that could not be unmapped: ESHUTDOWN. */
const CLOSED = -108;

// Plain constants of this module: a property is loaded at each use.
const { okay: OKAY } = GNTST;
const { host_map: HOST_MAP } = GNTMAP;
const HOST_MAP_READONLY: number = GNTMAP.host_map | GNTMAP.readonly;

/** Told how the mapping of a request ended that had to be tried again. */
export type Resume = (request: BackRequest, result: number) => void;

/** How `map` ended. */
export const MAPPED = 0;
/** Nothing is mapped: a page could not be. */
export const REFUSED = 1;
/** Nothing is mapped yet: `resume` is called when the hypervisor no longer says "try again". */
export const RETRYING = 2;

/** The grant mappings of one queue: those of requests under way, and the persistent ones. */
export class QueueMappings {
  readonly grants: GrantMapper;
  private readonly frontend: number;
  private readonly scratch: readonly MapOp[];
  private readonly counters: BlkbackCounters;
  readonly pool: PagePool;
  readonly persistent: PersistentGrants | undefined;
  /** A grant could not be made persistent for lack of room: the next `purge` makes some. */
  overflowed = false;
  /** Unmaps of persistent grants that wait for pages in use. */
  pending = 0;
  private drained: () => void = () => {};

  constructor(setup: MappingSetup) {
    this.grants = setup.grants;
    this.frontend = setup.frontend;
    this.scratch = setup.scratch;
    this.counters = setup.counters;
    this.persistent = setup.persistentMax > 0 ? new PersistentGrants(setup.persistentMax) : undefined;
    this.pool = new PagePool(setup.addresses, setup.pagesMax + setup.persistentMax);
  }

  /**
   * Maps the pages of `refs[0..count)`, each at `vfns[i]`. Persistent ones are found or become so; the others stand in
   * `request.mapped`, to be unmapped at its end. The pool must have `count` pages.
   * @returns `MAPPED`, `REFUSED`, or `RETRYING`, in which case `resume` is called later with one of the two others.
   */
  map(request: BackRequest, refs: Uint32Array, count: number, readonly: boolean, now: number, resume: Resume): number {
    const { scratch, grants, persistent: table } = this;
    let fresh = count;
    if (table !== undefined) {
      fresh = this.find(table, request, refs, count, now);
      if (fresh === 0) return MAPPED;
    } else this.ask(request, refs, count, readonly);
    const result = grants.mapRefs(scratch, fresh);
    if (table === undefined && this.allMapped(request, fresh)) {
      this.counters.maps += fresh;
      return MAPPED;
    }
    return this.tried(request, scratch, fresh, count, now, resume, result);
  }

  /**
   * Settles how the mapping of one request ended that was mapped together with others, by its own operations: as `map`, `result` being
   * the hypercall's.
   */
  settleOne(request: BackRequest, ops: readonly MapOp[], now: number, resume: Resume, result: number): number {
    return this.tried(request, ops, ops.length, ops.length, now, resume, result);
  }

  /** Keeps the persistent grants `entries[from..]` of the request from going, until `releasePersistent`. */
  hold(request: BackRequest, entries: Int32Array, from: number): void {
    const { segments, persistent } = request;
    const { users } = this.persistent!;
    request.held = segments;
    for (let i = 0; i < segments; i++) {
      const entry = entries[from + i]!;
      persistent[i] = entry;
      users[entry]!++;
    }
  }

  /** Notes what is to be unmapped of a request if every one of its operations went well. @returns whether. */
  private allMapped(request: BackRequest, count: number): boolean {
    const { scratch } = this;
    const { mapped } = request;
    const { ops } = mapped;
    for (let i = 0; i < count; i++) {
      const op = scratch[i]!;
      if (op.status !== OKAY) return false;
      const unmap = ops[i]!;
      unmap.vfn = op.vfn;
      unmap.handle = op.handle;
    }
    mapped.count = count;
    return true;
  }

  /** Writes map operations for a request's pages into `scratch`. */
  private ask(request: BackRequest, refs: Uint32Array, count: number, readonly: boolean): void {
    const { pool, frontend, scratch } = this;
    const { vfns } = request;
    const { stack } = pool;
    const flags = readonly ? HOST_MAP_READONLY : HOST_MAP;
    let { top } = pool;
    for (let i = 0; i < count; i++) {
      const op = scratch[i]!;
      top--;
      const vfn = stack[top]!;
      op.vfn = vfn;
      op.flags = flags;
      op.ref = refs[i]!;
      op.domid = frontend;
      vfns[i] = vfn;
    }
    pool.top = top;
  }

  /** After a map hypercall: something may have to be tried again, the rest is settled. */
  private tried(
    request: BackRequest,
    ops: readonly MapOp[],
    fresh: number,
    count: number,
    now: number,
    resume: Resume,
    result: number,
  ): number {
    if (result === 0) {
      for (let k = 0; k < fresh; k++) if (ops[k]!.status === GNTST.eagain) return this.retry(request, ops, fresh, count, now, resume);
    }
    return this.settle(request, ops, fresh, count, now);
  }

  /** Finds what is mapped already and asks for the rest, to be read and written. @returns how many are asked for. */
  private find(table: PersistentGrants, request: BackRequest, refs: Uint32Array, count: number, now: number): number {
    const { scratch, counters } = this;
    const { vfns, persistent } = request;
    request.held = count;
    let fresh = 0;
    for (let i = 0; i < count; i++) {
      const ref = refs[i]!;
      const entry = table.find(ref);
      persistent[i] = entry;
      if (entry >= 0) {
        vfns[i] = table.vfns[entry]!;
        table.users[entry]!++;
        table.touch(entry, now);
        counters.persistentHits++;
        continue;
      }
      const op = scratch[fresh++]!;
      op.vfn = this.pool.take();
      op.flags = HOST_MAP;
      op.ref = ref;
      op.domid = this.frontend;
      vfns[i] = op.vfn;
    }
    return fresh;
  }

  /** "Try again" is the hypervisor's answer where a page is on its way: rare, so it may allocate. */
  private retry(request: BackRequest, ops: readonly MapOp[], fresh: number, count: number, now: number, resume: Resume): number {
    const all = ops.slice(0, fresh).map((op) => ({ ...op }));
    const late = all.filter((op) => op.status === GNTST.eagain);
    const waits = this.grants.mapRefs(late, late.length, () => resume(request, this.settle(request, all, fresh, count, now)));
    return waits > 0 ? RETRYING : this.settle(request, all, fresh, count, now);
  }

  /**
   * Every element of the batch has its own status: each success is kept in the books, whatever the others say, and a success is 0 and
   * nothing else.
   */
  private settle(request: BackRequest, ops: readonly MapOp[], fresh: number, count: number, now: number): number {
    const { vfns, persistent, mapped } = request;
    const { counters } = this;
    const table = this.persistent;
    let failed = false;
    let i = 0;
    for (let k = 0; k < fresh; k++) {
      const op = ops[k]!;
      // The elements stand in the order of their segments; what was found stands between them.
      while (i < count && vfns[i] !== op.vfn) i++;
      if (op.status !== GNTST.okay) {
        failed = true;
        this.pool.give(op.vfn);
        vfns[i] = -1;
        continue;
      }
      counters.maps++;
      if (table !== undefined) {
        if (table.count < table.max && table.find(op.ref) < 0) {
          const entry = table.add(op.ref, op.vfn, op.handle, now);
          table.users[entry] = 1;
          persistent[i] = entry;
          continue;
        }
        if (table.count === table.max) this.overflowed = true;
      }
      const unmap = mapped.ops[mapped.count++]!;
      unmap.vfn = op.vfn;
      unmap.handle = op.handle;
    }
    return failed ? REFUSED : MAPPED;
  }

  /** Lets go of the persistent grants among the request's segments. */
  releasePersistent(request: BackRequest): void {
    const table = this.persistent;
    if (table === undefined) return;
    const { persistent, held } = request;
    request.held = 0;
    for (let i = 0; i < held; i++) {
      const entry = persistent[i]!;
      if (entry < 0) continue;
      table.users[entry]!--;
      persistent[i] = -1;
    }
  }

  /** Unmaps what the request mapped, now: nobody else ever saw these pages. */
  unmapNow(request: BackRequest): void {
    const batch = request.mapped;
    if (batch.count > 0) this.reclaim(batch, this.grants.unmapRefs(batch.ops, batch.count));
  }

  /** Unmaps what a request or a batch mapped as soon as no page is in use; its owner is told, perhaps before this returns. */
  unmap(batch: UnmapBatch): void {
    this.unmapWhenIdle(batch);
    if (batch.count > 0) this.counters.unmapsDeferred += batch.count;
  }

  /** A table that was closed before its users unmaps nothing any more: the pages stay mapped until the domain's end. */
  private unmapWhenIdle(batch: UnmapBatch): void {
    try {
      this.grants.unmapRefsAsync(batch);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      batch.done(CLOSED, 0);
    }
  }

  /** Takes back the pages of a batch that was unmapped. A page whose unmap was refused is never used again. */
  reclaim(batch: UnmapBatch, result: number): void {
    const { ops, count } = batch;
    const { pool } = this;
    let unmaps = result === 0 ? pool.giveAll(ops, count) : 0;
    for (let k = unmaps; k < count; k++) {
      const op = ops[k]!;
      if (result !== 0 || op.status !== OKAY) {
        pool.lose(op.vfn);
        continue;
      }
      unmaps++;
      pool.give(op.vfn);
    }
    this.counters.unmaps += unmaps;
    batch.count = 0;
  }

  /**
   * Unmaps persistent grants that were not used since `before`, and when there was no room lately a twentieth of the most there may
   * be, least recently used first. Those of requests under way stay.
   * @returns how many went.
   */
  purge(before: number): number {
    const table = this.persistent;
    if (table === undefined) return 0;
    let extra = this.overflowed ? Math.max(1, Math.floor(table.max / 100) * 5) : 0;
    this.overflowed = false;
    let ops: UnmapOp[] | undefined;
    for (let entry = table.oldest(); entry >= 0; ) {
      const next = table.after(entry);
      const idle = table.lastUsed[entry]! <= before;
      if (!idle && extra === 0) break;
      if (table.users[entry] === 0) {
        ops ??= [];
        ops.push({ vfn: table.vfns[entry]!, handle: table.handles[entry]!, status: 0 });
        table.drop(entry);
        if (!idle) extra--;
      }
      entry = next;
    }
    if (ops === undefined) return 0;
    const batch: UnmapBatch = {
      ops,
      count: ops.length,
      done: (result) => {
        this.reclaim(batch, result);
        this.pending--;
        if (this.pending === 0) this.drained();
      },
    };
    const gone = ops.length;
    this.pending++;
    this.unmapWhenIdle(batch);
    return gone;
  }

  /** Unmaps every persistent grant; `drained` is called when the last is, perhaps at once. No request is under way. */
  close(drained: () => void): void {
    this.drained = drained;
    this.pending++;
    this.purge(Number.POSITIVE_INFINITY);
    this.pending--;
    if (this.pending === 0) drained();
  }
}
