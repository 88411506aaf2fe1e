import { object, refuse } from './arguments.ts';
import { BLKREQ, BLKREQ_STATE, type BlkReq, createRequests, type RequestTable } from './blkdev-requests.ts';
import type { Device } from './device.ts';
import { BlkfrontError, ERRNO } from './errors.ts';
import { readNumber } from './features.ts';
import { readEnds } from './handshake.ts';
import { OP } from './types.ts';

/** `submitOne`: the request was taken (bit 0), and the ring has room for another (bit 1). @see unikraft lib/ukblkdev, uk/blkdev_core.h */
export const STATUS: { readonly SUCCESS: 1; readonly MORE: 2 } = { SUCCESS: 1, MORE: 2 };
/** Whether the request was taken. */
export const isSuccessful = (status: number): boolean => status >= 0 && (status & STATUS.SUCCESS) !== 0;
/** Whether it was taken and the ring has room for another. */
export const hasMore = (status: number): boolean => status >= 0 && (status & 3) === 3;
/** Whether the device could not take it now, without an error. */
export const isNotReady = (status: number): boolean => status >= 0 && (status & STATUS.SUCCESS) === 0;

/** What `configure` may be asked for. */
export interface BlkDevInfo {
  readonly maxQueues: number;
}
/** What a queue may be configured with. All zeroes: the ring's pages decide how many slots there are. @see uk_blkdev_queue_info */
export interface BlkQueueInfo {
  readonly nbMax: number;
  readonly nbMin: number;
  readonly nbAlign: number;
  readonly nbIsPowerOfTwo: 1;
}
/** What a driver is told on an upcall. It must call `finishReqs`, which arms the next one. */
export interface BlkQueueConf {
  /** Called from the queue's upcall, once for each arming; without one the driver polls. */
  readonly callback?: (queue: number) => void;
}
/** What the connected device is. @see uk_blkdev_cap */
export interface BlkCapabilities {
  /** In units of `ssize`. */
  readonly sectors: number;
  readonly ssize: number;
  readonly mode: 'r' | 'rw';
  /** In units of `ssize`: a buffer of that length aligned to `ioalign` is one request. */
  readonly maxSectorsPerReq: number;
  readonly ioalign: number;
}

/** No queues are chosen. */
export interface UnconfiguredBlkDev {
  readonly state: 'unconfigured';
  /** What the backend offers now, read from the store: O(1) reads, nothing is kept. */
  getInfo(): BlkDevInfo;
  /** @throws {BlkfrontError} `bad-argument`: not 1 to `maxQueues`. */
  configure(conf: { readonly nbQueues: number }): ConfiguredBlkDev;
}

/** Queues are chosen, and configured one by one. */
export interface ConfiguredBlkDev {
  readonly state: 'configured';
  /** What the backend offers now, read from the store: O(1) reads, nothing is kept. */
  getInfo(): BlkDevInfo;
  /** @returns -EINVAL for a queue that is not there. */
  queueGetInfo(queue: number): BlkQueueInfo | -22;
  /** `nbDesc` is not used: the ring's pages decide. @returns 0, -EINVAL, -EBUSY (it is configured). */
  queueConfigure(queue: number, nbDesc: number, conf: BlkQueueConf): number;
  /** @returns 0, -EINVAL (no such queue, or not configured). */
  queueUnconfigure(queue: number): number;
  /** Connects; waits for the backend. @throws {BlkfrontError} `wrong-state`: a queue is not configured. `gone`: no connection came about. */
  start(): RunningBlkDev;
  /** @throws {BlkfrontError} `wrong-state`: a queue is configured. */
  unconfigure(): UnconfiguredBlkDev;
}

/** Connected: requests may be made. */
export interface RunningBlkDev {
  readonly state: 'running';
  readonly capabilities: BlkCapabilities;
  /** What the backend offers now, read from the store: O(1) reads, nothing is kept. */
  getInfo(): BlkDevInfo;
  /** @returns -EINVAL for a queue that is not there. */
  queueGetInfo(queue: number): BlkQueueInfo | -22;
  /** @returns `STATUS` bits; or not sent: -EBUSY (ring full), -EPERM, -EINVAL, -EOPNOTSUPP, -ENODEV. */
  submitOne(queue: number, req: BlkReq): number;
  /** Takes the answers there are; then arms the interrupt where the user enabled it. @returns 0. @throws {BlkfrontError} `wrong-state`: the interrupt is armed. `bad-argument`: no such queue. */
  finishReqs(queue: number): 0;
  /** @returns 0: armed; 1: answers wait, call `finishReqs`, which arms it; -EINVAL. */
  intrEnable(queue: number): number;
  /** Disarms the interrupt and masks the queue's port. @returns 0; -EINVAL for a queue that is not there. */
  intrDisable(queue: number): number;
  /** One request, waited for. @returns its result, or what `submitOne` refused it with. */
  syncIo(queue: number, req: BlkReq): number;
  /** Disconnects; waits for the backend. @throws {BlkfrontError} `wrong-state`: requests are under way. */
  stop(): ConfiguredBlkDev;
}

interface QueueState {
  conf: BlkQueueConf | null;
  armed: boolean;
  wanted: boolean;
}

type State = 'unconfigured' | 'configured' | 'running';

const isCallback = (callback: unknown): boolean => callback === undefined || typeof callback === 'function';

/**
 * The block device as a driver of Unikraft's library sees it: the same calls, states and return values over a `Device`. Each state
 * is an object with the calls it allows, so that another does not compile; a call on an object whose state is past is refused.
 * @see unikraft lib/ukblkdev
 */
export function blkDev(device: Device): UnconfiguredBlkDev {
  let state: State = 'unconfigured';
  const queues: QueueState[] = [];
  const requests: RequestTable = createRequests();
  const need = (call: string, wanted: State): void => {
    if (state !== wanted) throw new BlkfrontError({ code: 'wrong-state', call, state, allowed: wanted });
  };
  const refuseState = (call: string, now: string, allowed: string): never => {
    throw new BlkfrontError({ code: 'wrong-state', call, state: now, allowed });
  };

  const getInfo = (): BlkDevInfo => {
    const { store } = device.surroundings;
    const { backend } = readEnds(store, device.path, device.options.device);
    const offered = readNumber(store, `${backend}/multi-queue-max-queues`, 1, 0xffff_ffff);
    return { maxQueues: Math.max(1, Math.min(offered, device.options.queues)) };
  };
  const queueGetInfo = (queue: number): BlkQueueInfo | -22 =>
    queues[queue] === undefined ? ERRNO.EINVAL : { nbMax: 0, nbMin: 0, nbAlign: 0, nbIsPowerOfTwo: 1 };
  const arm = (queue: number): void => {
    queues[queue]!.armed = true;
    device.unmask(queue);
  };
  const upcall = (queue: number): void => {
    const q = queues[queue];
    if (q === undefined) return;
    q.armed = false;
    device.mask(queue);
    q.conf?.callback?.(queue);
  };

  let ports: { unsubscribe(): void } | undefined;
  const hook = (): void => {
    device.setUpcall(upcall);
    // Every connection has ports of its own, and a port starts unmasked.
    ports = device.onState((reached) => {
      for (let queue = 0; reached === 'connected' && queue < queues.length; queue++) if (!queues[queue]!.armed) device.mask(queue);
    });
  };
  const unhook = (): void => {
    device.setUpcall(null);
    ports?.unsubscribe();
    ports = undefined;
  };

  const unconfigured: UnconfiguredBlkDev = {
    state: 'unconfigured',
    getInfo,
    configure(conf) {
      need('configure', 'unconfigured');
      const { nbQueues } = object('conf', conf);
      const { maxQueues } = getInfo();
      if (!Number.isInteger(nbQueues) || nbQueues < 1 || nbQueues > maxQueues) {
        throw new BlkfrontError({ code: 'bad-argument', argument: 'nbQueues', value: nbQueues, allowed: `1 to ${maxQueues}` });
      }
      for (let i = 0; i < nbQueues; i++) queues.push({ conf: null, armed: false, wanted: false });
      state = 'configured';
      return configured;
    },
  };

  const configured: ConfiguredBlkDev = {
    state: 'configured',
    getInfo,
    queueGetInfo,
    queueConfigure(queue, _nbDesc, conf) {
      const q = queues[queue];
      if (state !== 'configured' || q === undefined) return ERRNO.EINVAL;
      if (typeof conf !== 'object' || conf === null || !isCallback(conf.callback)) return ERRNO.EINVAL;
      if (q.conf !== null) return ERRNO.EBUSY;
      queues[queue] = { conf, armed: false, wanted: false };
      return 0;
    },
    queueUnconfigure(queue) {
      need('queueUnconfigure', 'configured');
      if (queues[queue]?.conf == null) return ERRNO.EINVAL;
      queues[queue] = { conf: null, armed: false, wanted: false };
      return 0;
    },
    start() {
      need('start', 'configured');
      const missing = queues.findIndex(({ conf }) => conf === null);
      if (missing !== -1) refuseState('start', `queue ${missing} is not configured`, 'every queue configured');
      device.setQueues(queues.length);
      hook();
      try {
        device.start();
      } catch (error) {
        unhook();
        throw error;
      }
      device.waitFor(() => device.state === 'connected' || device.state === 'closed' || device.state === 'broken');
      if (device.state !== 'connected') {
        const { state: reached, reason } = device;
        // The connection only: buffers are their owners'.
        device.abandon();
        unhook();
        throw new BlkfrontError({ code: 'gone', state: reached, reason, errno: ERRNO.ENODEV });
      }
      state = 'running';
      return running;
    },
    unconfigure() {
      need('unconfigure', 'configured');
      const left = queues.findIndex(({ conf }) => conf !== null);
      if (left !== -1) refuseState('unconfigure', `queue ${left} is configured`, 'every queue unconfigured');
      queues.length = 0;
      state = 'unconfigured';
      return unconfigured;
    },
  };

  const finishReqs = (queue: number): 0 => {
    const q = queues[queue]!;
    device.poll(queue);
    if (q.wanted && !q.armed) arm(queue);
    return 0;
  };

  const running: RunningBlkDev = {
    state: 'running',
    getInfo,
    queueGetInfo,
    get capabilities() {
      need('capabilities', 'running');
      const info = device.info!;
      const unit = info.sectorBytes / 512;
      return {
        sectors: info.sectors / unit,
        ssize: info.sectorBytes,
        mode: info.readonly ? 'r' : 'rw',
        maxSectorsPerReq: Math.floor(info.maxSectors / unit),
        ioalign: info.sectorBytes,
      } as const;
    },
    submitOne(queue, req) {
      need('submitOne', 'running');
      if (queues[queue] === undefined || typeof req !== 'object' || req === null || !isCallback(req.cb)) return ERRNO.EINVAL;
      const info = device.info!;
      const unit = info.sectorBytes / 512;
      let op: number = OP.FLUSH;
      if (req.operation === BLKREQ.READ || req.operation === BLKREQ.WRITE) {
        op = req.operation === BLKREQ.READ ? OP.READ : OP.WRITE;
        if (op === OP.WRITE && info.readonly) return ERRNO.EPERM;
        if (req.gfns === null || req.nbSectors * unit > info.maxSectors) return ERRNO.EINVAL;
      } else if (req.operation !== BLKREQ.FFLUSH) return ERRNO.EINVAL;
      const cookie = requests.put(req);
      req.state = BLKREQ_STATE.UNFINISHED;
      const status = device.submitTo(
        queue,
        op,
        req.startSector * unit,
        req.gfns,
        null,
        req.offset,
        req.nbSectors * unit,
        cookie,
        requests.done,
      );
      if (status !== 0) {
        requests.take(cookie);
        return status;
      }
      return device.hasRoom(queue) ? STATUS.SUCCESS | STATUS.MORE : STATUS.SUCCESS;
    },
    finishReqs(queue) {
      need('finishReqs', 'running');
      if (queues[queue]?.armed === true)
        refuseState('finishReqs', 'the interrupt is armed', 'the interrupt disabled, or from its callback');
      if (queues[queue] === undefined) refuse('queue', queue, `0 to ${queues.length - 1}`);
      return finishReqs(queue);
    },
    intrEnable(queue) {
      need('intrEnable', 'running');
      const q = queues[queue];
      if (q === undefined) return ERRNO.EINVAL;
      if (q.armed) return 0;
      q.wanted = true;
      if (device.unconsumed(queue) > 0) return 1;
      arm(queue);
      return 0;
    },
    intrDisable(queue) {
      need('intrDisable', 'running');
      const q = queues[queue];
      if (q === undefined) return ERRNO.EINVAL;
      q.wanted = false;
      q.armed = false;
      device.mask(queue);
      return 0;
    },
    syncIo(queue, req) {
      const status = running.submitOne(queue, req);
      if (!isSuccessful(status)) return status;
      const over = (): boolean => {
        // Without an interrupt nobody else takes the answers.
        if (req.state === BLKREQ_STATE.UNFINISHED && queues[queue]?.armed !== true) device.poll(queue);
        return req.state !== BLKREQ_STATE.UNFINISHED;
      };
      return device.waitFor(over) ? req.result : ERRNO.EIO;
    },
    stop() {
      need('stop', 'running');
      if (device.busy > 0) refuseState('stop', `${device.busy} requests are under way`, 'no request under way');
      device.stop();
      device.waitFor(() => device.state === 'closed' || device.state === 'broken');
      if (device.state !== 'closed' && device.state !== 'broken') device.abandon();
      unhook();
      for (const q of queues) {
        q.armed = false;
        q.wanted = false;
      }
      state = 'configured';
      return configured;
    },
  };
  return unconfigured;
}
