import type { EventBus } from '../types.ts';

/** One recorded fact. */
export interface RecordedFact<Events extends object> {
  readonly type: keyof Events & string;
  readonly data: Events[keyof Events & string];
}

/** Facts of a bus in the order of their delivery. */
export interface BusRecorder<Events extends object> {
  readonly facts: RecordedFact<Events>[];
  /** The types alone, for a quick look at the order. */
  readonly types: (keyof Events & string)[];
  /** Takes what was recorded so far and starts anew. */
  take(): RecordedFact<Events>[];
  /** Stops listening; what was recorded stays. */
  stop(): void;
}

/** Records the facts of the named types from now on. */
export function recordBus<Events extends object>(bus: EventBus<Events>, types: readonly (keyof Events & string)[]): BusRecorder<Events> {
  const facts: RecordedFact<Events>[] = [];
  const subscriptions = types.map((type) => bus.on(type).subscribe((data) => facts.push({ type, data })));
  return {
    facts,
    get types() {
      return facts.map(({ type }) => type);
    },
    take: () => facts.splice(0),
    stop() {
      for (const subscription of subscriptions) subscription.unsubscribe();
    },
  };
}
