import type { EventPorts } from '@paravirt/event-bus';
import type { Port } from '@paravirt/event-bus/contract';
import type { BackRing } from '@paravirt/xen-abi';
import { isRefusal } from './errors.ts';
import type { QueueFacts } from './queue-facts.ts';
import type { QueueSetup } from './queue-setup.ts';
import type { BlkbackCounters } from './types.ts';

/** Shows a frontend the answers that were written, and rings it where it asked for that. */
export class Publisher {
  private readonly ring: BackRing;
  /** Responses the frontend was shown; its copy of the index is not to be trusted. */
  private published: number;
  private readonly facts: QueueFacts;
  private readonly events: EventPorts;
  private readonly port: Port;
  private readonly counters: BlkbackCounters;
  private readonly setup: QueueSetup;

  constructor(setup: QueueSetup, ring: BackRing, facts: QueueFacts) {
    this.ring = ring;
    this.published = setup.rspProd;
    this.facts = facts;
    this.events = setup.events;
    this.port = setup.port;
    this.counters = setup.counters;
    this.setup = setup;
  }

  /** @returns whether there was anything to show. */
  publish(): boolean {
    const { ring } = this;
    if (ring.rspProdPvt === this.published || this.facts.gone) return false;
    this.published = ring.rspProdPvt;
    if (ring.push()) {
      this.counters.doorbellsOut++;
      this.send();
    }
    return true;
  }

  private send(): void {
    try {
      this.events.send(this.port);
    } catch (error) {
      // A disk may have ended this very domain.
      if (!isRefusal(error) || this.setup.alive()) throw error;
    }
  }
}
