import type { Unsubscribable } from '@paravirt/event-bus';
import type { Completion } from './queue-parts.ts';

interface Listening<F> {
  readonly call: F;
  live: boolean;
}

/**
 * Who is told of something, in the order of coming. Each subscription is one of its own, whatever function it names. Whoever comes or
 * goes while all are told changes nothing for the others: who went is not called any more, who came is told the next time.
 */
export class Listeners<F> {
  /** To be gone through by who tells; a change puts another array here. */
  all: readonly Listening<F>[] = [];

  add(call: F): Unsubscribable {
    const mine: Listening<F> = { call, live: true };
    this.all = [...this.all, mine];
    return {
      unsubscribe: () => {
        if (!mine.live) return;
        mine.live = false;
        this.all = this.all.filter((listening) => listening !== mine);
      },
    };
  }
}

/** Who listens to completions. */
export class Tap {
  /** Tells all of them; null while there are none, so that a request costs one branch then. */
  completed: ((completion: Completion) => void) | null = null;
  private readonly listeners: Listeners<(completion: Completion) => void> = new Listeners();

  add(listener: (completion: Completion) => void): Unsubscribable {
    const listening = this.listeners.add(listener);
    this.completed = this.tell;
    return {
      unsubscribe: () => {
        listening.unsubscribe();
        if (this.listeners.all.length === 0) this.completed = null;
      },
    };
  }

  private readonly tell = (completion: Completion): void => {
    for (const { call, live } of this.listeners.all) if (live) call(completion);
  };
}
