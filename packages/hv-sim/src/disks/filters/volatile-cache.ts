import type { Unsubscribable } from '@paravirt/event-bus';
import type { MemoryViews } from '@paravirt/gnttab';
import type { Random } from '../../time/random.ts';
import { DISK_ERRNO, type Disk, type DiskWaiter, LATER } from '../disk.ts';
import { checkedBytes, checkedChoice } from '../errors.ts';
import { errnoOf, GatherPool } from '../gather.ts';
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
   * @throws {DiskError} `bad-option`.
   */
  powerCut(survivors?: Survivors): PowerCut;
}

/** What was written to a sector at one time. */
interface Version {
  readonly bytes: Uint8Array;
  /** Versions are numbered over all sectors: what has a lower number is older. */
  readonly number: number;
}

/** A sector's versions since its last flush, oldest first. */
type Versions = Version[];

/** What waits for the end of a write-back, which is told how that went. */
type Turn = (status: number) => void;

class VolatileCache extends FilterBase<Tally> implements VolatileCacheFilter {
  readonly kind = 'volatile-cache';
  dirtyBytes = 0;
  private readonly random: Random;
  private readonly limit: number;
  /** By sector number, in order of first write. */
  private readonly dirty: Map<number, Versions> = new Map();
  private readonly gathers: GatherPool = new GatherPool();
  private readonly zero: Uint8Array;
  private readonly resized: Unsubscribable | undefined;
  private resizes = 0;
  /** Number of the next version. */
  private next = 0;
  /** A write-back is under way, or is to begin; what must wait for it, in order. */
  private writingBack = false;
  private readonly queue: Turn[] = [];
  /** Calls under way that went straight to the disk behind, and the write-back that begins when they are over. */
  private passing = 0;
  private begin: (() => void) | undefined = undefined;
  /** Those who wait for the next flush. */
  private readonly flushers: DiskWaiter[] = [];
  /** Counts power cuts: what was begun before one must not end after it. */
  private life = 0;

  constructor(inner: Disk, { random, cacheBytes = 1 << 24 }: VolatileCacheOptions) {
    super(inner, [new Tally('volatile-cache', 0)]);
    this.random = random.split('volatile-cache');
    this.limit = checkedBytes('volatile cache', 'cacheBytes', cacheBytes, 0, 2 ** 40, 1);
    this.zero = new Uint8Array(inner.sectorBytes);
    this.resized = inner.onResize?.(() => this.forgetBeyond());
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
        views.u8.set(versions[versions.length - 1]!.bytes, to);
        at++;
        continue;
      }
      let stop = at + 1;
      while (stop < end && !this.dirty.has(stop)) stop++;
      if (gather.call(this.inner.read(views, to, at * sector, (stop - at) * sector, gather)) !== 0) break;
      at = stop;
    }
    return gather.end();
  }

  override write(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter, fua: boolean): number {
    if (!this.enabled) return this.through(offset, bytes, waiter, (told) => this.inner.write(views, address, offset, bytes, told, fua));
    if (this.readonly) return -DISK_ERRNO.EROFS;
    const full = this.makeRoom(offset, bytes, waiter, () => this.write(views, address, offset, bytes, waiter, fua));
    if (full !== 0) return full;
    const sector = this.sectorBytes;
    for (let done = 0; done < bytes; done += sector)
      this.keep((offset + done) / sector, views.u8.slice(address + done, address + done + sector));
    return fua ? this.flush(waiter) : 0;
  }

  override writeZeroes(offset: number, bytes: number, waiter: DiskWaiter): number {
    if (!this.enabled || bytes > ZERO_KEPT_BYTES) {
      return this.through(offset, bytes, waiter, (told) => this.inner.writeZeroes(offset, bytes, told));
    }
    if (this.readonly) return -DISK_ERRNO.EROFS;
    const full = this.makeRoom(offset, bytes, waiter, () => this.writeZeroes(offset, bytes, waiter));
    if (full !== 0) return full;
    const sector = this.sectorBytes;
    for (let done = 0; done < bytes; done += sector) this.keep((offset + done) / sector, this.zero);
    return 0;
  }

  override discard(offset: number, bytes: number, secure: boolean, waiter: DiskWaiter): number {
    return this.through(offset, bytes, waiter, (told) => this.inner.discard(offset, bytes, secure, told));
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
      else waiter.done(errnoOf(status));
    });
    now = false;
    return answer;
  }

  powerCut(survivors: Survivors = 'random'): PowerCut {
    checkedChoice('volatile cache', 'survivors', survivors, ['random', 'none', 'all']);
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
        views.u8.set(versions[chosen - 1]!.bytes);
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
    const { begin } = this;
    this.begin = undefined;
    const queue = this.queue.splice(0);
    for (const waiter of this.flushers.splice(0)) waiter.done(-DISK_ERRNO.EIO);
    begin?.();
    for (const turn of queue) turn(-DISK_ERRNO.EIO);
    return cut;
  }

  /** What waits may lie over a hole. */
  override extentAt(offset: number): number {
    return this.dirty.size === 0 ? super.extentAt(offset) : this.sizeBytes - offset;
  }

  override close(): void {
    this.resized?.unsubscribe();
    super.close();
  }

  private keep(sector: number, bytes: Uint8Array): void {
    const versions = this.dirty.get(sector);
    const version = { bytes, number: this.next++ };
    if (versions === undefined) this.dirty.set(sector, [version]);
    else versions.push(version);
    this.dirtyBytes += this.sectorBytes;
  }

  /** @returns 0 where there is room, or what a write is answered that must wait for it, or cannot have it. */
  private makeRoom(offset: number, bytes: number, waiter: DiskWaiter, again: () => number): number {
    if (this.dirtyBytes + bytes <= this.limit || this.dirty.size === 0) return 0;
    if (!this.writingBack) {
      const failed = this.writeBack();
      if (failed !== 0) return failed;
    }
    // A disk behind that answers later leaves the cache full: the write waits, so that memory stays bounded.
    return this.writingBack ? this.later(offset, bytes, waiter, (status) => (status === 0 ? again() : status)) : 0;
  }

  /**
   * Calls the disk behind, whose answer is this one's. A write-back and such a call must not overtake one another where they meet: each
   * waits for the other. What the cache had of the range before is void when the call has succeeded, and not earlier: it was answered.
   */
  private through(offset: number, bytes: number, waiter: DiskWaiter, call: (told: DiskWaiter) => number): number {
    if (this.writingBack) return this.later(offset, bytes, waiter, () => this.through(offset, bytes, waiter, call));
    const before = this.next;
    let over = false;
    const done = (status: number): void => {
      if (over) return;
      over = true;
      this.passing--;
      if (status === 0) this.drop(offset, bytes, before);
      try {
        waiter.done(status);
      } finally {
        this.beginWaiting();
      }
    };
    this.passing++;
    let answer = -DISK_ERRNO.EIO;
    try {
      answer = call({ done });
    } finally {
      if (answer !== LATER && !over) {
        over = true;
        this.passing--;
        if (answer === 0) this.drop(offset, bytes, before);
        this.beginWaiting();
      }
    }
    return answer;
  }

  private beginWaiting(): void {
    const { begin } = this;
    if (this.passing > 0 || begin === undefined) return;
    this.begin = undefined;
    begin();
  }

  /** Has `call` wait for the end of the write-back. The disk may have become smaller by then. */
  private later(offset: number, bytes: number, waiter: DiskWaiter, call: (status: number) => number): number {
    const { life } = this;
    this.queue.push((status) => {
      let answer = -DISK_ERRNO.EIO;
      try {
        if (life === this.life && offset + bytes <= this.sizeBytes) answer = call(status);
      } finally {
        if (answer !== LATER) waiter.done(errnoOf(answer));
      }
    });
    return LATER;
  }

  /** Forgets the versions of a range that are older than number `before`. */
  private drop(offset: number, bytes: number, before: number): void {
    const sector = this.sectorBytes;
    const first = offset / sector;
    const end = (offset + bytes) / sector;
    if (end - first > this.dirty.size) {
      for (const at of [...this.dirty.keys()]) if (at >= first && at < end) this.forget(at, before);
    } else for (let at = first; at < end; at++) this.forget(at, before);
  }

  /** Forgets the versions of a sector that are older than number `before`. */
  private forget(sector: number, before: number): void {
    const versions = this.dirty.get(sector);
    if (versions === undefined) return;
    let gone = 0;
    while (gone < versions.length && versions[gone]!.number < before) gone++;
    this.dirtyBytes -= gone * this.sectorBytes;
    if (gone === versions.length) this.dirty.delete(sector);
    else versions.splice(0, gone);
  }

  /** What lies behind the disk's end is gone: it must not come back when the disk grows again, nor reach what lies there. */
  private forgetBeyond(): void {
    this.resizes++;
    const end = this.sizeBytes / this.sectorBytes;
    for (const at of [...this.dirty.keys()]) if (at >= end) this.forget(at, this.next);
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
    this.writingBack = true;
    const begin = (): void => {
      if (life === this.life) this.cleanNow(done);
      else done(-DISK_ERRNO.EIO);
    };
    if (this.passing > 0) this.begin = begin;
    else begin();
  }

  private cleanNow(done: (status: number) => void): void {
    const { life, resizes } = this;
    const sectors = [...this.dirty.keys()].sort((a, b) => a - b);
    const before = this.next;
    let over = false;
    const finish = (status: number): void => {
      if (over) return;
      over = true;
      if (life !== this.life) {
        done(-DISK_ERRNO.EIO);
        return;
      }
      if (status !== 0 && resizes !== this.resizes) {
        // What was cut off could not be written; the rest still may.
        this.cleanNow(done);
        return;
      }
      if (status === 0) for (const sector of sectors) this.forget(sector, before);
      this.writingBack = false;
      try {
        done(status);
      } finally {
        this.goOn(status);
      }
    };
    const flushInner = (status: number): void => {
      if (status !== 0 || life !== this.life) {
        finish(status);
        return;
      }
      let answer = -DISK_ERRNO.EIO;
      try {
        answer = this.inner.flush({ done: finish });
      } finally {
        if (answer !== LATER) finish(answer);
      }
    };
    const gather = this.gathers.take({ done: flushInner });
    let written = false;
    try {
      this.writeRuns(sectors, (views, offset, bytes) => gather.call(this.inner.write(views, 0, offset, bytes, gather, false)));
      written = true;
    } finally {
      // Also where the disk behind throws: whoever waits is told.
      if (!written) gather.call(-DISK_ERRNO.EIO);
      const answer = gather.end();
      if (answer !== LATER) flushInner(answer);
    }
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
        views.u8.set(versions[versions.length - 1]!.bytes, (k - i) * sector);
      }
      if (write(views, numbers[i]! * sector, (end - i) * sector) !== 0) return;
      i = end;
    }
  }

  /** After a write-back: those who waited have their turn, and all flushes that came meanwhile are one. */
  private goOn(status: number): void {
    try {
      while (this.queue.length > 0 && !this.writingBack) this.queue.shift()!(status);
    } finally {
      if (!this.writingBack) {
        // A turn that threw leaves others behind it.
        if (this.queue.length > 0) this.goOn(status);
        else if (this.flushers.length > 0) this.flushAgain();
      }
    }
  }

  private flushAgain(): void {
    const waiters = this.flushers.splice(0);
    this.clean((status) => {
      for (const waiter of waiters) waiter.done(errnoOf(status));
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
