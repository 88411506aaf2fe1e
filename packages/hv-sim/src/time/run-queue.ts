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
  waiting = 0;
  /** A delivery of event channels that stands before everything in `items`: most often all there is. */
  private delivery = false;
  paused = false;
  /** Whether it stands in the round. */
  inRound = false;
  private items: Item[] = new Array<Item>(8).fill(undefined);
  private head = 0;
  /** Position among the runnable of an ordered draw, or -1. */
  place = -1;
  /** Timers that are set and not yet due. */
  timers = 0;

  constructor(domid: number) {
    this.domid = domid;
  }

  push(item: Item): void {
    if (item === undefined && this.waiting === 0) this.expectDelivery();
    else this.append(item);
  }

  /** `push(undefined)` to one with nothing else to do. */
  expectDelivery(): void {
    this.delivery = true;
    this.waiting = 1;
  }

  private append(item: Item): void {
    const size = this.items.length;
    const kept = this.delivery ? this.waiting - 1 : this.waiting;
    if (kept === size) {
      const grown = new Array<Item>(size * 2).fill(undefined);
      for (let i = 0; i < size; i++) grown[i] = this.items[(this.head + i) & (size - 1)];
      this.items = grown;
      this.head = 0;
    }
    this.items[(this.head + kept) & (this.items.length - 1)] = item;
    this.waiting++;
  }

  shift(): Item {
    this.waiting--;
    if (this.delivery) {
      this.delivery = false;
      return undefined;
    }
    const { items, head } = this;
    const item = items[head];
    items[head] = undefined;
    this.head = (head + 1) & (items.length - 1);
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
  private round: Agent[] = new Array<Agent>(16);
  private head = 0;
  private count = 0;
  /**
   * An agent that stands before the ring, if `hasFirst`: with few of them the ring is never touched. The last one stays here when
   * it has had its turn, since it is likely to come again and storing an object costs more than comparing it.
   */
  private first: Agent | undefined = undefined;
  private hasFirst = false;
  private readonly set: Agent[] = [];
  private drawing: boolean;
  private readonly random: Random;
  private readonly schedule: ArrayLike<number>;
  private readonly afterwards: 'round-robin' | 'random';
  /** How much of the recorded schedule has been followed. */
  followed = 0;
  /** Who ran, step by step, when it is kept. */
  readonly record: number[] | undefined;

  constructor(order: RunOrder, random: Random, record: boolean) {
    this.random = random;
    this.schedule = typeof order === 'string' ? [] : order.schedule;
    this.afterwards = typeof order === 'string' ? order : (order.afterwards ?? 'round-robin');
    this.drawing = this.schedule.length > 0 || this.afterwards === 'random';
    this.record = record ? [] : undefined;
  }

  /** How many agents are runnable. */
  get runnable(): number {
    return this.drawing ? this.set.length : this.hasFirst ? this.count + 1 : this.count;
  }

  /** Makes an agent runnable; nothing when it is, is paused or has nothing to do. */
  add(agent: Agent): void {
    if (agent.waiting === 0 || agent.paused || agent.inRound) return;
    if (this.drawing || this.hasFirst || this.count > 0) {
      this.enter(agent);
      return;
    }
    agent.inRound = true;
    this.hasFirst = true;
    if (this.first !== agent) this.first = agent;
  }

  /** `add` where others are runnable, or the order is drawn. */
  private enter(agent: Agent): void {
    if (this.drawing) {
      if (agent.place < 0) agent.place = this.set.push(agent) - 1;
      return;
    }
    agent.inRound = true;
    const size = this.round.length;
    if (this.count === size) {
      const grown = new Array<Agent>(size * 2);
      for (let i = 0; i < size; i++) grown[i] = this.round[(this.head + i) & (size - 1)]!;
      this.round = grown;
      this.head = 0;
    }
    this.round[(this.head + this.count++) & (this.round.length - 1)] = agent;
  }

  /** Takes an agent out: it was paused or died. */
  remove(agent: Agent): void {
    if (agent.place >= 0) this.leave(agent);
    const stoodFirst = this.hasFirst && this.first === agent;
    if (stoodFirst) this.hasFirst = false;
    if (this.first === agent) this.first = undefined;
    if (!agent.inRound) return;
    agent.inRound = false;
    if (stoodFirst) return;
    const size = this.round.length;
    let kept = 0;
    for (let i = 0; i < this.count; i++) {
      const other = this.round[(this.head + i) & (size - 1)]!;
      if (other !== agent) this.round[(this.head + kept++) & (size - 1)] = other;
    }
    this.count = kept;
  }

  private leave(agent: Agent): void {
    const last = this.set.pop()!;
    if (last !== agent) {
      this.set[agent.place] = last;
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
    if (!this.hasFirst) return this.nextOf();
    const first = this.first!;
    this.hasFirst = false;
    first.inRound = false;
    if (this.record !== undefined) this.record.push(first.domid);
    return first;
  }

  private nextOf(): Agent | undefined {
    if (!this.drawing) {
      if (this.count === 0) return undefined;
      const agent = this.round[this.head]!;
      this.head = (this.head + 1) & (this.round.length - 1);
      this.count--;
      agent.inRound = false;
      return this.noted(agent);
    }
    if (this.set.length === 0) return undefined;
    if (this.followed < this.schedule.length) return this.noted(this.recorded());
    if (this.afterwards === 'round-robin') {
      this.becomeRound();
      return this.next();
    }
    const agent = this.set[this.set.length === 1 ? 0 : this.random.below(this.set.length)]!;
    this.leave(agent);
    return this.noted(agent);
  }

  private noted(agent: Agent): Agent {
    if (this.record !== undefined) this.record.push(agent.domid);
    return agent;
  }

  private recorded(): Agent {
    const wanted = this.schedule[this.followed]!;
    const agent = this.set.find((candidate) => candidate.domid === wanted);
    if (agent === undefined) {
      const runnable = this.set.map((candidate) => candidate.domid).sort((a, b) => a - b);
      throw new HvError({ code: 'schedule-diverged', at: this.followed, wanted, runnable });
    }
    this.followed++;
    this.leave(agent);
    return agent;
  }

  /** The recording is at its end: from here on in turn, lowest domid first. */
  private becomeRound(): void {
    this.drawing = false;
    const agents = this.set.splice(0).sort((a, b) => a.domid - b.domid);
    for (const agent of agents) {
      agent.place = -1;
      this.enter(agent);
    }
  }
}
