import { XENBUS_STATE } from '@paravirt/xen-abi';
import type { Disk } from '../disks/disk.ts';
import { BlkbackError, isRefusal } from './errors.ts';
import { inTransaction, readNode, readUnsigned } from './handshake.ts';
import { checkEither, checkFlag } from './options.ts';
import type { BackendStore, BackendTransaction, Blkback } from './types.ts';

/** A permission as the store has it: the first of a list names the owner. */
export interface NodePermission<Id extends number = number> {
  readonly domid: Id;
  readonly access: 'none' | 'read' | 'write' | 'both';
}

/** The store as the toolstack reaches it: with the privileged domain's rights. A connection of domain 0 fits. */
export interface ToolstackStore<Id extends number = never> extends BackendStore {
  /** Sets who owns a node and who else may do what; the first element names the owner. Throws the store's refusal. */
  setPermissions(path: string, permissions: readonly NodePermission<Id>[], transaction?: BackendTransaction): void;
}

/** Who attaches disks: the toolstack's connection, and the backend that serves them. */
export interface DiskHost {
  readonly store: ToolstackStore;
  readonly blkback: Blkback;
  /** The backend's domain. Default 0. */
  readonly backend?: number;
}

/** What the toolstack says of a disk. Only `frontend` and `disk` have no default. */
export interface AttachOptions {
  /** The domain that gets the disk. */
  readonly frontend: number;
  readonly disk: Disk;
  /** Virtual device number, 0 to 2^29 - 1. Default 51712 (xvda). */
  readonly device?: number;
  /** Name in the store. Default: made of the number, `xvda` for 51712. */
  readonly dev?: string;
  /** What `params` says. Default `/dev/loop<N>`. */
  readonly params?: string;
  /** `w` or `r`. Default what the disk is. */
  readonly mode?: 'r' | 'w';
  readonly deviceType?: 'disk' | 'cdrom';
  /** Default false. */
  readonly removable?: boolean;
  /** Default true. */
  readonly bootable?: boolean;
  /** Whether the guest may trust the backend with the rest of its pages. Default true. */
  readonly trusted?: boolean;
  /** `discard-enable`. Default: where the disk may be written, as libxl. */
  readonly discard?: boolean;
  /** `protocol` in the frontend's folder, which libxl writes for PV guests. Default: not written. */
  readonly protocol?: string;
  /**
   * When the hotplug script names the disk to the backend: as soon as the backend waits, or when `plug` is called, as a slow script
   * would. Default `auto`.
   */
  readonly hotplug?: 'auto' | 'manual';
}

/** A disk that is attached. */
export interface AttachedDisk {
  readonly frontend: number;
  readonly device: number;
  /** Absolute paths of the two folders. */
  readonly frontendPath: string;
  readonly backendPath: string;
  /** `major:minor`, as the script writes it. */
  readonly physicalDevice: string;
  /** The hotplug script has run. */
  readonly plugged: boolean;
  /** Runs the hotplug script, where it has not run. */
  plug(): void;
}

const DEVICE_MAX: number = 2 ** 29 - 1;
const XVD = 202;

/** `xvda`, `xvdb3`, ... of a virtual device number in one of Xen's two schemes; `d<number>` of any other. @see xen/docs/man/xen-vbd-interface.7.pandoc */
export function deviceName(device: number): string {
  const letters = (disk: number): string => (disk < 26 ? '' : letters(Math.floor(disk / 26) - 1)) + String.fromCharCode(97 + (disk % 26));
  const partition = (number: number): string => (number === 0 ? '' : String(number));
  if (device >>> 8 === XVD) return `xvd${letters((device >>> 4) & 15)}${partition(device & 15)}`;
  if (device >>> 28 === 1) return `xvd${letters((device >>> 8) & 0xfffff)}${partition(device & 255)}`;
  return `d${device}`;
}

function checkChoices({ mode = 'w', deviceType = 'disk', hotplug = 'auto', ...flags }: AttachOptions): void {
  checkEither('mode', mode, 'r', 'w');
  checkEither('deviceType', deviceType, 'disk', 'cdrom');
  checkEither('hotplug', hotplug, 'auto', 'manual');
  for (const option of ['removable', 'bootable', 'trusted', 'discard'] as const) checkFlag(option, flags[option] ?? true);
}

/**
 * Gives `frontend` a disk as the toolstack does: both folders in one transaction with libxl's keys and permissions; then, when the
 * backend waits, the hotplug script's keys. What follows is between the two drivers.
 * @throws {BlkbackError} `bad-device`, `bad-option`, `device-exists`.
 * @see xen/tools/libs/light/libxl_disk.c, device_disk_add
 */
export function attachDisk(host: DiskHost, options: AttachOptions): AttachedDisk {
  const { store, blkback } = host;
  const backend = host.backend ?? 0;
  const { frontend, disk } = options;
  const device = options.device ?? 51712;
  if (!Number.isInteger(device) || device < 0 || device > DEVICE_MAX) {
    throw new BlkbackError({ code: 'bad-device', device: String(device), allowed: `a whole number from 0 to ${DEVICE_MAX}` });
  }
  checkChoices(options);
  const frontendPath = `/local/domain/${frontend}/device/vbd/${device}`;
  const backendPath = `/local/domain/${backend}/backend/vbd/${frontend}/${device}`;
  if (readNode(store, frontendPath) !== undefined) throw new BlkbackError({ code: 'device-exists', frontend, device });
  const minor = freeMinor(blkback);
  const physicalDevice = `7:${minor.toString(16)}`;
  const params = options.params ?? `/dev/loop${minor}`;
  const mode = options.mode ?? (disk.readonly ? 'r' : 'w');
  const deviceType = options.deviceType ?? 'disk';
  blkback.addDisk(physicalDevice, disk);
  const written = inTransaction(store, (transaction) => {
    const forFrontend = permissions(frontend, backend);
    const forBackend = permissions(backend, frontend);
    clear(store, frontendPath, transaction);
    store.mkdir(frontendPath, transaction);
    store.setPermissions(frontendPath, forFrontend, transaction);
    const front = (key: string, value: string): void => {
      store.write(`${frontendPath}/${key}`, value, transaction);
      store.setPermissions(`${frontendPath}/${key}`, forFrontend, transaction);
    };
    store.write(`${frontendPath}/backend`, backendPath, transaction);
    front('backend-id', String(backend));
    front('state', '1');
    front('virtual-device', String(device));
    front('device-type', deviceType);
    front('trusted', options.trusted === false ? '0' : '1');
    if (options.protocol !== undefined) front('protocol', options.protocol);
    clear(store, backendPath, transaction);
    store.mkdir(backendPath, transaction);
    store.setPermissions(backendPath, forBackend, transaction);
    const back = (key: string, value: string): void => store.write(`${backendPath}/${key}`, value, transaction);
    back('frontend', frontendPath);
    back('params', params);
    back('script', '/etc/xen/scripts/block');
    back('frontend-id', String(frontend));
    back('online', '1');
    back('removable', options.removable === true ? '1' : '0');
    back('bootable', options.bootable === false ? '0' : '1');
    back('state', '1');
    back('dev', options.dev ?? deviceName(device));
    back('type', 'phy');
    back('mode', mode);
    back('device-type', deviceType);
    back('discard-enable', (options.discard ?? mode === 'w') ? '1' : '0');
    back('specification', 'xen');
  });
  if (!written) {
    blkback.removeDisk(physicalDevice);
    throw new BlkbackError({ code: 'store-busy', path: backendPath });
  }
  let plugged = false;
  const attached: AttachedDisk = {
    frontend,
    device,
    frontendPath,
    backendPath,
    physicalDevice,
    get plugged() {
      return plugged;
    },
    plug() {
      if (plugged) return;
      plugged = true;
      store.write(`${backendPath}/physical-device`, physicalDevice);
      store.write(`${backendPath}/physical-device-path`, params);
      store.write(`${backendPath}/hotplug-status`, 'connected');
    },
  };
  if (options.hotplug !== 'manual') {
    const watch = store.watch(`${backendPath}/state`, () => {
      const state = readUnsigned(store, `${backendPath}/state`);
      if (state === 1) return;
      watch.unsubscribe();
      if (state === 2) attached.plug();
    });
  }
  return attached;
}

function permissions(owner: number, reader: number): readonly NodePermission<never>[] {
  return [
    { domid: owner as never, access: 'none' },
    { domid: reader as never, access: 'read' },
  ];
}

/** Removes what may be left of an earlier device. */
function clear(store: ToolstackStore, path: string, transaction: BackendTransaction): void {
  try {
    store.remove(path, transaction);
  } catch (error) {
    // There is not even the folder above.
    if (!isRefusal(error)) throw error;
  }
}

/** The first loop device that is free. */
function freeMinor(blkback: Blkback): number {
  for (let minor = 0; ; minor++) {
    if (!blkback.hasDisk(`7:${minor.toString(16)}`)) return minor;
  }
}

/** How a detach went. */
export interface Detaching {
  /** Both folders are gone. */
  readonly done: boolean;
  /** Takes the folders away without waiting for the frontend any longer (`xl block-detach --force`). */
  force(): void;
}

/**
 * Takes a disk away as the toolstack does: `online` 0 and state 5 in one transaction, unless the backend is closed already; when it
 * is both folders go in one transaction. `done` is called then. A frontend that never answers keeps its disk until `force`.
 * @throws {BlkbackError} `no-device`.
 */
export function detachDisk(host: DiskHost, attached: AttachedDisk, done: () => void = () => {}): Detaching {
  const { store, blkback } = host;
  const { backendPath, frontendPath, frontend, device } = attached;
  if (readNode(store, backendPath) === undefined) throw new BlkbackError({ code: 'no-device', frontend, device });
  let finished = false;
  let watch: { unsubscribe(): void } | undefined;
  const finish = (): void => {
    if (finished) return;
    finished = true;
    watch?.unsubscribe();
    inTransaction(store, (transaction) => {
      removeUpwards(store, frontendPath, 2, transaction);
      removeUpwards(store, backendPath, 3, transaction);
    });
    blkback.removeDisk(attached.physicalDevice);
    done();
  };
  let closed = false;
  inTransaction(store, (transaction) => {
    closed = readUnsigned(store, `${backendPath}/state`, transaction) === XENBUS_STATE.Closed;
    // A backend that is closed waits for nothing but a frontend that begins again.
    if (closed) return;
    store.write(`${backendPath}/online`, '0', transaction);
    store.write(`${backendPath}/state`, '5', transaction);
  });
  watch = store.watch(`${backendPath}/state`, () => {
    const state = readUnsigned(store, `${backendPath}/state`);
    if (closed || state === undefined || state === XENBUS_STATE.Closed) finish();
  });
  return {
    get done() {
      return finished;
    },
    force: finish,
  };
}

/** Removes a folder, and up to `levels` folders above it that are empty then and have no value. */
function removeUpwards(store: ToolstackStore, path: string, levels: number, transaction: BackendTransaction): void {
  let at = path;
  if (readNode(store, at, transaction) !== undefined) store.remove(at, transaction);
  for (let level = 0; level < levels; level++) {
    at = at.slice(0, at.lastIndexOf('/'));
    if (readNode(store, at, transaction) === undefined || store.list(at, transaction).length > 0) return;
    store.remove(at, transaction);
  }
}
