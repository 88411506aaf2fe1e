import type { MemoryViews } from '@paravirt/gnttab';
import { type Disk, type DiskWaiter, LATER } from '../disk.ts';
import { type DiskFilter, FilterBase } from './filter.ts';

/** What one kind of call did. */
export interface OpStats {
  calls: number;
  bytes: number;
  errors: number;
  /** Calls that answered later. */
  later: number;
  /** Calls by size: element i counts those of 2^i bytes up to below 2^(i+1). */
  readonly sizes: Uint32Array;
  /** Calls by alignment of their offset: element i counts those aligned to 2^i bytes and no more, the last to 2^31 or more. */
  readonly alignments: Uint32Array;
}

/** What went through a `statsFilter`, by operation. Live: copy what you keep. */
export interface DiskStats {
  readonly read: OpStats;
  readonly write: OpStats;
  readonly flush: OpStats;
  readonly discard: OpStats;
  readonly zero: OpStats;
  /** Calls under way, now and at most. */
  readonly inFlight: number;
  readonly inFlightMax: number;
}

/** A disk that counts. */
export interface StatsFilter extends DiskFilter {
  readonly stats: DiskStats;
  /** Everything becomes 0, but for what is under way. */
  reset(): void;
}

function opStats(): OpStats {
  return { calls: 0, bytes: 0, errors: 0, later: 0, sizes: new Uint32Array(32), alignments: new Uint32Array(32) };
}

class Counting extends FilterBase implements StatsFilter {
  readonly kind = 'stats';
  stats: { read: OpStats; write: OpStats; flush: OpStats; discard: OpStats; zero: OpStats; inFlight: number; inFlightMax: number } =
    Counting.empty(0);
  private free: Waiting | undefined = undefined;

  private static empty(inFlight: number): Counting['stats'] {
    return { read: opStats(), write: opStats(), flush: opStats(), discard: opStats(), zero: opStats(), inFlight, inFlightMax: inFlight };
  }

  reset(): void {
    this.stats = Counting.empty(this.stats.inFlight);
  }

  override read(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter): number {
    if (!this.enabled) return super.read(views, address, offset, bytes, waiter);
    const waiting = this.begin(this.stats.read, offset, bytes, waiter);
    return this.end(waiting, this.inner.read(views, address, offset, bytes, waiting));
  }
  override write(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter, fua: boolean): number {
    if (!this.enabled) return super.write(views, address, offset, bytes, waiter, fua);
    const waiting = this.begin(this.stats.write, offset, bytes, waiter);
    return this.end(waiting, this.inner.write(views, address, offset, bytes, waiting, fua));
  }
  override flush(waiter: DiskWaiter): number {
    if (!this.enabled) return super.flush(waiter);
    const waiting = this.begin(this.stats.flush, 0, 0, waiter);
    return this.end(waiting, this.inner.flush(waiting));
  }
  override discard(offset: number, bytes: number, secure: boolean, waiter: DiskWaiter): number {
    if (!this.enabled) return super.discard(offset, bytes, secure, waiter);
    const waiting = this.begin(this.stats.discard, offset, bytes, waiter);
    return this.end(waiting, this.inner.discard(offset, bytes, secure, waiting));
  }
  override writeZeroes(offset: number, bytes: number, waiter: DiskWaiter): number {
    if (!this.enabled) return super.writeZeroes(offset, bytes, waiter);
    const waiting = this.begin(this.stats.zero, offset, bytes, waiter);
    return this.end(waiting, this.inner.writeZeroes(offset, bytes, waiting));
  }

  private begin(op: OpStats, offset: number, bytes: number, waiter: DiskWaiter): Waiting {
    const stats = this.stats;
    op.calls++;
    op.bytes += bytes;
    if (bytes > 0) {
      op.sizes[Math.min(31, Math.floor(Math.log2(bytes)))]!++;
      op.alignments[alignment(offset)]!++;
    }
    stats.inFlight++;
    if (stats.inFlight > stats.inFlightMax) stats.inFlightMax = stats.inFlight;
    const waiting = this.free ?? new Waiting(this);
    this.free = waiting.next;
    waiting.op = op;
    waiting.waiter = waiter;
    return waiting;
  }

  private end(waiting: Waiting, answer: number): number {
    if (answer === LATER) waiting.op!.later++;
    else this.over(waiting, answer);
    return answer;
  }

  /** A call is answered. */
  over(waiting: Waiting, status: number): void {
    if (status < 0) waiting.op!.errors++;
    this.stats.inFlight--;
    waiting.waiter = undefined;
    waiting.next = this.free;
    this.free = waiting;
  }
}

class Waiting implements DiskWaiter {
  op: OpStats | undefined = undefined;
  waiter: DiskWaiter | undefined = undefined;
  next: Waiting | undefined = undefined;
  private readonly filter: Counting;

  constructor(filter: Counting) {
    this.filter = filter;
  }

  done(status: number): void {
    const waiter = this.waiter!;
    this.filter.over(this, status);
    waiter.done(status);
  }
}

function alignment(offset: number): number {
  if (offset === 0) return 31;
  const low = offset >>> 0;
  return low === 0 ? 31 : 31 - Math.clz32(low & -low);
}

/** Counts what reaches the disk: calls, bytes, errors, sizes, alignments, how many at once. A few ns a call, nothing allocated. */
export function statsFilter(inner: Disk): StatsFilter {
  return new Counting(inner);
}
