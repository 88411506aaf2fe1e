import { type BlkfrontEvents, type BlockDevice, blkfront, type PoolFigures, type Protocol } from '@paravirt/blkfront';
import { createEventBus, type EventBus } from '@paravirt/event-bus';
import type { Plugin } from '@paravirt/event-bus/contract';
import { type GnttabEvents, type GrantTable, gnttab } from '@paravirt/gnttab';
import {
  type AttachedDisk,
  attachDisk,
  type Blkback,
  type BlkbackEvents,
  blkback,
  createMachine,
  type Disk,
  type Domain,
  type FaultRequest,
  type Machine,
  type MachineEvents,
} from '@paravirt/hv-sim';
import { ByteQueue } from './byte-queue.ts';
import { CliError, messageOf } from './errors.ts';
import type { ByteDevice, DriverDeps, DriverInfo, GuestDriver } from './plugins.ts';

/** Everything that any part tells. */
export type StackEvents = MachineEvents & GnttabEvents & BlkfrontEvents & BlkbackEvents;

const PAGE = 4096;
const MIB = 1024 * 1024;

/** How the guest's device is to be. */
export interface DeviceChoice {
  readonly queues?: number;
  readonly ringPages?: number;
  /** Segments of a request; above 11 they are indirect. */
  readonly segments?: number;
  readonly persistent?: boolean;
  readonly pool?: number | 'full';
  readonly protocol?: Protocol;
  readonly trusted?: boolean;
}

export interface StackOptions extends DeviceChoice {
  /** The disk, or what makes it once there is a machine whose time it runs in. */
  readonly disk: Disk | ((machine: Machine) => Disk);
  readonly seed: number | string;
  /** Memory of the guest, bytes: its rings, and the pages that carry data. Default 64 MiB. */
  readonly guestBytes?: number;
  readonly faults?: readonly FaultRequest[];
  /** Grants a queue of the backend keeps mapped; its own default otherwise. */
  readonly persistentMax?: number;
  /** Another frontend than blkfront. */
  readonly driver?: (options: { readonly device: number }) => Plugin<DriverDeps, GuestDriver>;
}

/** What moved, in the words of the table that commands end with. */
export interface Figures {
  readonly requests: number;
  readonly segments: number;
  readonly grantsNew: number;
  readonly grantsFromPool: number;
  readonly doorbellsSent: number;
  readonly doorbellsMerged: number;
  readonly maps: number;
  readonly unmaps: number;
  readonly persistentHits: number;
  readonly steps: number;
}

/** Two domains on one machine, a disk between them, and the guest's device connected to it. */
export interface Stack {
  readonly machine: Machine;
  readonly dom0: Domain;
  readonly guest: Domain;
  readonly grants: GrantTable;
  readonly blkback: Blkback;
  readonly attached: AttachedDisk;
  /** The guest's blkfront; undefined under another driver. */
  readonly device: BlockDevice | undefined;
  readonly info: DriverInfo;
  readonly bytes: ByteDevice;
  /** What the device is doing, for messages. */
  state(): string;
  figures(): Figures;
  /** Closes the device in order and ends both domains; `figures` stays. The disk stays the caller's. */
  close(): void;
}

/**
 * Composes a guest with a block device, a backend domain and a disk: the one place that knows every package.
 * @throws {CliError} when the device does not connect.
 */
export function composeStack(options: StackOptions): Stack {
  const bus: EventBus<StackEvents> = createEventBus<StackEvents>();
  const guestBytes = options.guestBytes ?? 64 * MIB;
  const dom0Bytes = 16 * MIB;
  const machine = createMachine({
    bus,
    seed: options.seed,
    ramBytes: guestBytes + dom0Bytes + 16 * MIB,
    stepsMax: Number.MAX_SAFE_INTEGER,
    ...(options.faults && { faults: options.faults }),
  });
  const dom0 = machine.createDomain({ id: 0, name: 'Domain-0', pages: dom0Bytes / PAGE });
  const guest = machine.createDomain({ name: 'guest', pages: guestBytes / PAGE });

  const backend = dom0.use(
    blkback({
      ...(options.queues !== undefined && { queuesMax: Math.max(4, options.queues) }),
      ...(options.persistentMax !== undefined && { persistentMax: options.persistentMax }),
    }),
    {
      bus,
      store: dom0.store,
      events: dom0.events,
      grants: dom0.use(gnttab({ owner: dom0.id }), { hypercalls: dom0.hypercalls, scheduler: dom0.scheduler, pages: dom0.pageUse, bus }),
      addresses: dom0.addresses,
      memory: dom0.addressSpace,
      scheduler: dom0.scheduler,
    },
  );
  const attached = attachDisk(
    { store: dom0.store, blkback: backend },
    {
      frontend: guest.id,
      disk: typeof options.disk === 'function' ? options.disk(machine) : options.disk,
      ...(options.trusted !== undefined && { trusted: options.trusted }),
    },
  );
  const grants = guest.use(gnttab({ owner: guest.id }), {
    hypercalls: guest.hypercalls,
    scheduler: guest.scheduler,
    pages: guest.pageUse,
    bus,
  });
  const surroundings: DriverDeps = {
    bus,
    grants,
    pages: guest.pages,
    events: guest.events,
    store: guest.store,
    scheduler: guest.scheduler,
    waitFor: (condition: () => boolean) => guest.waitFor(condition),
  };
  const driver = guest.use(options.driver?.({ device: attached.device }) ?? blkfrontDriver(attached.device, options), surroundings);
  const device = (driver as Partial<BlkfrontDriver>).device;
  let info: DriverInfo;
  try {
    info = driver.connectSync();
  } catch (error) {
    throw new CliError(`the guest's device did not connect: ${messageOf(error)}`, undefined, { cause: error });
  }

  /** Figures that only a connected device has, as they were when it closed. */
  let last: Figures | undefined;
  return {
    machine,
    dom0,
    guest,
    grants,
    blkback: backend,
    attached,
    device,
    info,
    bytes: driver.bytes,
    state: () => (device ? `${device.state} ${device.device.reason}`.trimEnd() : 'of a plugin'),
    figures: () => last ?? figuresOf(machine, device, backend),
    close() {
      const open = figuresOf(machine, device, backend);
      driver.closeSync();
      last = { ...open, unmaps: backend.counters.unmaps };
      machine.close();
    },
  };
}

/** A blkfront as the composer drives it. */
interface BlkfrontDriver extends GuestDriver {
  readonly device: BlockDevice;
}

function blkfrontDriver(number: number, choice: DeviceChoice): Plugin<DriverDeps, BlkfrontDriver> {
  const plugin = blkfront({
    device: number,
    ...(choice.queues !== undefined && { queues: choice.queues }),
    ...(choice.ringPages !== undefined && { ringPages: choice.ringPages }),
    ...(choice.segments !== undefined && { maxSegments: choice.segments }),
    ...(choice.persistent !== undefined && { persistent: choice.persistent }),
    ...(choice.pool !== undefined && { poolRefs: choice.pool }),
    ...(choice.protocol !== undefined && { protocol: choice.protocol }),
  });
  return {
    name: plugin.name,
    requires: ['bus', 'grants', 'pages', 'events', 'store', 'scheduler', 'waitFor'],
    attach(deps) {
      const { api, detach } = plugin.attach(deps);
      return {
        api: { device: api, bytes: new ByteQueue(api.device), connectSync: () => api.connectSync(), closeSync: () => api.closeSync() },
        detach,
      };
    },
  };
}

function figuresOf(machine: Machine, device: BlockDevice | undefined, backend: Blkback): Figures {
  const { sent, merged } = machine.doorbells;
  const pools: PoolFigures[] = [];
  for (let queue = 0; device && queue < device.device.queueCount; queue += 1) {
    const pool = device.device.poolFigures(queue);
    if (pool) pools.push(pool);
  }
  const { requests, segments, maps, unmaps, persistentHits } = backend.counters;
  return {
    requests,
    segments,
    grantsNew: pools.reduce((sum, pool) => sum + pool.misses, 0),
    grantsFromPool: pools.reduce((sum, pool) => sum + pool.hits, 0),
    doorbellsSent: sent,
    doorbellsMerged: merged,
    maps,
    unmaps,
    persistentHits,
    steps: machine.steps,
  };
}
