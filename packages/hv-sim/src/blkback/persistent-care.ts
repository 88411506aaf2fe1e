import type { QueueFacts } from './queue-facts.ts';
import type { QueueSetup } from './queue-setup.ts';

/** Looks after a queue's persistent grants: makes room where it ran out, and sees to it that idle ones go. */
export class PersistentCare {
  private readonly setup: QueueSetup;
  private readonly facts: QueueFacts;
  private readonly queue: { readonly inTurn: boolean };
  private timer: { unsubscribe(): void } | undefined = undefined;

  constructor(setup: QueueSetup, facts: QueueFacts, queue: { readonly inTurn: boolean }) {
    this.setup = setup;
    this.facts = facts;
    this.queue = queue;
  }

  /** After each turn. */
  tend(stopped: boolean): void {
    const { mappings, persistentIdleTicks } = this.setup;
    const table = mappings.persistent;
    if (table === undefined) return;
    if (mappings.overflowed) this.purge(Number.NEGATIVE_INFINITY);
    if (this.timer === undefined && table.count > 0 && !stopped) this.arm(persistentIdleTicks);
  }

  stop(): void {
    this.timer?.unsubscribe();
    this.timer = undefined;
  }

  private arm(ticks: number): void {
    const { mappings, persistentIdleTicks, scheduler } = this.setup;
    this.timer = scheduler.schedule(() => {
      this.timer = undefined;
      // A disk waits inside its call, and those of its batch count no users: `tend` follows the turn.
      if (this.queue.inTurn) return;
      const now = scheduler.now();
      this.purge(now - persistentIdleTicks);
      const oldest = mappings.persistent?.oldest() ?? -1;
      if (oldest < 0) return;
      const due = mappings.persistent!.lastUsed[oldest]! + persistentIdleTicks - now;
      this.arm(Math.max(due, Math.ceil(persistentIdleTicks / 60)));
    }, ticks);
  }

  private purge(before: number): void {
    const grants = this.setup.mappings.purge(before);
    if (grants > 0) this.facts.purged(grants);
  }
}
