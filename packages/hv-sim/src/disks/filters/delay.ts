import type { Unsubscribable } from '@paravirt/event-bus';
import type { MemoryViews } from '@paravirt/gnttab';
import type { SchedulerLike } from 'rxjs';
import type { Random } from '../../time/random.ts';
import { DISK_ERRNO, type Disk, type DiskWaiter, LATER } from '../disk.ts';
import { DiskError } from '../errors.ts';
import { type DiskFilter, FilterBase, Tally } from './filter.ts';

/** Options of `delayFilter`: how long each kind of operation takes; ticks of `scheduler`. */
export interface DelayOptions {
  /** Whose time it is; ticks are its milliseconds, fractions as far as it knows them. */
  readonly scheduler: SchedulerLike;
  /** For every operation that has no delay of its own. Default 0: at once. */
  readonly ticks?: number;
  readonly readTicks?: number;
  readonly writeTicks?: number;
  readonly flushTicks?: number;
  /** Discards and writing zeroes. */
  readonly discardTicks?: number;
  /** Up to so much more, evenly spread, so that calls overtake one another. Default 0; needs `random`. */
  readonly jitterTicks?: number;
  readonly random?: Random;
}

/** A disk that takes its time. */
export interface DelayFilter extends DiskFilter {
  /** Calls that wait. */
  readonly waiting: number;
}

type Kind = 'read' | 'write' | 'flush' | 'discard' | 'zero';

/** A call that waits: its arguments, for all kinds in one. */
class Call {
  kind: Kind = 'flush';
  views: MemoryViews | undefined = undefined;
  address = 0;
  offset = 0;
  bytes = 0;
  /** `fua` of a write, `secure` of a discard. */
  flag = false;
  /** The disk became too small for it. */
  cut = false;
  waiter: DiskWaiter | undefined = undefined;
  due = 0;
  order = 0;
}

/** Calls are carried out when they are due, those due together in one item of the run queue and in the order they came. */
class Delaying extends FilterBase<Tally> implements DelayFilter {
  readonly kind = 'delay';
  private readonly scheduler: SchedulerLike;
  private readonly ticks: { readonly [kind in Kind]: number };
  private readonly jitter: number;
  private readonly random: Random | undefined;
  /** A binary heap by due time, then order. */
  private readonly heap: Call[] = [];
  private readonly free: Call[] = [];
  private order = 0;
  private timer: { unsubscribe(): void } | undefined = undefined;
  private armedFor: number = Number.POSITIVE_INFINITY;
  private readonly resized: Unsubscribable | undefined;

  constructor(inner: Disk, options: DelayOptions) {
    super(inner, [new Tally('delay', Number.POSITIVE_INFINITY)]);
    const { ticks = 0, readTicks = ticks, writeTicks = ticks, flushTicks = ticks, discardTicks = ticks, jitterTicks = 0 } = options;
    for (const [option, value] of Object.entries({ ticks, readTicks, writeTicks, flushTicks, discardTicks, jitterTicks })) {
      if (!(typeof value === 'number' && value >= 0 && value < 2 ** 31)) {
        throw new DiskError({ code: 'bad-option', disk: 'delay', option, value: String(value), allowed: '0 to 2^31 - 1' });
      }
    }
    if (jitterTicks > 0 && options.random === undefined) {
      throw new DiskError({ code: 'bad-option', disk: 'delay', option: 'random', value: 'missing', allowed: 'one, with jitterTicks' });
    }
    this.scheduler = options.scheduler;
    this.ticks = { read: readTicks, write: writeTicks, flush: flushTicks, discard: discardTicks, zero: discardTicks };
    this.jitter = jitterTicks;
    this.random = options.random?.split('delay');
    this.resized = inner.onResize?.(() => this.cutOff());
  }

  get waiting(): number {
    return this.heap.length;
  }

  override read(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter): number {
    if (this.prompt('read')) return super.read(views, address, offset, bytes, waiter);
    return this.put('read', views, address, offset, bytes, false, waiter);
  }
  override write(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter, fua: boolean): number {
    if (this.prompt('write')) return super.write(views, address, offset, bytes, waiter, fua);
    return this.put('write', views, address, offset, bytes, fua, waiter);
  }
  override flush(waiter: DiskWaiter): number {
    return this.prompt('flush') ? super.flush(waiter) : this.put('flush', undefined, 0, 0, 0, false, waiter);
  }
  override discard(offset: number, bytes: number, secure: boolean, waiter: DiskWaiter): number {
    if (this.prompt('discard')) return super.discard(offset, bytes, secure, waiter);
    return this.put('discard', undefined, 0, offset, bytes, secure, waiter);
  }
  override writeZeroes(offset: number, bytes: number, waiter: DiskWaiter): number {
    if (this.prompt('zero')) return super.writeZeroes(offset, bytes, waiter);
    return this.put('zero', undefined, 0, offset, bytes, false, waiter);
  }

  override close(): void {
    this.timer?.unsubscribe();
    this.resized?.unsubscribe();
    this.armedFor = Number.POSITIVE_INFINITY;
    for (const call of this.heap.splice(0)) call.waiter?.done(-DISK_ERRNO.EBADF);
    super.close();
  }

  /** What waits behind the disk's end fails when it is due, also where the disk has grown again by then. */
  private cutOff(): void {
    const { sizeBytes } = this;
    for (const call of this.heap) if (call.offset + call.bytes > sizeBytes) call.cut = true;
  }

  private prompt(kind: Kind): boolean {
    if (!this.enabled) return true;
    const tally = this.faults[0]!;
    tally.reached++;
    if (this.ticks[kind] === 0 && this.jitter === 0) return true;
    tally.fired++;
    return false;
  }

  private put(
    kind: Kind,
    views: MemoryViews | undefined,
    address: number,
    offset: number,
    bytes: number,
    flag: boolean,
    waiter: DiskWaiter,
  ): number {
    const call = this.free.pop() ?? new Call();
    call.kind = kind;
    call.views = views;
    call.address = address;
    call.offset = offset;
    call.bytes = bytes;
    call.flag = flag;
    call.cut = false;
    call.waiter = waiter;
    call.due = this.scheduler.now() + this.ticks[kind] + (this.jitter > 0 ? this.random!.unit() * this.jitter : 0);
    call.order = this.order++;
    this.heap.push(call);
    this.up(this.heap.length - 1);
    if (call.due < this.armedFor) this.arm(call.due);
    return LATER;
  }

  private arm(due: number): void {
    this.timer?.unsubscribe();
    this.armedFor = due;
    this.timer = this.scheduler.schedule(this.run, Math.max(0, due - this.scheduler.now()));
  }

  private readonly run = (): void => {
    this.timer = undefined;
    const now = this.scheduler.now();
    // Calls made from here on are due later; one timer a batch.
    this.armedFor = Number.NEGATIVE_INFINITY;
    try {
      while (this.heap.length > 0 && this.heap[0]!.due <= now) this.carryOut(this.pop());
    } finally {
      // Also where the disk behind throws: the calls after that one are still to be made.
      this.armedFor = Number.POSITIVE_INFINITY;
      if (this.heap.length > 0) this.arm(this.heap[0]!.due);
    }
  };

  private carryOut(call: Call): void {
    const { kind, views, address, offset, bytes, flag, cut } = call;
    const waiter = call.waiter!;
    call.waiter = undefined;
    call.views = undefined;
    this.free.push(call);
    const { inner } = this;
    let answer = -DISK_ERRNO.EIO;
    try {
      if (cut) return;
      if (kind === 'read') answer = inner.read(views!, address, offset, bytes, waiter);
      else if (kind === 'write') answer = inner.write(views!, address, offset, bytes, waiter, flag);
      else if (kind === 'flush') answer = inner.flush(waiter);
      else if (kind === 'discard') answer = inner.discard(offset, bytes, flag, waiter);
      else answer = inner.writeZeroes(offset, bytes, waiter);
    } finally {
      if (answer !== LATER) waiter.done(answer);
    }
  }

  private before(a: Call, b: Call): boolean {
    return a.due < b.due || (a.due === b.due && a.order < b.order);
  }

  private up(from: number): void {
    const { heap } = this;
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.before(heap[at]!, heap[parent]!)) return;
      this.swap(at, parent);
      at = parent;
    }
  }

  private pop(): Call {
    const { heap } = this;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length > 0) {
      heap[0] = last;
      let at = 0;
      for (;;) {
        let least = at;
        for (let child = 2 * at + 1; child <= 2 * at + 2 && child < heap.length; child++) {
          if (this.before(heap[child]!, heap[least]!)) least = child;
        }
        if (least === at) break;
        this.swap(at, least);
        at = least;
      }
    }
    return first;
  }

  private swap(a: number, b: number): void {
    const { heap } = this;
    const call = heap[a]!;
    heap[a] = heap[b]!;
    heap[b] = call;
  }
}

/**
 * Makes every call answer later: it reaches the disk when its time has come. What is due at once completes in one item of the run queue.
 * A call that the disk became too small for meanwhile does not reach it, and fails with EIO.
 * @throws {DiskError} `bad-option`.
 */
export function delayFilter(inner: Disk, options: DelayOptions): DelayFilter {
  return new Delaying(inner, options);
}
