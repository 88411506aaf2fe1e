import type { PurgeQueue } from './purge-queue.ts';
import type { PageAllocator, PageTable } from './types.ts';

/** What the parts of one allocator share. */
export interface Space {
  readonly strict: boolean;
  readonly pageTable: PageTable;
  readonly pages: PageAllocator;
  /** Null unless unmapping is lazy. */
  readonly purges: PurgeQueue | null;
  closed: boolean;
  warnings: number;
  assertions: number;
}

/** The address of a virtual frame, as errors print it. */
export function hexOfVfn(vfn: number): string {
  return Number.isSafeInteger(vfn) ? hexOf(BigInt(vfn) * 4096n) : String(vfn);
}

/** An address, as errors print it. */
export function hexOf(va: bigint): string {
  return va < 0n ? `-0x${(-va).toString(16)}` : `0x${va.toString(16)}`;
}
