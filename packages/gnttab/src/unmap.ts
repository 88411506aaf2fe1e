import type { SchedulerLike, Subscription } from 'rxjs';
import { GrantError } from './errors.ts';
import type { PageUse, UnmapBatch, UnmapOp } from './types.ts';

/** Each attempt that finds a page in use waits this much longer than the one before. */
const STEP_MS = 5;
/** What batches that still wait are told when the table is closed: ESHUTDOWN. */
const CLOSED = -108;

/** What the queue needs of the table. */
export interface UnmapHost {
  /** Carries the unmap out; 0 or a negative errno. */
  unmap(ops: readonly UnmapOp[], count: number): number;
  putOff(batch: UnmapBatch, age: number, delayMs: number): void;
  carriedOut(batch: UnmapBatch, age: number, result: number): void;
}

interface Waiting {
  readonly batch: UnmapBatch;
  /** The batch as it was handed in: its owner's later changes do not count. */
  readonly ops: readonly UnmapOp[];
  readonly count: number;
  age: number;
  timer: Subscription | undefined;
}

/**
 * Unmaps that wait until nobody uses their pages: the one queue of all users of a table. A batch whose pages are idle passes
 * through without a record.
 */
export class UnmapQueue {
  private readonly waiting: Map<UnmapBatch, Waiting> = new Map();
  private readonly host: UnmapHost;
  private readonly scheduler: SchedulerLike;
  private readonly pages: PageUse | undefined;

  constructor(host: UnmapHost, scheduler: SchedulerLike, pages: PageUse | undefined) {
    this.host = host;
    this.scheduler = scheduler;
    this.pages = pages;
  }

  get size(): number {
    return this.waiting.size;
  }

  /** The first attempt. */
  start(batch: UnmapBatch): void {
    if (this.waiting.size > 0 && this.waiting.has(batch)) {
      throw new GrantError({ code: 'batch-pending', argument: 'batch', allowed: 'a batch that does not wait to be unmapped' });
    }
    const { ops, count } = batch;
    if (this.pages !== undefined && anyInUse(this.pages, ops, count)) {
      const record: Waiting = { batch, ops, count, age: 0, timer: undefined };
      this.waiting.set(batch, record);
      this.putOff(record);
    } else this.carryOut(batch, ops, count, 0);
  }

  close(): void {
    const all = [...this.waiting.values()];
    this.waiting.clear();
    for (const record of all) record.timer?.unsubscribe();
    for (const { batch, age } of all) batch.done(CLOSED, age);
  }

  private putOff(record: Waiting): void {
    const delayMs = STEP_MS * (record.age + 1);
    record.timer = this.scheduler.schedule(() => this.again(record), delayMs);
    this.host.putOff(record.batch, record.age, delayMs);
  }

  private again(record: Waiting): void {
    record.age++;
    if (this.pages !== undefined && anyInUse(this.pages, record.ops, record.count)) {
      this.putOff(record);
      return;
    }
    this.waiting.delete(record.batch);
    this.carryOut(record.batch, record.ops, record.count, record.age);
  }

  private carryOut(batch: UnmapBatch, ops: readonly UnmapOp[], count: number, age: number): void {
    const result = this.host.unmap(ops, count);
    this.host.carriedOut(batch, age, result);
    batch.done(result, age);
  }
}

function anyInUse(pages: PageUse, ops: readonly UnmapOp[], count: number): boolean {
  if (pages.anyInUse !== undefined) return pages.anyInUse(ops, count);
  for (let i = 0; i < count; i++) if (pages.inUse(ops[i]!.vfn)) return true;
  return false;
}
