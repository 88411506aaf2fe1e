import type { MemoryViews } from '@paravirt/gnttab';

/**
 * What blkback asks of a disk. Sizes and offsets are bytes, multiples of `sectorBytes`. Data goes straight between the disk and
 * the pages that the backend mapped: `views` and `address` (bytes) name them, one contiguous stretch within a page each call.
 */
export interface Disk {
  readonly sizeBytes: number;
  /** Logical sector: 512 or 4096. */
  readonly sectorBytes: number;
  readonly readonly: boolean;
  /** Whether `discard` does anything. */
  readonly discards: boolean;
  /** Reads into memory at once. Returns 0, or a negative errno. */
  read(views: MemoryViews, address: number, offset: number, bytes: number): number;
  write(views: MemoryViews, address: number, offset: number, bytes: number): number;
  /** Everything written before is durable when it returns 0. */
  flush(): number;
  discard(offset: number, bytes: number, secure: boolean): number;
  writeZeroes(offset: number, bytes: number): number;
  /** Ends the disk's use; a file is closed. */
  close(): void;
}
