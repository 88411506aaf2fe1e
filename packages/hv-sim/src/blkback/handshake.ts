import { type Abi, VDISK, XEN_ERRNO, XEN_IO_PROTO_ABI } from '@paravirt/xen-abi';
import type { Disk } from '../disks/disk.ts';
import { SECTOR } from './disk-io.ts';
import { isRefusal } from './errors.ts';
import type { BlkbackSettings } from './options.ts';
import type { BackendStore, BackendTransaction } from './types.ts';

/** Tries of a transaction that meets a conflict each time. */
const CONFLICTS_MAX = 64;

/** What the frontend published for one queue. */
export interface QueueKeys {
  readonly refs: readonly number[];
  readonly eventChannel: number;
}

/** What the frontend published. */
export interface FrontendKeys {
  readonly abi: Abi;
  readonly persistent: boolean;
  readonly ringPages: number;
  readonly queues: readonly QueueKeys[];
}

/** What is wrong with what the frontend published: a positive errno, and the words for the store. */
export interface KeyFault {
  readonly errno: number;
  readonly reason: string;
}

/** Reads a node that may be missing or forbidden: both are undefined. */
export function readNode(store: BackendStore, path: string, transaction?: BackendTransaction): string | undefined {
  try {
    return store.read(path, transaction);
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return undefined;
  }
}

/** A node's decimal number, 0 to 2^32 - 1; undefined where there is none. */
export function readUnsigned(store: BackendStore, path: string, transaction?: BackendTransaction): number | undefined {
  const text = readNode(store, path, transaction);
  if (text === undefined || !/^\d{1,10}$/.test(text)) return undefined;
  const value = Number(text);
  return value <= 0xffff_ffff ? value : undefined;
}

/**
 * Carries `writes` out in a transaction, again while another is in the way.
 * @returns false when it never went through; nothing is written then.
 */
export function inTransaction(store: BackendStore, writes: (transaction: BackendTransaction) => void): boolean {
  for (let attempt = 0; attempt < CONFLICTS_MAX; attempt++) {
    const transaction = store.begin();
    try {
      writes(transaction);
    } catch (error) {
      store.abort(transaction);
      throw error;
    }
    if (store.commit(transaction)) return true;
  }
  return false;
}

function layout(protocol: string | undefined, settings: BlkbackSettings): Abi | undefined {
  switch (protocol) {
    case undefined:
      return settings.protocolDefault;
    case XEN_IO_PROTO_ABI.x86_64:
    case XEN_IO_PROTO_ABI.arm:
      return 'x86_64';
    case XEN_IO_PROTO_ABI.x86_32:
      return 'x86_32';
    default:
      return undefined;
  }
}

/**
 * Reads what the frontend published, each node once, in the order of the original.
 * @see linux/drivers/block/xen-blkback/xenbus.c, connect_ring, read_per_ring_refs
 */
export function readFrontendKeys(store: BackendStore, path: string, settings: BlkbackSettings): FrontendKeys | KeyFault {
  const protocol = readNode(store, `${path}/protocol`);
  const abi = layout(protocol, settings);
  if (abi === undefined) return { errno: XEN_ERRNO.ENOSYS, reason: `unknown fe protocol ${JSON.stringify(protocol)}` };
  const persistent = settings.persistent && (readUnsigned(store, `${path}/feature-persistent`) ?? 0) !== 0;
  const count = readNode(store, `${path}/multi-queue-num-queues`);
  const queueCount = count === undefined ? 1 : (readUnsigned(store, `${path}/multi-queue-num-queues`) ?? 0);
  if (queueCount === 0 || queueCount > settings.queuesMax) {
    return { errno: XEN_ERRNO.ENOSYS, reason: `guest requested ${count} queues, exceeding the maximum of ${settings.queuesMax}.` };
  }
  const orderText = readNode(store, `${path}/ring-page-order`);
  const order = orderText === undefined ? 0 : (readUnsigned(store, `${path}/ring-page-order`) ?? Number.POSITIVE_INFINITY);
  if (order > settings.ringPageOrderMax) {
    const reason = `requested ring page order ${orderText} exceed max:${settings.ringPageOrderMax}`;
    return { errno: XEN_ERRNO.EINVAL, reason };
  }
  const ringPages = 1 << order;
  const queues: QueueKeys[] = [];
  for (let queue = 0; queue < queueCount; queue++) {
    const dir = queueCount === 1 ? path : `${path}/queue-${queue}`;
    const keys = readQueueKeys(store, dir, ringPages);
    if ('errno' in keys) return keys;
    queues.push(keys);
  }
  return { abi, persistent, ringPages, queues };
}

function readQueueKeys(store: BackendStore, dir: string, ringPages: number): QueueKeys | KeyFault {
  const eventChannel = readUnsigned(store, `${dir}/event-channel`);
  if (eventChannel === undefined) return { errno: XEN_ERRNO.EINVAL, reason: `reading ${dir}/event-channel` };
  const refs: number[] = [];
  if (ringPages === 1) {
    const ref = readUnsigned(store, `${dir}/ring-ref`) ?? readUnsigned(store, `${dir}/ring-ref0`);
    if (ref === undefined) return { errno: XEN_ERRNO.EINVAL, reason: `reading ${dir}/ring-ref` };
    refs.push(ref);
  } else {
    for (let page = 0; page < ringPages; page++) {
      const ref = readUnsigned(store, `${dir}/ring-ref${page}`);
      if (ref === undefined) return { errno: XEN_ERRNO.EINVAL, reason: `reading ${dir}/ring-ref${page}` };
      refs.push(ref);
    }
  }
  return { refs, eventChannel };
}

/** What the frontend is told about the disk. */
export interface DiskKeys {
  readonly disk: Disk;
  readonly readonly: boolean;
  readonly cdrom: boolean;
  readonly removable: boolean;
}

/** Whether discards are offered: the disk has them, and the toolstack's `discard-enable` (default 1) and the options allow them. */
export function offersDiscard(store: BackendStore, path: string, disk: Disk, settings: BlkbackSettings): boolean {
  return settings.discard && disk.discards && (readUnsigned(store, `${path}/discard-enable`) ?? 1) !== 0;
}

/**
 * Writes the disk's keys in one transaction, in the original's order.
 * @see linux/drivers/block/xen-blkback/xenbus.c, connect
 */
export function publishDisk(store: BackendStore, path: string, keys: DiskKeys, settings: BlkbackSettings): boolean {
  const { disk } = keys;
  return inTransaction(store, (transaction) => {
    const write = (key: string, value: number): void => store.write(`${path}/${key}`, String(value), transaction);
    write('feature-flush-cache', settings.flush ? 1 : 0);
    if ((readUnsigned(store, `${path}/discard-enable`, transaction) ?? 1) !== 0) {
      const discards = settings.discard && disk.discards;
      if (discards) {
        write('discard-granularity', disk.discardGranularityBytes);
        write('discard-alignment', disk.discardAlignmentBytes);
        write('discard-secure', disk.secureDiscards ? 1 : 0);
      }
      write('feature-discard', discards ? 1 : 0);
    }
    write('feature-barrier', settings.barrier ? 1 : 0);
    write('feature-persistent', settings.persistent ? 1 : 0);
    write('sectors', Math.floor(disk.sizeBytes / SECTOR));
    write('info', (keys.cdrom ? VDISK.CDROM : 0) | (keys.removable ? VDISK.REMOVABLE : 0) | (keys.readonly ? VDISK.READONLY : 0));
    write('sector-size', disk.sectorBytes);
    write('physical-sector-size', disk.physicalSectorBytes);
  });
}
