import { Observable } from 'rxjs';
import { flag, signalOf } from './arguments.ts';
import type { BlkBuffer } from './buffers.ts';
import { Device } from './device.ts';
import { BlkfrontError, ERRNO } from './errors.ts';
import type { Completion } from './queue-parts.ts';
import { type RangeChunk, type RangeOptions, readRange, writeRange } from './ranges.ts';
import { RequestQueue } from './requests.ts';
import {
  type AbortSignalLike,
  type BlkfrontOptions,
  type BlkfrontSurroundings,
  type BlkInfo,
  type DeviceState,
  OP,
  type Op,
} from './types.ts';

/**
 * Ends a wait early: the promise is rejected with `aborted`, the signal's reason as its cause. Nothing is asked of the backend any
 * more, but what stands on a ring is not taken back, because its buffer is in use until it is over: a request that stands there
 * whole ends as if there were no signal, and one that stands there in part is rejected when that part is over. Once the connection
 * is gone nothing is in use, and the request is rejected at once.
 */
export interface WaitOptions {
  readonly signal?: AbortSignalLike;
}

export interface WriteOptions extends WaitOptions {
  /** Durable when the promise resolves. */
  readonly fua?: boolean;
}

export interface DiscardOptions extends WaitOptions {
  /** Leave nothing of the old bytes; then the range must be whole granules. */
  readonly secure?: boolean;
}

/**
 * A block device for TypeScript: promises, ranges and streams over the plain calls of `device`. Sectors are of 512 bytes
 * throughout; where the disk's own are larger, every sector number and length is a multiple of `info.sectorBytes`.
 */
export class BlockDevice {
  /** The driver below: `submit` and `onDone`, states, suspend and resume. */
  readonly device: Device;
  private readonly requests: RequestQueue;

  /** @throws {BlkfrontError} `bad-argument`. */
  constructor(options: BlkfrontOptions, surroundings: BlkfrontSurroundings) {
    this.device = new Device(options, surroundings);
    this.requests = new RequestQueue(this.device);
  }

  /** Where the device stands now; `states` and the fact `blkfront:state` tell of changes. */
  get state(): DeviceState {
    return this.device.state;
  }

  /** What the disk is; undefined before the first connection. */
  get info(): BlkInfo | undefined {
    return this.device.info;
  }

  /**
   * Connects, or waits for a connection that is under way. The handshake begins before this returns. A host that steps its machine
   * by hand and wants no promise calls `device.start()` and looks at `state`.
   * @throws {BlkfrontError} `bad-argument`, `wrong-state`, `bad-store`, `gone`, `aborted`.
   */
  async connect(options: WaitOptions = {}): Promise<BlkInfo> {
    const signal = signalOf(options);
    if (this.state === 'closed' || this.state === 'broken') this.device.start();
    await this.reach('connected', signal);
    return this.info!;
  }

  /** Waits for requests under way, then closes in order. Idempotent. @throws {BlkfrontError} `aborted`: the close itself goes on. */
  async close(options: WaitOptions = {}): Promise<void> {
    const signal = signalOf(options);
    this.device.stop();
    await this.reach('closed', signal);
  }

  /** `connect` for hosts that can block. @throws {BlkfrontError} as `connect`; `wrong-state` where the host gave no `waitFor`. */
  connectSync(): BlkInfo {
    this.mustBlock('connectSync');
    if (this.state === 'closed' || this.state === 'broken') this.device.start();
    this.device.waitFor(() => this.state === 'connected' || this.state === 'closed' || this.state === 'broken');
    if (this.state !== 'connected') throw this.gone();
    return this.info!;
  }

  /** `close` for hosts that can block. */
  closeSync(): void {
    this.mustBlock('closeSync');
    this.device.stop();
    this.device.waitFor(() => this.state === 'closed' || this.state === 'broken');
    if (this.state !== 'closed' && this.state !== 'broken') throw this.gone();
  }

  /**
   * Reads `what` bytes into a fresh array, or fills the array or buffer `what`. A buffer of the device is filled without a copy.
   * @param sector of 512 bytes.
   * @throws {BlkfrontError} `bad-argument`, `out-of-range`, `io`, `gone`, `aborted`; `freed`: the buffer was, while the request waited.
   */
  read(sector: number, what: number, options?: WaitOptions): Promise<Uint8Array>;
  read<T extends Uint8Array | BlkBuffer>(sector: number, what: T, options?: WaitOptions): Promise<T>;
  read(sector: number, what: number | Uint8Array | BlkBuffer, options?: WaitOptions): Promise<unknown> {
    let target: Uint8Array | BlkBuffer;
    let signal: AbortSignalLike | undefined;
    try {
      target = typeof what === 'number' ? this.fresh(what) : what;
      signal = signalOf(options);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.requests.transfer(OP.READ, sector, target, target, signal);
  }

  /** Writes an array, which must not change before the promise settles, or a buffer of the device. @throws {BlkfrontError} as `read`; `read-only`. */
  write(sector: number, data: Uint8Array | BlkBuffer, options?: WriteOptions): Promise<void> {
    let op: Op;
    let signal: AbortSignalLike | undefined;
    try {
      signal = signalOf(options);
      op = flag('fua', options?.fua) ? OP.WRITE_FUA : OP.WRITE;
    } catch (error) {
      return Promise.reject(error);
    }
    return this.requests.transfer(op, sector, data, undefined, signal) as Promise<void>;
  }

  /** Makes every write that was over before this call durable. At once where the disk has no cache, or is read-only. @throws {BlkfrontError} `io`, `gone`, `aborted`. */
  async flush(options: WaitOptions = {}): Promise<void> {
    const signal = signalOf(options);
    this.requests.checkState();
    if (this.info?.flush === 'none' || this.info?.readonly === true) return;
    await this.requests.plain(OP.FLUSH, 0, 0, signal);
  }

  /**
   * Says that nobody needs `sectors` sectors. Only whole granules within the range are discarded; what sticks out is left alone.
   * @throws {BlkfrontError} `unsupported`, `bad-argument` (secure, and not whole granules), `out-of-range`, `read-only`, `io`, `gone`.
   */
  async discard(sector: number, sectors: number, options: DiscardOptions = {}): Promise<void> {
    const signal = signalOf(options);
    const secure = flag('secure', options.secure);
    const op: Op = secure ? OP.DISCARD_SECURE : OP.DISCARD;
    const info = this.requests.checkRange(op, sector, sectors);
    const granule = info.discardGranularity / 512;
    const offset = info.discardAlignment / 512;
    let from = Math.ceil((sector - offset) / granule) * granule + offset;
    // The end of the disk closes its last granule, whole or not.
    let to = sector + sectors === info.sectors ? info.sectors : Math.floor((sector + sectors - offset) / granule) * granule + offset;
    if (secure && (from !== sector || to !== sector + sectors)) {
      throw new BlkfrontError({
        code: 'bad-argument',
        argument: 'sector, sectors',
        value: `${sector}+${sectors}`,
        allowed: `whole granules of ${info.discardGranularity} bytes for a secure discard`,
      });
    }
    if (offset > 0 && sector < offset) from = Math.max(offset, 0);
    to = Math.min(to, sector + sectors);
    if (to > from) await this.requests.plain(op, from, to - from, signal);
  }

  /** Makes the range read as zeroes; the protocol has no such request, so zeroed pages are written (see `discardZeroes`). @throws {BlkfrontError} as `write`. */
  async writeZeroes(sector: number, sectors: number, options: WaitOptions = {}): Promise<void> {
    const signal = signalOf(options);
    this.requests.checkRange(OP.WRITE_ZEROES, sector, sectors);
    await this.requests.plain(OP.WRITE_ZEROES, sector, sectors, signal);
  }

  /** Reads a long range piece by piece, a bounded number of requests ahead of whoever iterates. */
  readRange(sector: number, sectors: number, options: RangeOptions = {}): AsyncIterableIterator<RangeChunk> {
    return readRange(this, sector, sectors, options);
  }

  /** Writes pieces one after the other from `sector` on, a bounded number under way; takes the next piece only when there is room. @returns bytes written. */
  writeRange(sector: number, pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, options: RangeOptions = {}): Promise<number> {
    return writeRange(this, sector, pieces, options);
  }

  /** Pages for I/O without a copy. @throws {BlkfrontError} `bad-argument`, `exhausted`. */
  allocBuffer(pages: number): BlkBuffer {
    return this.device.allocBuffer(pages);
  }

  /** The device's state, the present one first. */
  get states(): Observable<DeviceState> {
    return new Observable((subscriber) => {
      subscriber.next(this.state);
      return this.device.onState((state) => subscriber.next(state));
    });
  }

  /** Every request that is over, of all callers. Costs an object a request while someone listens, a branch otherwise. */
  get completions(): Observable<Completion> {
    return new Observable((subscriber) => this.device.onCompletion((completion) => subscriber.next(completion)));
  }

  /** Ends everything at once. For `detach`; a user closes. */
  destroy(): void {
    if (this.device.blocks && this.state !== 'closed' && this.state !== 'broken') {
      this.device.stop();
      this.device.waitFor(() => this.state === 'closed' || this.state === 'broken');
    }
    this.device.destroy();
  }

  private fresh(bytes: number): Uint8Array {
    if (!Number.isInteger(bytes) || bytes < 0 || bytes > 2 ** 31 - 4096) {
      throw new BlkfrontError({ code: 'bad-argument', argument: 'bytes', value: bytes, allowed: 'whole sectors below 2 GiB' });
    }
    return new Uint8Array(bytes);
  }

  private gone(): BlkfrontError {
    return new BlkfrontError({ code: 'gone', state: this.state, reason: this.device.reason, errno: ERRNO.ENODEV });
  }

  private mustBlock(call: string): void {
    if (!this.device.blocks) {
      throw new BlkfrontError({ code: 'wrong-state', call, state: 'without `waitFor`', allowed: 'a host that can block' });
    }
  }

  private reach(goal: DeviceState, signal: AbortSignalLike | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): boolean => {
        if (this.state === goal || (goal === 'closed' && this.state === 'broken')) resolve();
        else if (this.state === 'closed' || this.state === 'broken') reject(this.gone());
        else return false;
        return true;
      };
      if (look()) return;
      const abort = (): void => {
        watch.unsubscribe();
        reject(new BlkfrontError({ code: 'aborted', waitingFor: `state ${goal}` }, { cause: signal?.reason }));
      };
      const watch = this.device.onState(() => {
        if (!look()) return;
        watch.unsubscribe();
        signal?.removeEventListener('abort', abort);
      });
      if (signal?.aborted === true) abort();
      else signal?.addEventListener('abort', abort, { once: true });
    });
  }
}
