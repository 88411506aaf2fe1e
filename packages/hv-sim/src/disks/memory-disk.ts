import type { MemoryFrame, MemoryViews } from '@paravirt/gnttab';
import { DISK_ERRNO, type ResizableDisk } from './disk.ts';
import { DiskBase } from './disk-base.ts';
import { checkedBytes, checkedFlag, checkedSector, DiskError } from './errors.ts';
import { PageViews } from './page-views.ts';

const PAGE_BYTES = 4096;
const CHUNK_BYTES = 1 << 18;
const CHUNK_PAGES = 64;
const CHUNK_SHIFT = 6;
/** Called as it stands: looked up at a view, it costs a search through the prototypes each time. */
const setBytes: Uint8Array['set'] = Uint8Array.prototype.set;
/** Chunks whose places are kept from the beginning on: an array that is written far behind its end becomes a slow one. */
const PLACES_MAX = 1 << 17;
/** 2^50: far above what anybody holds, low enough that offsets in bits stay exact. */
const SIZE_MAX: number = 2 ** 50;

/** Options of `memoryDisk`. */
export interface MemoryDiskOptions {
  /** A multiple of `sectorBytes`, from one sector on. Memory is taken only for stretches of 256 KiB that were written to. */
  readonly sizeBytes: number;
  /** Default 512. */
  readonly sectorBytes?: number;
  /** Default `sectorBytes`. */
  readonly physicalSectorBytes?: number;
  /** Refuses writes with EROFS. Default false. */
  readonly readonly?: boolean;
  /**
   * Where the disk's bytes lie: a stretch of memory, `sizeBytes` long from `offset` on, that nobody else uses. In the memory that
   * requests' pages are in, each transfer is one copy inside one buffer. Default: memory of its own. The size is then fixed.
   */
  readonly area?: MemoryFrame;
}

/** A disk in memory, empty (zeroes) at first. */
export interface MemoryDisk extends ResizableDisk {
  /** Bytes of memory held for data. */
  readonly allocatedBytes: number;
}

interface Chunk {
  readonly bytes: Uint8Array;
  /** Views of its pages, made when first read. */
  readonly pages: (Uint8Array | undefined)[];
}

/** What both kinds have in common: it answers at once, holds everything it was told, and can erase. */
abstract class MemoryDiskBase extends DiskBase implements MemoryDisk {
  readonly name = 'memory';
  readonly discards = true;
  readonly secureDiscards = true;
  readonly volatileCache = false;
  readonly fua = true;
  readonly readonly: boolean;
  abstract readonly allocatedBytes: number;

  constructor(options: MemoryDiskOptions) {
    const sector = checkedSector('memory disk', 'sectorBytes', options.sectorBytes ?? 512);
    const physical = checkedBytes('memory disk', 'physicalSectorBytes', options.physicalSectorBytes ?? sector, sector, 1 << 20, sector);
    super(
      checkedBytes('memory disk', 'sizeBytes', options.sizeBytes, sector, SIZE_MAX, sector),
      sector,
      physical,
      Math.max(sector, PAGE_BYTES),
    );
    this.readonly = checkedFlag('memory disk', 'readonly', options.readonly ?? false);
  }

  abstract override read(views: MemoryViews, address: number, offset: number, bytes: number): number;
  abstract override write(views: MemoryViews, address: number, offset: number, bytes: number): number;
  protected abstract zero(offset: number, bytes: number): void;
  abstract resize(sizeBytes: number): void;

  flush(): number {
    return this.closed ? -DISK_ERRNO.EBADF : 0;
  }

  discard(offset: number, bytes: number): number {
    return this.writeZeroes(offset, bytes);
  }

  writeZeroes(offset: number, bytes: number): number {
    if (this.closed) return -DISK_ERRNO.EBADF;
    if (this.readonly) return -DISK_ERRNO.EROFS;
    this.zero(offset, bytes);
    return 0;
  }
}

class ChunkedDisk extends MemoryDiskBase {
  private chunks: (Chunk | undefined)[];
  private held = 0;
  private readonly memoryPages: PageViews = new PageViews();

  constructor(options: MemoryDiskOptions) {
    super(options);
    this.chunks = new Array<Chunk | undefined>(Math.min(PLACES_MAX, Math.ceil(this.sizeBytes / CHUNK_BYTES)));
  }

  get allocatedBytes(): number {
    return this.held * CHUNK_BYTES;
  }

  override read(views: MemoryViews, address: number, offset: number, bytes: number): number {
    if (this.closed) return -DISK_ERRNO.EBADF;
    const page = offset / PAGE_BYTES;
    // A whole page, which most of all reads are, without a remainder or a fresh view.
    if (bytes !== PAGE_BYTES || (page | 0) !== page) return this.readPieces(views, address, offset, bytes);
    const chunk = this.chunks[page >>> CHUNK_SHIFT];
    if (chunk === undefined) views.u8.fill(0, address, address + PAGE_BYTES);
    else setBytes.call(views.u8, chunk.pages[page & (CHUNK_PAGES - 1)] ?? pageOf(chunk, page & (CHUNK_PAGES - 1)), address);
    return 0;
  }

  private readPieces(views: MemoryViews, address: number, offset: number, bytes: number): number {
    let at = address;
    let from = offset;
    const end = offset + bytes;
    while (from < end) {
      const index = Math.floor(from / CHUNK_BYTES);
      const within = from - index * CHUNK_BYTES;
      const count = Math.min(end - from, CHUNK_BYTES - within);
      const chunk = this.chunks[index];
      if (chunk === undefined) views.u8.fill(0, at, at + count);
      else views.u8.set(chunk.bytes.subarray(within, within + count), at);
      at += count;
      from += count;
    }
    return 0;
  }

  override write(views: MemoryViews, address: number, offset: number, bytes: number): number {
    if (this.closed) return -DISK_ERRNO.EBADF;
    if (this.readonly) return -DISK_ERRNO.EROFS;
    const page = offset / PAGE_BYTES;
    const from = address / PAGE_BYTES;
    // As in `read`, of a page that is one in memory too.
    if (bytes !== PAGE_BYTES || (page | 0) !== page || (from | 0) !== from) return this.writePieces(views, address, offset, bytes);
    const chunk = this.chunks[page >>> CHUNK_SHIFT] ?? this.chunkAt(page >>> CHUNK_SHIFT);
    setBytes.call(chunk.bytes, this.memoryPages.at(views, from), (page & (CHUNK_PAGES - 1)) * PAGE_BYTES);
    return 0;
  }

  private writePieces(views: MemoryViews, address: number, offset: number, bytes: number): number {
    let at = address;
    let to = offset;
    const end = offset + bytes;
    while (to < end) {
      const index = Math.floor(to / CHUNK_BYTES);
      const within = to - index * CHUNK_BYTES;
      const count = Math.min(end - to, CHUNK_BYTES - within);
      const chunk = this.chunks[index] ?? this.chunkAt(index);
      chunk.bytes.set(views.u8.subarray(at, at + count), within);
      at += count;
      to += count;
    }
    return 0;
  }

  extentAt(offset: number): number {
    const allocated = this.chunks[Math.floor(offset / CHUNK_BYTES)] !== undefined;
    let end = (Math.floor(offset / CHUNK_BYTES) + 1) * CHUNK_BYTES;
    while (end < this.sizeBytes && (this.chunks[end / CHUNK_BYTES] !== undefined) === allocated) end += CHUNK_BYTES;
    const bytes = Math.min(end, this.sizeBytes) - offset;
    return allocated ? bytes : -bytes;
  }

  resize(sizeBytes: number): void {
    checkedBytes('memory disk', 'sizeBytes', sizeBytes, this.sectorBytes, SIZE_MAX, this.sectorBytes);
    if (this.closed) throw new DiskError({ code: 'closed', disk: 'memory disk' });
    // What is cut off must not come back when the disk grows again.
    if (sizeBytes < this.sizeBytes) this.zero(sizeBytes, this.sizeBytes - sizeBytes);
    this.setSize(sizeBytes);
  }

  protected override zero(offset: number, bytes: number): void {
    let at = offset;
    const end = offset + bytes;
    while (at < end) {
      const within = at % CHUNK_BYTES;
      const count = Math.min(end - at, CHUNK_BYTES - within);
      const index = (at - within) / CHUNK_BYTES;
      const chunk = this.chunks[index];
      if (chunk !== undefined) {
        if (count === CHUNK_BYTES || (within === 0 && at + count === this.sizeBytes)) {
          this.chunks[index] = undefined;
          this.held--;
        } else chunk.bytes.fill(0, within, within + count);
      }
      at += count;
    }
  }

  override close(): void {
    super.close();
    this.chunks = [];
    this.held = 0;
  }

  private chunkAt(index: number): Chunk {
    const known = this.chunks[index];
    if (known !== undefined) return known;
    const made: Chunk = { bytes: new Uint8Array(CHUNK_BYTES), pages: new Array<Uint8Array | undefined>(CHUNK_PAGES) };
    this.chunks[index] = made;
    this.held++;
    return made;
  }
}

function pageOf(chunk: Chunk, page: number): Uint8Array {
  const known = chunk.pages[page];
  if (known !== undefined) return known;
  const made = chunk.bytes.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
  chunk.pages[page] = made;
  return made;
}

class AreaDisk extends MemoryDiskBase {
  private readonly area: MemoryViews;
  private readonly start: number;

  constructor(options: MemoryDiskOptions, area: MemoryFrame) {
    super(options);
    const { views, offset } = area;
    if (!Number.isInteger(offset) || offset < 0 || offset + this.sizeBytes > views.u8.length) {
      const allowed = `inside ${views.u8.length} bytes of memory`;
      throw new DiskError({ code: 'bad-option', disk: 'memory disk', option: 'area', value: `${offset}+${this.sizeBytes}`, allowed });
    }
    this.area = views;
    this.start = offset;
    views.u8.fill(0, offset, offset + this.sizeBytes);
  }

  get allocatedBytes(): number {
    return this.sizeBytes;
  }

  override read(views: MemoryViews, address: number, offset: number, bytes: number): number {
    if (this.closed) return -DISK_ERRNO.EBADF;
    const from = this.start + offset;
    const u8 = this.area.u8;
    if (views.u8 === u8) u8.copyWithin(address, from, from + bytes);
    else views.u8.set(u8.subarray(from, from + bytes), address);
    return 0;
  }

  override write(views: MemoryViews, address: number, offset: number, bytes: number): number {
    if (this.closed) return -DISK_ERRNO.EBADF;
    if (this.readonly) return -DISK_ERRNO.EROFS;
    const to = this.start + offset;
    const u8 = this.area.u8;
    if (views.u8 === u8) u8.copyWithin(to, address, address + bytes);
    else u8.set(views.u8.subarray(address, address + bytes), to);
    return 0;
  }

  resize(sizeBytes: number): void {
    if (sizeBytes === this.sizeBytes) return;
    const allowed = `${this.sizeBytes}: the disk lies in an area of fixed size`;
    throw new DiskError({ code: 'bad-option', disk: 'memory disk', option: 'sizeBytes', value: String(sizeBytes), allowed });
  }

  protected override zero(offset: number, bytes: number): void {
    this.area.u8.fill(0, this.start + offset, this.start + offset + bytes);
  }
}

/**
 * Makes a disk in memory. It answers at once; there is no cache to flush.
 * @throws {DiskError} `bad-option`.
 */
export function memoryDisk(options: MemoryDiskOptions): MemoryDisk {
  return options.area === undefined ? new ChunkedDisk(options) : new AreaDisk(options, options.area);
}
