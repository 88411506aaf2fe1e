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

/** Makes an {@link UpcallRunner}. Cost of a step: O(1), nothing allocated. */
export function createUpcallRunner(): UpcallRunner {
  const domains: DomId[] = [];
  let head = 0;
  return {
    get waiting() {
      return domains.length - head;
    },
    schedule(domain) {
      domains.push(domain);
    },
    run(channels, stepsMax = Number.POSITIVE_INFINITY) {
      let steps = 0;
      while (head < domains.length && steps < stepsMax) {
        const domain = domains[head]!;
        head += 1;
        if (head === domains.length) {
          domains.length = 0;
          head = 0;
        } else if (head >= 1024 && head * 2 > domains.length) {
          domains.splice(0, head);
          head = 0;
        }
        steps += 1;
        channels.deliver(domain);
      }
      return steps;
    },
  };
}
