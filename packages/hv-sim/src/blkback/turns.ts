import type { SchedulerLike } from 'rxjs';
import type { BackQueue } from './queue.ts';

/** What stands in the round of devices: its queues that want a turn, and what it overdrew. */
export class TurnTaker {
  first: BackQueue | undefined = undefined;
  last: BackQueue | undefined = undefined;
  /** What the next turn may cost; negative where the last one was overdrawn. */
  credit = 0;
  queued = false;
  next: TurnTaker | undefined = undefined;
}

/**
 * Who works next. Devices take turns in a round, and the queues of a device in a round of their own, so that neither many queues
 * nor large requests give a frontend more than its share: a turn's cost is bounded, and what a last request overdraws is taken from
 * the turns after it. One item of the run queue is one turn.
 */
export class Turns {
  private readonly scheduler: SchedulerLike;
  private readonly cost: number;
  private first: TurnTaker | undefined = undefined;
  private last: TurnTaker | undefined = undefined;
  private scheduled = false;
  private readonly work = (): void => this.step();

  constructor(scheduler: SchedulerLike, cost: number) {
    this.scheduler = scheduler;
    this.cost = cost;
  }

  /** Puts the queue into the round. */
  ready(taker: TurnTaker, queue: BackQueue): void {
    if (queue.queued) return;
    queue.queued = true;
    queue.nextReady = undefined;
    if (taker.last === undefined) taker.first = queue;
    else taker.last.nextReady = queue;
    taker.last = queue;
    this.enter(taker);
    this.schedule();
  }

  /** Gives the queue its turn now if nobody else waits, and otherwise its place in the round. For doorbells. @returns the cost, or -1. */
  rung(queue: BackQueue): number {
    if (this.first === undefined) return queue.turn(this.cost);
    queue.wake();
    return -1;
  }

  /** Takes a queue out of the round: its ring is going. */
  forget(taker: TurnTaker, queue: BackQueue): void {
    if (!queue.queued) return;
    queue.queued = false;
    let before: BackQueue | undefined;
    for (let at = taker.first; at !== undefined; at = at.nextReady) {
      if (at === queue) {
        if (before === undefined) taker.first = at.nextReady;
        else before.nextReady = at.nextReady;
        if (taker.last === at) taker.last = before;
        return;
      }
      before = at;
    }
  }

  private enter(taker: TurnTaker): void {
    if (taker.queued) return;
    taker.queued = true;
    taker.next = undefined;
    if (this.last === undefined) this.first = taker;
    else this.last.next = taker;
    this.last = taker;
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    this.scheduler.schedule(this.work, 0);
  }

  private step(): void {
    this.scheduled = false;
    const taker = this.first;
    if (taker === undefined) return;
    this.first = taker.next;
    if (this.first === undefined) this.last = undefined;
    taker.queued = false;
    const queue = taker.first;
    try {
      if (queue !== undefined) this.turnOf(taker, queue);
    } finally {
      // Also where a disk threw: it is no matter of the others'.
      if (queue !== undefined && taker.first !== undefined) this.enter(taker);
      if (this.first !== undefined) this.schedule();
    }
  }

  private turnOf(taker: TurnTaker, queue: BackQueue): void {
    taker.credit = Math.min(taker.credit + this.cost, this.cost);
    if (taker.credit <= 0) return;
    taker.first = queue.nextReady;
    if (taker.first === undefined) taker.last = undefined;
    queue.queued = false;
    taker.credit -= queue.turn(taker.credit);
  }
}
