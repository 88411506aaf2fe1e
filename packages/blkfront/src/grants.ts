import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import type { GrantTable } from '@paravirt/gnttab';
import type { SchedulerLike } from 'rxjs';
import type { Grants } from './types.ts';

/** Ticks between two attempts at an end that the peer held up, as Linux's deferred ends have them. */
const END_LATER_TICKS = 1000;

/** What `grantsOf` uses of a grant table. */
export type GrantTableForDevice = Pick<
  GrantTable,
  'tryAllocGrantReference' | 'freeGrantReference' | 'publish' | 'tryEnd' | 'isInUse' | 'requestFreeCallback' | 'cancelFreeCallback'
>;

/** Fits a grant table of `@paravirt/gnttab` to what a block device needs. `scheduler` times the ends that must wait. */
export function grantsOf(table: GrantTableForDevice, scheduler: SchedulerLike): Grants {
  const waiting: { gref: Gref; ended: () => void }[] = [];
  const retry = (): void => {
    const tried = waiting.splice(0);
    for (const { gref, ended } of tried) endLater(gref, ended);
  };
  const endLater = (gref: Gref, ended: () => void): void => {
    if (table.tryEnd(gref)) {
      table.freeGrantReference(gref);
      ended();
      return;
    }
    // One timer for all that wait.
    if (waiting.push({ gref, ended }) === 1) scheduler.schedule(retry, END_LATER_TICKS);
  };
  return {
    reserve: (): Gref | -1 => table.tryAllocGrantReference() ?? -1,
    release: (gref: Gref): void => table.freeGrantReference(gref),
    permit: (gref: Gref, peer: DomId, gfn: Gfn, readonly: boolean): void => table.publish(gref, peer, gfn, readonly),
    revoke: (gref: Gref): boolean => table.tryEnd(gref),
    inUse: (gref: Gref): boolean => table.isInUse(gref),
    endLater,
    whenFree(callback: () => void, count: number): { unsubscribe(): void } {
      const registration = { notify: callback };
      table.requestFreeCallback(registration, count);
      return { unsubscribe: () => void table.cancelFreeCallback(registration) };
    },
  };
}
