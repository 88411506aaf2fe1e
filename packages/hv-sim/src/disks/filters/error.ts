import type { MemoryViews } from '@paravirt/gnttab';
import type { Random } from '../../time/random.ts';
import { DISK_ERRNO, type Disk, type DiskWaiter } from '../disk.ts';
import { DiskError } from '../errors.ts';
import { type DiskFaultRule, type DiskFilter, type DiskOp, FilterBase, Trigger } from './filter.ts';

/** A call that fails instead of being carried out. */
export interface ErrorRule extends DiskFaultRule {
  /** Positive. Default 5 (EIO). */
  readonly errno?: number;
}

/** Options of `errorFilter`: which operations fail, and with what. */
export interface ErrorOptions {
  readonly rules: readonly ErrorRule[];
  /** Needed where a rule has a probability. */
  readonly random?: Random;
}

class ErrorFilter extends FilterBase<Trigger> {
  readonly kind = 'error';
  private readonly errnos: readonly number[];

  constructor(inner: Disk, { rules, random }: ErrorOptions) {
    super(
      inner,
      rules.map((rule, position) => new Trigger('error', rule, position, random)),
    );
    this.errnos = rules.map(({ errno = DISK_ERRNO.EIO }) => {
      if (Number.isInteger(errno) && errno >= 1 && errno <= 4095) return errno;
      throw new DiskError({ code: 'bad-rule', filter: 'error', rule: `errno ${errno}`, allowed: 'a whole number from 1 to 4095' });
    });
  }

  /** The first rule that fires decides; the others still count the opportunity. */
  private strike(op: DiskOp, offset: number, bytes: number): number {
    if (!this.enabled) return 0;
    let answer = 0;
    for (let i = 0; i < this.faults.length; i++) {
      if (this.faults[i]!.fires(op, offset, bytes) && answer === 0) answer = -this.errnos[i]!;
    }
    return answer;
  }

  override read(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter): number {
    return this.strike('read', offset, bytes) || this.inner.read(views, address, offset, bytes, waiter);
  }
  override write(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter, fua: boolean): number {
    return this.strike('write', offset, bytes) || this.inner.write(views, address, offset, bytes, waiter, fua);
  }
  override flush(waiter: DiskWaiter): number {
    return this.strike('flush', 0, 0) || this.inner.flush(waiter);
  }
  override discard(offset: number, bytes: number, secure: boolean, waiter: DiskWaiter): number {
    return this.strike('discard', offset, bytes) || this.inner.discard(offset, bytes, secure, waiter);
  }
  override writeZeroes(offset: number, bytes: number, waiter: DiskWaiter): number {
    return this.strike('zero', offset, bytes) || this.inner.writeZeroes(offset, bytes, waiter);
  }
}

/** Makes calls fail that the rules pick; they do not reach the disk. @throws {DiskError} `bad-rule`. */
export function errorFilter(inner: Disk, options: ErrorOptions): DiskFilter {
  return new ErrorFilter(inner, options);
}
