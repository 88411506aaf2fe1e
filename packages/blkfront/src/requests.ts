import type { BlkBuffer } from './buffers.ts';
import type { Device } from './device.ts';
import { BlkfrontError, ERRNO } from './errors.ts';
import { type AbortSignalLike, type BlkInfo, OP, type Op } from './types.ts';

const NAMES: Record<Op, string> = {
  [OP.READ]: 'read',
  [OP.WRITE]: 'write',
  [OP.WRITE_FUA]: 'durable write',
  [OP.FLUSH]: 'flush',
  [OP.DISCARD]: 'discard',
  [OP.DISCARD_SECURE]: 'secure discard',
  [OP.WRITE_ZEROES]: 'write of zeroes',
};

function isBuffer(target: BlkBuffer | null | undefined): boolean {
  return typeof target === 'object' && target !== null && typeof target.bytes === 'number' && Array.isArray(target.gfns);
}

/** What is no place for bytes. */
export function notBytes(value: unknown): BlkfrontError {
  return new BlkfrontError({ code: 'bad-argument', argument: 'bytes', value, allowed: 'a Uint8Array or a buffer of a device' });
}

/** The `status` of a request whose caller gave up before all of it was on a ring. No errno: those are negative. */
const GIVEN_UP = 1;

function givenUp(op: Op, signal: AbortSignalLike): BlkfrontError {
  return new BlkfrontError({ code: 'aborted', waitingFor: NAMES[op] }, { cause: signal.reason });
}

/** One promise: a request of any length, put on rings in parts. Used again when it is settled. */
class Pending {
  op: Op = OP.READ;
  sector = 0;
  count = 0;
  gfns: ArrayLike<number> | null = null;
  bytes: Uint8Array | null = null;
  /** Sectors handed to the driver, and parts of them not completed. */
  issued = 0;
  parts = 0;
  status = 0;
  /** All of it was handed over. */
  whole = false;
  /** What the promise resolves with. */
  value: unknown = undefined;
  /** Settles the promise; with a rejected one, where it fails. */
  resolve: ((value: unknown) => void) | null = null;
  signal: AbortSignalLike | null = null;
  unlisten: (() => void) | null = null;
}

/**
 * Requests of promises, in the order of the calls: what does not fit on a ring waits here. A request longer than one on the wire
 * is put there in parts, several under way at once.
 */
export class RequestQueue {
  private readonly device: Device;
  private readonly pending: Pending[] = [];
  private readonly free: number[] = [];
  /** Cookies that wait, from `head` on. */
  private readonly waiting: number[] = [];
  private head = 0;
  private nextQueue = 0;
  private moving = false;
  /** The cookie whose part is being handed over, or -1. */
  private issuing = -1;
  /** Whose promise is being made: one executor for all, which is called at once. */
  private making: Pending = new Pending();
  private readonly executor = (resolve: (value: unknown) => void): void => {
    this.making.resolve = resolve;
  };
  private readonly done = (cookie: number, status: number): void => this.complete(cookie, status);

  constructor(device: Device) {
    this.device = device;
    device.onRoom(() => this.move());
    device.onState((state, reason) => {
      if (state === 'closed' || state === 'broken') this.failAll(state === 'broken' ? ERRNO.EIO : ERRNO.ENODEV, reason);
      else this.takeBackGivenUp();
    });
  }

  /** Moves bytes. The promise resolves with `value`. */
  transfer(
    op: Op,
    sector: number,
    target: Uint8Array | BlkBuffer,
    value: Uint8Array | BlkBuffer | undefined,
    signal: AbortSignalLike | undefined,
  ): Promise<unknown> {
    const array = target instanceof Uint8Array;
    if (!array && !isBuffer(target)) return Promise.reject(notBytes(target));
    const length = array ? target.length : target.bytes;
    const count = length >>> 9;
    const { device } = this;
    // Nobody waits, and one request on the wire is enough: the driver looks at everything itself, so that only what it does not
    // take is looked at here.
    if (signal === undefined && count > 0 && count * 512 === length && count <= device.maxPart && this.idle) {
      const cookie = this.take(op, sector, count, value);
      const entry = this.pending[cookie]!;
      entry.issued = count;
      entry.parts = 1;
      entry.whole = true;
      const promise = this.promiseOf(entry);
      const queue = this.nextQueue;
      if (device.submitTo(queue, op, sector, array ? null : target.gfns, array ? target : null, 0, count, cookie, this.done) === 0) {
        this.nextQueue = queue + 1 < device.queueCount ? queue + 1 : 0;
        return promise;
      }
      this.release(entry, cookie);
    }
    try {
      if ((length & 511) !== 0) this.refuse('bytes', length, 'a multiple of the sector size');
      this.checkRange(op, sector, length / 512);
      if (length === 0) return Promise.resolve(value);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.enqueue(op, sector, length / 512, array ? null : target.gfns, array ? target : null, value, signal);
  }

  /** A request without data. */
  plain(op: Op, sector: number, count: number, signal: AbortSignalLike | undefined): Promise<unknown> {
    if (op !== OP.FLUSH && count === 0) return Promise.resolve();
    return this.enqueue(op, sector, count, null, null, undefined, signal);
  }

  /** Whether requests are taken, now or later. @throws {BlkfrontError} `gone`. */
  checkState(): void {
    const { state, reason } = this.device;
    if (state === 'closed' || state === 'broken' || state === 'closing') {
      throw new BlkfrontError({ code: 'gone', state, reason, errno: ERRNO.ENODEV });
    }
  }

  /** Everything that can be told before a request is made. @throws {BlkfrontError} */
  checkRange(op: Op, sector: number, count: number): BlkInfo {
    this.checkState();
    const { info, state, reason } = this.device;
    if (info === undefined) throw new BlkfrontError({ code: 'gone', state, reason, errno: ERRNO.ENODEV });
    // A power of two: the low bits say what a remainder would.
    const off = info.sectorBytes / 512 - 1;
    if (!Number.isSafeInteger(sector) || sector < 0 || (sector & off) !== 0) this.refuse('sector', sector, `a multiple of ${off + 1}`);
    if (!Number.isSafeInteger(count) || count < 0 || (count & off) !== 0) this.refuse('sectors', count, `a multiple of ${off + 1}`);
    if (sector + count > info.sectors) {
      throw new BlkfrontError({ code: 'out-of-range', sector, sectors: count, capacity: info.sectors, errno: ERRNO.EINVAL });
    }
    if (op !== OP.READ && info.readonly) throw new BlkfrontError({ code: 'read-only', errno: ERRNO.EROFS });
    if ((op === OP.DISCARD && !info.discard) || (op === OP.DISCARD_SECURE && !info.discardSecure)) {
      throw new BlkfrontError({ code: 'unsupported', what: NAMES[op], errno: ERRNO.EOPNOTSUPP });
    }
    return info;
  }

  private refuse(argument: string, value: unknown, allowed: string): never {
    throw new BlkfrontError({ code: 'bad-argument', argument, value, allowed });
  }

  private enqueue(
    op: Op,
    sector: number,
    count: number,
    gfns: ArrayLike<number> | null,
    bytes: Uint8Array | null,
    value: unknown,
    signal: AbortSignalLike | undefined,
  ): Promise<unknown> {
    if (signal?.aborted === true) {
      return Promise.reject(givenUp(op, signal));
    }
    const cookie = this.take(op, sector, count, value);
    const entry = this.pending[cookie]!;
    entry.gfns = gfns;
    entry.bytes = bytes;
    const promise = this.promiseOf(entry);
    if (signal !== undefined) this.listen(entry, cookie, signal);
    // Nobody waits: straight to a ring, as far as it goes.
    if (this.idle) {
      this.moving = true;
      try {
        while (!entry.whole && this.issue(entry, cookie));
      } finally {
        this.moving = false;
        this.issuing = -1;
      }
      if (entry.whole) {
        if (entry.parts === 0) this.settle(entry, cookie);
        return promise;
      }
    }
    this.waiting.push(cookie);
    return promise;
  }

  /** Whether nobody waits, so that a new request need not either. */
  private get idle(): boolean {
    return this.head === this.waiting.length && !this.moving;
  }

  /** A cookie with a fresh entry. */
  private take(op: Op, sector: number, count: number, value: unknown): number {
    const cookie = this.free.length > 0 ? this.free.pop()! : this.pending.push(new Pending()) - 1;
    const entry = this.pending[cookie]!;
    entry.op = op;
    entry.sector = sector;
    entry.count = count;
    entry.issued = 0;
    entry.parts = 0;
    entry.status = 0;
    entry.whole = false;
    entry.value = value;
    return cookie;
  }

  private promiseOf(entry: Pending): Promise<unknown> {
    this.making = entry;
    return new Promise<unknown>(this.executor);
  }

  private listen(entry: Pending, cookie: number, signal: AbortSignalLike): void {
    const abort = (): void => this.giveUp(entry, cookie);
    entry.signal = signal;
    signal.addEventListener('abort', abort, { once: true });
    entry.unlisten = () => signal.removeEventListener('abort', abort);
  }

  /**
   * Issues nothing more of a request whose caller gave up. What stands on a ring uses the caller's buffer until it is over, and a
   * request that stands there whole ends as it ends.
   */
  private giveUp(entry: Pending, cookie: number): void {
    // Whoever hands its part over sees to it.
    if (this.issuing === cookie) return;
    const taken = this.device.takeBack(cookie, this.done);
    entry.parts -= taken;
    if (taken > 0) entry.status = GIVEN_UP;
    if (!entry.whole) {
      const at = this.waiting.indexOf(cookie, this.head);
      if (at !== -1) this.waiting.splice(at, 1);
      entry.whole = true;
      entry.status = GIVEN_UP;
    }
    if (entry.parts === 0) this.settle(entry, cookie);
  }

  /** Requests that came off a ring whose connection is gone are not issued again for a caller who gave up. */
  private takeBackGivenUp(): void {
    this.pending.forEach((entry, cookie) => {
      if (entry.parts > 0 && entry.signal?.aborted === true) this.giveUp(entry, cookie);
    });
  }

  /** Puts as much on the rings as they take. */
  private move(): void {
    if (this.moving) return;
    this.moving = true;
    try {
      while (this.head < this.waiting.length) {
        const cookie = this.waiting[this.head]!;
        const entry = this.pending[cookie]!;
        if (!this.issue(entry, cookie)) break;
        if (!entry.whole) continue;
        this.head++;
        if (this.head === this.waiting.length) {
          this.waiting.length = 0;
          this.head = 0;
        } else if (this.head >= 1024) {
          this.waiting.splice(0, this.head);
          this.head = 0;
        }
        if (entry.parts === 0) this.settle(entry, cookie);
      }
    } finally {
      this.moving = false;
    }
  }

  /** Issues the next part. False when no queue takes it now. */
  private issue(entry: Pending, cookie: number): boolean {
    const { device } = this;
    const queues = Math.max(1, device.queueCount);
    const start = entry.issued * 512;
    const data = entry.gfns !== null || entry.bytes !== null;
    const count = data ? Math.min(entry.count - entry.issued, device.maxPart) : entry.count;
    for (let tries = 0; tries < queues; tries++) {
      const queue = this.nextQueue < queues ? this.nextQueue : 0;
      this.issuing = cookie;
      const status = device.submitTo(
        queue,
        entry.op,
        entry.sector + entry.issued,
        entry.gfns,
        entry.bytes,
        start,
        count,
        cookie,
        this.done,
      );
      this.issuing = -1;
      this.nextQueue = queue + 1 < queues ? queue + 1 : 0;
      if (status === 0) {
        entry.parts++;
        entry.issued += count;
        entry.whole = entry.issued >= entry.count;
      } else if (status !== ERRNO.EBUSY) {
        entry.status = entry.op === OP.FLUSH && status === ERRNO.EOPNOTSUPP ? 0 : status;
        entry.whole = true;
      }
      // Who was told of this part may have given the rest up.
      if (!entry.whole && entry.signal?.aborted === true) {
        entry.status = GIVEN_UP;
        entry.whole = true;
      } else if (status === ERRNO.EBUSY) continue;
      return true;
    }
    return false;
  }

  private complete(cookie: number, status: number): void {
    const entry = this.pending[cookie]!;
    entry.parts--;
    if (status !== 0 && entry.status === 0) entry.status = status;
    if (entry.parts === 0 && entry.whole) this.settle(entry, cookie);
  }

  private settle(entry: Pending, cookie: number): void {
    if (entry.status !== 0) {
      this.fail(entry, cookie, this.errorOf(entry, entry.status, this.device.reason));
      return;
    }
    const { value, resolve } = entry;
    this.release(entry, cookie);
    resolve!(value);
  }

  private fail(entry: Pending, cookie: number, error: BlkfrontError): void {
    const { resolve } = entry;
    this.release(entry, cookie);
    resolve!(Promise.reject(error));
  }

  private release(entry: Pending, cookie: number): void {
    if (entry.unlisten !== null) {
      entry.unlisten();
      entry.unlisten = null;
      entry.signal = null;
    }
    entry.gfns = null;
    entry.bytes = null;
    entry.value = undefined;
    entry.resolve = null;
    this.free.push(cookie);
  }

  private failAll(status: number, reason: string): void {
    const waiting = this.waiting.splice(this.head);
    this.waiting.length = 0;
    this.head = 0;
    for (const cookie of waiting) {
      const entry = this.pending[cookie]!;
      entry.whole = true;
      entry.status = status;
      // Parts still under way are failed by the driver, and settle it.
      if (entry.parts > 0) continue;
      this.fail(entry, cookie, this.errorOf(entry, status, reason));
    }
  }

  private errorOf(entry: Pending, status: number, reason: string): BlkfrontError {
    const { state } = this.device;
    if (status === GIVEN_UP) return givenUp(entry.op, entry.signal!);
    if (status === ERRNO.ENODEV || state === 'broken') return new BlkfrontError({ code: 'gone', state, reason, errno: ERRNO.ENODEV });
    if (status === ERRNO.EROFS) return new BlkfrontError({ code: 'read-only', errno: ERRNO.EROFS });
    if (status === ERRNO.EOPNOTSUPP) return new BlkfrontError({ code: 'unsupported', what: NAMES[entry.op], errno: ERRNO.EOPNOTSUPP });
    if (status === ERRNO.ENOMEM) return new BlkfrontError({ code: 'exhausted', what: 'pages', needed: 1 });
    const { sector, count, gfns } = entry;
    // Its pages went back once no request used them, and one that waits uses none.
    const freed = status === ERRNO.EINVAL && gfns !== null && gfns.length === 0;
    if (freed) return new BlkfrontError({ code: 'freed', what: NAMES[entry.op], sector, sectors: count, errno: ERRNO.EINVAL });
    return new BlkfrontError({ code: 'io', what: NAMES[entry.op], sector, sectors: count, errno: status });
  }
}
