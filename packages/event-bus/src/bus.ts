import { config, type Observable, Subject, type Subscriber } from 'rxjs';
import { InvariantError, invariant } from './contract.ts';
import { GuardedObservable } from './observable.ts';
import type { Bus, BusFault, BusOptions } from './types.ts';

/** How many faults are kept for a first listener of `errors`, before the oldest go. */
const FAULTS_KEPT = 64;

/**
 * One type of fact: its stream, and a relay for each listener. One subject for all would do for delivery, but tell of one error
 * only where several listeners throw out of the guarded observable's reach. The array is replaced, never changed: a delivery
 * goes to those who listened when it began.
 */
interface Topic {
  readonly type: string;
  readonly facts: Observable<unknown>;
  relays: readonly Relay[];
}

/** A listener: its subscriber itself, or a subject before it where its errors must be caught on their way. */
interface Relay {
  readonly to: Subscriber<unknown> | Subject<unknown>;
  readonly direct: boolean;
}

class FactBus {
  private readonly topics = new Map<string, Topic>();
  readonly #queuedMax: number;
  readonly #faults = new Subject<BusFault>();
  readonly errors: Observable<BusFault>;
  #kept: BusFault[] = [];
  faultsDropped = 0;
  #invariant: InvariantError | undefined;
  /** Subscriptions to facts of any type: 0 makes every emission one branch. */
  private listening = 0;
  #delivering: Topic | undefined;
  #data: unknown;
  #closed = false;
  // Facts emitted from inside a handler wait here: topic and data alternate. `#head` is the next to be delivered.
  #queue: unknown[] = [];
  #head = 0;

  constructor({ queuedMax = 1 << 20 }: BusOptions) {
    this.#queuedMax = queuedMax;
    this.errors = new GuardedObservable<BusFault>(
      // A listener of faults that throws cannot be told so again without end: its fault is only counted.
      (error) => (error instanceof InvariantError ? this.#keepInvariant(error) : this.#drop()),
      (subscriber) => {
        const kept = this.#kept;
        this.#kept = [];
        const subscription = this.#faults.subscribe(subscriber);
        for (const fault of kept) subscriber.next(fault);
        return () => subscription.unsubscribe();
      },
    );
  }

  get broken(): boolean {
    return this.#invariant !== undefined;
  }

  /** Short enough to be put in place wherever it is asked. */
  observed(type: string): boolean {
    return this.listening !== 0 && this.hears(type);
  }

  private hears(type: string): boolean {
    const topic = this.topics.get(type);
    return topic !== undefined && topic.relays.length > 0;
  }

  on(type: string): Observable<unknown> {
    return this.#topic(type).facts;
  }

  emit(type: string, data: unknown): void {
    if (this.listening === 0) return;
    const topic = this.topics.get(type);
    if (topic === undefined || topic.relays.length === 0) return;
    if (this.#delivering !== undefined) {
      invariant(
        (this.#queue.length - this.#head) / 2 < this.#queuedMax,
        () => `${this.#queuedMax} facts wait: the facts feed on one another`,
      );
      this.#queue.push(topic, data);
      return;
    }
    this.#deliver(topic, data);
    while (this.#head < this.#queue.length) {
      const next = this.#queue[this.#head] as Topic;
      const nextData = this.#queue[this.#head + 1];
      this.#head += 2;
      if (this.#head === this.#queue.length) {
        this.#queue.length = 0;
        this.#head = 0;
      } else if (this.#head >= 1024 && this.#head * 2 > this.#queue.length) {
        this.#queue = this.#queue.slice(this.#head);
        this.#head = 0;
      }
      this.#deliver(next, nextData);
    }
  }

  takeInvariant(): InvariantError | undefined {
    const kept = this.#invariant;
    this.#invariant = undefined;
    return kept;
  }

  rethrow(): void {
    if (this.#invariant === undefined) return;
    throw this.takeInvariant();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const topic of this.topics.values()) for (const { to } of topic.relays) to.complete();
    this.#faults.complete();
    this.#queue.length = 0;
    this.#head = 0;
  }

  #topic(type: string): Topic {
    let topic = this.topics.get(type);
    if (topic === undefined) {
      topic = this.#newTopic(type);
      this.topics.set(type, topic);
    }
    return topic;
  }

  #newTopic(type: string): Topic {
    const facts = new GuardedObservable<unknown>(
      (error) => this.#report(type, error),
      (subscriber, direct) => {
        if (this.#closed) {
          subscriber.complete();
          return undefined;
        }
        const relay: Relay = { to: direct ? subscriber : new Subject<unknown>(), direct };
        if (relay.to instanceof Subject) relay.to.subscribe(subscriber);
        topic.relays = [...topic.relays, relay];
        this.listening += 1;
        return () => {
          topic.relays = topic.relays.filter((other) => other !== relay);
          this.listening -= 1;
          relay.to.unsubscribe();
        };
      },
    );
    const topic: Topic = { type, facts, relays: [] };
    return topic;
  }

  #deliver(topic: Topic, data: unknown): void {
    this.#delivering = topic;
    this.#data = data;
    const { relays } = topic;
    for (let i = 0; i < relays.length; i += 1) {
      const { to, direct } = relays[i]!;
      // One whose listener left meanwhile is closed, and says nothing.
      if (to.closed) continue;
      if (direct) to.next(data);
      else this.#relay(topic, to, data);
    }
    this.#delivering = undefined;
    this.#data = undefined;
  }

  /**
   * To a listener behind operators, `merge` and their like, where its observer may be out of the guarded observable's reach. In
   * this mode RxJS hands an error to us synchronously; otherwise it would go to a host timer. The mode is restored at once.
   */
  #relay(topic: Topic, to: Relay['to'], data: unknown): void {
    const mode = config.useDeprecatedSynchronousErrorHandling;
    config.useDeprecatedSynchronousErrorHandling = true;
    try {
      to.next(data);
    } catch (error) {
      this.#report(topic.type, error);
    } finally {
      config.useDeprecatedSynchronousErrorHandling = mode;
    }
  }

  #report(type: string, error: unknown): void {
    if (error instanceof InvariantError) {
      this.#keepInvariant(error);
      return;
    }
    const fault: BusFault = { type: this.#delivering?.type ?? type, data: this.#data, error };
    if (this.#faults.observed) {
      this.#faults.next(fault);
    } else if (!this.#closed) {
      this.#kept.push(fault);
      if (this.#kept.length > FAULTS_KEPT) {
        this.#kept.shift();
        this.#drop();
      }
    }
  }

  #drop(): void {
    this.faultsDropped += 1;
  }

  #keepInvariant(error: InvariantError): void {
    // The first break explains the ones that follow from it.
    this.#invariant ??= error;
  }
}

/**
 * Makes a bus for the facts of `Events`: a map from a fact's name to its data. Cost of an emission that nobody listens to:
 * one branch, or a lookup when others are listened to. Delivery is synchronous, in the emitter's call; a fact emitted from
 * inside a handler is delivered after those emitted before it.
 *
 * @example
 * const bus = createEventBus<{ 'disk:flushed': { sectors: number } }>();
 * bus.on('disk:flushed').subscribe(({ sectors }) => console.log(sectors));
 * if (bus.observed('disk:flushed')) bus.emit('disk:flushed', { sectors: 8 });
 */
export function createEventBus<Events extends object>(options: BusOptions = {}): Bus<Events> {
  return new FactBus(options) as unknown as Bus<Events>;
}
