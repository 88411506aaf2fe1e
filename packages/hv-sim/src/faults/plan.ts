import type { EventBus } from '@paravirt/event-bus';
import { HvError } from '../errors.ts';
import type { HvEvents } from '../events.ts';
import type { Pulse } from '../time/pulse.ts';
import type { Random } from '../time/random.ts';

/** The boundaries at which a fault can be asked for. */
export type FaultKind =
  /** `pages.alloc` gives nothing. */
  | 'page-alloc'
  /** The machine has no frame: for `heap.alloc` and ballooning. */
  | 'frame-alloc'
  /** The grant table cannot grow, so no further reference can be had. */
  | 'ref-alloc'
  /** One element of a map batch fails with GNTST_general_error. */
  | 'map-fail'
  /** One element of a map batch says GNTST_eagain. */
  | 'map-eagain'
  /** One element of a copy batch fails with GNTST_general_error. */
  | 'copy-fail'
  /** A doorbell is swallowed. */
  | 'doorbell-lost'
  /** A doorbell rings later, by `ticks`. */
  | 'doorbell-late'
  /** A doorbell rings twice: at once and again after `ticks`. */
  | 'doorbell-doubled'
  /** After a step a port of the domain rings without anybody having rung. */
  | 'doorbell-spurious'
  /** A store transaction is refused with EAGAIN. */
  | 'store-conflict'
  /** A mapped page counts as in use although nobody uses it. */
  | 'page-held'
  /** The domain is paused for `ticks`. */
  | 'domain-paused'
  /** The domain is killed. */
  | 'domain-killed';

/** A fault that is asked for: where, and when. With no `when` at all it fires at the first opportunity. */
export interface FaultRequest {
  readonly kind: FaultKind;
  /** Names it in reports. Default: kind and position in the list. */
  readonly name?: string;
  /** Only for this domain. Default: any. */
  readonly domid?: number;
  /** Chance at each opportunity, 0 to 1. */
  readonly probability?: number;
  /** Fires at this opportunity, counted from 1. */
  readonly atReach?: number;
  /** Fires at the first opportunity from this step on. */
  readonly atStep?: number;
  /** Fires at most so often. Default 1, or without limit with `probability`. */
  readonly times?: number;
  /** Milliseconds, for the kinds that last. Default 1. */
  readonly ticks?: number;
}

/** What became of a request. */
export interface FaultCount {
  readonly name: string;
  readonly kind: FaultKind;
  /** How often it was asked for; Infinity without limit. */
  readonly requested: number;
  /** Opportunities met. */
  readonly reached: number;
  readonly fired: number;
}

class Fault {
  readonly request: FaultRequest;
  readonly name: string;
  readonly times: number;
  readonly ticks: number;
  readonly random: Random;
  reached = 0;
  fired = 0;

  constructor(request: FaultRequest, name: string, random: Random) {
    this.request = request;
    this.name = name;
    this.times = request.times ?? (request.probability === undefined ? 1 : Number.POSITIVE_INFINITY);
    this.ticks = request.ticks ?? 1;
    this.random = random;
  }

  fires(domid: number, step: number): boolean {
    const { domid: only, probability, atReach, atStep } = this.request;
    if (only !== undefined && only !== domid) return false;
    this.reached++;
    if (this.fired >= this.times) return false;
    if (atStep !== undefined && step < atStep) return false;
    if (atReach !== undefined && this.reached < atReach) return false;
    if (probability !== undefined && !this.random.chance(probability)) return false;
    this.fired++;
    return true;
  }
}

/** The faults of a machine, and how they fared. */
export class FaultPlan {
  readonly #byKind: Map<FaultKind, Fault[]> = new Map();
  readonly #all: Fault[] = [];
  readonly #random: Random;
  readonly #pulse: Pulse;
  readonly #bus: EventBus<HvEvents>;
  /** Whether the filters stand: requests are taken only then. */
  readonly armed: boolean;

  constructor(requests: readonly FaultRequest[] | undefined, random: Random, pulse: Pulse, bus: EventBus<HvEvents>) {
    this.#random = random;
    this.#pulse = pulse;
    this.#bus = bus;
    this.armed = requests !== undefined;
    for (const request of requests ?? []) this.request(request);
  }

  /**
   * Asks for one more fault.
   * @throws {HvError} `bad-argument`: the machine was made without `faults`, or the numbers make no sense.
   */
  request(request: FaultRequest): void {
    const refuse = (argument: string, value: unknown, allowed: string): never => {
      throw new HvError({ code: 'bad-argument', argument, value: String(value), allowed });
    };
    if (!this.armed) refuse('fault', request.kind, 'none: the machine was made without the option faults');
    const { probability, atReach, atStep, times, ticks } = request;
    if (probability !== undefined && !(probability >= 0 && probability <= 1)) refuse('probability', probability, '0 to 1');
    if (atReach !== undefined && !(Number.isInteger(atReach) && atReach >= 1)) refuse('atReach', atReach, 'a whole number from 1');
    if (atStep !== undefined && !(Number.isInteger(atStep) && atStep >= 0)) refuse('atStep', atStep, 'a whole number from 0');
    if (times !== undefined && !(times >= 1)) refuse('times', times, '1 or more');
    if (ticks !== undefined && !(ticks >= 0)) refuse('ticks', ticks, '0 or more');
    const name = request.name ?? `${request.kind}#${this.#all.length}`;
    const fault = new Fault(request, name, this.#random.split(name));
    this.#all.push(fault);
    const list = this.#byKind.get(request.kind);
    if (list === undefined) this.#byKind.set(request.kind, [fault]);
    else list.push(fault);
  }

  /** Whether any fault of a kind was asked for. */
  wants(kind: FaultKind): boolean {
    return this.#byKind.has(kind);
  }

  /** An opportunity for `kind` in domain `domid`: what lasts it lasts, in milliseconds, or -1 when nothing fires. */
  strike(kind: FaultKind, domid: number): number {
    const list = this.#byKind.get(kind);
    if (list === undefined) return -1;
    let ticks = -1;
    for (const fault of list) {
      if (!fault.fires(domid, this.#pulse.steps) || ticks >= 0) continue;
      ticks = fault.ticks;
      this.#pulse.noteText(fault.name);
      if (this.#bus.observed('hv:faulted')) this.#bus.emit('hv:faulted', { fault: fault.name, step: this.#pulse.steps });
    }
    return ticks;
  }

  /** Requested, reached and fired, fault by fault. */
  report(): readonly FaultCount[] {
    return this.#all.map(({ name, request, times, reached, fired }) => ({ name, kind: request.kind, requested: times, reached, fired }));
  }

  /** @throws {HvError} `fault-never-fired`: a run in which a requested fault never fired has tested nothing. */
  expectAllFired(): void {
    const silent = this.#all.filter((fault) => fault.fired === 0 && fault.request.probability !== 0);
    if (silent.length > 0) {
      throw new HvError({ code: 'fault-never-fired', faults: silent.map((fault) => `${fault.name} (reached ${fault.reached})`) });
    }
  }
}
