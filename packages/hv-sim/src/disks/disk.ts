import type { Unsubscribable } from '@paravirt/event-bus';
import type { MemoryViews } from '@paravirt/gnttab';

/**
 * What a disk answers when it will complete later: the waiter of that call is told exactly once, from an item of the run queue
 * (or of the host's event loop), never from inside the call. 0 is success and a negative number an errno, so this is neither.
 */
export const LATER = 1;

/** Who waits for a call that answered `LATER`. One object serves any number of calls, one at a time or several at once: it counts. */
export interface DiskWaiter {
  /** `status` is 0 or a negative errno. */
  done(status: number): void;
}

/** Errno values that disks and filters answer, positive as the header has them; an answer is negated. @see xen/include/public/errno.h */
export const DISK_ERRNO: {
  readonly EIO: 5;
  readonly EBADF: 9;
  readonly EINVAL: 22;
  readonly ENOSPC: 28;
  readonly EROFS: 30;
  readonly EOPNOTSUPP: 95;
} = { EIO: 5, EBADF: 9, EINVAL: 22, ENOSPC: 28, EROFS: 30, EOPNOTSUPP: 95 };

/**
 * What blkback asks of a disk. Sizes and offsets are bytes, multiples of `sectorBytes`; the caller has checked the range. Data goes
 * straight between the disk and memory: `views` and `address` (bytes) name one stretch that is contiguous there, of one page or of
 * many. The memory stays mapped until the call has answered, or, after `LATER`, until its waiter was told; a guest may change the
 * bytes behind it at any time.
 *
 * A disk that answers later does so by the scheduler of the domain that serves it, so that it ends with that domain: nothing is left
 * to read into pages that are somebody else's by then.
 *
 * Every call answers 0, a negative errno, or `LATER`. A call that answers at once has not told its waiter and never will. A disk has
 * no reason to throw: one that does, or that answers or tells anything else, fails the request with an I/O error, and whoever runs the machine
 * is thrown the error when the ring is in order again. What a filter above it counts of that call is then not exact.
 * Calls do not wait for one another: order between two that are under way is the disk's.
 */
export interface Disk {
  /** One word for listings: `memory`, `file`, `delay(memory)`. */
  readonly name: string;
  /** May grow while the disk is in use; `onResize` tells. */
  readonly sizeBytes: number;
  /** Logical sector: 512 or 4096. */
  readonly sectorBytes: number;
  /** Physical sector, a multiple of `sectorBytes`. */
  readonly physicalSectorBytes: number;
  readonly readonly: boolean;
  /** Whether `discard` does anything. */
  readonly discards: boolean;
  /** Discards smaller than this, or not aligned to it, may do nothing; bytes. */
  readonly discardGranularityBytes: number;
  /** Where the first granule begins; bytes. */
  readonly discardAlignmentBytes: number;
  /** Whether a secure discard leaves nothing of the old bytes. */
  readonly secureDiscards: boolean;
  /** Whether writes may stay in a cache until `flush`: without one a flush has nothing to do, and still answers 0. */
  readonly volatileCache: boolean;
  /** Whether `write` honours `fua`; where not, a caller that needs it flushes after the write. */
  readonly fua: boolean;
  /** Reads into memory. */
  read(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter): number;
  /** `fua`: the bytes are durable when the call is answered, where the disk has `fua`. */
  write(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter, fua: boolean): number;
  /** Every write that was answered before this call is durable when it answers 0. */
  flush(waiter: DiskWaiter): number;
  /** The bytes may read as anything that was there, or zeroes; after a secure discard as zeroes. -EOPNOTSUPP where the disk cannot. */
  discard(offset: number, bytes: number, secure: boolean, waiter: DiskWaiter): number;
  /** The bytes read as zeroes from the answer on; the disk may give their space up. */
  writeZeroes(offset: number, bytes: number, waiter: DiskWaiter): number;
  /**
   * Where this is known: the length in bytes of the stretch from `offset` on which is all allocated (positive) or all a hole
   * (negative, reads as zeroes), up to the disk's end. Allocates nothing.
   */
  extentAt?(offset: number): number;
  /** Tells of every change of `sizeBytes`, after it. At most a handful of handlers. */
  onResize?(handler: () => void): Unsubscribable;
  /** Ends the disk's use; a file is closed. A second call does nothing. The owner calls it: blkback never closes a disk. */
  close(): void;
}

/** A disk that can be made larger or smaller while in use. */
export interface ResizableDisk extends Disk {
  /** @throws {DiskError} `bad-option`: not a positive multiple of `sectorBytes`, or more than the disk can hold. */
  resize(sizeBytes: number): void;
}
