import type { Unsubscribable } from '@paravirt/event-bus';
import type { MemoryViews } from '@paravirt/gnttab';
import { DISK_ERRNO, type Disk, type DiskWaiter } from './disk.ts';
import { DiskBase } from './disk-base.ts';
import { checkedFlag } from './errors.ts';
import { type Gather, GatherPool } from './gather.ts';

const CHUNK_BYTES = 1 << 16;

/** Options of `cowDisk`. */
export interface CowDiskOptions {
  /** What is read where nothing was written. Never written to, and closed with the disk unless `keepBase`. */
  readonly base: Disk;
  /** The base is somebody else's: `close` leaves it open. Default false. */
  readonly keepBase?: boolean;
}

/**
 * A disk that keeps what is written beside another disk, which stays as it is. Its size is its own, the base's when it was made: what
 * a base that becomes smaller loses reads as zeroes from then on, and what one that grows gets is not seen.
 */
export interface CowDisk extends Disk {
  /** Bytes that no longer come from the base. */
  readonly changedBytes: number;
  /** Forgets everything that was written. */
  revert(): void;
}

/** A stretch of 64 KiB, of which the sectors with a bit set were written. */
interface Chunk {
  readonly bytes: Uint8Array;
  readonly written: Uint8Array;
}

class Cow extends DiskBase implements CowDisk {
  readonly name: string;
  readonly readonly = false;
  readonly discards = true;
  readonly secureDiscards = false;
  readonly volatileCache = false;
  readonly fua = true;
  changedBytes = 0;
  private readonly base: Disk;
  private readonly keepBase: boolean;
  private readonly perChunk: number;
  private readonly resized: Unsubscribable | undefined;
  /** The smallest that the base has been: from here on there is nothing of it. */
  private baseEnd: number;
  private readonly gathers: GatherPool = new GatherPool();
  private readonly chunks: Map<number, Chunk> = new Map();

  constructor({ base, keepBase }: CowDiskOptions) {
    super(base.sizeBytes, base.sectorBytes, base.physicalSectorBytes, base.sectorBytes);
    this.name = `cow(${base.name})`;
    this.base = base;
    this.keepBase = checkedFlag('cow disk', 'keepBase', keepBase ?? false);
    this.perChunk = CHUNK_BYTES / base.sectorBytes;
    this.baseEnd = base.sizeBytes;
    this.resized = base.onResize?.(() => {
      this.baseEnd = Math.min(this.baseEnd, base.sizeBytes);
    });
  }

  override read(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter): number {
    if (this.closed) return -DISK_ERRNO.EBADF;
    let run = this.runAt(offset, offset + bytes);
    if (run < 0 && -run === bytes && offset + bytes <= this.baseEnd) return this.base.read(views, address, offset, bytes, waiter);
    let gather: Gather | undefined;
    let at = address;
    let from = offset;
    const end = offset + bytes;
    let failed = 0;
    while (from < end && failed === 0) {
      run = this.runAt(from, end);
      const count = Math.abs(run);
      if (run > 0) this.copyOut(views, at, from, count);
      else {
        const inBase = Math.max(0, Math.min(count, this.baseEnd - from));
        views.u8.fill(0, at + inBase, at + count);
        if (inBase > 0) {
          gather ??= this.gathers.take(waiter);
          failed = gather.call(this.base.read(views, at, from, inBase, gather));
        }
      }
      at += count;
      from += count;
    }
    return gather === undefined ? failed : gather.end();
  }

  override write(views: MemoryViews, address: number, offset: number, bytes: number): number {
    if (this.closed) return -DISK_ERRNO.EBADF;
    let at = address;
    let to = offset;
    const end = offset + bytes;
    while (to < end) {
      const within = to % CHUNK_BYTES;
      const count = Math.min(end - to, CHUNK_BYTES - within);
      const chunk = this.chunkAt((to - within) / CHUNK_BYTES);
      chunk.bytes.set(views.u8.subarray(at, at + count), within);
      this.mark(chunk, within, count);
      at += count;
      to += count;
    }
    return 0;
  }

  override flush(): number {
    return this.closed ? -DISK_ERRNO.EBADF : 0;
  }

  override discard(offset: number, bytes: number): number {
    return this.writeZeroes(offset, bytes);
  }

  override writeZeroes(offset: number, bytes: number): number {
    if (this.closed) return -DISK_ERRNO.EBADF;
    let to = offset;
    const end = offset + bytes;
    while (to < end) {
      const within = to % CHUNK_BYTES;
      const count = Math.min(end - to, CHUNK_BYTES - within);
      const chunk = this.chunkAt((to - within) / CHUNK_BYTES);
      chunk.bytes.fill(0, within, within + count);
      this.mark(chunk, within, count);
      to += count;
    }
    return 0;
  }

  extentAt(offset: number): number {
    const run = this.runAt(offset, Math.min(this.sizeBytes, offset - (offset % CHUNK_BYTES) + CHUNK_BYTES));
    if (run > 0 || offset >= this.baseEnd) return run;
    const most = Math.min(-run, this.baseEnd - offset);
    const under = this.base.extentAt?.(offset) ?? most;
    return under > 0 ? Math.min(under, most) : Math.max(under, -most);
  }

  revert(): void {
    this.chunks.clear();
    this.changedBytes = 0;
  }

  override close(): void {
    if (this.closed) return;
    super.close();
    this.resized?.unsubscribe();
    this.revert();
    if (!this.keepBase) this.base.close();
  }

  /** Bytes from `offset` on, up to `end`, that were written (positive) or were not (negative). */
  private runAt(offset: number, end: number): number {
    const sector = this.sectorBytes;
    const first = this.isWritten(offset);
    let at = offset + sector;
    while (at < end) {
      if (at % CHUNK_BYTES === 0 && !first && !this.chunks.has(at / CHUNK_BYTES)) {
        at += CHUNK_BYTES;
        continue;
      }
      if (this.isWritten(at) !== first) break;
      at += sector;
    }
    const bytes = Math.min(at, end) - offset;
    return first ? bytes : -bytes;
  }

  private isWritten(offset: number): boolean {
    const within = offset % CHUNK_BYTES;
    return this.chunks.get((offset - within) / CHUNK_BYTES)?.written[within / this.sectorBytes] === 1;
  }

  private copyOut(views: MemoryViews, address: number, offset: number, bytes: number): void {
    let at = address;
    let from = offset;
    const end = offset + bytes;
    while (from < end) {
      const within = from % CHUNK_BYTES;
      const count = Math.min(end - from, CHUNK_BYTES - within);
      views.u8.set(this.chunks.get((from - within) / CHUNK_BYTES)!.bytes.subarray(within, within + count), at);
      at += count;
      from += count;
    }
  }

  private mark(chunk: Chunk, within: number, bytes: number): void {
    const sector = this.sectorBytes;
    for (let i = within / sector; i < (within + bytes) / sector; i++) {
      if (chunk.written[i] === 1) continue;
      chunk.written[i] = 1;
      this.changedBytes += sector;
    }
  }

  private chunkAt(index: number): Chunk {
    const known = this.chunks.get(index);
    if (known !== undefined) return known;
    const made = { bytes: new Uint8Array(CHUNK_BYTES), written: new Uint8Array(this.perChunk) };
    this.chunks.set(index, made);
    return made;
  }
}

/**
 * Makes a copy-on-write disk over another one, of the size which that has now. Memory is taken for stretches of 64 KiB that were
 * written to.
 * @throws {DiskError} `bad-option`.
 */
export function cowDisk(options: CowDiskOptions): CowDisk {
  return new Cow(options);
}
