import { DISK_ERRNO, type Disk } from '../disk.ts';
import { type DiskFilter, FilterBase, Tally } from './filter.ts';

class ReadonlyFilter extends FilterBase<Tally> {
  readonly kind = 'readonly';

  constructor(inner: Disk) {
    super(inner, [new Tally('readonly', Number.POSITIVE_INFINITY)]);
  }

  override get readonly(): boolean {
    return this.enabled || this.inner.readonly;
  }
  override get discards(): boolean {
    return !this.enabled && this.inner.discards;
  }
  override write(...args: Parameters<Disk['write']>): number {
    return this.refuses() ? -DISK_ERRNO.EROFS : this.inner.write(...args);
  }
  override discard(...args: Parameters<Disk['discard']>): number {
    return this.refuses() ? -DISK_ERRNO.EROFS : this.inner.discard(...args);
  }
  override writeZeroes(...args: Parameters<Disk['writeZeroes']>): number {
    return this.refuses() ? -DISK_ERRNO.EROFS : this.inner.writeZeroes(...args);
  }

  private refuses(): boolean {
    const tally = this.faults[0]!;
    tally.reached++;
    if (this.enabled) tally.fired++;
    return this.enabled;
  }
}

/** Makes a disk that cannot be written. A device that is connected already keeps what it was told of `readonly`. */
export function readonlyFilter(inner: Disk): DiskFilter {
  return new ReadonlyFilter(inner);
}
