import { InvariantError } from '@paravirt/event-bus/contract';
import { XENBUS_STATE } from '@paravirt/xen-abi';
import { BlkfrontError } from './errors.ts';
import { readNode, readNumber } from './features.ts';
import type { BlkfrontSurroundings, Store, StoreTransaction } from './types.ts';

/** How often a transaction is begun again before the store is given up: another writer that always wins is no honest one. */
const ATTEMPTS_MAX = 256;

/**
 * Runs `body` in a transaction until it is committed.
 * @throws {BlkfrontError} `timeout` after 256 conflicts; whatever `body` throws, with the transaction aborted.
 */
export function transact(store: Store, body: (transaction: StoreTransaction) => void): void {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const transaction = store.begin();
    try {
      body(transaction);
    } catch (error) {
      store.abort(transaction);
      throw error;
    }
    if (store.commit(transaction)) return;
  }
  throw new BlkfrontError({ code: 'timeout', waitingFor: 'store transaction', ticks: ATTEMPTS_MAX });
}

/**
 * Writes a xenbus state in a transaction of its own that has read the node first, as real frontends do: a folder that the
 * toolstack removed meanwhile is not made anew.
 * @returns whether it was written: false when the folder is gone.
 */
export function switchState(store: Store, path: string, state: number): boolean {
  let written = false;
  transact(store, (transaction) => {
    written = store.read(`${path}/state`, transaction) !== undefined;
    if (written) store.write(`${path}/state`, String(state), transaction);
  });
  return written;
}

/** `switchState`, told on the bus, behind what is wrong if anything is. A store that refuses it is left as it is: whoever says something has done it already. */
export function announce({ store, bus }: Pick<BlkfrontSurroundings, 'store' | 'bus'>, path: string, state: number, wrong = ''): void {
  if (wrong !== '') writeError(store, path, wrong);
  try {
    if (!switchState(store, path, state)) return;
  } catch (error) {
    if (error instanceof InvariantError) throw error;
    return;
  }
  if (bus?.observed('xenbus:state')) bus.emit('xenbus:state', { path, state });
}

/** A peer's state: 0 for what no device writes, undefined where the node is gone. */
export function readState(store: Store, path: string): number | undefined {
  const text = readNode(store, `${path}/state`)?.trim();
  if (text === undefined) return undefined;
  return /^[0-8]$/.test(text) ? Number(text) : XENBUS_STATE.Unknown;
}

/** Whether the toolstack means the device to stay, as it says: '0' where not. */
export function readOnline(store: Store, ends: Ends | undefined): string | undefined {
  return ends === undefined ? undefined : readNode(store, `${ends.backend}/online`)?.trim();
}

/** Where the other end is. */
export interface Ends {
  readonly backend: string;
  readonly backendId: number;
  readonly virtualDevice: number;
}

/** @throws {BlkfrontError} `bad-store`: `backend`, `backend-id` or the state is missing or impossible. */
export function readEnds(store: Store, path: string, device: number): Ends {
  const idPath = `${path}/backend-id`;
  const backendId = readNumber(store, idPath, -1, 0x7fef);
  if (backendId === -1) {
    throw new BlkfrontError({ code: 'bad-store', path: idPath, value: readNode(store, idPath), allowed: 'a domid from 0 to 32751' });
  }
  const backendPath = `${path}/backend`;
  const backend = readNode(store, backendPath);
  if (backend === undefined || backend.length > 2048 || !/^(\/[\w@-]+)+$/.test(backend)) {
    const allowed = 'an absolute store path of at most 2048 letters, digits, - / _ @, with no empty name';
    throw new BlkfrontError({ code: 'bad-store', path: backendPath, value: backend, allowed });
  }
  return { backend, backendId, virtualDevice: readNumber(store, `${path}/virtual-device`, device, 0xffff_ffff) };
}

/** What the two ends agree on before there is a ring. */
export interface Transport {
  readonly trusted: boolean;
  readonly ringPages: number;
  readonly queues: number;
}

/** Reads what bounds the transport, in the order of a real frontend, and chooses. Absent keys have the protocol's defaults. */
export function readTransport(store: Store, path: string, backend: string, ringPages: number, queues: number): Transport {
  // Anything but a clear 1 is no promise: bounce.
  const trusted = readNumber(store, `${path}/trusted`, readNode(store, `${path}/trusted`) === undefined ? 1 : 0, 0xffff_ffff) !== 0;
  const order = readNumber(store, `${backend}/max-ring-page-order`, 0, 0xffff_ffff);
  const most = readNumber(store, `${backend}/multi-queue-max-queues`, 1, 0xffff_ffff);
  return {
    trusted,
    ringPages: Math.min(ringPages, 2 ** Math.min(order, 4)),
    queues: Math.max(1, Math.min(queues, most)),
  };
}

/** One queue as the store names it. */
export interface QueueKeys {
  readonly ringRefs: readonly number[];
  readonly port: number;
}

function writeQueue(store: Store, folder: string, queue: QueueKeys, transaction: StoreTransaction): void {
  if (queue.ringRefs.length === 1) store.write(`${folder}/ring-ref`, String(queue.ringRefs[0]), transaction);
  else queue.ringRefs.forEach((ref, i) => void store.write(`${folder}/ring-ref${i}`, String(ref), transaction));
  store.write(`${folder}/event-channel`, String(queue.port), transaction);
}

/** Publishes rings and ports in one transaction: one queue at the top, several under `queue-N`; one page as `ring-ref`. */
export function publish(store: Store, path: string, queues: readonly QueueKeys[], protocol: string, persistent: boolean): void {
  const pages = queues[0]!.ringRefs.length;
  transact(store, (transaction) => {
    // A former connection of another shape must not speak for this one.
    removeTransport(store, path, transaction);
    if (pages > 1) store.write(`${path}/ring-page-order`, String(Math.log2(pages)), transaction);
    if (queues.length === 1) writeQueue(store, path, queues[0]!, transaction);
    else {
      store.write(`${path}/multi-queue-num-queues`, String(queues.length), transaction);
      queues.forEach((queue, i) => void writeQueue(store, `${path}/queue-${i}`, queue, transaction));
    }
    store.write(`${path}/protocol`, protocol, transaction);
    store.write(`${path}/feature-persistent`, persistent ? '1' : '0', transaction);
  });
}

const TRANSPORT_KEYS = /^(ring-ref\d*|event-channel|queue-\d+|ring-page-order|multi-queue-num-queues)$/;

/** Takes back what `publish` wrote, so that a later connection of another shape leaves nothing stale; as far as the store allows. */
export function unpublish(store: Store, path: string): void {
  try {
    transact(store, (transaction) => {
      if (store.read(`${path}/state`, transaction) !== undefined) removeTransport(store, path, transaction);
    });
  } catch (error) {
    // The folder is the toolstack's as much as ours.
    if (error instanceof InvariantError) throw error;
  }
}

function removeTransport(store: Store, path: string, transaction: StoreTransaction): void {
  for (const key of store.list(path, transaction)) if (TRANSPORT_KEYS.test(key)) store.remove(`${path}/${key}`, transaction);
}

/** Says in the store why the device gave up, where a toolstack looks for it. */
function writeError(store: Store, path: string, message: string): void {
  try {
    store.write(`error/${path}/error`, message);
  } catch {
    // The domain may not write there: the fact on the bus says it too.
  }
}
