import type { MemoryViews } from '@paravirt/gnttab';
import type { Disk, DiskWaiter } from './disk.ts';

/** The part that disks share: geometry, and telling of a new size. */
export abstract class DiskBase implements Disk {
  abstract readonly name: string;
  abstract readonly readonly: boolean;
  abstract readonly discards: boolean;
  abstract readonly secureDiscards: boolean;
  abstract readonly volatileCache: boolean;
  abstract readonly fua: boolean;
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly discardGranularityBytes: number;
  readonly discardAlignmentBytes: number = 0;
  private size: number;
  private readonly resizeHandlers: (() => void)[] = [];
  protected closed = false;

  constructor(sizeBytes: number, sectorBytes: number, physicalSectorBytes: number, discardGranularityBytes: number) {
    this.size = sizeBytes;
    this.sectorBytes = sectorBytes;
    this.physicalSectorBytes = physicalSectorBytes;
    this.discardGranularityBytes = discardGranularityBytes;
  }

  get sizeBytes(): number {
    return this.size;
  }

  /** Sets the size and tells of it. */
  protected setSize(sizeBytes: number): void {
    if (sizeBytes === this.size) return;
    this.size = sizeBytes;
    for (const handler of [...this.resizeHandlers]) handler();
  }

  onResize(handler: () => void): { unsubscribe(): void } {
    this.resizeHandlers.push(handler);
    return {
      unsubscribe: () => {
        const at = this.resizeHandlers.indexOf(handler);
        if (at >= 0) this.resizeHandlers.splice(at, 1);
      },
    };
  }

  abstract read(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter): number;
  abstract write(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter, fua: boolean): number;
  abstract flush(waiter: DiskWaiter): number;
  abstract discard(offset: number, bytes: number, secure: boolean, waiter: DiskWaiter): number;
  abstract writeZeroes(offset: number, bytes: number, waiter: DiskWaiter): number;

  close(): void {
    this.closed = true;
  }
}
