import { DISK_ERRNO, type DiskWaiter, LATER } from './disk.ts';

/** What is told to a waiter whom nobody asks whether the answer is one: what is none is an I/O error. */
export function errnoOf(answer: number): number {
  return answer <= 0 ? answer : -DISK_ERRNO.EIO;
}

/** Several calls to a disk that are one call to whoever waits: told once, with the first error. Used again when it is over. */
export class Gather implements DiskWaiter {
  private waiter: DiskWaiter | undefined = undefined;
  private pending = 0;
  private status = 0;
  private ended = false;

  private readonly pool: GatherPool;

  constructor(pool: GatherPool) {
    this.pool = pool;
  }

  /** Begins for `waiter`. */
  begin(waiter: DiskWaiter): this {
    this.waiter = waiter;
    this.pending = 0;
    this.status = 0;
    this.ended = false;
    return this;
  }

  /** Notes what a call answered that was given this as its waiter. @returns the first error so far, or 0. */
  call(answer: number): number {
    if (answer === LATER) this.pending++;
    else if (answer !== 0 && this.status === 0) this.status = answer;
    return this.status;
  }

  /** No more calls follow. @returns the answer for the whole. */
  end(): number {
    if (this.pending > 0) {
      this.ended = true;
      return LATER;
    }
    const status = this.status;
    this.release();
    return status;
  }

  done(status: number): void {
    if (status !== 0 && this.status === 0) this.status = status;
    this.pending--;
    if (this.pending > 0 || !this.ended) return;
    const waiter = this.waiter!;
    const result = this.status;
    this.release();
    waiter.done(errnoOf(result));
  }

  private release(): void {
    this.waiter = undefined;
    this.pool.give(this);
  }
}

/** The gathers of one disk. */
export class GatherPool {
  private readonly free: Gather[] = [];

  /** One for `waiter`. */
  take(waiter: DiskWaiter): Gather {
    return (this.free.pop() ?? new Gather(this)).begin(waiter);
  }

  give(gather: Gather): void {
    if (this.free.length < 64) this.free.push(gather);
  }
}
