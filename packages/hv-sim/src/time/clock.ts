import { type SchedulerAction, type SchedulerLike, Subscription } from 'rxjs';
import type { Agent, DueTimer } from './run-queue.ts';
import { TimerHeap } from './timer-heap.ts';

/** Where real time comes from. Passed in by whoever runs the machine in real time. Milliseconds. */
export interface TimeSource {
  /** The time; only differences count, and it must not go back. */
  now(): number;
  /** Calls `wake` once, after `delay`; the returned function takes it back. */
  wakeIn(delay: number, wake: () => void): () => void;
}

/** A piece of work at a time. Reschedules itself as RxJS actions do: `this.schedule(state, delay)`. */
class TimedAction<T> extends Subscription implements SchedulerAction<T>, DueTimer {
  readonly agent: Agent;
  private readonly clock: Clock;
  private readonly work: (this: SchedulerAction<T>, state?: T) => void;
  private state: T | undefined;
  /** Its slot in the heap, or -1 when it is not set. */
  slot = -1;
  /** Whether it stands in its agent's queue. */
  due = false;

  constructor(clock: Clock, agent: Agent, work: (this: SchedulerAction<T>, state?: T) => void) {
    super();
    this.clock = clock;
    this.agent = agent;
    this.work = work;
  }

  /** A queued action that was taken back is passed over. */
  get dropped(): boolean {
    return this.closed || !this.due;
  }

  schedule(state?: T, delay = 0): Subscription {
    if (this.closed) return this;
    this.state = state;
    this.clock.forget(this);
    this.clock.set(this, delay);
    return this;
  }

  run(): void {
    this.due = false;
    this.work.call(this, this.state);
  }

  override unsubscribe(): void {
    if (this.closed) return;
    super.unsubscribe();
    this.clock.forget(this);
  }
}

/**
 * Time in milliseconds. Virtual unless it is driven: then it only moves when nothing can run, to the next timer's moment. A timer
 * that is due becomes an event of its domain, in order of due time and then of setting.
 */
export class Clock {
  now = 0;
  private readonly heap: TimerHeap = new TimerHeap();
  private readonly actions: (TimedAction<unknown> | undefined)[] = [];
  private source: TimeSource | undefined;
  private offset = 0;
  /** Told when a timer was set that is earlier than all others. */
  onEarlier: () => void = () => {};

  /** Timers that are set. */
  get pending(): number {
    return this.heap.size;
  }

  nextDue(): number {
    return this.heap.nextDue();
  }

  /** Lets a source drive the clock from its present time on, or ends that. */
  follow(source: TimeSource | undefined): void {
    this.source = source;
    if (source !== undefined) this.offset = this.now - source.now();
  }

  /** Takes over the source's time; never backwards. */
  read(): void {
    if (this.source !== undefined) this.now = Math.max(this.now, this.source.now() + this.offset);
  }

  set<T>(action: TimedAction<T>, delay: number): void {
    // biome-ignore lint/complexity/useMathMinMax: a delay that is no number is none
    const due = this.now + (delay > 0 ? delay : 0);
    const earlier = due < this.heap.nextDue();
    action.slot = this.heap.set(due);
    this.actions[action.slot] = action as TimedAction<unknown>;
    action.agent.timers++;
    if (earlier) this.onEarlier();
  }

  forget<T>(action: TimedAction<T>): void {
    action.due = false;
    if (action.slot < 0) return;
    this.heap.cancel(action.slot);
    this.actions[action.slot] = undefined;
    action.slot = -1;
    action.agent.timers--;
  }

  /** Takes the next timer that is due by now; undefined when there is none. */
  takeDue(): TimedAction<unknown> | undefined {
    if (this.heap.nextDue() > this.now) return undefined;
    const slot = this.heap.take();
    const action = this.actions[slot]!;
    this.actions[slot] = undefined;
    action.slot = -1;
    action.due = true;
    action.agent.timers--;
    return action;
  }

  /** An agent dies: its timers are taken back. */
  dropAgent(agent: Agent): void {
    if (agent.timers === 0) return;
    for (const action of this.actions) if (action?.agent === agent) action.unsubscribe();
  }

  /** Calls `visit` for every set timer. */
  each(visit: (domid: number, due: number) => void): void {
    for (const action of this.actions) if (action !== undefined) visit(action.agent.domid, this.heap.dueOf(action.slot));
  }

  /** The clock as RxJS and everything built on it takes it; work becomes an event of `agent`. `alive` false: nothing is scheduled. */
  schedulerFor(agent: Agent, alive: () => boolean): SchedulerLike {
    const clock = this;
    return {
      now: () => clock.now,
      schedule<T>(work: (this: SchedulerAction<T>, state?: T) => void, delay = 0, state?: T): Subscription {
        const action = new TimedAction<T>(clock, agent, work);
        if (!alive()) {
          action.unsubscribe();
          return action;
        }
        return action.schedule(state, delay);
      },
    };
  }
}
