import {
  type Attached,
  type DomId,
  domId,
  type Gfn,
  gfn,
  gref,
  InvariantError,
  invariant,
  mfn,
  missing,
  type Plugin,
  port,
  slotId,
  vfn,
} from '@paravirt/event-bus/contract';
import { describe, expect, expectTypeOf, it } from 'vitest';

describe('brands', () => {
  it.each([
    ['domid', domId, 0x7fff],
    ['gfn', gfn, 2 ** 52 - 1],
    ['mfn', mfn, 2 ** 52 - 1],
    ['vfn', vfn, 2 ** 52 - 1],
    ['gref', gref, 2 ** 32 - 1],
    ['port', port, 2 ** 32 - 1],
    ['slot id', slotId, 65535],
  ] as const)('lets a %s be a whole number in its range, and nothing else', (name, make, max) => {
    expect([make(0), make(max)]).toEqual([0, max]);
    for (const bad of [-1, max + 1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => make(bad)).toThrow(new RangeError(`${name} is ${bad}; allowed is a whole number from 0 to ${max}`));
    }
  });

  it('keep numbers apart by type', () => {
    expectTypeOf(domId(1)).toExtend<number>();
    expectTypeOf<number>().not.toExtend<DomId>();
    expectTypeOf<DomId>().not.toExtend<Gfn>();
    expectTypeOf<Gfn>().not.toExtend<DomId>();
  });
});

describe('invariant', () => {
  it('throws its own error, and builds the message only then', () => {
    let built = 0;
    const message = (): string => {
      built += 1;
      return 'broken';
    };
    invariant(true, message);
    expect(built).toBe(0);
    expect(() => invariant(false, message)).toThrow(new InvariantError('broken'));
  });

  it('narrows what it checks, by type', () => {
    const value = 1 as number | string;
    invariant(typeof value === 'number', () => 'a number');
    expectTypeOf(value).toEqualTypeOf<number>();
  });
});

interface Deps {
  bus: { emit(): void };
  clock: { now(): number };
}

const plugin: Plugin<Deps, { ticks(): number }> = {
  name: 'ticker',
  requires: ['bus', 'clock'],
  attach: ({ clock }) => ({ api: { ticks: () => clock.now() }, detach: () => undefined }),
};

describe('a plugin', () => {
  it('is typed by what it needs and what it offers', () => {
    expectTypeOf(plugin.attach).parameter(0).toEqualTypeOf<Deps>();
    expectTypeOf(plugin.attach).returns.toEqualTypeOf<Attached<{ ticks(): number }>>();
    expectTypeOf(plugin.requires).toEqualTypeOf<readonly ('bus' | 'clock')[]>();
    // @ts-expect-error a name that is no dependency
    const wrong: Plugin<Deps, undefined> = { name: '', requires: ['store'], attach: () => ({ api: undefined, detach: () => undefined }) };
    expect(wrong.requires).toEqual(['store']);
    const wide = { bus: { emit: () => undefined }, clock: { now: () => 7 }, store: {} };
    expect(plugin.attach(wide).api.ticks()).toBe(7);
  });

  it('can be asked what it lacks', () => {
    expectTypeOf(missing(plugin, {})).toEqualTypeOf<('bus' | 'clock')[]>();
    expect(missing(plugin, {})).toEqual(['bus', 'clock']);
    expect(missing(plugin, { clock: {} })).toEqual(['bus']);
    expect(missing(plugin, { clock: {}, bus: undefined })).toEqual(['bus']);
    expect(missing(plugin, { clock: {}, bus: {}, other: {} })).toEqual([]);
  });
});
