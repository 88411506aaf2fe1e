import { createEventBus, type EventBus } from '@paravirt/event-bus';
import { InvariantError, invariant } from '@paravirt/event-bus/contract';
import { recordBus } from '@paravirt/event-bus/testing';
import { config, filter, firstValueFrom, map, merge, share } from 'rxjs';
import { afterEach, beforeEach, describe, expect, expectTypeOf, it } from 'vitest';

interface Facts {
  'a:one': number;
  'a:two': { text: string };
  'b:gone': undefined;
}

const unhandled: unknown[] = [];
beforeEach(() => {
  unhandled.length = 0;
  config.onUnhandledError = (error) => unhandled.push(error);
});
afterEach(async () => {
  // Whatever RxJS hands to a host timer has come by the next turn.
  await new Promise((resolve) => setTimeout(resolve, 0));
  config.onUnhandledError = null;
  expect(unhandled).toEqual([]);
});

const boom = (): never => {
  throw new Error('boom');
};

describe('delivery', () => {
  it('reaches every listener of the type, and nobody else', () => {
    const bus = createEventBus<Facts>();
    const { facts, stop } = recordBus<Facts>(bus, ['a:one', 'a:two']);
    bus.emit('a:one', 1);
    bus.emit('b:gone', undefined);
    bus.emit('a:two', { text: 'x' });
    stop();
    bus.emit('a:one', 2);
    expect(facts).toEqual([
      { type: 'a:one', data: 1 },
      { type: 'a:two', data: { text: 'x' } },
    ]);
  });

  it('is first in first out, also for what a handler emits', () => {
    const bus = createEventBus<Facts>();
    const seen: string[] = [];
    bus.on('a:one').subscribe((n) => {
      seen.push(`A${n}`);
      if (n < 3) {
        bus.emit('a:one', n + 1);
        bus.emit('a:two', { text: `after ${n}` });
      }
    });
    bus.on('a:one').subscribe((n) => seen.push(`B${n}`));
    bus.on('a:two').subscribe(({ text }) => seen.push(text));
    bus.emit('a:one', 1);
    expect(seen.join(', ')).toBe('A1, B1, A2, B2, after 1, A3, B3, after 2');
  });

  it('keeps its order over many facts from inside handlers', () => {
    const bus = createEventBus<Facts>();
    const { facts } = recordBus<Facts>(bus, ['a:one']);
    bus.on('a:two').subscribe(() => {
      for (let i = 0; i < 5000; i += 1) bus.emit('a:one', i);
    });
    bus.on('a:one').subscribe((n) => {
      if (n < 5000) bus.emit('a:one', n + 5000);
    });
    bus.emit('a:two', { text: '' });
    expect(facts.map(({ data }) => data)).toEqual(Array.from({ length: 10000 }, (_, i) => i));
  });

  it('passes by those who left while it went on', () => {
    const bus = createEventBus<Facts>();
    const seen: string[] = [];
    bus.on('a:one').subscribe(() => second.unsubscribe());
    const second = bus.on('a:one').subscribe(() => seen.push('second'));
    bus.emit('a:one', 1);
    expect(seen).toEqual([]);
  });

  it('says whether anyone listens', () => {
    const bus = createEventBus<Facts>();
    expect(bus.observed('a:one')).toBe(false);
    const subscription = bus.on('a:one').subscribe();
    const other = bus.on('a:one').pipe(filter(Boolean)).subscribe();
    expect([bus.observed('a:one'), bus.observed('a:two')]).toEqual([true, false]);
    subscription.unsubscribe();
    expect(bus.observed('a:one')).toBe(true);
    other.unsubscribe();
    expect(bus.observed('a:one')).toBe(false);
  });

  it('works with operators and promises', async () => {
    const bus = createEventBus<Facts>();
    const first = firstValueFrom(
      bus.on('a:one').pipe(
        filter((n) => n > 1),
        map((n) => n * 10),
      ),
    );
    bus.emit('a:one', 1);
    bus.emit('a:one', 2);
    expect(await first).toBe(20);
    expect(bus.observed('a:one')).toBe(false);
  });

  it('completes its streams when it is closed, and is silent from then on', () => {
    const bus = createEventBus<Facts>();
    const ends: string[] = [];
    bus.on('a:one').subscribe({ next: () => ends.push('fact'), complete: () => ends.push('complete') });
    bus.errors.subscribe({ complete: () => ends.push('errors') });
    bus.close();
    bus.close();
    bus.emit('a:one', 1);
    bus.on('a:two').subscribe({ complete: () => ends.push('late') });
    expect(ends).toEqual(['complete', 'errors', 'late']);
  });

  it('refuses to queue facts without end', () => {
    const bus = createEventBus<Facts>({ queuedMax: 10 });
    bus.on('a:one').subscribe((n) => {
      bus.emit('a:one', n + 1);
      bus.emit('a:one', n + 1);
    });
    bus.on('a:one').subscribe();
    // Each fact makes two: the queue grows until the bus calls it a broken promise; then it runs dry or breaks again, but ends.
    let rounds = 0;
    bus.on('a:one').subscribe((n) => {
      rounds = Math.max(rounds, n);
      if (n > 40) bus.close();
    });
    bus.emit('a:one', 1);
    expect(() => bus.rethrow()).toThrow(InvariantError);
    expect(rounds).toBeLessThan(60);
  });
});

describe('a subscriber that throws', () => {
  it('neither stops the others nor reaches the emitter, and is reported with its fact', () => {
    const bus = createEventBus<Facts>();
    const faults: unknown[] = [];
    bus.errors.subscribe((fault) => faults.push(fault));
    const seen: number[] = [];
    bus.on('a:one').subscribe(boom);
    bus.on('a:one').subscribe({ next: boom });
    bus.on('a:one').subscribe((n) => seen.push(n));
    bus.emit('a:one', 7);
    bus.emit('a:one', 8);
    expect(seen).toEqual([7, 8]);
    const fault = { type: 'a:one', error: new Error('boom') };
    expect(faults).toEqual([7, 7, 8, 8].map((data) => ({ ...fault, data })));
  });

  it('is reported behind operators and combinations too, never through a host timer', () => {
    const bus = createEventBus<Facts>();
    const faults: unknown[] = [];
    bus.errors.subscribe(({ type }) => faults.push(type));
    const seen: unknown[] = [];
    bus.on('a:one').pipe(map(boom)).subscribe();
    bus.on('a:one').pipe(filter(Boolean)).subscribe(boom);
    const shared = bus.on('a:one').pipe(share());
    shared.subscribe(boom);
    shared.subscribe((n) => seen.push(n));
    merge(bus.on('a:one'), bus.on('a:two')).subscribe(boom);
    merge(bus.on('a:one'), bus.on('a:two')).subscribe((data) => seen.push(data));
    bus.emit('a:one', 1);
    expect(seen).toEqual([1, 1]);
    expect(faults).toEqual(['a:one', 'a:one', 'a:one', 'a:one']);
    bus.emit('a:two', { text: '' });
    expect(faults).toHaveLength(5);
    expect(config.useDeprecatedSynchronousErrorHandling).toBe(false);
  });

  it('is reported when it throws on error or completion', () => {
    const bus = createEventBus<Facts>();
    const faults: unknown[] = [];
    bus.errors.subscribe(({ error }) => faults.push((error as Error).message));
    bus
      .on('a:one')
      .pipe(
        map(() => {
          throw new Error('first');
        }),
      )
      .subscribe({ error: boom });
    bus.on('a:two').subscribe({ complete: boom });
    bus.emit('a:one', 1);
    expect(faults).toEqual(['boom']);
    bus.close();
  });

  it('is kept for the first who listens when nobody does, up to a bound', () => {
    const bus = createEventBus<Facts>();
    bus.on('a:one').subscribe(boom);
    for (let i = 0; i < 70; i += 1) bus.emit('a:one', i);
    expect(bus.faultsDropped).toBe(6);
    const kept: unknown[] = [];
    bus.errors.subscribe(({ data }) => kept.push(data));
    expect(kept).toEqual(Array.from({ length: 64 }, (_, i) => i + 6));
    const later: unknown[] = [];
    bus.errors.subscribe((fault) => later.push(fault));
    expect(later).toEqual([]);
  });

  it('is only counted when it listens to faults itself', () => {
    const bus = createEventBus<Facts>();
    bus.errors.subscribe(boom);
    bus.on('a:one').subscribe(boom);
    bus.emit('a:one', 1);
    expect(bus.faultsDropped).toBe(1);
  });
});

describe('a broken invariant', () => {
  it('is kept from the emitter and rethrown by whoever runs the queue', () => {
    const bus = createEventBus<Facts>();
    const faults: unknown[] = [];
    bus.errors.subscribe((fault) => faults.push(fault));
    const seen: number[] = [];
    bus.on('a:one').subscribe((n) => invariant(n !== 2, () => `saw ${n}`));
    bus.on('a:one').subscribe((n) => seen.push(n));
    bus.emit('a:one', 1);
    expect(bus.broken).toBe(false);
    bus.rethrow();
    bus.emit('a:one', 2);
    expect(seen).toEqual([1, 2]);
    expect(bus.broken).toBe(true);
    expect(() => bus.rethrow()).toThrow(new InvariantError('saw 2'));
    expect(bus.broken).toBe(false);
    bus.rethrow();
    expect(faults).toEqual([]);
  });

  it('keeps the first of several, from a combination or a listener of faults too', () => {
    const bus = createEventBus<Facts>();
    merge(bus.on('a:one'), bus.on('a:two')).subscribe((data) => invariant(false, () => `first ${String(data)}`));
    bus.on('a:one').subscribe(() => invariant(false, () => 'second'));
    bus.emit('a:one', 1);
    expect(bus.takeInvariant()?.message).toBe('first 1');
    expect(bus.takeInvariant()).toBeUndefined();
    bus.errors.subscribe(() => invariant(false, () => 'third'));
    bus.on('a:two').subscribe(boom);
    bus.emit('a:two', { text: '' });
    expect(bus.broken).toBe(true);
  });
});

describe('two buses', () => {
  it('report each to itself, also when one emits inside the other', () => {
    const outer = createEventBus<Facts>();
    const inner = createEventBus<Facts>();
    const faults: string[] = [];
    outer.errors.subscribe(({ data }) => faults.push(`outer ${String(data)}`));
    inner.errors.subscribe(({ data }) => faults.push(`inner ${String(data)}`));
    outer.on('a:one').subscribe((n) => inner.emit('a:one', n + 1));
    inner.on('a:one').subscribe(boom);
    outer.on('a:one').subscribe(boom);
    outer.emit('a:one', 1);
    expect(faults).toEqual(['inner 2', 'outer 1']);
  });
});

it('serves a narrow package with a wide bus, and refuses a foreign one, by type', () => {
  const wide = createEventBus<Facts>();
  expectTypeOf(wide).toExtend<EventBus<Pick<Facts, 'a:one'>>>();
  const narrow: EventBus<Pick<Facts, 'a:one'>> = wide;
  expectTypeOf(createEventBus<{ other: number }>()).not.toExtend<EventBus<Facts>>();
  // @ts-expect-error a fact that the bus does not have
  wide.emit('c:three', 1);
  // @ts-expect-error data of another fact
  wide.emit('a:one', { text: '' });
  expect(narrow.observed('a:one')).toBe(false);
});
