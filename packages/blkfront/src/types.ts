import type { EventPorts } from '@paravirt/event-bus';
import type { Gfn } from '@paravirt/event-bus/contract';
import type { MemoryFrame } from '@paravirt/gnttab';

/** The guest's own pages, as the driver needs them: for rings, indirect descriptors and bounce buffers. */
export interface GuestPages {
  /** A page that nobody else uses, zeroed; undefined when the guest has none left. */
  alloc(): Gfn | undefined;
  /** Gives a page back. The caller has ended every grant of it. */
  free(gfn: Gfn): void;
  /** Where the page's bytes are. Valid as long as the page is held and the guest's memory layout does not change. */
  frame(gfn: Gfn): MemoryFrame;
}

/** A watch that fired: `path` is the watched or changed node, relative where the watch was. */
export type WatchHandler = (path: string) => void;

/**
 * A domain's connection to the store (xenstore). Paths are absolute or relative to the domain's home (`/local/domain/<domid>`).
 * Everything is a plain call; watch handlers run from the machine's run queue, never from inside a call.
 */
export interface Store {
  /** The node's value, or undefined where there is none. @throws StoreError EACCES and others by the store's names. */
  read(path: string, transaction?: StoreTransaction): string | undefined;
  write(path: string, value: string, transaction?: StoreTransaction): void;
  list(path: string, transaction?: StoreTransaction): readonly string[];
  remove(path: string, transaction?: StoreTransaction): void;
  mkdir(path: string, transaction?: StoreTransaction): void;
  begin(): StoreTransaction;
  /** Ends a transaction. `false` is EAGAIN: another changed what this one read or wrote; begin again. */
  commit(transaction: StoreTransaction): boolean;
  abort(transaction: StoreTransaction): void;
  /** Fires once at registration, then on every change at or below `path`. */
  watch(path: string, handler: WatchHandler): { unsubscribe(): void };
}

/** An open transaction; opaque. */
export interface StoreTransaction {
  readonly id: number;
}

/** Runs the rest of the machine until `condition` holds: how a blocking call waits. False when it can never hold (nothing left to run). */
export type WaitFor = (condition: () => boolean) => boolean;

export interface BlkfrontSurroundings {
  readonly pages: GuestPages;
  readonly events: EventPorts;
  readonly store: Store;
  readonly waitFor: WaitFor;
}
