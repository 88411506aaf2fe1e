import type { EventBus, Unsubscribable } from '@paravirt/event-bus';
import type { DomId } from '@paravirt/event-bus/contract';
import type { MemoryPage } from '@paravirt/xen-abi';
import type { StoreEvents } from './events.ts';

/** What a domain may do with a node. */
export type StoreAccess = 'none' | 'read' | 'write' | 'both';

/**
 * A node's permissions: the first element names the owner, who may do everything, and what domains that are not named may do;
 * the others name domains. Written `n0,r6` by the store's tools.
 */
export interface StorePermission {
  readonly domid: DomId;
  readonly access: StoreAccess;
}

/** An open transaction; opaque. */
export interface StoreTransaction {
  readonly id: number;
}

/** A watch that fired: `path` is the watched or changed node, relative where the watch was. */
export type WatchHandler = (path: string) => void;

/**
 * A connection of a domain to the store. Paths are absolute, or relative to the domain's home (`/local/domain/<domid>`), or one
 * of `@introduceDomain`, `@releaseDomain` in a watch. Values are text; bytes that are no UTF-8 come back as one character a byte.
 * Everything is a plain call; watch handlers run from the queue given to the store, never from inside a call.
 * Every refusal is a `StoreError` with the original's error name.
 */
export interface StoreConnection {
  readonly domid: DomId;
  /** `/local/domain/<domid>` */
  readonly home: string;
  /** The node's value, or undefined where there is none. Cost O(1). @throws {StoreError} EACCES, EINVAL; ENOENT: no such transaction. */
  read(path: string, transaction?: StoreTransaction): string | undefined;
  /** Writes a value; makes the node and those above it where missing. @throws {StoreError} EACCES, EINVAL, ENOSPC. */
  write(path: string, value: string, transaction?: StoreTransaction): void;
  /** Names of a node's children, oldest first; none where there is no node. @throws {StoreError} EACCES, EINVAL. */
  list(path: string, transaction?: StoreTransaction): readonly string[];
  /** Removes a node with all below it. Nothing happens where only its parent is. @throws {StoreError} EACCES; EINVAL: the root; ENOENT: no parent either. */
  remove(path: string, transaction?: StoreTransaction): void;
  /** Makes a node with an empty value unless it is there. @throws {StoreError} EACCES, EINVAL, ENOSPC. */
  mkdir(path: string, transaction?: StoreTransaction): void;
  /** Whether there is such a node. Cost O(1). @throws {StoreError} EACCES, EINVAL, as `read`. */
  exists(path: string, transaction?: StoreTransaction): boolean;
  /** @throws {StoreError} ENOENT, EACCES, EINVAL. */
  getPermissions(path: string, transaction?: StoreTransaction): readonly StorePermission[];
  /** Only the owner and a privileged domain may; only the latter names another owner. @throws {StoreError} ENOENT, EACCES, EPERM, EINVAL, ENOSPC. */
  setPermissions(path: string, permissions: readonly StorePermission[], transaction?: StoreTransaction): void;
  /** @throws {StoreError} ENOSPC: the domain has as many open as it may. */
  begin(): StoreTransaction;
  /** Ends a transaction. `false` is EAGAIN: another changed what this one read or wrote; begin again. @throws {StoreError} ENOENT, ENOSPC. */
  commit(transaction: StoreTransaction): boolean;
  /** Ends a transaction without a trace. @throws {StoreError} ENOENT. */
  abort(transaction: StoreTransaction): void;
  /**
   * Fires once at registration, then on every change at or below `path` that the domain may see, and when a node above goes and
   * takes this one along. Equal events that wait merge. @throws {StoreError} EINVAL, E2BIG; EEXIST: that path and token are taken.
   * @param token tells watches of one path apart; a number of the connection's unless given.
   */
  watch(path: string, handler: WatchHandler, token?: string): Unsubscribable;
  /** Ends every watch and transaction of the connection. */
  resetWatches(): void;
  /** `/local/domain/<domid>`, whether or not there is such a domain. */
  getDomainPath(domid: DomId): string;
  /** Whether `domid` was introduced. @throws {StoreError} EACCES: not privileged. */
  isDomainIntroduced(domid: DomId): boolean;
  /** {@link XenStore.introduce}, as the toolstack asks for it. @throws {StoreError} EACCES: not privileged. */
  introduceDomain(domid: DomId): void;
  /** {@link XenStore.release}, as the toolstack asks for it. @throws {StoreError} EACCES: not privileged. ENOENT: not introduced. EINVAL: the privileged domain itself. */
  releaseDomain(domid: DomId): void;
  /** Ends the connection with its watches and transactions. Called once or more. */
  close(): void;
}

/** The most that an unprivileged domain may have. The original's defaults stand unless told. @see xenstored, Xen 4.17: --quota */
export interface StoreLimits {
  /** Nodes owned: 1000. ENOSPC. */
  readonly nodes: number;
  /** Bytes of one node with its permissions, value and children's names: 2048. ENOSPC. */
  readonly nodeBytes: number;
  /** Watches: 128. E2BIG. */
  readonly watches: number;
  /** Open transactions of a connection: 10. ENOSPC. */
  readonly transactions: number;
  /** Nodes that one transaction may touch: 1024. ENOSPC. */
  readonly transactionNodes: number;
  /** Permissions of a node: 5. ENOSPC. */
  readonly permissions: number;
  /** Characters of a path below `/local/domain/<domid>/`, or of any other: 2048. EINVAL. */
  readonly pathChars: number;
  /** Requests of a ring that wait for their answer to be read: 20. No further request is read. */
  readonly outstanding: number;
  /**
   * Watch events that wait for one connection: 1024. From there on the events of a watch become one for the watched path itself:
   * "something here changed". The original has a bound on memory instead.
   */
  readonly events: number;
}

/** Options of `createStore`; only `enqueue` has no default. */
export interface StoreOptions {
  /** Takes work for the run queue, for `domid`. Never called again for a connection before that work has run. */
  readonly enqueue: (work: () => void, domid: DomId) => void;
  readonly limits?: Partial<StoreLimits>;
  /** The domain that may everything; 0 unless told. */
  readonly privileged?: DomId;
  readonly bus?: EventBus<StoreEvents>;
  /** Asked at each commit; true refuses it with EAGAIN. For faults. */
  readonly conflict?: (domid: DomId) => boolean;
}

/** What a domain has in the store, for ledgers. */
export interface StoreUsage {
  readonly nodes: number;
  readonly watches: number;
  readonly transactions: number;
  readonly connections: number;
  /** Watch events that wait. */
  readonly events: number;
}

/** The store's end of a domain's ring page. */
export interface StoreRingConnection {
  readonly domid: DomId;
  /** The guest rang: takes its requests, writes answers and events as far as there is room, and rings back if bytes moved. */
  rung(): void;
  /** 0, or the `XENSTORE_ERROR_*` for which the guest is no longer listened to; it also stands in the page. */
  readonly ignored: number;
  /** Answers and events that wait for room in the ring. */
  readonly waiting: number;
  /** Starts anew, as after the domain was introduced again: indices 0, no watches, no transactions. */
  reset(): void;
  /** Ends the connection with its watches and transactions. */
  close(): void;
}

/** The store: one tree, and who is connected to it. For the machine; a domain gets a {@link StoreConnection} or a ring. */
export interface XenStore {
  /** A connection of `domid`'s. The privileged domain's tools have one each. */
  connect(domid: DomId): StoreConnection;
  /**
   * Serves a domain's ring page, whose bytes are a guest kernel's own. `notify` rings the guest; call `rung()` when it rings.
   * Events for it are written at once where there is room, so the doorbell is what the run queue delays.
   * @see xen/include/public/io/xs_wire.h, xenstore_domain_interface
   */
  openRing(domid: DomId, page: MemoryPage, notify: () => void): StoreRingConnection;
  /** Tells the store that a domain has come: `@introduceDomain` fires. Nothing new for one that it knows. */
  introduce(domid: DomId): void;
  /**
   * Tells the store that a domain has gone: its connections close, the nodes it owned go with all below them, permissions that
   * name it end, and `@releaseDomain` fires.
   */
  release(domid: DomId): void;
  /** Whether `domid` was introduced and not released. */
  isIntroduced(domid: DomId): boolean;
  /** Lets `domid` act with the rights of `target` too, as a stub domain does for its guest. */
  setTarget(domid: DomId, target: DomId): void;
  /** The tree below `path` as `xenstore-ls -f` prints it, with permissions as `-p` adds them. @throws {StoreError} ENOENT, EINVAL. */
  export(options?: { path?: string; permissions?: boolean }): string;
  /** What `domid` has in the store now. Cost: its connections. */
  usage(domid: DomId): StoreUsage;
  /** Nodes in the tree. */
  readonly nodeCount: number;
}
