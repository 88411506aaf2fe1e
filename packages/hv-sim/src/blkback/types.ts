import type { EventBus, EventPorts, Unsubscribable } from '@paravirt/event-bus';
import type { DomId } from '@paravirt/event-bus/contract';
import type { MapOp, MemoryViews, UnmapBatch, UnmapOp } from '@paravirt/gnttab';
import type { Abi } from '@paravirt/xen-abi';
import type { SchedulerLike } from 'rxjs';
import type { Disk } from '../disks/disk.ts';
import type { BlkbackEvents } from './events.ts';

/** A page as `locate` fills it in; owned and reused by the caller. */
export interface LocatedPage {
  views: MemoryViews;
  /** Bytes from the start of the views. */
  offset: number;
}

/** The backend domain's memory as its own code reaches it: through its page table. */
export interface MappedMemory {
  /** Pages mapped: while that stays, what `locateAll` said holds. A provider of `locateAll` has it. */
  readonly pages?: number;
  /**
   * Says where the page at virtual frame `vfn` is. Allocates nothing.
   * @throws a typed fault, the provider's, when nothing is mapped there, or it is read-only and `writable` is asked for.
   */
  locate(vfn: number, writable: boolean, out: LocatedPage): void;
  /**
   * The same for many pages at a time, where that is quick: `offsets[i]` for the first `count` of `vfns`, each to be written to where
   * `writable[i]` is 1. @returns the views that all offsets are in, or undefined: then they are located one by one.
   */
  locateAll?(vfns: readonly number[], writable: Uint8Array, count: number, offsets: number[]): MemoryViews | undefined;
}

/** Where in its own address space the backend may map: a domain's `addresses`. */
export interface AddressSource {
  /** `pages` consecutive virtual frames that nothing else uses; the first one, or -1 when there are none. */
  alloc(pages: number): number;
  /** Gives back what `alloc` gave. Nothing is mapped there any more. */
  free(vfn: number): void;
}

/**
 * The mapping side of grants. A `GrantTable` of `@paravirt/gnttab`, made for the backend's domain, fits; each call is described there.
 */
export interface GrantMapper {
  /** Maps with a status for each element. With `done`, what says `eagain` is tried again and `done` called once, if above 0 is returned. */
  mapRefs(ops: readonly MapOp[], count: number, done?: () => void): number;
  /** Unmaps now, whoever uses the pages. 0, or a negative errno for the whole batch. */
  unmapRefs(ops: readonly UnmapOp[], count: number): number;
  /** Unmaps as soon as none of the pages is in use; `batch.done` may be called before this returns. */
  unmapRefsAsync(batch: UnmapBatch): void;
}

/** An open transaction of the store; opaque. */
export interface BackendTransaction {
  readonly id: number;
}

/** The backend domain's connection to the store, by shape. Paths are absolute, or relative to the domain's home. */
export interface BackendStore {
  /** The node's value, or undefined where there is none. Throws the provider's refusal where it may not be read. */
  read(path: string, transaction?: BackendTransaction): string | undefined;
  /** Writes a value; makes the node and those above it where missing. Throws the provider's refusal. */
  write(path: string, value: string, transaction?: BackendTransaction): void;
  /** Names of a node's children; none where there is no node. */
  list(path: string, transaction?: BackendTransaction): readonly string[];
  /** Removes a node with all below it. */
  remove(path: string, transaction?: BackendTransaction): void;
  /** Makes a node with an empty value unless it is there. */
  mkdir(path: string, transaction?: BackendTransaction): void;
  /** Opens a transaction: what is done in it is seen by others whole at `commit`, or not at all. */
  begin(): BackendTransaction;
  /** False is EAGAIN: begin again. */
  commit(transaction: BackendTransaction): boolean;
  /** Ends a transaction without a trace. */
  abort(transaction: BackendTransaction): void;
  /** Fires once at registration, then on every change at or below `path`; from the run queue, never from inside a call. */
  watch(path: string, handler: (path: string) => void): Unsubscribable;
}

/** What the plugin needs at `attach`. Everything belongs to the backend's domain. */
export interface BlkbackDeps {
  readonly bus: EventBus<BlkbackEvents>;
  readonly store: BackendStore;
  readonly events: EventPorts;
  readonly grants: GrantMapper;
  readonly addresses: AddressSource;
  readonly memory: MappedMemory;
  /** The run queue (delay 0) and the clock; ticks are milliseconds. */
  readonly scheduler: SchedulerLike;
}

/** What a backend offers and how far it lets a frontend go. The defaults are Linux 6.1's. */
export interface BlkbackOptions {
  /** `multi-queue-max-queues`, 1 to 64. Default 4. */
  readonly queuesMax?: number;
  /** `max-ring-page-order`, 0 to 4. Default 4. */
  readonly ringPageOrderMax?: number;
  /** `feature-max-indirect-segments`, 0 (not offered) or 11 to 256. Default 256. */
  readonly indirectSegmentsMax?: number;
  /** Whether persistent grants are offered. Default true. */
  readonly persistent?: boolean;
  /** Most persistent grants a queue; beyond it the least recently used go. Default 1056. */
  readonly persistentMax?: number;
  /** A persistent grant unused for so long is unmapped; ticks. Default 60,000. */
  readonly persistentIdleTicks?: number;
  /** Most pages a queue has mapped at once for requests under way; at least 264 (one indirect request). Default 1,024. */
  readonly mappedPagesMax?: number;
  /** The work a device may do in one turn before others have theirs: a request costs 1 and each of its segments 1. Default 128. */
  readonly turnCost?: number;
  /** What an absent `protocol` key means. Default `x86_32`, as Linux on x86. */
  readonly protocolDefault?: 'x86_32' | 'x86_64';
  /**
   * Whether devices are taken over that another life of this backend left in the store in a state other than Initialising.
   * Default true; Linux ignores them.
   */
  readonly adopt?: boolean;
  /** Whether `feature-flush-cache` is 1. Default true: a disk without a cache has nothing to do. */
  readonly flush?: boolean;
  /** Whether `feature-barrier` is 1. Default true. */
  readonly barrier?: boolean;
  /** Whether discards are offered where the disk and `discard-enable` allow them. Default true. */
  readonly discard?: boolean;
}

/** What a device did since it was connected, or all devices together. Counts but for `bytes*`. */
export interface BlkbackCounters {
  requests: number;
  /** By kind; an indirect request counts as its inner one and as `indirect`. */
  reads: number;
  writes: number;
  flushes: number;
  barriers: number;
  discards: number;
  indirect: number;
  segments: number;
  bytesRead: number;
  bytesWritten: number;
  bytesDiscarded: number;
  /** Requests answered with an error, and with "not supported". */
  errors: number;
  unsupported: number;
  /** Pages mapped and unmapped by hypercall (persistent grants once each). */
  maps: number;
  unmaps: number;
  /** Unmaps that had to wait for a page in use. */
  unmapsDeferred: number;
  /** Segments found mapped already. */
  persistentHits: number;
  /** Calls to the disk: fewer than segments where pages are contiguous. */
  diskCalls: number;
  /** Doorbells received, of which `spurious` found nothing to do, and sent. */
  doorbellsIn: number;
  doorbellsSpurious: number;
  doorbellsOut: number;
}

/** One virtual block device as its backend sees it. */
export interface BlkbackDevice {
  /** The folder in the store, `backend/vbd/6/51712` under the backend's home. */
  readonly path: string;
  readonly frontend: DomId;
  readonly device: number;
  /** XenbusState as last written. */
  readonly state: number;
  readonly disk: Disk | undefined;
  readonly queues: number;
  readonly ringPages: number;
  /** The layout on the wire, once connected. */
  readonly protocol: Abi | undefined;
  readonly persistent: boolean;
  /** Whether a queue was stopped for good because its indices are impossible. */
  readonly halted: boolean;
  /** Requests taken from the ring and not answered. */
  readonly inFlight: number;
  /** Persistent grants mapped at this moment. */
  readonly persistentGrants: number;
  readonly counters: Readonly<BlkbackCounters>;
}

/** The backend: all block devices that one domain serves. */
export interface Blkback {
  /**
   * Says which disk is behind a `physical-device` (major:minor, hexadecimal as in the store, `7:0`). A device waits until its disk
   * is known. The disk stays the caller's.
   * @throws {BlkbackError} `disk-taken`: another disk has that name.
   */
  addDisk(physicalDevice: string, disk: Disk): void;
  /** Forgets it; devices that use it keep it. */
  removeDisk(physicalDevice: string): void;
  /** Whether a disk has that name. */
  hasDisk(physicalDevice: string): boolean;
  /** The device, or undefined. */
  device(frontend: number, device: number): BlkbackDevice | undefined;
  /** Every device there is now, connected or not. A fresh array. */
  devices(): readonly BlkbackDevice[];
  /** All devices, also those that are gone. */
  readonly counters: Readonly<BlkbackCounters>;
}
