import { type Device, OP, type Op } from '@paravirt/blkfront';
import type { GuestArena } from './guest-arena.ts';

/** -EBUSY: the ring is full, or short of references. */
const EBUSY = -16;

/** One transfer of any length, in parts of what the driver carries in one request. Reused. */
interface Transfer {
  op: Op;
  sector: number;
  sectors: number;
  bytes: Uint8Array | null;
  /** The frames of the guest's own memory that `bytes` lies in, and where in them; null where it is the host's. */
  gfns: readonly number[] | null;
  start: number;
  issued: number;
  parts: number;
  status: number;
  done: (errno: number) => void;
}

/**
 * Bytes of the host through the guest's block device, with callbacks: what a socket or a workload needs, without a promise for each
 * request. What does not fit on the rings waits in order; transfers go to the queues in turn.
 */
export class ByteQueue {
  readonly #device: Device;
  #arena: GuestArena | undefined;
  readonly #transfers: Transfer[] = [];
  readonly #free: number[] = [];
  /** Transfers that are not on the rings yet, from `#head` to `#tail`. It keeps its length, for a cut one is made anew each time. */
  #waiting: number[] = [];
  #head = 0;
  #tail = 0;
  #nextQueue = 0;
  #moving = false;
  #issued = false;
  readonly #sink = (cookie: number, status: number): void => this.#completed(cookie, status);

  constructor(device: Device) {
    this.#device = device;
    device.onRoom(() => this.move());
    device.onState((state) => {
      if (state === 'closed' || state === 'broken') this.move();
    });
  }

  read(offset: number, target: Uint8Array, done: (errno: number) => void): void {
    this.#add(OP.READ, offset, target.length, target, done);
  }

  write(offset: number, source: Uint8Array, fua: boolean, done: (errno: number) => void): void {
    this.#add(fua ? OP.WRITE_FUA : OP.WRITE, offset, source.length, source, done);
  }

  flush(done: (errno: number) => void): void {
    if (this.#device.info?.flush === 'none') done(0);
    else this.#add(OP.FLUSH, 0, 0, null, done);
  }

  discard(offset: number, bytes: number, done: (errno: number) => void): void {
    this.#add(OP.DISCARD, offset, bytes, null, done);
  }

  writeZeroes(offset: number, bytes: number, done: (errno: number) => void): void {
    this.#add(OP.WRITE_ZEROES, offset, bytes, null, done);
  }

  /** Lets transfers of bytes that lie in `arena` go without a copy. */
  set arena(arena: GuestArena | undefined) {
    this.#arena = arena;
  }

  /** Transfers that are not over. */
  get busy(): number {
    return this.#transfers.length - this.#free.length;
  }

  #add(op: Op, offset: number, length: number, bytes: Uint8Array | null, done: (errno: number) => void): void {
    const cookie =
      this.#free.pop() ??
      this.#transfers.push({ op, sector: 0, sectors: 0, bytes: null, gfns: null, start: 0, issued: 0, parts: 0, status: 0, done }) - 1;
    const transfer = this.#transfers[cookie] as Transfer;
    transfer.op = op;
    transfer.sector = offset / 512;
    transfer.sectors = length / 512;
    transfer.bytes = bytes;
    const arena = this.#arena;
    const own = bytes !== null && arena?.holds(bytes) === true ? arena : undefined;
    transfer.gfns = own?.gfns ?? null;
    transfer.start = own && bytes ? own.offsetOf(bytes) : 0;
    transfer.issued = 0;
    transfer.parts = 0;
    transfer.status = 0;
    transfer.done = done;
    this.#waiting[this.#tail] = cookie;
    this.#tail += 1;
  }

  /** Puts on the rings what fits; one doorbell a queue for all of it. Returns whether anything was put there. */
  move(): boolean {
    if (this.#moving || this.#head === this.#tail) return false;
    this.#moving = true;
    this.#issued = false;
    const device = this.#device;
    const queues = device.queueCount;
    for (let queue = 0; queue < queues; queue += 1) device.plug(queue);
    while (this.#head < this.#tail) {
      const cookie = this.#waiting[this.#head] as number;
      if (!this.#issue(this.#transfers[cookie] as Transfer, cookie)) break;
      this.#head += 1;
    }
    if (this.#head === this.#tail) {
      this.#head = 0;
      this.#tail = 0;
    } else if (this.#head > 1024) {
      this.#waiting = this.#waiting.slice(this.#head, this.#tail);
      this.#tail -= this.#head;
      this.#head = 0;
    }
    for (let queue = 0; queue < queues; queue += 1) device.unplug(queue);
    this.#moving = false;
    return this.#issued;
  }

  /** False: no room now; the rest of the transfer goes later. */
  #issue(transfer: Transfer, cookie: number): boolean {
    const { op, bytes, sectors } = transfer;
    const device = this.#device;
    const queues = Math.max(1, device.queueCount);
    do {
      const left = sectors - transfer.issued;
      const count = bytes === null && op !== OP.WRITE_ZEROES ? left : Math.min(left, device.maxPart);
      const queue = this.#nextQueue % queues;
      // Counted before, because a part may be over before `submitTo` returns.
      transfer.parts += 1;
      const from = transfer.issued;
      transfer.issued += count;
      const status = device.submitTo(
        queue,
        op,
        transfer.sector + from,
        transfer.gfns,
        transfer.gfns === null ? bytes : null,
        transfer.start + from * 512,
        count,
        cookie,
        this.#sink,
      );
      if (status === EBUSY) {
        transfer.parts -= 1;
        transfer.issued = from;
        return false;
      }
      this.#issued = true;
      if (status !== 0) {
        transfer.issued = sectors;
        this.#completed(cookie, status);
        return true;
      }
      this.#nextQueue = (this.#nextQueue + 1) % queues;
    } while (transfer.issued < sectors);
    return true;
  }

  #completed(cookie: number, status: number): void {
    const transfer = this.#transfers[cookie] as Transfer;
    transfer.parts -= 1;
    if (status !== 0 && transfer.status === 0) transfer.status = status;
    if (transfer.parts > 0 || transfer.issued < transfer.sectors) return;
    const { done, status: last } = transfer;
    transfer.bytes = null;
    transfer.gfns = null;
    this.#free.push(cookie);
    done(last);
  }
}
