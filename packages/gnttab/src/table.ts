import type { EventBus } from '@paravirt/event-bus';
import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import { GNTST, XEN_ERRNO } from '@paravirt/xen-abi';
import type { GrantTable, GrantTableDeps, GrantTableOptions, GrantUsage, LiveEntry } from './api.ts';
import { checkBatch, checkDone, checkFrame, refuseGref } from './checks.ts';
import { Entries, entriesPerFrame } from './entries.ts';
import { GrantError, refuseArgument } from './errors.ts';
import type { GnttabEvents } from './events.ts';
import { ForeignPages } from './foreign-pages.ts';
import { Grants } from './grants.ts';
import { liveEntries } from './introspection.ts';
import { type MapHost, Mapper } from './map.ts';
import { References } from './references.ts';
import type { CopyOp, ForeignPage, FreeCallback, GrantHypercalls, GrantList, MapOp, UnmapBatch, UnmapOp, UnmapResult } from './types.ts';
import { type UnmapHost, UnmapQueue } from './unmap.ts';

/**
 * Sets a domain's grant table up: asks the hypervisor for the layout and the first frames.
 * @throws {GrantError} `bad-argument`; `hypercall`: the hypervisor refused the layout or the frames.
 */
export function createGrantTable(options: GrantTableOptions, deps: GrantTableDeps): GrantTable {
  return new Table(options, deps);
}

class Table implements GrantTable, MapHost, UnmapHost {
  readonly owner: DomId;
  private readonly hypercalls: GrantHypercalls;
  private readonly bus: EventBus<GnttabEvents> | undefined;
  private readonly reserved: number;
  private readonly entryTable: Entries = new Entries();
  private readonly references: References;
  private readonly grants: Grants;
  private readonly foreign: ForeignPages = new ForeignPages();
  private readonly mapper: Mapper;
  private readonly unmaps: UnmapQueue;

  constructor(options: GrantTableOptions, deps: GrantTableDeps) {
    const { owner = 0 as DomId, version = 1, initialFrames = 1, reservedEntries = 8, freePerIteration = 10 } = options;
    const { canDefer = () => true } = options;
    const { hypercalls, scheduler } = deps;
    if (version !== 1 && version !== 2) refuseArgument('version', version, '1 or 2');
    checkOption('reservedEntries', reservedEntries, 0, entriesPerFrame(version) - 1);
    checkOption('freePerIteration', freePerIteration, 0, 0xffff_ffff);
    if (options.maxFrames !== undefined) checkOption('maxFrames', options.maxFrames, 1, 0xffff_ffff);
    const size = { frames: 0, maxFrames: 0 };
    refuseStatus('query_size', hypercalls.querySize(size));
    // References are machine integers in here.
    const addressable = Math.floor(0x7fff_0000 / entriesPerFrame(1));
    const maxFrames = Math.min(options.maxFrames ?? size.maxFrames, size.maxFrames, addressable);
    checkOption('initialFrames', initialFrames, 1, maxFrames);
    // A hypervisor without version 2 has no such call either, and then version 1 is what there is.
    const switched = hypercalls.setVersion(version);
    if (version === 2 || switched !== -XEN_ERRNO.ENOSYS) refuseStatus('set_version', switched);
    this.owner = owner;
    this.hypercalls = hypercalls;
    this.bus = deps.bus;
    this.reserved = reservedEntries;
    const { bus, pages } = deps;
    this.references = new References(
      { owner, version, initialFrames, maxFrames, reserved: reservedEntries },
      this.entryTable,
      hypercalls,
      bus,
    );
    this.grants = new Grants({ owner, freePerIteration, canDefer }, this.references, this.entryTable, scheduler, bus, pages);
    this.mapper = new Mapper(hypercalls, scheduler, this.foreign, this);
    this.unmaps = new UnmapQueue(this, scheduler, pages);
  }

  get version(): 1 | 2 {
    return this.entryTable.version;
  }
  get frames(): number {
    return this.references.list.frames;
  }
  get entries(): number {
    return this.references.list.size;
  }
  get free(): number {
    return this.references.list.freeCount;
  }

  allocGrantReference(): Gref {
    return this.references.alloc();
  }
  allocGrantReferences(count: number): GrantList {
    return this.references.allocList(count);
  }
  claimGrantReference(list: GrantList): Gref | undefined {
    return this.references.claim(list);
  }
  releaseGrantReference(list: GrantList, gref: Gref): void {
    this.references.release(list, gref);
  }
  emptyGrantReferences(list: GrantList): boolean {
    return this.references.isEmpty(list);
  }
  freeGrantReferences(list: GrantList): void {
    this.references.freeList(list);
  }
  freeGrantReference(gref: Gref): void {
    this.references.free(gref);
  }
  allocGrantReferenceSeq(count: number): Gref {
    return this.references.allocSeq(count);
  }
  tryAllocGrantReference(): Gref | undefined {
    return this.references.tryAlloc();
  }
  tryAllocGrantReferenceSeq(count: number): Gref | undefined {
    return this.references.tryAllocSeq(count);
  }
  freeGrantReferenceSeq(first: Gref, count: number): void {
    this.references.freeSeq(first, count);
  }
  requestFreeCallback(callback: FreeCallback, count: number): void {
    this.references.requestCallback(callback, count);
  }
  cancelFreeCallback(callback: FreeCallback): boolean {
    return this.references.cancelCallback(callback);
  }

  grantForeignAccess(options: { readonly peer: DomId; readonly gfn: Gfn; readonly readonly: boolean }): Gref {
    return this.grants.grant(options.peer, options.gfn, options.readonly);
  }
  publish(gref: Gref, peer: DomId, gfn: Gfn, readonly: boolean): void {
    this.grants.publish(gref, peer, gfn, readonly);
  }
  publishMany(refs: Uint32Array, at: number, peer: DomId, gfns: ArrayLike<number>, from: number, count: number, readonly: boolean): void {
    this.grants.publishMany(refs, at, peer, gfns, from, count, readonly);
  }
  publishSubPage(gref: Gref, peer: DomId, gfn: Gfn, readonly: boolean, pageOffset: number, bytes: number): void {
    this.grants.publishSubPage(gref, peer, gfn, readonly, pageOffset, bytes);
  }
  publishTransitive(gref: Gref, peer: DomId, through: DomId, throughGref: Gref, readonly: boolean): void {
    this.grants.publishTransitive(gref, peer, through, throughGref, readonly);
  }
  update(gref: Gref, peer: DomId, gfn: Gfn, readonly: boolean): boolean {
    return this.grants.update(gref, peer, gfn, readonly);
  }
  tryEnd(gref: Gref): boolean {
    return this.grants.tryEnd(gref);
  }
  tryEndMany(refs: Uint32Array, at: number, count: number): number {
    return this.grants.tryEndMany(refs, at, count);
  }
  tryEndForeignAccess(gref: Gref): boolean {
    return this.grants.tryEndAndFree(gref);
  }
  endForeignAccess(gref: Gref, page?: Gfn): boolean {
    return this.grants.end(gref, page);
  }
  isInUse(gref: Gref): boolean {
    return this.grants.isInUse(gref);
  }

  mapRefs(ops: readonly MapOp[], count: number, done?: () => void): number {
    checkBatch(ops, count);
    if (done !== undefined) checkDone('done', done);
    this.references.refuseClosed('mapRefs');
    return this.mapper.map(ops, count, done);
  }
  copy(ops: readonly CopyOp[], count: number, done?: () => void): number {
    checkBatch(ops, count);
    if (done !== undefined) checkDone('done', done);
    this.references.refuseClosed('copy');
    return this.mapper.copy(ops, count, done);
  }
  unmapRefs(ops: readonly UnmapOp[], count: number): number {
    checkBatch(ops, count);
    return this.mapper.unmap(ops, count);
  }
  unmapRefsAsync(batch: UnmapBatch): void {
    if (typeof batch !== 'object' || batch === null) refuseArgument('batch', batch, 'a batch with ops, count and done');
    checkBatch(batch.ops, batch.count);
    checkDone('batch.done', batch.done);
    this.references.refuseClosed('unmapRefsAsync');
    this.unmaps.start(batch);
  }
  unmapRefsWhenIdle(ops: readonly UnmapOp[], count: number): Promise<UnmapResult> {
    return new Promise((resolve) => {
      this.unmapRefsAsync({ ops, count, done: (result, age) => resolve({ result, age }) });
    });
  }
  foreignPageOf(vfn: number, out: ForeignPage): boolean {
    checkFrame('vfn', vfn);
    return this.foreign.get(vfn, out);
  }

  setVersion(version: 1 | 2): void {
    if (version !== 1 && version !== 2) refuseArgument('version', version, '1 or 2');
    this.references.refuseClosed('setVersion');
    const before = this.version;
    if (version === before) return;
    const { list } = this.references;
    const outstanding = list.size - this.reserved - list.freeCount;
    if (outstanding > 0) throw new GrantError({ code: 'version-busy', version, outstanding });
    refuseStatus('set_version', this.hypercalls.setVersion(version));
    try {
      this.references.start(version, list.frames, list.limit);
    } catch (error) {
      refuseStatus('set_version', this.hypercalls.setVersion(before));
      throw error;
    }
    if (this.bus?.observed('gnttab:version-changed')) {
      this.bus.emit('gnttab:version-changed', { owner: this.owner, version, entries: list.size });
    }
    this.references.check();
  }

  usage(): GrantUsage {
    const { list } = this.references;
    const { granted, busy, leaked, deferred, peers } = this.grants;
    return {
      frames: list.frames,
      maxFrames: list.limit,
      entries: list.size,
      free: list.freeCount,
      tailRun: list.seqAvailable,
      largestRun: list.longestRun(),
      private: list.size - this.reserved - list.freeCount - granted - deferred.size - leaked,
      granted,
      busy,
      deferred: deferred.size,
      leaked,
      mapped: this.foreign.size,
      unmapsPending: this.unmaps.size,
      peers: peers.all().map(({ domid, count }) => ({ peer: domid as DomId, granted: count })),
    };
  }
  grantedTo(peer: DomId): number {
    return this.grants.peers.get(peer);
  }
  liveEntries(): IterableIterator<LiveEntry> {
    return liveEntries(this.references.list, this.entryTable);
  }
  freeReferences(): IterableIterator<Gref> {
    return this.references.list.inOrder() as IterableIterator<Gref>;
  }
  deferredReferences(): Gref[] {
    return this.grants.deferred.inOrder() as Gref[];
  }
  waitingCallbacks(): FreeCallback[] {
    return this.references.callbacks.inOrder();
  }
  entryBytes(gref: Gref): Uint8Array {
    const { list } = this.references;
    if (gref >>> 0 !== gref || gref >= list.size) refuseGref(list, 'gref', gref, `a reference of the table, 0 to ${list.size - 1}`);
    return this.entryTable.bytesOf(gref);
  }

  close(): void {
    if (this.references.closed) return;
    this.references.close();
    this.grants.close();
    this.mapper.close();
    this.unmaps.close();
  }

  watchesMaps(): boolean {
    return this.bus?.observed('gnttab:mapped') ?? false;
  }
  mapped(op: MapOp): void {
    const { domid, ref, vfn, handle } = op;
    this.bus?.emit('gnttab:mapped', { owner: this.owner, peer: domid as DomId, gref: ref as Gref, vfn, handle });
  }
  watchesUnmaps(): boolean {
    return this.bus?.observed('gnttab:unmapped') ?? false;
  }
  unmapped(op: UnmapOp): void {
    this.bus?.emit('gnttab:unmapped', { owner: this.owner, vfn: op.vfn, handle: op.handle });
  }
  retrying(count: number, delayMs: number): void {
    if (this.bus?.observed('gnttab:eagain')) this.bus.emit('gnttab:eagain', { owner: this.owner, count, delayMs });
  }
  unmap(ops: readonly UnmapOp[], count: number): number {
    return this.mapper.unmap(ops, count);
  }
  putOff(batch: UnmapBatch, age: number, delayMs: number): void {
    if (this.bus?.observed('gnttab:unmap-retry')) this.bus.emit('gnttab:unmap-retry', { owner: this.owner, batch, age, delayMs });
  }
  carriedOut(batch: UnmapBatch, age: number, result: number): void {
    if (this.bus?.observed('gnttab:unmap-done')) this.bus.emit('gnttab:unmap-done', { owner: this.owner, batch, age, result });
  }
}

function checkOption(option: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) refuseArgument(option, value, `a whole number from ${min} to ${max}`);
}

function refuseStatus(call: string, status: number): void {
  if (status !== GNTST.okay) throw new GrantError({ code: 'hypercall', call, status });
}
