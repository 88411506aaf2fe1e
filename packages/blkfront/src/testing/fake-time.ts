import { type SchedulerAction, type SchedulerLike, Subscription } from 'rxjs';

interface Timer {
  at: number;
  order: number;
  run: (() => void) | null;
}

/** A run queue and a virtual clock: time passes only when nothing else is left to do. */
export class FakeTime implements SchedulerLike {
  private readonly queue: (() => void)[] = [];
  private readonly timers: Timer[] = [];
  private order = 0;
  private clock = 0;

  now(): number {
    return this.clock;
  }

  /** Timers that are set. */
  get pending(): number {
    return this.timers.filter((timer) => timer.run !== null).length;
  }

  /** Runs `item` after everything that is queued. */
  enqueue(item: () => void): void {
    this.queue.push(item);
  }

  /** Runs `work` once so many ticks have passed; it may schedule itself again. */
  schedule<T>(work: (this: SchedulerAction<T>, state?: T) => void, delay = 0, state?: T): Subscription {
    const timer: Timer = { at: this.clock + delay, order: this.order++, run: null };
    const subscription = new Subscription(() => {
      timer.run = null;
    });
    timer.run = () => {
      timer.run = null;
      subscription.unsubscribe();
      const action = Object.assign(new Subscription(), {
        schedule: (again?: T, wait = 0): Subscription => this.schedule(work, wait, again),
      }) as SchedulerAction<T>;
      work.call(action, state);
    };
    this.timers.push(timer);
    return subscription;
  }

  /** One item, or the next timer when there is none. False when nothing is left. */
  step(): boolean {
    const item = this.queue.shift();
    if (item !== undefined) {
      item();
      return true;
    }
    let next: Timer | undefined;
    for (const timer of this.timers) {
      if (timer.run !== null && (next === undefined || timer.at < next.at || (timer.at === next.at && timer.order < next.order)))
        next = timer;
    }
    if (next === undefined) {
      this.timers.length = 0;
      return false;
    }
    this.timers.splice(this.timers.indexOf(next), 1);
    this.clock = Math.max(this.clock, next.at);
    next.run?.();
    return true;
  }

  /** Runs queued items, no timers. */
  settle(most = 1_000_000): void {
    for (let i = 0; this.queue.length > 0; i++) {
      if (i === most) throw new Error(`still busy after ${most} items`);
      this.queue.shift()!();
    }
  }

  /** Runs items and timers until nothing is left, or `ticks` have passed. */
  run(ticks: number = Number.POSITIVE_INFINITY): void {
    const end = this.clock + ticks;
    for (let i = 0; i < 1_000_000; i++) {
      if (this.queue.length === 0) {
        const due = this.timers.some((timer) => timer.run !== null && timer.at <= end);
        if (!due) {
          if (Number.isFinite(end)) this.clock = Math.max(this.clock, end);
          return;
        }
      }
      if (!this.step()) return;
    }
    throw new Error('still busy after a million steps');
  }

  /** How a blocking call waits. */
  waitFor(condition: () => boolean): boolean {
    for (let i = 0; !condition(); i++) {
      if (i === 1_000_000 || !this.step()) return condition();
    }
    return true;
  }
}
