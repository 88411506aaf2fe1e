import type { MemoryViews } from '@paravirt/gnttab';
import type { Random } from '../../time/random.ts';
import { DISK_ERRNO, type Disk, type DiskWaiter, LATER } from '../disk.ts';
import { checkedBytes } from '../errors.ts';
import { GatherPool } from '../gather.ts';
import { type DiskFilter, FilterBase, ownViews, Tally } from './filter.ts';

/** Longest write to the disk behind, in bytes. */
const RUN_BYTES = 1 << 20;
/** Longer zeroing and every discard are not kept: the disk may always choose to do them at once. */
const ZERO_KEPT_BYTES = 1 << 18;

/** Options of `volatileCacheFilter`. */
export interface VolatileCacheOptions {
  /** Chooses what survives a power cut. */
  readonly random: Random;
  /** Bytes of writes that may wait, all versions of a sector counted; beyond it the cache writes back. Default 16 MiB. */
  readonly cacheBytes?: number;
}

/**
 * What of the unflushed sectors survives a power cut. `random`: of each sector what was flushed last, or any version written since,
 * each as likely, independent of all others: whatever order the disk may have chosen. `none`: nothing. `all`: the newest of each.
 */
export type Survivors = 'random' | 'none' | 'all';

/** What a power cut did, in sectors that were not flushed. */
export interface PowerCut {
  readonly unflushed: number;
  /** Sectors that have their newest version; an older one since the flush; the flushed one. */
  readonly newest: number;
  readonly older: number;
  readonly lost: number;
}

/**
 * A disk whose writes are durable only after a flush. Its one fault counts the power cuts (`requested`), the sectors that were not
 * flushed then (`reached`) and those of them that did not keep their newest version (`fired`).
 */
export interface VolatileCacheFilter extends DiskFilter {
  /** Bytes of writes that wait. */
  readonly dirtyBytes: number;
  /** Sectors that wait. */
  readonly dirtySectors: number;
  /**
   * Cuts the power: what was not flushed survives or does not, flushes under way fail, and the disk goes on as after power is back.
   * The disk behind must answer at once for this.
   */
  powerCut(survivors?: Survivors): PowerCut;
}

/** A sector's versions since its last flush, oldest first. */
type Versions = Uint8Array[];

class VolatileCache extends FilterBase<Tally> implements VolatileCacheFilter {
  readonly kind = 'volatile-cache';
  dirtyBytes = 0;
  private readonly random: Random;
  private readonly limit: number;
  /** By sector number, in order of first write. */
  private readonly dirty: Map<number, Versions> = new Map();
  private readonly gathers: GatherPool = new GatherPool();
  private readonly zero: Uint8Array;
  /** A write-back is under way; what must wait for it, in order. */
  private writingBack = false;
  private queue: (() => void)[] = [];
  /** Those who wait for the next flush. */
  private flushers: DiskWaiter[] = [];
  /** Counts power cuts: what was begun before one must not end after it. */
  private life = 0;

  constructor(inner: Disk, { random, cacheBytes = 1 << 24 }: VolatileCacheOptions) {
    super(inner, [new Tally('volatile-cache', 0)]);
    this.random = random.split('volatile-cache');
    this.limit = checkedBytes('volatile cache', 'cacheBytes', cacheBytes, 0, 2 ** 40, 1);
    this.zero = new Uint8Array(inner.sectorBytes);
  }

  override get volatileCache(): boolean {
    return true;
  }
  override get fua(): boolean {
    return true;
  }
  get dirtySectors(): number {
    return this.dirty.size;
  }

  override read(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter): number {
    if (this.dirty.size === 0) return this.inner.read(views, address, offset, bytes, waiter);
    const sector = this.sectorBytes;
    const first = offset / sector;
    const end = first + bytes / sector;
    const gather = this.gathers.take(waiter);
    let at = first;
    while (at < end) {
      const versions = this.dirty.get(at);
      const to = address + (at - first) * sector;
      if (versions !== undefined) {
        views.u8.set(versions[versions.length - 1]!, to);
        at++;
        continue;
      }
      let stop = at + 1;
      while (stop < end && !this.dirty.has(stop)) stop++;
      if (gather.call(this.inner.read(views, to, at * sector, (stop - at) * sector, gather)) < 0) break;
      at = stop;
    }
    return gather.end();
  }

  override write(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter, fua: boolean): number {
    if (!this.enabled) {
      return this.through(() => this.dropping(offset, bytes, this.inner.write(views, address, offset, bytes, waiter, fua)), waiter);
    }
    if (this.readonly) return -DISK_ERRNO.EROFS;
    if (this.dirtyBytes + bytes > this.limit && this.dirty.size > 0) {
      if (!this.writingBack) {
        const failed = this.writeBack();
        if (failed !== 0) return failed;
      }
      // A disk behind that answers later leaves the cache full: the write waits, so that memory stays bounded.
      if (this.writingBack) return this.later(() => this.write(views, address, offset, bytes, waiter, fua), waiter);
    }
    const sector = this.sectorBytes;
    for (let done = 0; done < bytes; done += sector)
      this.keep((offset + done) / sector, views.u8.slice(address + done, address + done + sector));
    return fua ? this.flush(waiter) : 0;
  }

  override writeZeroes(offset: number, bytes: number, waiter: DiskWaiter): number {
    if (!this.enabled || bytes > ZERO_KEPT_BYTES) {
      return this.through(() => this.dropping(offset, bytes, this.inner.writeZeroes(offset, bytes, waiter)), waiter);
    }
    if (this.readonly) return -DISK_ERRNO.EROFS;
    const sector = this.sectorBytes;
    for (let done = 0; done < bytes; done += sector) this.keep((offset + done) / sector, this.zero);
    return 0;
  }

  override discard(offset: number, bytes: number, secure: boolean, waiter: DiskWaiter): number {
    return this.through(() => this.dropping(offset, bytes, this.inner.discard(offset, bytes, secure, waiter)), waiter);
  }

  override flush(waiter: DiskWaiter): number {
    if (this.writingBack) {
      this.flushers.push(waiter);
      return LATER;
    }
    let answer: number = LATER;
    let now = true;
    this.clean((status) => {
      if (now) answer = status;
      else waiter.done(status);
    });
    now = false;
    return answer;
  }

  powerCut(survivors: Survivors = 'random'): PowerCut {
    const cut = { unflushed: this.dirty.size, newest: 0, older: 0, lost: 0 };
    this.life++;
    const sector = this.sectorBytes;
    const views = ownViews(sector);
    for (const [number, versions] of this.dirty) {
      const count = versions.length;
      const chosen = survivors === 'all' ? count : survivors === 'none' ? 0 : this.random.below(count + 1);
      if (chosen === 0) cut.lost++;
      else {
        if (chosen === count) cut.newest++;
        else cut.older++;
        views.u8.set(versions[chosen - 1]!);
        this.inner.write(views, 0, number * sector, sector, NOBODY, false);
      }
    }
    this.inner.flush(NOBODY);
    const tally = this.faults[0]!;
    tally.requested++;
    tally.reached += cut.unflushed;
    tally.fired += cut.lost + cut.older;
    this.dirty.clear();
    this.dirtyBytes = 0;
    this.writingBack = false;
    const queue = this.queue.splice(0);
    for (const waiter of this.flushers.splice(0)) waiter.done(-DISK_ERRNO.EIO);
    for (const work of queue) work();
    return cut;
  }

  /** What waits may lie over a hole. */
  override extentAt(offset: number): number {
    return this.dirty.size === 0 ? super.extentAt(offset) : this.sizeBytes - offset;
  }

  private keep(number: number, bytes: Uint8Array): void {
    const versions = this.dirty.get(number);
    if (versions === undefined) this.dirty.set(number, [bytes]);
    else versions.push(bytes);
    this.dirtyBytes += this.sectorBytes;
  }

  /** What goes straight to the disk behind must not overtake a write-back of the same sectors. */
  private through(call: () => number, waiter: DiskWaiter): number {
    return this.writingBack ? this.later(call, waiter) : call();
  }

  private later(call: () => number, waiter: DiskWaiter): number {
    const { life } = this;
    this.queue.push(() => {
      const answer = life === this.life ? call() : -DISK_ERRNO.EIO;
      if (answer !== LATER) waiter.done(answer);
    });
    return LATER;
  }

  /** The range was overwritten behind the cache's back: what waited for it is void. */
  private dropping(offset: number, bytes: number, answer: number): number {
    if (answer < 0) return answer;
    const sector = this.sectorBytes;
    const first = offset / sector;
    const end = (offset + bytes) / sector;
    if (end - first > this.dirty.size) {
      for (const number of [...this.dirty.keys()]) if (number >= first && number < end) this.forget(number, Number.POSITIVE_INFINITY);
    } else for (let number = first; number < end; number++) this.forget(number, Number.POSITIVE_INFINITY);
    return answer;
  }

  /** Drops the oldest `count` versions of a sector. */
  private forget(number: number, count: number): void {
    const versions = this.dirty.get(number);
    if (versions === undefined) return;
    const gone = Math.min(count, versions.length);
    this.dirtyBytes -= gone * this.sectorBytes;
    if (gone === versions.length) this.dirty.delete(number);
    else versions.splice(0, gone);
  }

  /** @returns the error where it ended at once with one, or 0. */
  private writeBack(): number {
    let failed = 0;
    this.clean((status) => {
      failed = status;
    });
    return failed;
  }

  /** Writes the newest version of every sector, then flushes the disk behind; `done` is told, perhaps before this returns. */
  private clean(done: (status: number) => void): void {
    const { life } = this;
    const numbers = [...this.dirty.keys()].sort((a, b) => a - b);
    const counts = numbers.map((number) => this.dirty.get(number)!.length);
    this.writingBack = true;
    const finish = (status: number): void => {
      if (life !== this.life) {
        done(-DISK_ERRNO.EIO);
        return;
      }
      if (status === 0) for (let i = 0; i < numbers.length; i++) this.forget(numbers[i]!, counts[i]!);
      this.writingBack = false;
      done(status);
      this.goOn();
    };
    const flushInner = (status: number): void => {
      if (status !== 0 || life !== this.life) {
        finish(status);
        return;
      }
      const answer = this.inner.flush({ done: finish });
      if (answer !== LATER) finish(answer);
    };
    const gather = this.gathers.take({ done: flushInner });
    this.writeRuns(numbers, (views, offset, bytes) => gather.call(this.inner.write(views, 0, offset, bytes, gather, false)));
    const answer = gather.end();
    if (answer !== LATER) flushInner(answer);
  }

  /** Calls `write` for each run of neighbours among the sectors, until it gives an error. */
  private writeRuns(numbers: readonly number[], write: (views: MemoryViews, offset: number, bytes: number) => number): void {
    const sector = this.sectorBytes;
    const longest = RUN_BYTES / sector;
    for (let i = 0; i < numbers.length; ) {
      let end = i + 1;
      while (end < numbers.length && end - i < longest && numbers[end] === numbers[i]! + end - i) end++;
      const views = ownViews((end - i) * sector);
      for (let k = i; k < end; k++) {
        const versions = this.dirty.get(numbers[k]!)!;
        views.u8.set(versions[versions.length - 1]!, (k - i) * sector);
      }
      if (write(views, numbers[i]! * sector, (end - i) * sector) < 0) return;
      i = end;
    }
  }

  /** After a write-back: those who waited have their turn, and all flushes that came meanwhile are one. */
  private goOn(): void {
    while (this.queue.length > 0 && !this.writingBack) this.queue.shift()!();
    if (this.writingBack || this.flushers.length === 0) return;
    const waiters = this.flushers.splice(0);
    this.clean((status) => {
      for (const waiter of waiters) waiter.done(status);
    });
  }
}

const NOBODY: DiskWaiter = { done: () => {} };

/**
 * Keeps writes in a cache that a power cut empties: only what was flushed, or written with FUA, is durable. Reads see what was written.
 * Switched off, it writes through; what waits stays until the next flush.
 * @throws {DiskError} `bad-option`.
 */
export function volatileCacheFilter(inner: Disk, options: VolatileCacheOptions): VolatileCacheFilter {
  return new VolatileCache(inner, options);
}
