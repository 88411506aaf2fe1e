import { type DomId, invariant, type Port } from '@paravirt/event-bus/contract';
import type { MapOp, MemoryFrame, UnmapOp } from '@paravirt/gnttab';
import { type Abi, GNTMAP, GNTST, SharedRing, XEN_ERRNO } from '@paravirt/xen-abi';
import type { Disk } from '../disks/disk.ts';
import { DiskIo } from './disk-io.ts';
import { isRefusal } from './errors.ts';
import type { FrontendKeys, KeyFault, QueueKeys } from './handshake.ts';
import { QueueMappings } from './mapping.ts';
import type { BlkbackSettings } from './options.ts';
import { BackQueue } from './queue.ts';
import { mapOps, TransferBatches } from './transfer-batch.ts';
import { type Turns, TurnTaker } from './turns.ts';
import type { BlkbackCounters, BlkbackDeps, LocatedPage } from './types.ts';

/** Turns in a row that found nothing before a doorbell gets its port masked for a while, and the longest while. */
const SPURIOUS_MAX = 16;
const SPURIOUS_TICKS_MAX = 64;

/** What all connections of a backend share: what is used only within one call, and the round of turns. */
export interface Shared {
  readonly deps: BlkbackDeps;
  readonly settings: BlkbackSettings;
  readonly turns: Turns;
  readonly scratch: readonly MapOp[];
  readonly page: LocatedPage;
  readonly batches: TransferBatches;
}

/** Makes what the connections of one backend share. */
export function sharedParts(deps: BlkbackDeps, settings: BlkbackSettings, turns: Turns): Shared {
  const nowhere = { u8: new Uint8Array(0), u16: new Uint16Array(0), u32: new Uint32Array(0) };
  const page: LocatedPage = { views: nowhere, offset: 0 };
  return { deps, settings, turns, scratch: mapOps(), page, batches: new TransferBatches() };
}

/** What a connection is told of its device. */
export interface ConnectionSetup {
  readonly shared: Shared;
  readonly frontend: DomId;
  readonly device: number;
  readonly keys: FrontendKeys;
  readonly counters: BlkbackCounters;
  readonly unsupported: (barrier: boolean) => void;
}

/** What the disk side of a connection is, known when the disk is. */
export interface ConnectionDisk {
  readonly disk: Disk;
  readonly readonly: boolean;
  readonly discard: boolean;
}

/** One queue's mapped ring and bound port. */
interface Ring {
  readonly area: number;
  readonly unmaps: readonly UnmapOp[];
  readonly shared: SharedRing;
  readonly rspProd: number;
  port: Port | undefined;
  queue: BackQueue | undefined;
  mappings: QueueMappings | undefined;
  closed: boolean;
  subscription: { unsubscribe(): void } | undefined;
}

/**
 * The rings of one connected frontend: mapped and bound when made, worked on when the disk is known, given back in `close` after
 * everything under way has ended.
 */
export class Connection {
  readonly abi: Abi;
  readonly ringPages: number;
  readonly persistent: boolean;
  private readonly setup: ConnectionSetup;
  private readonly rings: Ring[] = [];
  private readonly taker: TurnTaker = new TurnTaker();
  private readonly timers: Set<{ unsubscribe(): void }> = new Set();
  private closing: (() => void) | undefined = undefined;
  /** Rings whose persistent grants are on their way. */
  private draining = 0;

  private constructor(setup: ConnectionSetup) {
    this.setup = setup;
    this.abi = setup.keys.abi;
    this.ringPages = setup.keys.ringPages;
    this.persistent = setup.keys.persistent;
  }

  /** Maps every ring and binds every port, or gives back what it had and says what was wrong. */
  static open(setup: ConnectionSetup): Connection | KeyFault {
    const connection = new Connection(setup);
    for (const keys of setup.keys.queues) {
      const ring = connection.mapRing(keys);
      const fault = 'errno' in ring ? ring : connection.bind(ring, keys);
      if (fault === undefined) continue;
      connection.giveBack();
      return fault;
    }
    return connection;
  }

  get queues(): number {
    return this.rings.length;
  }

  get inFlight(): number {
    return this.rings.reduce((sum, ring) => sum + (ring.queue?.inFlight ?? 0), 0);
  }

  get halted(): boolean {
    return this.rings.some((ring) => ring.queue?.halted === true);
  }

  get persistentGrants(): number {
    return this.rings.reduce((sum, ring) => sum + (ring.mappings?.persistent?.count ?? 0), 0);
  }

  private mapRing(keys: QueueKeys): Ring | KeyFault {
    const { deps } = this.setup.shared;
    const count = keys.refs.length;
    const fault = { errno: XEN_ERRNO.EIO, reason: `mapping ring-ref port ${keys.eventChannel}` };
    const area = deps.addresses.alloc(count);
    if (area < 0) return { errno: XEN_ERRNO.ENOMEM, reason: fault.reason };
    const ops: MapOp[] = keys.refs.map((ref, i) => {
      return { vfn: area + i, flags: GNTMAP.host_map, ref, domid: this.setup.frontend, status: 0, handle: 0, mfn: 0 };
    });
    deps.grants.mapRefs(ops, count);
    const unmaps = ops.filter((op) => op.status === GNTST.okay).map(({ vfn, handle }) => ({ vfn, handle, status: 0 }));
    if (unmaps.length < count) {
      if (unmaps.length > 0) deps.grants.unmapRefs(unmaps, unmaps.length);
      deps.addresses.free(area);
      return { errno: ops.some((op) => op.status === GNTST.eagain) ? XEN_ERRNO.EAGAIN : fault.errno, reason: fault.reason };
    }
    const pages: MemoryFrame[] = keys.refs.map((_, i) => {
      const at: LocatedPage = { views: this.setup.shared.page.views, offset: 0 };
      deps.memory.locate(area + i, true, at);
      return at;
    });
    const shared = new SharedRing(this.abi, pages);
    // Fetched once: what is checked is what is used.
    const { rspProd } = shared;
    const ring: Ring = {
      area,
      unmaps,
      shared,
      rspProd,
      port: undefined,
      queue: undefined,
      mappings: undefined,
      closed: false,
      subscription: undefined,
    };
    this.rings.push(ring);
    // An honest frontend has no more requests waiting than there are slots.
    return (shared.reqProd - rspProd) >>> 0 > shared.entries ? fault : ring;
  }

  private bind(ring: Ring, keys: QueueKeys): KeyFault | undefined {
    try {
      ring.port = this.setup.shared.deps.events.bindInterdomain(this.setup.frontend, keys.eventChannel as Port);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      return { errno: XEN_ERRNO.EINVAL, reason: `mapping ring-ref port ${keys.eventChannel}` };
    }
    return undefined;
  }

  /** The disk is known: the queues work from here on. */
  start(target: ConnectionDisk): void {
    const { shared, frontend, device, counters, keys, unsupported } = this.setup;
    const { deps, settings, turns } = shared;
    this.rings.forEach((ring, index) => {
      const mappings = new QueueMappings({
        grants: deps.grants,
        addresses: deps.addresses,
        frontend,
        scratch: shared.scratch,
        pagesMax: settings.mappedPagesMax,
        persistentMax: keys.persistent ? settings.persistentMax : 0,
        counters,
      });
      const port = ring.port;
      invariant(port !== undefined, () => `queue ${index} of domain ${frontend} has no port`);
      const queue = new BackQueue({
        shared: ring.shared,
        rspProd: ring.rspProd,
        alive: () => this.mapped(ring),
        port,
        index,
        frontend,
        device,
        disk: target.disk,
        readonly: target.readonly,
        mappings,
        io: new DiskIo(deps.memory, shared.page, target.disk, counters),
        batches: shared.batches,
        memory: deps.memory,
        page: shared.page,
        bus: deps.bus,
        events: deps.events,
        counters,
        indirectMax: settings.indirectSegmentsMax,
        flush: settings.flush,
        barrier: settings.barrier,
        discard: target.discard,
        ready: (ready) => turns.ready(this.taker, ready),
        idle: () => this.ringIdle(ring),
        unsupported,
        scheduler: deps.scheduler,
        persistentIdleTicks: settings.persistentIdleTicks,
      });
      ring.mappings = mappings;
      ring.queue = queue;
      // Closing a port leaves it masked: whoever had its number before may have.
      deps.events.unmask(port);
      ring.subscription = deps.events.onUpcall(
        port,
        handlerOf(turns, queue, () => this.quieten(ring, queue.idleTurns - SPURIOUS_MAX)),
      );
      // Requests may have come before there was a handler to be told.
      turns.ready(this.taker, queue);
    });
  }

  private mapped(ring: Ring): boolean {
    const { deps, page } = this.setup.shared;
    try {
      deps.memory.locate(ring.area, true, page);
      return true;
    } catch (error) {
      if (isRefusal(error)) return false;
      throw error;
    }
  }

  /** Doorbells found nothing to do again and again: the port is masked for a while. A storm costs its sender, not the backend. */
  private quieten(ring: Ring, excess: number): void {
    if (ring.port === undefined) return;
    const port = ring.port;
    const { events, scheduler } = this.setup.shared.deps;
    events.mask(port);
    const ticks = Math.min(2 ** excess, SPURIOUS_TICKS_MAX);
    const timer = scheduler.schedule(() => {
      this.timers.delete(timer);
      if (ring.port === port) events.unmask(port);
    }, ticks);
    this.timers.add(timer);
  }

  /** Ends the connection: nothing new is taken, what is under way ends, everything is given back, `closed` is called; perhaps at once. */
  close(closed: () => void): void {
    this.closing = closed;
    for (const ring of this.rings) {
      if (ring.queue === undefined) ring.closed = true;
      else ring.queue.stop();
    }
    for (const ring of this.rings) if (ring.queue?.inFlight === 0) this.ringIdle(ring);
    this.finishClose();
  }

  private ringIdle(ring: Ring): void {
    if (ring.closed || this.closing === undefined) return;
    ring.closed = true;
    this.draining++;
    ring.mappings?.close(() => {
      this.draining--;
      this.finishClose();
    });
  }

  private finishClose(): void {
    const closed = this.closing;
    if (closed === undefined || this.draining > 0 || this.rings.some((ring) => !ring.closed)) return;
    this.closing = undefined;
    this.giveBack();
    closed();
  }

  private giveBack(): void {
    const { deps, turns } = this.setup.shared;
    for (const timer of this.timers) timer.unsubscribe();
    this.timers.clear();
    for (const ring of this.rings) {
      ring.subscription?.unsubscribe();
      if (ring.queue !== undefined) turns.forget(this.taker, ring.queue);
      if (ring.port !== undefined) closePort(deps, ring.port);
      ring.port = undefined;
      if (unmapped(deps, ring.unmaps)) deps.addresses.free(ring.area);
      ring.mappings?.pool.close();
    }
    this.rings.length = 0;
  }
}

/** What a doorbell does, with nothing around it but what it uses: with many devices all of it comes from far memory every time. */
function handlerOf(turns: Turns, queue: BackQueue, storm: () => void): () => void {
  return () => {
    const { counters } = queue;
    counters.doorbellsIn++;
    const cost = turns.rung(queue);
    const { idleTurns } = queue;
    if (idleTurns === 0) return;
    if (cost === 0) counters.doorbellsSpurious++;
    // Where others come first, what this doorbell was good for is known after its turn, and tells on the next.
    if (idleTurns > SPURIOUS_MAX) storm();
  };
}

/** Unmaps a ring. @returns whether all of it is: not where the grant table was closed before. */
function unmapped(deps: BlkbackDeps, ops: readonly UnmapOp[]): boolean {
  try {
    return deps.grants.unmapRefs(ops, ops.length) === 0 && ops.every((op) => op.status === GNTST.okay);
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return false;
  }
}

/** A port whose other end died may be gone already. */
function closePort(deps: BlkbackDeps, port: Port): void {
  try {
    deps.events.close(port);
  } catch (error) {
    if (!isRefusal(error)) throw error;
  }
}
