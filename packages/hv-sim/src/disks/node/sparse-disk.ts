/// <reference types="node" />
import { fstatSync } from 'node:fs';
import type { MemoryViews } from '@paravirt/gnttab';
import { DISK_ERRNO, type DiskWaiter, type ResizableDisk } from '../disk.ts';
import { errnoOf, type FileDiskOptions, OpenFile } from './file-disk.ts';

/** Granule of what is a hole and what is not, and of discards. */
const BLOCK = 4096;

/** A disk of a file that has holes. */
export interface SparseDisk extends ResizableDisk {
  /** Bytes that are no hole. */
  readonly allocatedBytes: number;
}

/**
 * A block is a hole (reads as zeroes) or in the file. A hole may have old bytes under it, of what was discarded there: Node cannot punch
 * holes, so they are overwritten when the block is next written in part, or with zeroes at a secure discard.
 */
class Sparse extends OpenFile implements SparseDisk {
  readonly name = 'sparse';
  readonly discards = true;
  readonly secureDiscards = true;
  private allocated: Uint8Array;
  private stale: Uint8Array;
  private held = 0;
  private readonly zeroes: Uint8Array = new Uint8Array(BLOCK);

  constructor(options: FileDiskOptions) {
    super('sparse disk', options, BLOCK);
    const blocks = Math.ceil(this.sizeBytes / BLOCK);
    this.allocated = new Uint8Array(blocks);
    this.stale = new Uint8Array(blocks);
    // What a file of another's has allocated cannot be asked; one without any blocks is all holes.
    if (fstatSync(this.fd).blocks > 0) {
      this.allocated.fill(1);
      this.held = blocks;
    }
  }

  get allocatedBytes(): number {
    return Math.min(this.held * BLOCK, this.sizeBytes);
  }

  override read(views: MemoryViews, address: number, offset: number, bytes: number): number {
    if (this.closed) return -DISK_ERRNO.EBADF;
    try {
      const end = offset + bytes;
      for (let from = offset; from < end; ) {
        const run = this.run(from, end);
        const at = address + from - offset;
        if (run > 0) this.readAt(views.u8, at, from, run);
        else views.u8.fill(0, at, at - run);
        from += Math.abs(run);
      }
      return 0;
    } catch (error) {
      return errnoOf(error);
    }
  }

  override write(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter, fua: boolean): number {
    if (this.closed) return -DISK_ERRNO.EBADF;
    if (this.readonly) return -DISK_ERRNO.EROFS;
    try {
      this.claim(offset, bytes);
    } catch (error) {
      return errnoOf(error);
    }
    return super.write(views, address, offset, bytes, waiter, fua);
  }

  override discard(offset: number, bytes: number, secure: boolean): number {
    if (secure) return this.writeZeroes(offset, bytes);
    if (this.closed) return -DISK_ERRNO.EBADF;
    if (this.readonly) return -DISK_ERRNO.EROFS;
    // Whole blocks only: less than one may do nothing.
    const last = Math.floor((offset + bytes) / BLOCK);
    for (let block = Math.ceil(offset / BLOCK); block < last; block++) {
      if (this.allocated[block] === 0) continue;
      this.allocated[block] = 0;
      this.stale[block] = 1;
      this.held--;
    }
    return 0;
  }

  override writeZeroes(offset: number, bytes: number): number {
    if (this.closed) return -DISK_ERRNO.EBADF;
    if (this.readonly) return -DISK_ERRNO.EROFS;
    try {
      const end = offset + bytes;
      for (let at = offset; at < end; ) {
        const block = Math.floor(at / BLOCK);
        const count = Math.min(end, (block + 1) * BLOCK) - at;
        if (this.allocated[block] === 1 || this.stale[block] === 1) this.writeAt(this.zeroes, 0, at, count);
        if (count === BLOCK) {
          if (this.allocated[block] === 1) this.held--;
          this.allocated[block] = 0;
          this.stale[block] = 0;
        }
        at += count;
      }
      return 0;
    } catch (error) {
      return errnoOf(error);
    }
  }

  extentAt(offset: number): number {
    return this.run(offset, this.sizeBytes);
  }

  override resize(sizeBytes: number): void {
    const known = this.allocated.length;
    const fileBytes = this.closed ? 0 : fstatSync(this.fd).size;
    super.resize(sizeBytes);
    const blocks = Math.ceil(sizeBytes / BLOCK);
    const allocated = new Uint8Array(blocks);
    const stale = new Uint8Array(blocks);
    allocated.set(this.allocated.subarray(0, blocks));
    stale.set(this.stale.subarray(0, blocks));
    // A disk that was only the first part of its file grows over what is there.
    allocated.fill(1, known, Math.max(known, Math.ceil(fileBytes / BLOCK)));
    // The host cut off what lay behind; a block that is cut in the middle keeps its front.
    this.held = 0;
    for (let block = 0; block < blocks; block++) if (allocated[block] === 1) this.held++;
    this.allocated = allocated;
    this.stale = stale;
  }

  private run(offset: number, end: number): number {
    const first = this.allocated[Math.floor(offset / BLOCK)]!;
    let block = Math.floor(offset / BLOCK) + 1;
    while (block * BLOCK < end && this.allocated[block] === first) block++;
    const bytes = Math.min(block * BLOCK, end) - offset;
    return first === 1 ? bytes : -bytes;
  }

  /** The blocks of a write are no holes any more; what it does not cover of them is zero. */
  private claim(offset: number, bytes: number): void {
    const end = offset + bytes;
    for (let block = Math.floor(offset / BLOCK); block * BLOCK < end; block++) {
      if (this.allocated[block] === 1) continue;
      const start = block * BLOCK;
      if (this.stale[block] === 1 && (start < offset || start + BLOCK > end)) {
        this.writeAt(this.zeroes, 0, start, Math.min(BLOCK, this.sizeBytes - start));
      }
      this.allocated[block] = 1;
      this.stale[block] = 0;
      this.held++;
    }
  }
}

/**
 * Makes a disk of a file with holes: only what is written takes room, what is discarded reads as zeroes, `extentAt` tells holes. A new
 * file (`create`, with `sizeBytes`) is all hole. After a discard the file itself keeps the old bytes until they are overwritten, so
 * another process, or this one after opening it again, may still read them; not after a secure one.
 * @throws {DiskError} `bad-option`, `bad-file`.
 */
export function sparseDisk(options: FileDiskOptions): SparseDisk {
  return new Sparse(options);
}
