import type { MemoryViews } from '@paravirt/gnttab';
import type { Random } from '../../time/random.ts';
import type { Disk, DiskWaiter } from '../disk.ts';
import { DiskError } from '../errors.ts';
import { type DiskFaultRule, type DiskFilter, FilterBase, ownViews, type Trigger, triggers } from './filter.ts';

/** Options of `corruptFilter`: when bits are flipped, and how many. */
export interface CorruptOptions {
  /** Which reads and writes; other operations have no data. */
  readonly rules: readonly DiskFaultRule[];
  /** Picks the bits. */
  readonly random: Random;
  /** Bits that are flipped each time, 1 to 4096. Default 1. */
  readonly bits?: number;
}

class CorruptFilter extends FilterBase<Trigger> {
  readonly kind = 'corrupt';
  private readonly bits: number;
  private readonly random: Random;

  constructor(inner: Disk, { rules, random, bits = 1 }: CorruptOptions) {
    super(inner, triggers('corrupt', rules, random));
    if (!Number.isInteger(bits) || bits < 1 || bits > 4096) {
      throw new DiskError({
        code: 'bad-option',
        disk: 'corrupt',
        option: 'bits',
        value: String(bits),
        allowed: 'a whole number from 1 to 4096',
      });
    }
    this.bits = bits;
    this.random = random.split('corrupt:bits');
  }

  override read(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter): number {
    if (!this.strikes('read', offset, bytes)) return this.inner.read(views, address, offset, bytes, waiter);
    const done = (status: number): void => {
      if (status === 0) this.flip(views.u8, address, bytes);
      waiter.done(status);
    };
    const answer = this.inner.read(views, address, offset, bytes, { done });
    if (answer === 0) this.flip(views.u8, address, bytes);
    return answer;
  }

  override write(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter, fua: boolean): number {
    if (!this.strikes('write', offset, bytes)) return this.inner.write(views, address, offset, bytes, waiter, fua);
    // The guest's page stays as it is: what reaches the disk is a damaged copy.
    const damaged = ownViews(bytes);
    damaged.u8.set(views.u8.subarray(address, address + bytes));
    this.flip(damaged.u8, 0, bytes);
    return this.inner.write(damaged, 0, offset, bytes, waiter, fua);
  }

  private strikes(op: 'read' | 'write', offset: number, bytes: number): boolean {
    if (!this.enabled) return false;
    let fires = false;
    for (const fault of this.faults) if (fault.fires(op, offset, bytes)) fires = true;
    return fires;
  }

  /** Flips different bits, so that no two undo each other. */
  private flip(u8: Uint8Array, address: number, bytes: number): void {
    const picked = new Set<number>();
    while (picked.size < Math.min(this.bits, bytes * 8)) picked.add(this.random.below(bytes * 8));
    for (const bit of picked) u8[address + (bit >>> 3)]! ^= 1 << (bit & 7);
  }
}

/** Flips bits of what is read, or of what is written on its way to the disk, where the rules say so. @throws {DiskError} `bad-rule`, `bad-option`. */
export function corruptFilter(inner: Disk, options: CorruptOptions): DiskFilter {
  return new CorruptFilter(inner, options);
}
