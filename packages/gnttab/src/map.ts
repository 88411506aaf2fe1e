import { GNTMAP, GNTST } from '@paravirt/xen-abi';
import type { SchedulerLike, Subscription } from 'rxjs';
import type { ForeignPages } from './foreign-pages.ts';
import type { CopyOp, GrantHypercalls, MapOp, UnmapOp } from './types.ts';

/** The last wait before an element that keeps meeting eagain is given up: 1 + 2 + ... + 255 ms in all. */
const LAST_DELAY_MS = 255;

/** What the mapping side tells the table. */
export interface MapHost {
  mapped(op: MapOp): void;
  /** Whether `unmapped` is to be called. */
  watchesUnmaps(): boolean;
  unmapped(op: UnmapOp): void;
  retrying(count: number, delayMs: number): void;
}

/** One kind of batch: how it is carried out, and what follows for an element with a final status. */
interface BatchKind<Op extends { status: number }> {
  run(ops: readonly Op[], count: number): number;
  settled(op: Op): void;
}

interface Retry {
  cancel(): void;
}

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
  private readonly mapKind: BatchKind<MapOp>;
  private readonly copyKind: BatchKind<CopyOp>;

  constructor(hypercalls: GrantHypercalls, scheduler: SchedulerLike, foreign: ForeignPages, host: MapHost) {
    this.hypercalls = hypercalls;
    this.scheduler = scheduler;
    this.foreign = foreign;
    this.host = host;
    this.mapKind = { run: (ops, count) => hypercalls.map(ops, count), settled: (op) => this.mapped(op) };
    this.copyKind = { run: (ops, count) => hypercalls.copy(ops, count), settled: () => {} };
  }

  map(ops: readonly MapOp[], count: number, done: (() => void) | undefined): number {
    if (count === 0) return 0;
    return this.batch(this.mapKind, ops, count, done);
  }

  copy(ops: readonly CopyOp[], count: number, done: (() => void) | undefined): number {
    if (count === 0) return 0;
    return this.batch(this.copyKind, ops, count, done);
  }

  unmap(ops: readonly UnmapOp[], count: number): number {
    for (let i = 0; i < count; i++) ops[i]!.status = GNTST.general_error;
    const result = errno(this.hypercalls.unmap(ops, count));
    const tell = this.host.watchesUnmaps();
    for (let i = 0; i < count; i++) {
      const op = ops[i]!;
      if (result < 0 || op.status > 0) op.status = GNTST.general_error;
      else if (op.status === GNTST.okay) {
        this.foreign.delete(op.vfn, op.handle);
        if (tell) this.host.unmapped(op);
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

  private mapped(op: MapOp): void {
    if (op.status !== GNTST.okay) return;
    if ((op.flags & GNTMAP.host_map) !== 0) this.foreign.set(op.vfn, op.domid, op.ref, op.handle);
    this.host.mapped(op);
  }

  private batch<Op extends { status: number }>(
    kind: BatchKind<Op>,
    ops: readonly Op[],
    count: number,
    done: (() => void) | undefined,
  ): number {
    const again = this.attempt(kind, ops, count);
    if (again <= 0 || done === undefined) return Math.min(again, 0);
    const waiting: Op[] = [];
    for (let i = 0; i < count; i++) if (ops[i]!.status === GNTST.eagain) waiting.push(ops[i]!);
    this.retry(kind, waiting, done);
    return again;
  }

  /** One hypercall; gives the number of elements that met eagain, or the errno. */
  private attempt<Op extends { status: number }>(kind: BatchKind<Op>, ops: readonly Op[], count: number): number {
    for (let i = 0; i < count; i++) ops[i]!.status = GNTST.general_error;
    const result = errno(kind.run(ops, count));
    let again = 0;
    for (let i = 0; i < count; i++) {
      const op = ops[i]!;
      if (result < 0 || op.status > 0) op.status = GNTST.general_error;
      if (op.status === GNTST.eagain) again++;
      else kind.settled(op);
    }
    return result < 0 ? result : again;
  }

  private retry<Op extends { status: number }>(kind: BatchKind<Op>, ops: Op[], done: () => void): void {
    let delayMs = 1;
    let timer: Subscription | undefined;
    const giveUp = (status: number): void => {
      for (const op of ops) op.status = status;
      done();
    };
    const record: Retry = {
      cancel: () => {
        timer?.unsubscribe();
        giveUp(GNTST.general_error);
      },
    };
    const wait = (): void => {
      this.host.retrying(ops.length, delayMs);
      timer = this.scheduler.schedule(turn, delayMs);
    };
    const turn = (): void => {
      this.attempt(kind, ops, ops.length);
      let left = 0;
      for (const op of ops) if (op.status === GNTST.eagain) ops[left++] = op;
      ops.length = left;
      if (left > 0 && delayMs < LAST_DELAY_MS) {
        delayMs++;
        wait();
        return;
      }
      this.retries.delete(record);
      giveUp(GNTST.bad_page);
    };
    this.retries.add(record);
    wait();
  }
}

/** A hypercall's answer as 0 or a negative errno: anything else is no answer of the interface and counts as EINVAL. */
function errno(result: number): number {
  return result <= 0 && Number.isInteger(result) ? result : -22;
}
