import type { Observable } from 'rxjs';
import type { DomId, InvariantError, Port } from './contract.ts';

declare const facts: unique symbol;

/**
 * A typed bus of facts in the past tense. `out` lets a composer's wide bus serve a narrow package and refuses a foreign bus.
 * Facts are delivered first in first out, also those emitted from inside a handler.
 */
export interface EventBus<out Events extends object> {
  /** For the compiler alone: it tells buses of other facts apart also where the interface is extended. Never there. */
  readonly [facts]?: Events;
  /** Delivers `data` to everyone who listens to `type` now. A subscriber that throws stops neither the others nor the emitter. */
  emit<T extends keyof Events & string>(type: T, data: Events[T]): void;
  /** The facts of one type, from subscription on. The same observable every time. */
  on<T extends keyof Events & string>(type: T): Observable<Events[T]>;
  /** Whether anyone listens to `type`: the guard of every emission on a hot path, one branch. */
  observed<T extends keyof Events & string>(type: T): boolean;
}

/** What a subscriber threw, and on which fact. */
export interface BusFault {
  /** The fact's type. */
  readonly type: string;
  /** The fact's data; undefined when the error came outside a delivery, from an operator that waits for instance. */
  readonly data: unknown;
  readonly error: unknown;
}

/** Options of a bus; all have defaults. */
export interface BusOptions {
  /** How many facts may wait for delivery at once before it is an invariant's error; 2^20 unless told. */
  readonly queuedMax?: number;
}

/** The bus as its owner has it: facts, and what went wrong in those who listen. */
export interface Bus<out Events extends object> extends EventBus<Events> {
  /**
   * What subscribers threw, except invariants. Faults that nobody heard are kept (the last 64) for the first who listens.
   * An error thrown by a listener of this stream is only counted, in `faultsDropped`.
   */
  readonly errors: Observable<BusFault>;
  /** How many faults nobody has heard or will hear. */
  readonly faultsDropped: number;
  /** Whether a subscriber broke an invariant that nobody has taken yet. */
  readonly broken: boolean;
  /** The first invariant's error that a subscriber threw since the last call, for whoever runs the queue. */
  takeInvariant(): InvariantError | undefined;
  /** Throws what `takeInvariant` would give; nothing when there is none. One branch. Called after each step by whoever runs the queue. */
  rethrow(): void;
  /** Completes every stream. What is emitted later reaches nobody. */
  close(): void;
}

/** Ends a registration. The shape of an RxJS subscription, without one. */
export interface Unsubscribable {
  /** Ends it. Called again it does nothing. */
  unsubscribe(): void;
}

/** One domain's view of the event channels: it can name its own ports only. Every refusal is an {@link EvtchnError}. */
export interface EventPorts {
  /**
   * Allocates a port that `remote` may bind to (DOMID_SELF: this domain). The lowest free number, from 1 up; unmasked unless the
   * domain's own mask word says otherwise, as in Xen.
   * @throws {EvtchnError} ENOSPC: no port is left.
   */
  allocUnbound(remote: DomId): Port;
  /**
   * Binds a new local port to `remotePort` of `remote`, which must have been allocated for this domain. The new port is pending at once.
   * @throws {EvtchnError} ESRCH: no such domain. ENOSPC: no port is left. EINVAL: that port is not unbound, or not for this domain.
   */
  bindInterdomain(remote: DomId, remotePort: Port): Port;
  /**
   * Rings the other end. Never calls its handler from inside: the upcall is an item of the run queue. Rings before it merge.
   * A ring without another end is lost, as in Xen.
   * @throws {EvtchnError} EINVAL: not a port of this domain that can be rung.
   */
  send(port: Port): void;
  /**
   * Handlers stand in a table by port. At most one handler a port; it goes with the port. What is pending already is raised again.
   * @throws {EvtchnError} EINVAL: not a port of this domain. EEXIST: it has a handler.
   */
  onUpcall(port: Port, handler: () => void): Unsubscribable;
  /** Holds the port back: it can become pending, and is not raised. @throws {EvtchnError} EINVAL: past the domain's last port number. */
  mask(port: Port): void;
  /** Lets the port through again; raises at once what is pending. */
  unmask(port: Port): void;
  /** Whether it was rung and nobody has taken notice: its bit in the domain's pending words. @throws {EvtchnError} EINVAL, as `mask`. */
  isPending(port: Port): boolean;
  /** Takes notice without a handler: clears the pending bit. @throws {EvtchnError} EINVAL, as `mask`. */
  clearPending(port: Port): void;
  /**
   * Closes the port and clears its pending bit. The other end becomes unbound, for this domain to bind again.
   * @throws {EvtchnError} EINVAL: not an open port of this domain.
   */
  close(port: Port): void;
}

/** What a port is. @see xen/include/public/event_channel.h, struct evtchn_status */
export type PortStatus =
  | { readonly status: 'closed' }
  | { readonly status: 'unbound'; readonly remote: DomId }
  | { readonly status: 'interdomain'; readonly remote: DomId; readonly remotePort: Port }
  | { readonly status: 'pirq'; readonly pirq: number }
  | { readonly status: 'virq'; readonly virq: number }
  | { readonly status: 'ipi' };

/** Everything a domain may do with its own ports. */
export interface DomainPorts extends EventPorts {
  readonly domid: DomId;
  /** How many port numbers the domain has: 4096 with 64-bit words, 1024 with 32-bit ones, or less by its limit. Port 0 is reserved. */
  readonly portCount: number;
  /**
   * Binds a new port to virtual interrupt `virq` (0 to 23; 0 is the timer) of virtual CPU 0.
   * @throws {EvtchnError} EINVAL: no such interrupt. EEXIST: bound already. ENOSPC: no port is left.
   */
  bindVirq(virq: number, vcpu?: number): Port;
  /** Binds a new port that rings its own domain. @throws {EvtchnError} ENOENT: no such virtual CPU. ENOSPC. */
  bindIpi(vcpu?: number): Port;
  /** Binds a new port to physical interrupt `pirq`. @throws {EvtchnError} EINVAL: outside what the domain was given. EEXIST. ENOSPC. */
  bindPirq(pirq: number): Port;
  /** Chooses the virtual CPU that is told of the port. @throws {EvtchnError} ENOENT: any but 0. EINVAL: not a port that can be moved. */
  bindVcpu(port: Port, vcpu: number): void;
  /** @throws {EvtchnError} EINVAL: past the domain's last port number. */
  status(port: Port): PortStatus;
  /** Closes every port of the domain. */
  reset(): void;
  /** Its bit in the domain's mask words. @throws {EvtchnError} EINVAL: past the domain's last port number. */
  isMasked(port: Port): boolean;
  /** Sets the domain's `evtchn_upcall_mask`: nothing is delivered until `enableUpcalls`. */
  disableUpcalls(): void;
  /** Clears `evtchn_upcall_mask`; what waits is delivered from the run queue. */
  enableUpcalls(): void;
  /**
   * For a guest that scans its own words: `entry` runs in place of the handlers, with `evtchn_upcall_pending` still set for the
   * guest to clear. `undefined` goes back to handlers.
   */
  setUpcallEntry(entry: (() => void) | undefined): void;
}

/** Views over simulated memory. The provider renews the fields when the memory grows; nobody keeps a field. */
export interface WordViews {
  u8: Uint8Array;
  u32: Uint32Array;
}

/** Where a domain's event words stand: bytes from the start of its shared info page. All but the two byte fields are multiples of 4. */
export interface EventWordLayout {
  /** Bits of the guest's `xen_ulong_t`: decides 4096 or 1024 ports. */
  readonly wordBits: 32 | 64;
  /** `shared_info.evtchn_pending` */
  readonly pending: number;
  /** `shared_info.evtchn_mask` */
  readonly mask: number;
  /** `vcpu_info[0].evtchn_upcall_pending` */
  readonly upcallPending: number;
  /** `vcpu_info[0].evtchn_upcall_mask` */
  readonly upcallMask: number;
  /** `vcpu_info[0].evtchn_pending_sel` */
  readonly pendingSel: number;
}

/** A domain as event channels know it. */
export interface EventDomainOptions {
  readonly domid: DomId;
  readonly views: WordViews;
  /** Where the shared info page starts in the views: bytes, a multiple of 4. */
  readonly offset: number;
  readonly layout: EventWordLayout;
  /** The highest port number the domain may use (`max_evtchn_port` of its creation); the words' limit unless told. */
  readonly portMax?: number;
  /** How many physical interrupts the domain may bind; 0 unless told. */
  readonly pirqs?: number;
}

/** The run queue as event channels need it. */
export interface UpcallQueue {
  /** `domain` has something pending: call `deliver(domain)` later, from the queue. Never called twice before that. */
  schedule(domain: DomId): void;
}

/** What moved, since the domain was added. */
export interface DoorbellCounts {
  /** Rings by this domain's `send` (and by virtual interrupts to it) that were accepted. */
  readonly sent: number;
  /** Of those, rings that found the other end pending already. */
  readonly merged: number;
  /** Of those, rings without another end. */
  readonly dropped: number;
  /** Times that the domain was woken to look at its words. */
  readonly upcalls: number;
  /** Handlers that ran. */
  readonly handled: number;
}

/** The hypervisor's side of event channels: all domains. For the machine and the toolstack; a domain gets its {@link DomainPorts}. */
export interface EventChannels {
  /** @throws {EvtchnError} EEXIST: the domid is taken. @throws {RangeError} a layout that does not fit the views. */
  addDomain(options: EventDomainOptions): DomainPorts;
  /** Closes every port of the domain, as its death does; its capability refuses from now on. Nothing when there is no such domain. */
  removeDomain(domid: DomId): void;
  /** The domain's capability. @throws {EvtchnError} ESRCH */
  domain(domid: DomId): DomainPorts;
  /** Whether the domain was added and not removed. */
  hasDomain(domid: DomId): boolean;
  /** `send` of a hypercall layer: 0 or a negative errno, nothing thrown, nothing allocated. */
  trySend(domid: DomId, port: number): number;
  /** `unmask` of a hypercall layer: 0 or a negative errno. */
  tryUnmask(domid: DomId, port: number): number;
  /** Raises a virtual interrupt; false when the domain has not bound it. */
  raiseVirq(domid: DomId, virq: number): boolean;
  /** Sets a port pending without a sender, as hardware or a fault does; false when the port is not open. */
  raise(domid: DomId, port: number): boolean;
  /** Schedules the domain if an upcall is pending and not masked: for a guest that cleared its upcall mask by itself. */
  kick(domid: DomId): void;
  /** While `on`, every newly pending port schedules the domain even if masked, as for a domain in `SCHEDOP_poll`. */
  poll(domid: DomId, on: boolean): void;
  /**
   * Delivers what is pending in a domain: selector words first, then pending words without masked ports; a pending bit is
   * cleared and its handler called, each port at most once. What is raised meanwhile is scheduled again. A handler's error
   * leaves at once; what was not yet delivered stays pending and scheduled.
   * @returns how many handlers ran.
   */
  deliver(domid: DomId): number;
  /** Counts of one domain, as they are now. @throws {EvtchnError} ESRCH */
  counts(domid: DomId): DoorbellCounts;
  /** Counts over all domains that are or were there. */
  totals(): DoorbellCounts;
  /** Calls `visit` for every open port of a domain, from the lowest: for ledgers. */
  eachPort(domid: DomId, visit: (port: Port, status: PortStatus) => void): void;
}
