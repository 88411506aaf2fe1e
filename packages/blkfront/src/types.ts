import type { EventBus, EventPorts, Unsubscribable } from '@paravirt/event-bus';
import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import type { MemoryFrame } from '@paravirt/gnttab';
import type { SchedulerLike } from 'rxjs';
import type { BlkfrontEvents } from './events.ts';
import type { GrantTableForDevice } from './grants.ts';

/** The guest's own pages, as the driver needs them: for rings, indirect descriptors and bounce buffers. */
export interface GuestPages {
  /** A page that nobody else uses, zeroed; undefined when the guest has none left. */
  alloc(): Gfn | undefined;
  /** Gives a page back. The caller has ended every grant of it. */
  free(gfn: Gfn): void;
  /** Where the page's bytes are. Valid as long as the page is held and the guest's memory layout does not change. Throws for what is no page of the guest's. */
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
  /** Writes a value; makes the node and those above it where missing. Throws the store's refusal. */
  write(path: string, value: string, transaction?: StoreTransaction): void;
  /** Names of a node's children; none where there is no node. */
  list(path: string, transaction?: StoreTransaction): readonly string[];
  /** Removes a node with all below it. */
  remove(path: string, transaction?: StoreTransaction): void;
  /** Makes a node with an empty value unless it is there. */
  mkdir(path: string, transaction?: StoreTransaction): void;
  /** Opens a transaction: what is done in it is seen by others whole at `commit`, or not at all. */
  begin(): StoreTransaction;
  /** Ends a transaction. `false` is EAGAIN: another changed what this one read or wrote; begin again. */
  commit(transaction: StoreTransaction): boolean;
  /** Ends a transaction without a trace. */
  abort(transaction: StoreTransaction): void;
  /** Fires once at registration, then on every change at or below `path`. */
  watch(path: string, handler: WatchHandler): Unsubscribable;
}

/** An open transaction; opaque. */
export interface StoreTransaction {
  readonly id: number;
}

/** Runs the rest of the machine until `condition` holds: how a blocking call waits. False when it can never hold (nothing left to run). */
export type WaitFor = (condition: () => boolean) => boolean;

/**
 * The guest's grant table, as a block device needs it. All calls are plain and none allocates on the way of a request.
 * `grantsOf` makes one of a `GrantTable` of `@paravirt/gnttab`.
 */
export interface Grants {
  /** Takes a reference that gives nobody access to anything; -1 when the table is full and cannot grow. */
  reserve(): Gref | -1;
  /** How many references `reserve` can still give. Where there is no such method, pools do not ask before they take. */
  available?(): number;
  /** Gives a reference back whose access is revoked. */
  release(gref: Gref): void;
  /** Lets `peer` map `gfn` under a reference that is reserved and revoked. */
  permit(gref: Gref, peer: DomId, gfn: Gfn, readonly: boolean): void;
  /** One atomic attempt to end the access; the reference stays reserved. False while the peer has the page mapped: nothing changed. */
  revoke(gref: Gref): boolean;
  /**
   * `permit` of the `count` references of `refs` from `at` on, for the frames of `gfns` from `from` on. Where there is no such
   * method, `permit` is called for each.
   */
  permitMany?(refs: Uint32Array, at: number, peer: DomId, gfns: ArrayLike<number>, from: number, count: number, readonly: boolean): void;
  /**
   * `revoke` of the `count` references of `refs` from `at` on, in order, up to the first that is refused. @returns how many were
   * revoked. Where there is no such method, `revoke` is called for each.
   */
  revokeMany?(refs: Uint32Array, at: number, count: number): number;
  /** Whether the peer has the page mapped at this moment. */
  inUse(gref: Gref): boolean;
  /** Ends the access as soon as the peer lets go, then gives the reference back and calls `ended` once. */
  endLater(gref: Gref, ended: () => void): void;
  /** Calls `callback` once when at least `count` references are free; at most one registration a callback. */
  whenFree(callback: () => void, count: number): Unsubscribable;
}

/** What the host gives the plugin at `attach`. */
export interface BlkfrontSurroundings {
  readonly pages: GuestPages;
  /** The guest's grant table: one of `@paravirt/gnttab`, or anything of this shape. */
  readonly grants: Grants | GrantTableForDevice;
  readonly events: EventPorts;
  readonly store: Store;
  /** Time for waits, purges and retries. Ticks are the scheduler's (milliseconds where it is the wall clock's). */
  readonly scheduler: SchedulerLike;
  /** Needed by the blocking calls only (`syncIo`, `start` and `stop` of the uk_blkdev surface). */
  readonly waitFor?: WaitFor;
  readonly bus?: EventBus<BlkfrontEvents>;
}

/** Wire layouts a frontend may speak, by the value of the `protocol` node. */
export type Protocol = 'x86_64-abi' | 'x86_32-abi' | 'arm-abi';

/** Options of the plugin. Everything but `device` has a default. */
export interface BlkfrontOptions {
  /** The virtual device number, which names the store folder `device/vbd/<device>`; 0 is legal. 51712 is xvda. */
  readonly device: number;
  /** Default `x86_64-abi`. Always written, because a backend's default differs. */
  readonly protocol?: Protocol;
  /** Most queues to ask for, 1 to 64; the backend's `multi-queue-max-queues` bounds it too. Default 1. */
  readonly queues?: number;
  /** Ring pages a queue, a power of two from 1 to 16; the backend's `max-ring-page-order` bounds it too. Default 1. */
  readonly ringPages?: number;
  /** Most segments of a request, 11 to 256; above 11 needs the backend's `feature-max-indirect-segments`. Default 32, as Linux. */
  readonly maxSegments?: number;
  /** Offer persistent grants. Default true. */
  readonly persistent?: boolean;
  /**
   * References held a queue: a number, or `full` for slots x segments; never more than the queue's share of three quarters of what the
   * grant table can still give. Default 11, one full direct request.
   */
  readonly poolRefs?: number | 'full';
  /** Which free reference of the pool comes next. Default `lifo`; `fifo` is the original's. */
  readonly poolOrder?: 'lifo' | 'fifo';
  /** Idle persistent grants that the backend no longer maps are revoked so often. Default 10_000. */
  readonly purgeTicks?: number;
  /** How long each step of a close waits for the backend and for requests under way. Default 30_000. */
  readonly closeTicks?: number;
  /**
   * How long a device whose backend vanished or started anew, or that was resumed, may take to be connected again before it is closed and
   * what waits for it fails. Default 60_000; 0 fails at once where the backend vanished, and never otherwise.
   */
  readonly reconnectTicks?: number;
  /** How long a refused revoke waits before the next attempt. Default 10. */
  readonly quarantineTicks?: number;
  /** Upcalls in a row that find nothing to do before the port is masked for `stormTicks`. Default 64. */
  readonly stormUpcalls?: number;
  /** Default 10. */
  readonly stormTicks?: number;
  /** The host of the disk promises that discarded granules read as zeroes, so `writeZeroes` discards whole ones. Default false. */
  readonly discardZeroes?: boolean;
}

/**
 * `closed`: no connection. `initialising`: waits for the backend. `initialised`: rings published. `connected`. `closing`.
 * `suspended`: between `suspend` and `resume`. `lost`: the backend vanished, requests are kept. `broken`: switched off for good,
 * because the backend lied.
 */
export type DeviceState = 'closed' | 'initialising' | 'initialised' | 'connected' | 'closing' | 'suspended' | 'lost' | 'broken';

/** How durability is asked for on the wire. */
export type FlushKind = 'flush' | 'barrier' | 'none';

/** What the device is, valid from `connected` on. Sector counts are in units of 512 bytes whatever `sectorBytes` is. */
export interface BlkInfo {
  /** Capacity in sectors of 512 bytes. */
  readonly sectors: number;
  /** Granule of every address and length: 512 or 4096 (any power of two between is taken). */
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly readonly: boolean;
  readonly removable: boolean;
  readonly cdrom: boolean;
  readonly trusted: boolean;
  readonly queues: number;
  readonly ringPages: number;
  /** Slots of one queue's ring: requests that may be under way there. */
  readonly slots: number;
  /** Most segments of one request on the wire. */
  readonly maxSegments: number;
  /** Sectors of the longest transfer that is one request on the wire wherever its buffer starts on a sector. */
  readonly maxSectors: number;
  readonly indirect: boolean;
  readonly persistent: boolean;
  readonly flush: FlushKind;
  readonly discard: boolean;
  readonly discardSecure: boolean;
  /** Bytes. */
  readonly discardGranularity: number;
  /** Bytes. */
  readonly discardAlignment: number;
  readonly protocol: Protocol;
}

/** What a request does. `fua` writes are durable when they complete; `discard-secure` leaves nothing of the old bytes. */
export const OP: {
  readonly READ: 0;
  readonly WRITE: 1;
  readonly WRITE_FUA: 2;
  readonly FLUSH: 3;
  readonly DISCARD: 5;
  readonly DISCARD_SECURE: 6;
  readonly WRITE_ZEROES: 7;
} = { READ: 0, WRITE: 1, WRITE_FUA: 2, FLUSH: 3, DISCARD: 5, DISCARD_SECURE: 6, WRITE_ZEROES: 7 };
/** A value of `OP`. */
export type Op = (typeof OP)[keyof typeof OP];

/** A read on the hot path: `(cookie, status)`, status 0 or a negative errno. May submit again from inside. */
export type OnDone = (cookie: number, status: number) => void;

/** What a queue did since it was made. All counts; allocated once and kept up to date, copy what you keep. */
export interface QueueFigures {
  /** Requests put on the ring, re-issued ones and the parts of divided ones counted. */
  requests: number;
  responses: number;
  segments: number;
  /** Doorbells sent to the backend. */
  doorbells: number;
  /** Upcalls handled, and how many of them found nothing. */
  upcalls: number;
  spurious: number;
  /** Pages copied because the device could not reach the caller's bytes, or must not. */
  bounced: number;
  /** Requests issued again on a new ring. */
  reissued: number;
}

/** Figures of the pool of references. */
export interface PoolFigures {
  /** References of the pool that were free when one was needed. */
  hits: number;
  /** References made because the pool was empty. */
  misses: number;
  /** References that the peer has mapped although their request is over, now. */
  quarantined: number;
  /** References that were ever quarantined. */
  quarantinedEver: number;
  /** References that give access now: in requests, or persistent. */
  live: number;
  /** Free references of the pool. */
  free: number;
  /** Times that the grant table had none left. */
  exhausted: number;
}

/** A signal as the web and Node have it, taken by shape. */
export interface AbortSignalLike {
  readonly aborted: boolean;
  readonly reason?: unknown;
  /** Calls `listener` when the signal is aborted. */
  addEventListener(type: 'abort', listener: () => void, options?: { readonly once?: boolean }): void;
  /** Takes such a listener back. */
  removeEventListener(type: 'abort', listener: () => void): void;
}
