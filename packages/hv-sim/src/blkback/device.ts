import type { DomId } from '@paravirt/event-bus/contract';
import { type Abi, XEN_ERRNO, XENBUS_STATE } from '@paravirt/xen-abi';
import type { Disk } from '../disks/disk.ts';
import { Connection, type Shared } from './connection.ts';
import { blkbackCounters } from './counters.ts';
import { SECTOR } from './disk-io.ts';
import { isRefusal } from './errors.ts';
import { inTransaction, offersDiscard, publishDisk, readFrontendKeys, readNode, readUnsigned } from './handshake.ts';
import type { BackendStore, BlkbackCounters, BlkbackDevice } from './types.ts';

/** What a device asks of the backend it belongs to. */
export interface DeviceSetup {
  readonly shared: Shared;
  readonly path: string;
  readonly frontend: DomId;
  readonly device: number;
  readonly frontendPath: string;
  /** The disk behind a `physical-device`, if it is known yet. */
  readonly diskOf: (physicalDevice: string) => Disk | undefined;
  /** The device is gone for good: everything it had is given back. */
  readonly gone: (device: BackDevice) => void;
}

/** Waits before the connection is tried again that met "try again", and how often. */
const RETRY_TICKS = 10;
const RETRIES_MAX = 25;

/**
 * One virtual block device: its state in the store, and its connection. Both orders of states that real peers use are taken: a
 * frontend may come before its disk is known, skip Initialised, and close from Connected straight to Closed.
 * @see linux/drivers/block/xen-blkback/xenbus.c, frontend_changed, backend_changed
 */
export class BackDevice implements BlkbackDevice {
  readonly path: string;
  readonly frontend: DomId;
  readonly device: number;
  readonly counters: BlkbackCounters = blkbackCounters();
  state: number = XENBUS_STATE.Unknown;
  disk: Disk | undefined = undefined;
  private readonly setup: DeviceSetup;
  private readonly store: BackendStore;
  private readonly watches: { unsubscribe(): void }[] = [];
  private connection: Connection | undefined = undefined;
  /** The connection is being given back: what the frontend says meanwhile is looked at afterwards. */
  private disconnecting = false;
  private readonly: boolean = false;
  private cdrom = false;
  private sectors = 0;
  private retries = 0;
  private retry: { unsubscribe(): void } | undefined = undefined;
  private removed = false;
  private toldGone = false;

  constructor(setup: DeviceSetup) {
    this.setup = setup;
    this.store = setup.shared.deps.store;
    this.path = setup.path;
    this.frontend = setup.frontend;
    this.device = setup.device;
  }

  /** The frontend's number in the path, which the toolstack chose. */
  get pathFrontend(): number {
    return Number(this.path.split('/')[2]);
  }

  get queues(): number {
    return this.connection?.queues ?? 0;
  }
  get ringPages(): number {
    return this.connection?.ringPages ?? 0;
  }
  get protocol(): Abi | undefined {
    return this.connection?.abi;
  }
  get persistent(): boolean {
    return this.connection?.persistent ?? false;
  }
  get halted(): boolean {
    return this.connection?.halted ?? false;
  }
  get inFlight(): number {
    return this.connection?.inFlight ?? 0;
  }
  get persistentGrants(): number {
    return this.connection?.persistentGrants ?? 0;
  }

  /** The folder begins anew where this device is further: it was removed and made again, and is another device's. */
  get replaced(): boolean {
    return this.replacedBy(readUnsigned(this.store, `${this.path}/state`));
  }

  private replacedBy(state: number | undefined): boolean {
    return state === XENBUS_STATE.Initialising && this.state !== XENBUS_STATE.Initialising;
  }

  /** Says what it can do, and waits for both ends. */
  probe(): void {
    this.guard(() => {
      const { settings } = this.setup.shared;
      const { store, path } = this;
      this.state = readUnsigned(store, `${path}/state`) ?? XENBUS_STATE.Unknown;
      if (settings.indirectSegmentsMax > 0) store.write(`${path}/feature-max-indirect-segments`, String(settings.indirectSegmentsMax));
      store.write(`${path}/multi-queue-max-queues`, String(settings.queuesMax));
      this.watches.push(store.watch(`${path}/physical-device`, () => this.guard(() => this.lookForDisk())));
      store.write(`${path}/max-ring-page-order`, String(settings.ringPageOrderMax));
      this.switchState(XENBUS_STATE.InitWait);
      this.watches.push(store.watch(`${this.setup.frontendPath}/state`, () => this.guard(() => this.frontendChanged())));
    });
  }

  /** The toolstack's script has named the disk, or a disk of that name has come. */
  lookForDisk(): void {
    if (this.removed || this.disk !== undefined) return;
    const physicalDevice = readNode(this.store, `${this.path}/physical-device`);
    if (physicalDevice === undefined) return;
    const mode = readNode(this.store, `${this.path}/mode`);
    if (mode === undefined) {
      this.fail(XEN_ERRNO.ENOENT, 'reading mode');
      return;
    }
    const disk = this.setup.diskOf(physicalDevice);
    if (disk === undefined) return;
    this.cdrom = readNode(this.store, `${this.setup.frontendPath}/device-type`) === 'cdrom';
    this.readonly = disk.readonly || !mode.includes('w');
    this.disk = disk;
    const resized = disk.onResize?.(() => this.guard(() => this.resized()));
    if (resized !== undefined) this.watches.push(resized);
    this.goLive();
  }

  /** A disk was added: perhaps it is the one. */
  diskAdded(): void {
    this.guard(() => this.lookForDisk());
  }

  private frontendChanged(): void {
    if (this.removed || this.disconnecting) return;
    const state = readUnsigned(this.store, `${this.setup.frontendPath}/state`) ?? XENBUS_STATE.Unknown;
    switch (state) {
      case XENBUS_STATE.Initialising:
        if (this.state === XENBUS_STATE.Closed) this.switchState(XENBUS_STATE.InitWait);
        return;
      case XENBUS_STATE.Initialised:
      case XENBUS_STATE.Connected:
        if (this.state === XENBUS_STATE.Connected || this.connection !== undefined) return;
        // A closed device begins with the frontend's Initialising; Linux lets it connect again from here too.
        this.connect();
        return;
      case XENBUS_STATE.Closing:
        this.switchState(XENBUS_STATE.Closing);
        return;
      case XENBUS_STATE.Closed:
        this.disconnect(() => {
          this.switchState(XENBUS_STATE.Closed);
          if ((readUnsigned(this.store, `${this.path}/online`) ?? 0) === 0) this.remove();
        });
        return;
      case XENBUS_STATE.Unknown:
        this.remove();
        return;
      default:
        this.fail(XEN_ERRNO.EINVAL, `saw state ${state} at frontend`);
    }
  }

  private connect(): void {
    const { shared, frontendPath } = this.setup;
    const keys = readFrontendKeys(this.store, frontendPath, shared.settings);
    if ('errno' in keys) {
      this.fail(keys.errno, keys.reason);
      return;
    }
    const opened = Connection.open({
      shared,
      frontend: this.frontend,
      device: this.device,
      keys,
      counters: this.counters,
      unsupported: (barrier) => this.guard(() => this.withdraw(barrier)),
    });
    if (!(opened instanceof Connection)) {
      if (opened.errno === XEN_ERRNO.EAGAIN && this.retries < RETRIES_MAX) {
        this.retries++;
        this.retry?.unsubscribe();
        this.retry = shared.deps.scheduler.schedule(() => this.guard(() => this.frontendChanged()), RETRY_TICKS);
        return;
      }
      this.fail(opened.errno, opened.reason);
      return;
    }
    this.retries = 0;
    this.connection = opened;
    const { bus } = shared.deps;
    if (bus.observed('blkback:connected')) {
      const { queues, ringPages, abi: protocol, persistent } = opened;
      bus.emit('blkback:connected', { frontend: this.frontend, device: this.device, queues, ringPages, protocol, persistent });
    }
    this.goLive();
  }

  /** When the rings are mapped and the disk is known, in whichever order that came. */
  private goLive(): void {
    const { connection, disk } = this;
    if (connection === undefined || disk === undefined || this.state === XENBUS_STATE.Connected || this.disconnecting) return;
    const { settings } = this.setup.shared;
    const removable = (readUnsigned(this.store, `${this.path}/removable`) ?? 0) !== 0;
    const discard = offersDiscard(this.store, this.path, disk, settings);
    this.sectors = Math.floor(disk.sizeBytes / SECTOR);
    if (!publishDisk(this.store, this.path, { disk, readonly: this.readonly, cdrom: this.cdrom, removable }, settings)) {
      this.fail(XEN_ERRNO.EAGAIN, 'writing the disk');
      return;
    }
    connection.start({ disk, readonly: this.readonly, discard });
    this.switchState(XENBUS_STATE.Connected);
  }

  /** @see linux/drivers/block/xen-blkback/blkback.c, xen_vbd_resize */
  private resized(): void {
    const { disk } = this;
    if (disk === undefined || this.state !== XENBUS_STATE.Connected) return;
    const before = this.sectors;
    const sectors = Math.floor(disk.sizeBytes / SECTOR);
    if (sectors === before) return;
    const told = inTransaction(this.store, (transaction) => {
      this.store.write(`${this.path}/sectors`, String(sectors), transaction);
      this.store.write(`${this.path}/state`, String(this.state), transaction);
    });
    if (!told) return;
    this.sectors = sectors;
    const { bus } = this.setup.shared.deps;
    if (bus.observed('blkback:resized')) bus.emit('blkback:resized', { frontend: this.frontend, device: this.device, before, sectors });
  }

  private withdraw(barrier: boolean): void {
    this.store.write(`${this.path}/${barrier ? 'feature-barrier' : 'feature-flush-cache'}`, '0');
  }

  private disconnect(then: () => void): void {
    this.retry?.unsubscribe();
    const { connection } = this;
    if (connection === undefined) {
      then();
      return;
    }
    this.disconnecting = true;
    connection.close(() => {
      this.connection = undefined;
      this.disconnecting = false;
      const { bus } = this.setup.shared.deps;
      if (bus.observed('blkback:disconnected')) bus.emit('blkback:disconnected', { frontend: this.frontend, device: this.device });
      this.guard(then);
      // The frontend may have gone on meanwhile.
      if (this.removed) this.tellGone();
      else this.guard(() => this.frontendChanged());
    });
  }

  /** The device goes: its folder did, or its frontend, or the toolstack took it offline. */
  remove(): void {
    if (this.removed) return;
    this.removed = true;
    for (const watch of this.watches.splice(0)) watch.unsubscribe();
    this.retry?.unsubscribe();
    if (this.disconnecting) return;
    if (this.connection === undefined) this.tellGone();
    else this.disconnect(() => {});
  }

  private tellGone(): void {
    if (this.toldGone) return;
    this.toldGone = true;
    this.setup.gone(this);
  }

  /** The backend goes: as `remove`, and the state says so. */
  shutDown(): void {
    this.remove();
    this.guard(() => this.switchState(XENBUS_STATE.Closed));
  }

  /**
   * A folder that is gone is left gone, and one that is another device's is left to that.
   * @see linux/drivers/xen/xenbus/xenbus_client.c, __xenbus_switch_state
   */
  private switchState(state: number): void {
    if (state === this.state) return;
    const before = this.state;
    let there = true;
    const written = inTransaction(this.store, (transaction) => {
      const stands = readNode(this.store, `${this.path}/state`, transaction);
      there = stands !== undefined && !this.replacedBy(Number(stands));
      if (there) this.store.write(`${this.path}/state`, String(state), transaction);
    });
    if (!written || !there) return;
    this.state = state;
    const { bus } = this.setup.shared.deps;
    if (bus.observed('blkback:state')) bus.emit('blkback:state', { frontend: this.frontend, device: this.device, state, before });
  }

  /** The connection is refused: the reason stands in the store, and the device closes. @see xenbus_dev_fatal */
  private fail(errno: number, reason: string): void {
    const { bus } = this.setup.shared.deps;
    if (bus.observed('blkback:refused')) bus.emit('blkback:refused', { frontend: this.frontend, device: this.device, errno, reason });
    this.store.write(`error/${this.path}/error`, `${errno} ${reason}`);
    this.switchState(XENBUS_STATE.Closing);
  }

  /** What the store refuses costs this device, and nobody else. */
  private guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!isRefusal(error)) throw error;
      const { bus } = this.setup.shared.deps;
      const reason = error.message;
      if (bus.observed('blkback:refused')) {
        bus.emit('blkback:refused', { frontend: this.frontend, device: this.device, errno: XEN_ERRNO.EIO, reason });
      }
    }
  }
}
