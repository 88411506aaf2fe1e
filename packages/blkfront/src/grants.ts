import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import type { GrantTable } from '@paravirt/gnttab';
import type { SchedulerLike } from 'rxjs';
import type { Grants } from './types.ts';

/** Ticks between two attempts at an end that the peer held up, as Linux's deferred ends have them. */
const END_LATER_TICKS = 1000;

/** What `grantsOf` uses of a grant table. */
export type GrantTableForDevice = Pick<
  GrantTable,
  | 'tryAllocGrantReference'
  | 'freeGrantReference'
  | 'publish'
  | 'publishMany'
  | 'tryEnd'
  | 'tryEndMany'
  | 'isInUse'
  | 'requestFreeCallback'
  | 'cancelFreeCallback'
> &
  Partial<Pick<GrantTable, 'usage'>>;

/** Methods, not functions made for each table: the compiler puts what all devices share in place, and calls what each has its own. */
class TableGrants implements Grants {
  private readonly table: GrantTableForDevice;
  private readonly scheduler: SchedulerLike;
  private readonly waiting: { readonly gref: Gref; readonly ended: () => void }[] = [];

  constructor(table: GrantTableForDevice, scheduler: SchedulerLike) {
    this.table = table;
    this.scheduler = scheduler;
  }

  reserve(): Gref | -1 {
    return this.table.tryAllocGrantReference() ?? -1;
  }

  available(): number {
    const usage = this.table.usage?.();
    if (usage === undefined) return Number.POSITIVE_INFINITY;
    const { free, entries, frames, maxFrames } = usage;
    return free + (maxFrames - frames) * (entries / frames);
  }

  release(gref: Gref): void {
    this.table.freeGrantReference(gref);
  }

  permit(gref: Gref, peer: DomId, gfn: Gfn, readonly: boolean): void {
    this.table.publish(gref, peer, gfn, readonly);
  }

  revoke(gref: Gref): boolean {
    return this.table.tryEnd(gref);
  }

  permitMany(refs: Uint32Array, at: number, peer: DomId, gfns: ArrayLike<number>, from: number, count: number, readonly: boolean): void {
    this.table.publishMany(refs, at, peer, gfns, from, count, readonly);
  }

  revokeMany(refs: Uint32Array, at: number, count: number): number {
    return this.table.tryEndMany(refs, at, count);
  }

  inUse(gref: Gref): boolean {
    return this.table.isInUse(gref);
  }

  endLater(gref: Gref, ended: () => void): void {
    if (this.table.tryEnd(gref)) {
      this.table.freeGrantReference(gref);
      ended();
      return;
    }
    // One timer for all that wait.
    if (this.waiting.push({ gref, ended }) === 1) this.scheduler.schedule(() => this.retry(), END_LATER_TICKS);
  }

  whenFree(callback: () => void, count: number): { unsubscribe(): void } {
    const registration = { notify: callback };
    this.table.requestFreeCallback(registration, count);
    return { unsubscribe: () => void this.table.cancelFreeCallback(registration) };
  }

  private retry(): void {
    for (const { gref, ended } of this.waiting.splice(0)) this.endLater(gref, ended);
  }
}

/** Fits a grant table of `@paravirt/gnttab` to what a block device needs. `scheduler` times the ends that must wait. */
export function grantsOf(table: GrantTableForDevice, scheduler: SchedulerLike): Grants {
  return new TableGrants(table, scheduler);
}
