import { type SchedulerAction, type SchedulerLike, Subscription } from 'rxjs';

type Work<T> = (this: SchedulerAction<T>, state?: T) => void;

interface Timer {
  expires: number;
  armed: boolean;
  run(): void;
}

class TickAction<T> extends Subscription implements SchedulerAction<T>, Timer {
  expires = 0;
  armed = false;
  private readonly scheduler: TickScheduler;
  private readonly work: Work<T>;
  private state: T | undefined;

  constructor(scheduler: TickScheduler, work: Work<T>) {
    super();
    this.scheduler = scheduler;
    this.work = work;
  }

  schedule(state?: T, delay: number = 0): Subscription {
    if (this.closed) return this;
    this.state = state;
    this.scheduler.arm(this, delay);
    return this;
  }

  run(): void {
    this.work.call(this, this.state);
    if (!this.armed) super.unsubscribe();
  }

  override unsubscribe(): void {
    this.scheduler.disarm(this);
    super.unsubscribe();
  }
}

/**
 * A clock that moves only when told to, in ticks of which `hz` make a second; delays in milliseconds are rounded up to ticks.
 * Timers run in the order of their expiry, of equals the first armed first.
 */
export class TickScheduler implements SchedulerLike {
  readonly hz: number;
  private ticks = 0;
  private readonly timers: Timer[] = [];

  constructor(hz: number = 1000) {
    this.hz = hz;
  }

  /** Ticks since the start. */
  now(): number {
    return this.ticks;
  }

  /** Timers that are armed. */
  get pending(): number {
    return this.timers.length;
  }

  /** Ticks in `ms` milliseconds, rounded up. */
  ticksOf(ms: number): number {
    return Math.ceil((ms * this.hz) / 1000);
  }

  /** Runs `work` once so many milliseconds have been let pass by `advance`; it may schedule itself again. */
  schedule<T>(work: Work<T>, delay: number = 0, state?: T): Subscription {
    return new TickAction<T>(this, work).schedule(state as T, delay);
  }

  /** Lets `ticks` pass; timers armed meanwhile take part. */
  advance(ticks: number): number {
    const target = this.ticks + ticks;
    for (let next = this.first(target); next !== undefined; next = this.first(target)) {
      if (next.expires > this.ticks) this.ticks = next.expires;
      this.disarm(next);
      next.run();
    }
    this.ticks = target;
    return target;
  }

  /** Arms a timer. */
  arm(action: Timer, delay: number): void {
    this.disarm(action);
    action.expires = this.ticks + this.ticksOf(delay);
    action.armed = true;
    this.timers.push(action);
  }

  /** Disarms a timer. */
  disarm(action: Timer): void {
    if (!action.armed) return;
    action.armed = false;
    this.timers.splice(this.timers.indexOf(action), 1);
  }

  private first(target: number): Timer | undefined {
    let found: Timer | undefined;
    for (const timer of this.timers) if (timer.expires <= target && (found === undefined || timer.expires < found.expires)) found = timer;
    return found;
  }
}
