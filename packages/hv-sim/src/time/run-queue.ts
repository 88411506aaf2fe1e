import { HvError } from '../errors.ts';
import type { Random } from './random.ts';

/** A timer that is due. Dropped when it was taken back after it became due. */
export interface DueTimer {
  run(): void;
  readonly dropped: boolean;
}

/** What stands in an agent's queue: a posted call, a timer that is due, or `undefined` for "deliver its event channels". */
export type Item = (() => void) | DueTimer | undefined;

/** Which runnable domain comes next: in turn, drawn from the seed, or as recorded and then in turn or drawn. */
export type RunOrder = 'round-robin' | 'random' | { readonly schedule: ArrayLike<number>; readonly afterwards?: 'round-robin' | 'random' };

/** One domain, or the machine itself (-1), in the run queue: its events wait here, first in first out. */
export class Agent {
  readonly domid: number;
  /** A delivery of event channels that stands before everything in `#items`: most often all there is. */
  #delivery = false;
  #items: Item[] = new Array<Item>(8).fill(undefined);
  #head = 0;
  waiting = 0;
  paused = false;
  /** Position among the runnable of an ordered draw, or -1. */
  place = -1;
  /** Whether it stands in the round. */
  inRound = false;
  /** Timers that are set and not yet due. */
  timers = 0;

  constructor(domid: number) {
    this.domid = domid;
  }

  push(item: Item): void {
    if (item === undefined && this.waiting === 0) {
      this.#delivery = true;
      this.waiting = 1;
      return;
    }
    this.#append(item);
  }

  #append(item: Item): void {
    const size = this.#items.length;
    const kept = this.#delivery ? this.waiting - 1 : this.waiting;
    if (kept === size) {
      const grown = new Array<Item>(size * 2).fill(undefined);
      for (let i = 0; i < size; i++) grown[i] = this.#items[(this.#head + i) & (size - 1)];
      this.#items = grown;
      this.#head = 0;
    }
    this.#items[(this.#head + kept) & (this.#items.length - 1)] = item;
    this.waiting++;
  }

  shift(): Item {
    if (this.#delivery) {
      this.#delivery = false;
      this.waiting--;
      return undefined;
    }
    const item = this.#items[this.#head];
    this.#items[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#items.length - 1);
    this.waiting--;
    return item;
  }

  clear(): void {
    while (this.waiting > 0) this.shift();
  }
}

/**
 * The agents that have something to do. In turn is a ring of agents, each in it once; drawn and recorded orders use an array in
 * which an agent knows its place. A step costs O(1) in every order.
 */
export class RunQueue {
  #round: Agent[] = new Array<Agent>(16);
  #head = 0;
  #count = 0;
  /** An agent that stands before the ring: with few of them the ring is never touched. */
  #first: Agent | undefined = undefined;
  readonly #set: Agent[] = [];
  #drawing: boolean;
  readonly #random: Random;
  readonly #schedule: ArrayLike<number>;
  readonly #then: 'round-robin' | 'random';
  /** How much of the recorded schedule has been followed. */
  followed = 0;
  /** Who ran, step by step, when it is kept. */
  readonly record: number[] | undefined;

  constructor(order: RunOrder, random: Random, record: boolean) {
    this.#random = random;
    this.#schedule = typeof order === 'string' ? [] : order.schedule;
    this.#then = typeof order === 'string' ? order : (order.afterwards ?? 'round-robin');
    this.#drawing = this.#schedule.length > 0 || this.#then === 'random';
    this.record = record ? [] : undefined;
  }

  /** How many agents are runnable. */
  get runnable(): number {
    return this.#drawing ? this.#set.length : this.#first === undefined ? this.#count : this.#count + 1;
  }

  /** Makes an agent runnable; nothing when it is, is paused or has nothing to do. */
  add(agent: Agent): void {
    if (agent.waiting === 0 || agent.paused) return;
    if (this.#drawing) {
      if (agent.place < 0) agent.place = this.#set.push(agent) - 1;
    } else if (!agent.inRound) this.#enter(agent);
  }

  #enter(agent: Agent): void {
    agent.inRound = true;
    if (this.#first === undefined && this.#count === 0) {
      this.#first = agent;
      return;
    }
    const size = this.#round.length;
    if (this.#count === size) {
      const grown = new Array<Agent>(size * 2);
      for (let i = 0; i < size; i++) grown[i] = this.#round[(this.#head + i) & (size - 1)]!;
      this.#round = grown;
      this.#head = 0;
    }
    this.#round[(this.#head + this.#count++) & (this.#round.length - 1)] = agent;
  }

  /** Takes an agent out: it was paused or died. */
  remove(agent: Agent): void {
    if (agent.place >= 0) this.#leave(agent);
    if (!agent.inRound) return;
    if (this.#first === agent) {
      this.#first = undefined;
      agent.inRound = false;
      return;
    }
    const size = this.#round.length;
    let kept = 0;
    for (let i = 0; i < this.#count; i++) {
      const other = this.#round[(this.#head + i) & (size - 1)]!;
      if (other !== agent) this.#round[(this.#head + kept++) & (size - 1)] = other;
    }
    this.#count = kept;
    agent.inRound = false;
  }

  #leave(agent: Agent): void {
    const last = this.#set.pop()!;
    if (last !== agent) {
      this.#set[agent.place] = last;
      last.place = agent.place;
    }
    agent.place = -1;
  }

  /**
   * Takes the agent whose turn it is out of the queue, or gives undefined when nobody can run. Whoever runs one of its events adds
   * it again if there are more.
   * @throws {HvError} `schedule-diverged`: the recorded agent cannot run now.
   */
  next(): Agent | undefined {
    if (!this.#drawing) {
      const first = this.#first;
      if (first !== undefined) {
        this.#first = undefined;
        first.inRound = false;
        return this.#noted(first);
      }
      if (this.#count === 0) return undefined;
      const agent = this.#round[this.#head]!;
      this.#head = (this.#head + 1) & (this.#round.length - 1);
      this.#count--;
      agent.inRound = false;
      return this.#noted(agent);
    }
    if (this.#set.length === 0) return undefined;
    if (this.followed < this.#schedule.length) return this.#noted(this.#recorded());
    if (this.#then === 'round-robin') {
      this.#becomeRound();
      return this.next();
    }
    const agent = this.#set[this.#set.length === 1 ? 0 : this.#random.below(this.#set.length)]!;
    this.#leave(agent);
    return this.#noted(agent);
  }

  #noted(agent: Agent): Agent {
    if (this.record !== undefined) this.record.push(agent.domid);
    return agent;
  }

  #recorded(): Agent {
    const wanted = this.#schedule[this.followed]!;
    const agent = this.#set.find((candidate) => candidate.domid === wanted);
    if (agent === undefined) {
      const runnable = this.#set.map((candidate) => candidate.domid).sort((a, b) => a - b);
      throw new HvError({ code: 'schedule-diverged', at: this.followed, wanted, runnable });
    }
    this.followed++;
    this.#leave(agent);
    return agent;
  }

  /** The recording is at its end: from here on in turn, lowest domid first. */
  #becomeRound(): void {
    this.#drawing = false;
    const agents = this.#set.splice(0).sort((a, b) => a.domid - b.domid);
    for (const agent of agents) {
      agent.place = -1;
      this.#enter(agent);
    }
  }
}
