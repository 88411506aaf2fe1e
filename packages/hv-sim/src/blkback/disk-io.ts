import type { MemoryViews } from '@paravirt/gnttab';
import { type Disk, LATER } from '../disks/disk.ts';
import type { BackRequest } from './request.ts';
import type { BlkbackCounters, LocatedPage, MappedMemory } from './types.ts';

/** Bytes of a sector on the wire, whatever the disk's sectors are. */
export const SECTOR = 512;
/** The same, and the disk's answer, as plain constants of this module: an exported or imported one is loaded at each use. */
const BYTES = 512;
const ASYNC = LATER;

/** Pages of a request, or of several behind one another, as parallel arrays. */
export interface TransferPages {
  readonly vfns: readonly number[];
  readonly firstSect: Uint8Array;
  readonly lastSect: Uint8Array;
  /** Where each page's data begins, as `locate` found it. */
  readonly views: MemoryViews[];
  readonly starts: number[];
}

/**
 * Hands a request's data to the disk, straight from or to the mapped pages. Segments that follow one another in memory, as machine
 * frames and not only as addresses, are one call.
 */
export class DiskIo {
  private readonly memory: MappedMemory;
  private readonly page: LocatedPage;
  private readonly disk: Disk;
  private readonly counters: BlkbackCounters;

  constructor(memory: MappedMemory, page: LocatedPage, disk: Disk, counters: BlkbackCounters) {
    this.memory = memory;
    this.page = page;
    this.disk = disk;
    this.counters = counters;
  }

  /**
   * Finds where the data of `count` mapped pages from `from` on lies. Before the first is copied: a copy leaves little of the page
   * table in the nearest cache.
   */
  locate(pages: TransferPages, from: number, count: number, write: boolean): void {
    const { vfns, firstSect, views, starts } = pages;
    const { memory, page } = this;
    const end = from + count;
    for (let i = from; i < end; i++) {
      memory.locate(vfns[i]!, !write, page);
      if (views[i] !== page.views) views[i] = page.views;
      starts[i] = page.offset + firstSect[i]! * BYTES;
    }
  }

  /**
   * Moves `segments` located pages of `pages`, from `from` on, to or from `sector` on. Stops at the first error.
   * @returns whether all is done. If not, `waiter.waiting` counts the calls that answer later and `waiter.error` is the first error.
   */
  transfer(pages: TransferPages, from: number, segments: number, sector: number, write: boolean, fua: boolean, waiter: BackRequest): boolean {
    const { firstSect, lastSect, views, starts } = pages;
    const { disk, counters } = this;
    const end = from + segments;
    let offset = sector * BYTES;
    let clean = true;
    for (let i = from; i < end; ) {
      const memory = views[i]!;
      const start = starts[i]!;
      let bytes = 0;
      do {
        bytes += (lastSect[i]! - firstSect[i]! + 1) * BYTES;
        i++;
      } while (i < end && starts[i] === start + bytes && views[i] === memory);
      counters.diskCalls++;
      const answer = write ? disk.write(memory, start, offset, bytes, waiter, fua) : disk.read(memory, start, offset, bytes, waiter);
      if (answer !== 0) {
        clean = unanswered(waiter, answer);
        if (answer < 0) return false;
      }
      offset += bytes;
    }
    return clean;
  }
}

/** A call was not simply carried out. */
export function unanswered(waiter: BackRequest, answer: number): false {
  if (answer === ASYNC) waiter.waiting++;
  else if (answer < 0 && waiter.error === 0) waiter.error = answer;
  return false;
}
