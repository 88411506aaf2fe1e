import type { MemoryViews } from '@paravirt/gnttab';
import type { ResizableDisk } from './disk.ts';
import { DiskBase } from './disk-base.ts';
import { checkedBytes, checkedSector } from './errors.ts';

/** Options of `nullDisk`. */
export interface NullDiskOptions {
  /** A multiple of `sectorBytes`, from one sector to 2^52 bytes. */
  readonly sizeBytes: number;
  /** Default 512. */
  readonly sectorBytes?: number;
}

const SIZE_MAX: number = 2 ** 52;

class NullDisk extends DiskBase implements ResizableDisk {
  readonly name = 'null';
  readonly readonly = false;
  readonly discards = true;
  readonly secureDiscards = true;
  readonly volatileCache = false;
  readonly fua = true;

  override read(views: MemoryViews, address: number, _offset: number, bytes: number): number {
    views.u8.fill(0, address, address + bytes);
    return 0;
  }
  override write(): number {
    return 0;
  }
  override flush(): number {
    return 0;
  }
  override discard(): number {
    return 0;
  }
  override writeZeroes(): number {
    return 0;
  }
  extentAt(offset: number): number {
    return offset - this.sizeBytes;
  }
  resize(sizeBytes: number): void {
    this.setSize(checkedBytes('null disk', 'sizeBytes', sizeBytes, this.sectorBytes, SIZE_MAX, this.sectorBytes));
  }
}

/**
 * Makes a disk that reads as zeroes and forgets what is written.
 * @throws {DiskError} `bad-option`.
 */
export function nullDisk(options: NullDiskOptions): ResizableDisk {
  const sector = checkedSector('null disk', 'sectorBytes', options.sectorBytes ?? 512);
  const size = checkedBytes('null disk', 'sizeBytes', options.sizeBytes, sector, SIZE_MAX, sector);
  return new NullDisk(size, sector, sector, sector);
}
