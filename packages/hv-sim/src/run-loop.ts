import type { Bus, EventBus, EventChannels, UpcallQueue } from '@paravirt/event-bus';
import type { DomId } from '@paravirt/event-bus/contract';
import { HvError } from './errors.ts';
import type { Clock, TimeSource } from './time/clock.ts';
import type { Pulse } from './time/pulse.ts';
import { Agent, type Item, type RunQueue } from './time/run-queue.ts';
import type { Drive, ExternalWork, MachineEvents } from './types.ts';

const KINDS = ['upcall', 'task', 'timer'] as const;

/** How long a driven machine runs before its host has a turn, milliseconds: signals and timers of the host wait no longer. */
const SLICE_TICKS = 10;

/**
 * The run queue as event channels know it: a domid's delivery goes to its agent, or to that of the machine's own services. A
 * class, because a function made for each machine would be put in place in the first one's doorbells only.
 */
export class Upcalls implements UpcallQueue {
  private readonly loop: RunLoop;
  private readonly parties: readonly ({ readonly agent: Agent } | undefined)[];
  private readonly services: Agent;

  constructor(loop: RunLoop, parties: readonly ({ readonly agent: Agent } | undefined)[], services: Agent) {
    this.loop = loop;
    this.parties = parties;
    this.services = services;
  }

  schedule(domid: DomId): void {
    const party = this.parties[domid];
    this.loop.pushDelivery(party === undefined ? this.services : party.agent);
  }
}

/** What carries the machine forward: picks who runs, runs one event, moves time when nobody can. */
export class RunLoop {
  readonly queue: RunQueue;
  readonly clock: Clock;
  readonly pulse: Pulse;
  /** The machine's own agent. */
  readonly own: Agent = new Agent(-1);
  private readonly bus: EventBus<MachineEvents>;
  /** The bus's invariants, where it keeps them. */
  private readonly owned: Pick<Bus<MachineEvents>, 'rethrow'> | undefined;
  private readonly stepTicks: number;
  readonly stepsMax: number;
  /** Set once by the machine, which makes the channels over this loop's queue. */
  channels: EventChannels | undefined = undefined;
  private readonly externals: Set<string> = new Set();
  private externalCount = 0;
  private driver: { poke(): void } | undefined;
  /** How deep in steps a driven machine is: a blocking call steps from inside a step. */
  depth = 0;
  /** The hash after each step, when it is kept. */
  readonly hashes: number[] | undefined;
  private readonly recording: boolean;
  private before: (() => void) | undefined;
  private after: ((agent: Agent) => void) | undefined;
  /** Whether a step is more than the event itself: one look instead of one for each of the rare things that stand round it. */
  private attended = false;

  constructor(parts: { queue: RunQueue; clock: Clock; pulse: Pulse; bus: EventBus<MachineEvents>; stepTicks: number; stepsMax: number }) {
    this.queue = parts.queue;
    this.clock = parts.clock;
    this.pulse = parts.pulse;
    this.bus = parts.bus;
    this.stepTicks = parts.stepTicks;
    this.stepsMax = parts.stepsMax;
    this.recording = parts.queue.record !== undefined;
    this.hashes = this.recording ? [] : undefined;
    const owned = parts.bus as Partial<Bus<MachineEvents>>;
    this.owned = typeof owned.rethrow === 'function' ? (owned as Bus<MachineEvents>) : undefined;
    this.clock.onEarlier = () => this.poke();
    this.attend();
  }

  /** Called before every step, when a buffer may have grown. */
  set beforeStep(before: () => void) {
    this.before = before;
    this.attend();
  }

  /** Called after every step, when faults want it. */
  set afterStep(after: (agent: Agent) => void) {
    this.after = after;
    this.attend();
  }

  private attend(): void {
    this.attended =
      this.driver !== undefined || this.recording || this.stepTicks > 0 || this.before !== undefined || this.after !== undefined;
  }

  private poke(): void {
    if (this.driver !== undefined && this.depth === 0) this.driver.poke();
  }

  /** Puts an event into an agent's queue. */
  push(agent: Agent, item: Item): void {
    agent.push(item);
    this.queue.add(agent);
    if (this.driver !== undefined) this.poke();
  }

  /** Puts the delivery of its event channels into an agent's queue: `push` of `undefined`, short enough to stand in every doorbell. */
  pushDelivery(agent: Agent): void {
    if (agent.waiting === 0) agent.expectDelivery();
    else agent.push(undefined);
    this.queue.add(agent);
    if (this.driver !== undefined) this.poke();
  }

  post(agent: Agent, work: () => void): void {
    this.push(agent, work);
  }

  private dueTimers(): void {
    for (;;) {
      const action = this.clock.takeDue();
      if (action === undefined) return;
      action.agent.push(action);
      this.queue.add(action.agent);
    }
  }

  /** Whether nobody can run and nothing is due later. */
  get idle(): boolean {
    return this.queue.runnable === 0 && this.clock.pending === 0;
  }

  /** One flat body: the compiler puts only so much of what it calls in place, and a step is half of what a doorbell costs. */
  step(): boolean {
    const { queue, clock, pulse } = this;
    if (this.attended) this.lookFirst();
    if (clock.pending > 0 && clock.nextDue() <= clock.now) this.dueTimers();
    const agent = queue.next();
    if (agent === undefined) return this.advance();
    const item = agent.shift();
    // Added before it runs: its code may block and let others, and its own later events, go on.
    if (agent.waiting > 0) queue.add(agent);
    let kind = 0;
    if (item !== undefined) {
      kind = typeof item === 'function' ? 1 : 2;
      if (typeof item === 'object' && item.dropped) return this.passOver();
    }
    pulse.steps++;
    if (this.attended) clock.now += this.stepTicks;
    pulse.note(agent.domid * 4 + kind, clock.now | 0);
    if (this.driver !== undefined) this.carryOutDriven(agent, item);
    else if (item === undefined) this.channels!.deliver(agent.domid as DomId);
    else if (typeof item === 'function') item();
    else item.run();
    if (this.owned !== undefined) this.owned.rethrow();
    if (this.attended) this.lookAfter(agent, kind);
    else if (this.bus.observed('hv:stepped')) this.tell(agent, kind);
    return true;
  }

  private lookFirst(): void {
    if (this.driver !== undefined) this.clock.read();
    if (this.before !== undefined) this.before();
  }

  private lookAfter(agent: Agent, kind: number): void {
    if (this.recording) this.hashes!.push(this.pulse.hash >>> 0);
    if (this.bus.observed('hv:stepped')) this.tell(agent, kind);
    if (this.after !== undefined) this.after(agent);
  }

  /** A timer was taken back after it became due: nothing ran. */
  private passOver(): boolean {
    const { record } = this.queue;
    if (record !== undefined) record.pop();
    return this.step();
  }

  private tell(agent: Agent, kind: number): void {
    this.bus.emit('hv:stepped', { step: this.pulse.steps, domid: agent.domid, kind: KINDS[kind]!, now: this.clock.now });
  }

  /** Nobody can run: time moves to the next timer, if there is one and nobody else moves it. */
  private advance(): boolean {
    const due = this.clock.nextDue();
    if (due === Number.POSITIVE_INFINITY || this.driver !== undefined) return false;
    this.clock.now = due;
    return this.step();
  }

  /** In real time the drive must not be woken by what happens inside a step: it looks again after it. */
  private carryOutDriven(agent: Agent, item: Item): void {
    this.depth++;
    try {
      if (item === undefined) this.channels!.deliver(agent.domid as DomId);
      else if (typeof item === 'function') item();
      else item.run();
    } finally {
      this.depth--;
    }
  }

  run(stepsMax: number, untilTicks: number): number {
    let steps = 0;
    for (;;) {
      if (this.queue.runnable === 0 && this.clock.nextDue() > untilTicks) {
        if (untilTicks !== Number.POSITIVE_INFINITY) this.clock.now = Math.max(this.clock.now, untilTicks);
        return steps;
      }
      if (!this.step()) return steps;
      if (++steps >= stepsMax && !this.idle) throw new HvError({ code: 'too-many-steps', steps });
    }
  }

  runUntil(condition: () => boolean, stepsMax: number): boolean {
    for (let steps = 0; !condition(); steps++) {
      if (steps >= stepsMax) throw new HvError({ code: 'too-many-steps', steps });
      if (this.step()) continue;
      if (condition()) return true;
      if (this.externalCount > 0) throw new HvError({ code: 'external-wait', waitingFor: [...this.externals] });
      if (this.driver !== undefined) throw new HvError({ code: 'external-wait', waitingFor: ['real time'] });
      return false;
    }
    return true;
  }

  /** Work that completes outside: while any is open `runUntil` does not call the machine stuck. */
  external(name: string, post: (then: () => void, domain: DomId | undefined) => void): ExternalWork {
    const label = `${name} (${this.externalCount + 1})`;
    this.externals.add(label);
    this.externalCount++;
    let open = true;
    const end = (): boolean => {
      if (!open) return false;
      open = false;
      this.externals.delete(label);
      this.externalCount--;
      return true;
    };
    return {
      done: (then, domain) => {
        if (end()) post(then, domain?.id);
      },
      cancel: () => {
        end();
      },
    };
  }

  /** Runs in real time: whenever something can run, a slice at a time, and when the next timer is due. */
  drive(source: TimeSource): Drive {
    if (this.driver !== undefined) {
      throw new HvError({ code: 'bad-argument', argument: 'drive', value: 'a second source', allowed: 'one at a time: stop the first' });
    }
    let cancel: (() => void) | undefined;
    let stopped = false;
    let failure: unknown;
    const wake = (): void => {
      cancel = undefined;
      if (stopped) return;
      try {
        this.clock.read();
        const end = this.clock.now + SLICE_TICKS;
        while (!stopped && this.clock.now < end && this.step());
      } catch (error) {
        failure = error;
        stop();
        return;
      }
      sleep();
    };
    const sleep = (): void => {
      if (stopped || cancel !== undefined) return;
      this.clock.read();
      const due = this.queue.runnable > 0 ? this.clock.now : this.clock.nextDue();
      if (due !== Number.POSITIVE_INFINITY) cancel = source.wakeIn(Math.max(0, due - this.clock.now), wake);
    };
    const stop = (): void => {
      stopped = true;
      cancel?.();
      this.clock.follow(undefined);
      this.driver = undefined;
      this.attend();
    };
    this.clock.follow(source);
    this.driver = {
      poke() {
        cancel?.();
        cancel = undefined;
        sleep();
      },
    };
    this.attend();
    sleep();
    return {
      stop() {
        if (!stopped) stop();
      },
      get failure() {
        return failure;
      },
    };
  }
}
