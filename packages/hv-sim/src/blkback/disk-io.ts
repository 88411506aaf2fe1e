import type { MemoryViews } from '@paravirt/gnttab';
import { BLKIF_OP } from '@paravirt/xen-abi';
import { DISK_ERRNO, type Disk, LATER } from '../disks/disk.ts';
import { DiskError } from '../disks/errors.ts';
import { type BackRequest, DATA, DONE, POSTFLUSH, PREFLUSH } from './request.ts';
import type { BlkbackCounters, LocatedPage, MappedMemory } from './types.ts';

/** Bytes of a sector on the wire, whatever the disk's sectors are. */
export const SECTOR = 512;
/** The same, and the disk's answer, as plain constants of this module: an exported or imported one is loaded at each use. */
const BYTES = 512;
const ASYNC = LATER;
const EIO: number = DISK_ERRNO.EIO;
const { READ, WRITE_BARRIER: BARRIER } = BLKIF_OP;

/** Pages of a request, or of several behind one another, as parallel arrays. */
export interface TransferPages {
  readonly vfns: readonly number[];
  readonly firstSect: Uint8Array;
  readonly lastSect: Uint8Array;
  /** Where each page is, if all were located together. */
  readonly offsets: readonly number[];
}

/**
 * Hands a request's data to the disk, straight from or to the mapped pages. Segments that follow one another in memory, as machine
 * frames and not only as addresses, are one call. A disk that throws, or answers what is no answer, fails the request with an I/O
 * error; the error itself is the disk's author's, and is kept until everything around the request is in order.
 */
export class DiskIo {
  private readonly memory: MappedMemory;
  private readonly page: LocatedPage;
  private readonly disk: Disk;
  private readonly counters: BlkbackCounters;
  /** The first error that was not thrown on yet, in a list of one: anything can be thrown. */
  private readonly errors: unknown[] = [];

  constructor(memory: MappedMemory, page: LocatedPage, disk: Disk, counters: BlkbackCounters) {
    this.memory = memory;
    this.page = page;
    this.disk = disk;
    this.counters = counters;
  }

  /** Throws on what the disk threw. */
  raise(): void {
    if (this.errors.length > 0) throw this.errors.pop();
  }

  /** A call threw. @returns what the disk is taken to have answered. */
  threw(waiter: BackRequest, error: unknown): number {
    // The disk may have kept it, and tell it some day.
    waiter.forsaken = true;
    this.keep(error);
    return -EIO;
  }

  private keep(error: unknown): void {
    if (this.errors.length === 0) this.errors.push(error);
  }

  /** A call was not simply carried out. */
  unanswered(waiter: BackRequest, answer: number): false {
    if (answer === ASYNC) {
      waiter.waiting++;
      return false;
    }
    this.failed(waiter, answer);
    return false;
  }

  /** A call was not carried out, now or later. */
  failed(waiter: BackRequest, answer: number): void {
    const errno = Number.isInteger(answer) && answer < 0;
    if (!errno) this.keep(new DiskError({ code: 'bad-answer', disk: this.disk.name, answer: String(answer) }));
    if (waiter.error === 0) waiter.error = errno ? answer : -EIO;
  }

  /** Carries out what comes next of a request, and sets the stage behind it. What came of it is in `waiting` and `error`. */
  carryOut(request: BackRequest): void {
    const { disk } = this;
    const { stage, operation, sector, segments } = request;
    request.stage = DONE;
    if (stage === DATA) {
      if (segments === 0) return;
      const barrier = operation === BARRIER;
      if (barrier && !disk.fua) request.stage = POSTFLUSH;
      const write = operation !== READ;
      this.transfer(request, 0, segments, sector, write, barrier && disk.fua, request, this.locate(request, segments, write));
      return;
    }
    if (stage === PREFLUSH) request.stage = DATA;
    let answer = 0;
    try {
      if (stage === PREFLUSH || stage === POSTFLUSH) answer = disk.flush(request);
      else answer = disk.discard(sector * BYTES, request.sectors * BYTES, request.secure, request);
    } catch (error) {
      answer = this.threw(request, error);
    }
    if (answer !== 0) this.unanswered(request, answer);
  }

  /** Where the first `count` pages lie, if that can be told of all together: what `transfer` takes as `located`. */
  locate(request: BackRequest, count: number, write: boolean): MemoryViews | undefined {
    const { memory } = this;
    if (memory.locateAll === undefined) return undefined;
    request.writable.fill(write ? 0 : 1, 0, count);
    return memory.locateAll(request.vfns, request.writable, count, request.offsets);
  }

  /**
   * Moves `segments` pages of `pages`, from `from` on, to or from `sector` on. Stops at the first error.
   * @param located where `pages.offsets` count from, or undefined where the pages were not located.
   * @returns whether all is done. If not, `waiter.waiting` counts the calls that answer later and `waiter.error` is the first error.
   */
  transfer(
    pages: TransferPages,
    from: number,
    segments: number,
    sector: number,
    write: boolean,
    fua: boolean,
    waiter: BackRequest,
    located: MemoryViews | undefined,
  ): boolean {
    const { vfns, firstSect, lastSect, offsets } = pages;
    const { memory, page, disk, counters } = this;
    const end = from + segments;
    const mapped = memory.pages;
    let offset = sector * BYTES;
    let clean = true;
    let next = 0;
    let nextViews = page.views;
    if (located === undefined) {
      memory.locate(vfns[from]!, !write, page);
      next = page.offset;
      nextViews = page.views;
    } else {
      next = offsets[from]!;
      nextViews = located;
    }
    for (let i = from; i < end; ) {
      const start = next + firstSect[i]! * BYTES;
      const views: MemoryViews = nextViews;
      let bytes = 0;
      do {
        bytes += (lastSect[i]! - firstSect[i]! + 1) * BYTES;
        i++;
        if (i >= end) break;
        if (located === undefined) {
          memory.locate(vfns[i]!, !write, page);
          next = page.offset;
          nextViews = page.views;
        } else next = offsets[i]!;
      } while (next + firstSect[i]! * BYTES === start + bytes && nextViews === views);
      counters.diskCalls++;
      let answer = 0;
      try {
        answer = write ? disk.write(views, start, offset, bytes, waiter, fua) : disk.read(views, start, offset, bytes, waiter);
      } catch (error) {
        answer = this.threw(waiter, error);
      }
      if (answer !== 0) {
        clean = this.unanswered(waiter, answer);
        if (answer !== ASYNC) return false;
      }
      // A disk that ended this very domain took the pages away: this throws then.
      if (i < end && memory.pages !== mapped) memory.locate(vfns[i]!, !write, page);
      offset += bytes;
    }
    return clean;
  }
}
