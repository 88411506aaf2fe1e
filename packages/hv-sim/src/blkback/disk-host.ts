import { createEventBus, type EventBus } from '@paravirt/event-bus';
import { type GnttabEvents, type GrantTable, gnttab } from '@paravirt/gnttab';
import type { Domain } from '../types.ts';
import type { BlkbackEvents } from './events.ts';
import { blkback } from './plugin.ts';
import type { DiskHost } from './toolstack.ts';
import type { Blkback, BlkbackOptions } from './types.ts';

/** Options of `serveDisks`. */
export interface ServeOptions {
  /** Facts of the backend and of its grants go here. Default: nowhere. */
  readonly bus?: EventBus<BlkbackEvents & GnttabEvents>;
  readonly blkback?: BlkbackOptions;
  /** The domain's grant table, where it has one already. Default: one is made, as a plugin of the domain. */
  readonly grants?: GrantTable;
  /** Whose rights `attachDisk` and `detachDisk` use: a privileged domain. Default: the backend's domain. */
  readonly toolstack?: Domain;
}

/** A domain that serves disks: what `attachDisk` takes. */
export interface ServingHost extends DiskHost {
  readonly blkback: Blkback;
  readonly grants: GrantTable;
}

/**
 * Makes a domain a block backend: attaches `gnttab` and `blkback` to it as plugins, with everything of the domain's own.
 * @throws {HvError} `missing-dependency`; {BlkbackError} `bad-option`.
 */
export function serveDisks(domain: Domain, options: ServeOptions = {}): ServingHost {
  const bus = options.bus ?? createEventBus<BlkbackEvents & GnttabEvents>();
  const { hypercalls, scheduler, pageUse, store, events, addresses, addressSpace } = domain;
  const grants = options.grants ?? domain.use(gnttab({ owner: domain.id }), { hypercalls, scheduler, bus, pages: pageUse });
  const api = domain.use(blkback(options.blkback), { bus, store, events, grants, addresses, memory: addressSpace, scheduler });
  return { store: (options.toolstack ?? domain).store, blkback: api, grants, backend: domain.id };
}
