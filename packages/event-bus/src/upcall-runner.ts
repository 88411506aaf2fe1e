import type { DomId } from './contract.ts';
import type { EventChannels, UpcallQueue } from './types.ts';

/** A queue of domains to be woken, first come first served, for those who have no machine to run. */
export interface UpcallRunner extends UpcallQueue {
  /** How many domains wait. */
  readonly waiting: number;
  /**
   * Delivers until nobody waits, or `stepsMax` domains were woken. What a handler throws leaves at once; the rest still waits.
   * @returns how many domains were woken.
   */
  run(channels: Pick<EventChannels, 'deliver'>, stepsMax?: number): number;
}

class Runner implements UpcallRunner {
  /** A ring of a power of two; the counters run on. */
  #ring = new Uint16Array(16);
  #taken = 0;
  waiting = 0;

  schedule(domain: DomId): void {
    if (this.waiting === this.#ring.length) this.#grow();
    this.#ring[(this.#taken + this.waiting) & (this.#ring.length - 1)] = domain;
    this.waiting += 1;
  }

  run(channels: Pick<EventChannels, 'deliver'>, stepsMax = Number.POSITIVE_INFINITY): number {
    let steps = 0;
    while (this.waiting > 0 && steps < stepsMax) {
      const domain = this.#ring[this.#taken]!;
      this.#taken = (this.#taken + 1) & (this.#ring.length - 1);
      this.waiting -= 1;
      steps += 1;
      channels.deliver(domain as DomId);
    }
    return steps;
  }

  #grow(): void {
    const ring = new Uint16Array(this.#ring.length * 2);
    for (let i = 0; i < this.waiting; i += 1) ring[i] = this.#ring[(this.#taken + i) & (this.#ring.length - 1)]!;
    this.#ring = ring;
    this.#taken = 0;
  }
}

/** Makes an {@link UpcallRunner}. Cost of a step: O(1), nothing allocated. */
export function createUpcallRunner(): UpcallRunner {
  return new Runner();
}
