import type { EventBus } from '@paravirt/event-bus';
import { type DomId, type Gref, invariant } from '@paravirt/event-bus/contract';
import { GNTST } from '@paravirt/xen-abi';
import { checkCount, refuseGref } from './checks.ts';
import { type Entries, entriesPerFrame, statusFramesFor } from './entries.ts';
import { GrantError, refuseArgument } from './errors.ts';
import type { GnttabEvents } from './events.ts';
import { FreeCallbacks } from './free-callbacks.ts';
import { END, FreeList, type FreeListHost, STATE } from './free-list.ts';
import { PrivateList } from './private-list.ts';
import type { FreeCallback, GrantHypercalls, GrantList, MemoryFrame } from './types.ts';

const CALLBACK_COUNT_MAX = 0xffff;

export interface ReferencesOptions {
  readonly owner: DomId;
  readonly version: 1 | 2;
  readonly initialFrames: number;
  readonly maxFrames: number;
  readonly reserved: number;
}

/** Who holds which reference, and the frames they stand in. */
export class References implements FreeListHost {
  readonly list: FreeList;
  readonly callbacks: FreeCallbacks;
  closed = false;
  /** Nobody is to be told anything: no bus, no waiting callback. One test for the calls that a driver makes for every request. */
  private quiet: boolean;
  private readonly owner: DomId;
  private readonly bus: EventBus<GnttabEvents> | undefined;
  private readonly hypercalls: GrantHypercalls;
  private readonly entries: Entries;
  private readonly reserved: number;
  /** Why the last growth was refused; GNTST_okay when it was not the hypervisor. */
  private refusedWith: number = GNTST.okay;

  constructor(options: ReferencesOptions, entries: Entries, hypercalls: GrantHypercalls, bus: EventBus<GnttabEvents> | undefined) {
    this.owner = options.owner;
    this.reserved = options.reserved;
    this.entries = entries;
    this.hypercalls = hypercalls;
    this.bus = bus;
    this.quiet = bus === undefined;
    this.list = new FreeList(this);
    this.callbacks = new FreeCallbacks((callback, count) => this.fired(callback, count));
    this.start(options.version, options.initialFrames, options.maxFrames);
  }

  /** Makes a fresh table of `frames` frames. */
  start(version: 1 | 2, frames: number, maxFrames: number): void {
    if (!this.attachFrames(version, frames)) {
      throw new GrantError({ code: 'hypercall', call: 'setup_table', status: this.refusedWith });
    }
    this.list.reset({ entriesPerFrame: entriesPerFrame(version), frames, maxFrames, reserved: this.reserved });
  }

  // The calls of every request are short, and what few need is apart: a compiler takes short calls into its caller.
  alloc(): Gref {
    if (!this.quiet) return this.allocAndTell();
    const ref = this.list.take();
    return ref < 0 ? this.refuseExhausted(1) : (ref as Gref);
  }

  allocList(count: number): GrantList {
    checkCount('count', count);
    this.refuseClosed('allocGrantReferences');
    const head = this.list.takeList(count);
    this.callbacks.deliver();
    if (head < 0) this.refuseExhausted(count);
    if (this.bus?.observed('gnttab:allocated')) {
      this.bus.emit('gnttab:allocated', { owner: this.owner, gref: head as Gref, count, consecutive: false });
    }
    return new PrivateList(this.list, head, count);
  }

  allocSeq(count: number): Gref {
    const first = this.tryAllocSeq(count);
    return first === undefined ? this.refuseExhausted(count) : first;
  }

  tryAllocSeq(count: number): Gref | undefined {
    checkCount('count', count);
    if (this.quiet && count > 1) {
      const first = this.list.takeSeq(count);
      return first < 0 ? undefined : (first as Gref);
    }
    this.refuseClosed('allocGrantReferenceSeq');
    const first = count === 1 ? this.list.take() : this.list.takeSeq(count);
    this.callbacks.deliver();
    if (first < 0) return undefined;
    if (this.bus?.observed('gnttab:allocated')) {
      this.bus.emit('gnttab:allocated', { owner: this.owner, gref: first as Gref, count, consecutive: true });
    }
    return first as Gref;
  }

  claim(list: GrantList): Gref | undefined {
    const own = this.own(list);
    const ref = own.first;
    if (ref === END) return undefined;
    own.first = this.list.link[ref]!;
    own.length--;
    this.list.state[ref] = STATE.claimed;
    if (this.bus?.observed('gnttab:claimed')) this.bus.emit('gnttab:claimed', { owner: this.owner, gref: ref as Gref });
    return ref as Gref;
  }

  release(list: GrantList, gref: Gref): void {
    const own = this.own(list);
    if (this.list.state[gref] !== STATE.claimed) refuseGref(this.list, 'gref', gref, 'a claimed reference');
    this.list.link[gref] = own.first;
    this.list.state[gref] = STATE.listed;
    own.first = gref;
    own.length++;
    if (this.bus?.observed('gnttab:released')) this.bus.emit('gnttab:released', { owner: this.owner, gref });
  }

  isEmpty(list: GrantList): boolean {
    return this.own(list).first === END;
  }

  freeList(list: GrantList): void {
    const own = this.own(list);
    const { link } = this.list;
    const { length } = own;
    let last = END;
    for (let ref = own.first; ref !== END; ) {
      const next = link[ref]!;
      this.list.put(ref);
      last = ref;
      ref = next;
    }
    own.close();
    if (length > 0) this.freed(last, length);
    else this.check();
  }

  free(gref: Gref): void {
    if (!this.list.putClaimed(gref)) this.ignoreReserved(gref);
    else if (!this.quiet) this.freed(gref, 1);
  }

  freeSeq(first: Gref, count: number): void {
    checkCount('count', count);
    const { size } = this.list;
    if (!Number.isInteger(first) || first < 0) refuseArgument('first', first, `a reference, 0 to ${size - 1}`);
    if (first + count > size) refuseArgument('count', count, `a whole number from 1 to ${size - first}, the references from ${first} on`);
    const from = first < this.reserved ? this.reserved : first;
    const end = first + count;
    if (from >= end) {
      this.check();
      return;
    }
    const wrong = this.list.firstUnclaimed(from, end);
    if (wrong >= 0) refuseGref(this.list, 'first', wrong, 'claimed references only, from first on');
    this.list.putSeq(from, end - from);
    if (!this.quiet) this.freed(from, end - from);
  }

  requestCallback(callback: FreeCallback, count: number): void {
    if (typeof callback?.notify !== 'function') refuseArgument('callback', callback, 'an object with a function notify');
    if (!Number.isInteger(count) || count < 0 || count > CALLBACK_COUNT_MAX) {
      refuseArgument('count', count, `a whole number from 0 to ${CALLBACK_COUNT_MAX}`);
    }
    this.refuseClosed('requestFreeCallback');
    if (this.callbacks.add(callback, count)) this.check();
  }

  cancelCallback(callback: FreeCallback): boolean {
    const waited = this.callbacks.cancel(callback);
    this.listen();
    return waited;
  }

  close(): void {
    this.closed = true;
    this.callbacks.clear();
    this.listen();
  }

  /** Tells what was put back: the facts, and then the callbacks. */
  freed(head: number, count: number): void {
    if (this.bus?.observed('gnttab:freed')) this.bus.emit('gnttab:freed', { owner: this.owner, gref: head as Gref, count });
    if (this.callbacks.waits) this.check();
  }

  addFrames(frames: number): boolean {
    this.refusedWith = GNTST.okay;
    return this.attachFrames(this.entries.version, frames);
  }

  grown(): void {
    const { frames, size, freeCount } = this.list;
    if (this.bus?.observed('gnttab:grown')) this.bus.emit('gnttab:grown', { owner: this.owner, frames, entries: size });
    // Who fires is decided now, as in the original, but called only when the growing call has taken its own references.
    this.callbacks.check(freeCount);
    this.listen();
  }

  rebuilt(count: number, first: number): void {
    if (this.bus?.observed('gnttab:rebuilt')) {
      this.bus.emit('gnttab:rebuilt', { owner: this.owner, count, first: first < 0 ? undefined : (first as Gref) });
    }
  }

  refuseClosed(operation: string): void {
    if (this.closed) throw new GrantError({ code: 'closed', operation });
  }

  check(): void {
    this.callbacks.check(this.list.freeCount);
    this.listen();
    this.callbacks.deliver();
  }

  tryAlloc(): Gref | undefined {
    if (!this.quiet) return this.tryAllocAndTell();
    const ref = this.list.take();
    return ref < 0 ? undefined : (ref as Gref);
  }

  private allocAndTell(): Gref {
    return this.tryAllocAndTell() ?? this.refuseExhausted(1);
  }

  private tryAllocAndTell(): Gref | undefined {
    this.refuseClosed('allocGrantReference');
    const ref = this.list.take();
    this.callbacks.deliver();
    if (ref < 0) return undefined;
    if (this.bus?.observed('gnttab:allocated')) {
      this.bus.emit('gnttab:allocated', { owner: this.owner, gref: ref as Gref, count: 1, consecutive: false });
    }
    return ref as Gref;
  }

  private ignoreReserved(gref: Gref): void {
    if (this.list.state[gref] !== STATE.reserved) refuseGref(this.list, 'gref', gref, 'a claimed reference');
    this.check();
  }

  private listen(): void {
    this.quiet = this.bus === undefined && !this.closed && !this.callbacks.waits;
  }

  private fired(callback: FreeCallback, count: number): void {
    if (!this.bus?.observed('gnttab:free-callback')) return;
    this.bus.emit('gnttab:free-callback', { owner: this.owner, count, free: this.list.freeCount, callback });
  }

  private own(list: GrantList): PrivateList {
    const own = list as PrivateList;
    if (own?.owner !== this.list) {
      throw new GrantError({ code: 'bad-list', argument: 'list', allowed: 'a private list of this table that was not freed' });
    }
    return own;
  }

  private refuseExhausted(requested: number): never {
    const { freeCount: free, frames, limit: maxFrames } = this.list;
    const status = this.refusedWith;
    this.refusedWith = GNTST.okay;
    const facts = { code: 'exhausted', requested, free, frames, maxFrames } as const;
    throw new GrantError(status === GNTST.okay ? facts : { ...facts, status });
  }

  private attachFrames(version: 1 | 2, count: number): boolean {
    const frames: MemoryFrame[] = [];
    const status: MemoryFrame[] = [];
    this.refusedWith = this.hypercalls.setupTable(count, frames);
    if (this.refusedWith !== GNTST.okay) return false;
    invariant(frames.length >= count, () => `setup_table was asked for ${count} frames and gave ${frames.length}`);
    if (version === 2) {
      const wanted = statusFramesFor(count);
      this.refusedWith = this.hypercalls.getStatusFrames(wanted, status);
      if (this.refusedWith !== GNTST.okay) return false;
      invariant(status.length >= wanted, () => `get_status_frames was asked for ${wanted} frames and gave ${status.length}`);
    }
    this.entries.attach(version, frames, status);
    return true;
  }
}
