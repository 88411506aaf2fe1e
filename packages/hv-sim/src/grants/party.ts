import type { AddressSpace } from '../memory/address-space.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import type { GrantTable } from './grant-table.ts';
import type { Maptrack } from './maptrack.ts';

/** A domain as the grant core sees it: its table as granter, its handles and page table as mapper, its memory. */
export interface Party {
  readonly id: number;
  /** Whether it may act on other domains' tables. */
  readonly privileged: boolean;
  readonly grants: GrantTable;
  readonly maptrack: Maptrack;
  readonly space: AddressSpace;
  readonly memory: GuestMemory;
}

/** What the machine's administrator allows: the hypervisor's security module. Anything not given is allowed. */
export interface GrantPolicy {
  /** Whether `mapper` may map grants of `granter`. */
  mayMap?(mapper: number, granter: number): boolean;
  /** Whether `copier` may copy between pages of `source` and `dest`. */
  mayCopy?(copier: number, source: number, dest: number): boolean;
}

/** Everything the grant core reads and writes. `parties` is indexed by domid. */
export interface GrantWorld {
  readonly parties: readonly (Party | undefined)[];
  readonly policy: GrantPolicy;
}
