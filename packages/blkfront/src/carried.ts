import type { EventBus } from '@paravirt/event-bus';
import type { BlkfrontEvents } from './events.ts';
import type { Tap } from './listeners.ts';
import type { Ring } from './queue.ts';
import type { Carried } from './queue-parts.ts';

/** Tells of requests without a ring that they are over, as a ring tells of its own. */
export class CarriedTeller {
  private readonly path: string;
  private readonly tap: Tap;
  private readonly bus: EventBus<BlkfrontEvents> | undefined;

  constructor(path: string, tap: Tap, bus: EventBus<BlkfrontEvents> | undefined) {
    this.path = path;
    this.tap = tap;
    this.bus = bus;
  }

  /** Completes requests with `status`. A completer that throws does not keep the others from their answers: see `completeAll`. */
  end(requests: readonly Carried[], status: number): void {
    const errors: unknown[] = [];
    for (const request of requests) {
      this.tell(request, status);
      try {
        request.sink(request.cookie, status);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  /** Tells who watches, and not the completer. */
  tell({ queue, id, op, sector, count: sectors }: Carried, status: number): void {
    this.tap.completed?.({ queue, op, sector, sectors, status });
    const { bus, path } = this;
    if (bus?.observed('blkfront:completed')) bus.emit('blkfront:completed', { path, queue, id, op, status });
  }
}

/** Puts requests of a former connection on rings, in their order, as long as the connection is `live`. @returns what completers threw. */
export function takeOver(rings: readonly Ring[], list: () => Carried[], live: () => boolean): unknown[] {
  const errors: unknown[] = [];
  for (const ring of rings) {
    ring.plug();
    // Off the list first: who is told of it may take others back, or ask for the end.
    while (list().length > 0 && live()) {
      const next = list().shift()!;
      try {
        if (ring.adopt(next)) continue;
        list().unshift(next);
        break;
      } catch (error) {
        errors.push(error);
      }
    }
    ring.unplug();
  }
  return errors;
}
