import { createEventBus, type EventBus } from '@paravirt/event-bus';
import type { Plugin } from '@paravirt/event-bus/contract';
import { type PluginFixture, pluginSuite } from '@paravirt/event-bus/testing';
import { describe, expect, it } from 'vitest';

interface Facts {
  'clock:ticked': number;
}

/** A place to take things from and give them back to. */
class Shelf {
  readonly out = new Set<number>();
  #next = 0;
  take(): number {
    this.#next += 1;
    this.out.add(this.#next);
    return this.#next;
  }
  give(item: number): void {
    this.out.delete(item);
  }
}

interface Deps {
  bus: EventBus<Facts>;
  shelf: Shelf;
}

type Attach = Plugin<Deps, { items: number[] }>['attach'];

/** Takes two items and listens; gives all back, also when it fails half-way. */
const good: Attach = ({ bus, shelf }) => {
  const undo: (() => void)[] = [];
  const detach = (): void => {
    for (const back of undo.splice(0).reverse()) back();
  };
  try {
    const items = [0, 1].map(() => {
      const item = shelf.take();
      undo.push(() => shelf.give(item));
      return item;
    });
    const subscription = bus.on('clock:ticked').subscribe((n) => items.push(n));
    undo.push(() => subscription.unsubscribe());
    return { api: { items }, detach };
  } catch (error) {
    detach();
    throw error;
  }
};

function fixture(attach: Attach, requires: readonly ('bus' | 'shelf')[] = ['bus', 'shelf'], name = 'taker') {
  return (): PluginFixture<Deps, { items: number[] }> => {
    const shelf = new Shelf();
    const bus = createEventBus<Facts>();
    return {
      plugin: { name, requires, attach },
      deps: { bus, shelf },
      held: () => ({ items: shelf.out.size, listening: bus.observed('clock:ticked') }),
      use: () => bus.emit('clock:ticked', 1),
    };
  };
}

pluginSuite({ describe, it }, 'a plugin that keeps the rules', fixture(good));

/** Runs the suite and tells which of its tests fail. */
function failures(make: () => PluginFixture<Deps, { items: number[] }>): string[] {
  const failed: string[] = [];
  const tools = {
    describe: (_: string, body: () => void) => body(),
    it: (title: string, body: () => void) => {
      try {
        body();
      } catch {
        failed.push(title);
      }
    },
  };
  pluginSuite(tools, 'trial', make);
  return failed;
}

const GIVES_BACK = 'gives back all it holds when it is detached, and attaches again';
const UNDOES = 'undoes everything when any call of its attach fails';
const REQUIRES = 'uses no dependency that it does not require';

describe('the plugin suite', () => {
  it('passes a plugin that keeps the rules', () => {
    expect(failures(fixture(good))).toEqual([]);
  });

  it('catches a plugin that keeps something', () => {
    const keeper: Attach = (deps) => ({ ...good(deps), detach: () => undefined });
    expect(failures(fixture(keeper))).toContain(GIVES_BACK);
  });

  it('catches a plugin that keeps listening', () => {
    const listener: Attach = (deps) => {
      deps.bus.on('clock:ticked').subscribe();
      return good(deps);
    };
    expect(failures(fixture(listener))).toContain(GIVES_BACK);
  });

  it('catches a plugin that leaves half of itself behind when it fails', () => {
    const careless: Attach = ({ bus, shelf }) => {
      const items = [shelf.take(), shelf.take()];
      const subscription = bus.on('clock:ticked').subscribe();
      return {
        api: { items },
        detach: () => {
          subscription.unsubscribe();
          for (const item of items) shelf.give(item);
        },
      };
    };
    expect(failures(fixture(careless))).toEqual([UNDOES]);
  });

  it('catches a plugin that uses what it does not require, or says it wrongly', () => {
    expect(failures(fixture(good, ['bus']))).toContain(REQUIRES);
    expect(failures(fixture(good, ['bus', 'shelf', 'bus']))).toContain('has a name, and requires each dependency once');
    expect(failures(fixture(good, ['bus', 'shelf'], ''))).toEqual(['has a name, and requires each dependency once']);
  });
});
