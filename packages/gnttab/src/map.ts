import { GNTMAP, GNTST } from '@paravirt/xen-abi';
import type { SchedulerLike, Subscription } from 'rxjs';
import type { ForeignPages } from './foreign-pages.ts';
import type { CopyOp, GrantHypercalls, MapOp, UnmapOp } from './types.ts';

/** The last wait before an element that keeps meeting eagain is given up: 1 + 2 + ... + 255 ms in all. */
const LAST_DELAY_MS = 255;

/** What the mapping side tells the table. */
export interface MapHost {
  /** Whether `mapped` and `unmapped` are to be called. */
  watchesMaps(): boolean;
  watchesUnmaps(): boolean;
  mapped(op: MapOp): void;
  unmapped(op: UnmapOp): void;
  retrying(count: number, delayMs: number): void;
}

interface Retry {
  cancel(): void;
}

// Plain constants of this module: a property is loaded at each use.
const { okay: OKAY, general_error: GENERAL_ERROR, eagain: EAGAIN, bad_page: BAD_PAGE } = GNTST;
const { host_map: HOST_MAP } = GNTMAP;

/**
 * Maps, unmaps and copies in batches. No status is trusted to have been written: each starts as an error, and one above 0,
 * which the interface does not know, is an error too (a hypervisor that answered 1 for a failed map once passed for a success).
 */
export class Mapper {
  private readonly hypercalls: GrantHypercalls;
  private readonly scheduler: SchedulerLike;
  private readonly foreign: ForeignPages;
  private readonly host: MapHost;
  private readonly retries: Set<Retry> = new Set();

  constructor(hypercalls: GrantHypercalls, scheduler: SchedulerLike, foreign: ForeignPages, host: MapHost) {
    this.hypercalls = hypercalls;
    this.scheduler = scheduler;
    this.foreign = foreign;
    this.host = host;
  }

  /** @returns how many elements are tried again later, or the errno. */
  map(ops: readonly MapOp[], count: number, done: (() => void) | undefined): number {
    if (count === 0) return 0;
    const again = this.tryMap(ops, count);
    if (again === 0) return 0;
    return this.later(ops, count, again, done, (late, left) => this.tryMap(late, left));
  }

  /** As `map`. */
  copy(ops: readonly CopyOp[], count: number, done: (() => void) | undefined): number {
    if (count === 0) return 0;
    const again = this.tryCopy(ops, count);
    if (again === 0) return 0;
    return this.later(ops, count, again, done, (late, left) => this.tryCopy(late, left));
  }

  unmap(ops: readonly UnmapOp[], count: number): number {
    const { foreign, host } = this;
    for (let i = 0; i < count; i++) ops[i]!.status = GENERAL_ERROR;
    let result = this.hypercalls.unmap(ops, count);
    if (result !== 0) result = errno(result);
    const tell = host.watchesUnmaps();
    for (let i = result < 0 || tell ? 0 : foreign.deleteAll(ops, count); i < count; i++) {
      const op = ops[i]!;
      const { status } = op;
      if (result < 0 || status > 0) op.status = GENERAL_ERROR;
      else if (status === OKAY) {
        foreign.delete(op.vfn, op.handle);
        if (tell) host.unmapped(op);
      }
    }
    return result;
  }

  /** Gives up what waits for another try. */
  close(): void {
    const all = [...this.retries];
    this.retries.clear();
    for (const retry of all) retry.cancel();
  }

  /** One hypercall; gives the number of elements that met eagain, or the errno. */
  private tryMap(ops: readonly MapOp[], count: number): number {
    const { foreign, host } = this;
    for (let i = 0; i < count; i++) ops[i]!.status = GENERAL_ERROR;
    let result = this.hypercalls.map(ops, count);
    if (result !== 0) result = errno(result);
    const tell = host.watchesMaps();
    let again = 0;
    for (let i = result < 0 || tell ? 0 : foreign.setAll(ops, count); i < count; i++) {
      const op = ops[i]!;
      const { status } = op;
      if (result < 0 || status > 0) op.status = GENERAL_ERROR;
      else if (status === EAGAIN) again++;
      else if (status === OKAY) {
        if ((op.flags & HOST_MAP) !== 0) foreign.set(op.vfn, op.domid, op.ref, op.handle);
        if (tell) host.mapped(op);
      }
    }
    return result < 0 ? result : again;
  }

  /** As `tryMap`. */
  private tryCopy(ops: readonly CopyOp[], count: number): number {
    for (let i = 0; i < count; i++) ops[i]!.status = GENERAL_ERROR;
    let result = this.hypercalls.copy(ops, count);
    if (result !== 0) result = errno(result);
    let again = 0;
    for (let i = 0; i < count; i++) {
      const op = ops[i]!;
      if (result < 0 || op.status > 0) op.status = GENERAL_ERROR;
      else if (op.status === EAGAIN) again++;
    }
    return result < 0 ? result : again;
  }

  /** An errno is handed on; elements that met eagain wait, if their owner wants to be told. */
  private later<Op extends { status: number }>(
    ops: readonly Op[],
    count: number,
    again: number,
    done: (() => void) | undefined,
    attempt: (ops: readonly Op[], count: number) => number,
  ): number {
    if (again < 0 || done === undefined) return Math.min(again, 0);
    const waiting: Op[] = [];
    for (let i = 0; i < count; i++) if (ops[i]!.status === EAGAIN) waiting.push(ops[i]!);
    this.retry(attempt, waiting, done);
    return again;
  }

  private retry<Op extends { status: number }>(attempt: (ops: readonly Op[], count: number) => number, ops: Op[], done: () => void): void {
    let delayMs = 1;
    let timer: Subscription | undefined;
    const giveUp = (status: number): void => {
      for (const op of ops) op.status = status;
      done();
    };
    const record: Retry = {
      cancel: () => {
        timer?.unsubscribe();
        giveUp(GENERAL_ERROR);
      },
    };
    const wait = (): void => {
      this.host.retrying(ops.length, delayMs);
      timer = this.scheduler.schedule(turn, delayMs);
    };
    const turn = (): void => {
      attempt(ops, ops.length);
      let left = 0;
      for (const op of ops) if (op.status === EAGAIN) ops[left++] = op;
      ops.length = left;
      if (left > 0 && delayMs < LAST_DELAY_MS) {
        delayMs++;
        wait();
        return;
      }
      this.retries.delete(record);
      giveUp(BAD_PAGE);
    };
    this.retries.add(record);
    wait();
  }
}

/** A hypercall's answer as 0 or a negative errno: anything else is no answer of the interface and counts as EINVAL. */
function errno(result: number): number {
  return result <= 0 && Number.isInteger(result) ? result : -22;
}
