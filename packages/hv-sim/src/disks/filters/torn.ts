import type { MemoryViews } from '@paravirt/gnttab';
import type { Random } from '../../time/random.ts';
import { DISK_ERRNO, type Disk, type DiskWaiter } from '../disk.ts';
import { checkedChoice } from '../errors.ts';
import { type Gather, GatherPool } from '../gather.ts';
import { type DiskFaultRule, type DiskFilter, FilterBase, type Trigger, triggers } from './filter.ts';

/** Options of `tornFilter`: which writes are torn, where, and what the writer is told. */
export interface TornOptions {
  /** Which writes. Default: each with a chance of one in a thousand. */
  readonly rules?: readonly DiskFaultRule[];
  readonly random: Random;
  /** `prefix`: the first sectors reach the disk and the rest does not. `scatter`: any sectors but not all. Default `prefix`. */
  readonly pattern?: 'prefix' | 'scatter';
  /** What the writer is told: that all went well, or EIO. Default `success`: the lie that torn writes are known for. */
  readonly answer?: 'success' | 'error';
}

const RARELY: readonly DiskFaultRule[] = [{ op: 'write', probability: 0.001 }];

class TornFilter extends FilterBase<Trigger> {
  readonly kind = 'torn';
  private readonly random: Random;
  private readonly scatter: boolean;
  private readonly lies: boolean;
  private readonly gathers: GatherPool = new GatherPool();

  constructor(inner: Disk, { rules = RARELY, random, pattern = 'prefix', answer = 'success' }: TornOptions) {
    super(inner, triggers('torn', rules, random));
    this.random = random.split('torn:sectors');
    this.scatter = checkedChoice('torn', 'pattern', pattern, ['prefix', 'scatter']) === 'scatter';
    this.lies = checkedChoice('torn', 'answer', answer, ['success', 'error']) === 'success';
  }

  override write(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter, fua: boolean): number {
    let fires = false;
    if (this.enabled) for (const fault of this.faults) if (fault.fires('write', offset, bytes)) fires = true;
    if (!fires) return this.inner.write(views, address, offset, bytes, waiter, fua);
    const told: DiskWaiter = this.lies ? waiter : { done: (status) => waiter.done(status < 0 ? status : -DISK_ERRNO.EIO) };
    const gather = this.gathers.take(told);
    this.writePart(gather, views, address, offset, bytes, fua);
    const answer = gather.end();
    return answer === 0 && !this.lies ? -DISK_ERRNO.EIO : answer;
  }

  private writePart(gather: Gather, views: MemoryViews, address: number, offset: number, bytes: number, fua: boolean): void {
    const sector = this.sectorBytes;
    const sectors = bytes / sector;
    if (!this.scatter) {
      const kept = this.random.below(sectors);
      if (kept > 0) gather.call(this.inner.write(views, address, offset, kept * sector, gather, fua));
      return;
    }
    const missing = this.random.below(sectors);
    for (let i = 0; i < sectors; i++) {
      if (i === missing || this.random.chance(0.5)) continue;
      gather.call(this.inner.write(views, address + i * sector, offset + i * sector, sector, gather, fua));
    }
  }
}

/** Lets only part of a write reach the disk, where the rules say so. @throws {DiskError} `bad-rule`, `bad-option`. */
export function tornFilter(inner: Disk, options: TornOptions): DiskFilter {
  return new TornFilter(inner, options);
}
