import type { Observable } from 'rxjs';
import type { DomId, Port } from './contract.ts';

/**
 * A typed bus of facts in the past tense. `out` lets a composer's wide bus serve a narrow package and refuses a foreign bus.
 * Facts are delivered first in first out, also those emitted from inside a handler.
 */
export interface EventBus<out Events extends object> {
  emit<T extends keyof Events & string>(type: T, data: Events[T]): void;
  on<T extends keyof Events & string>(type: T): Observable<Events[T]>;
  /** Whether anyone listens to `type`: the guard of every emission on a hot path, one branch. */
  observed<T extends keyof Events & string>(type: T): boolean;
}

/** Ends a registration. The shape of an RxJS subscription, without one. */
export interface Unsubscribable {
  unsubscribe(): void;
}

/** One domain's view of the event channels: it can name its own ports only. */
export interface EventPorts {
  /** Allocates a port that `remote` may bind to; it starts masked or unmasked as Xen leaves it (unmasked). */
  allocUnbound(remote: DomId): Port;
  /** Binds a new local port to `remotePort` of `remote`, which must have been allocated for this domain. The new port is pending at once. */
  bindInterdomain(remote: DomId, remotePort: Port): Port;
  /** Rings the other end. Never calls its handler from inside: the upcall is an item of the run queue. */
  send(port: Port): void;
  /** Handlers stand in a table by port. At most one handler a port. */
  onUpcall(port: Port, handler: () => void): Unsubscribable;
  mask(port: Port): void;
  /** Lets the port through again; raises at once what is pending. */
  unmask(port: Port): void;
  isPending(port: Port): boolean;
  clearPending(port: Port): void;
  close(port: Port): void;
}
