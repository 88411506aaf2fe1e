import type { EventBus } from '@paravirt/event-bus';
import { filter, map, type Observable, Subject } from 'rxjs';

/** A fact with its type. */
export interface Recorded<Events extends object, T extends keyof Events & string = keyof Events & string> {
  readonly type: T;
  readonly data: Events[T];
}

/** A bus that hands every fact to one listener at once, and to subscribers after that. */
export function recorderBus<Events extends object>(listener: (fact: Recorded<Events>) => void): EventBus<Events> {
  const facts = new Subject<Recorded<Events>>();
  return {
    emit(type, data) {
      const fact = { type, data } as Recorded<Events>;
      listener(fact);
      facts.next(fact);
    },
    on<T extends keyof Events & string>(type: T): Observable<Events[T]> {
      return facts.pipe(
        filter((fact) => fact.type === type),
        map((fact) => fact.data as Events[T]),
      );
    },
    observed: () => true,
  };
}
