import { createEventBus } from '@paravirt/event-bus';
import { describe, expect, it } from 'vitest';
import {
  createMemslots,
  type Memslots,
  MemslotsError,
  type MemslotsEvents,
  memslots as memslotsPlugin,
  type SlotChange,
} from '../src/index.ts';
import { slotsFixture } from '../src/testing.ts';

const HOST = 0x7000_0000_0000;
const caught = (call: () => unknown): unknown => {
  try {
    call();
  } catch (error) {
    return error;
  }
  return undefined;
};

describe('the change protocol', () => {
  it('takes the steps of a create and of flags in order: prepare, install, generation, commit', () => {
    const { memslots, steps } = slotsFixture();
    memslots.createSlot({ id: 4, baseGfn: 8, pages: 2, userspaceAddr: HOST });
    memslots.setFlags(4, 1);
    expect(steps).toEqual([
      ['prepare', 'create'],
      ['install', 0, 0],
      ['generation', 0, 2],
      ['commit', 'create'],
      ['prepare', 'flags'],
      ['install', 0, 2],
      ['generation', 0, 4],
      ['commit', 'flags'],
    ]);
  });

  it('publishes the slot as invalid first when it is deleted or moved: found, but neither translated nor visible', () => {
    const fixture = slotsFixture();
    const { memslots } = fixture;
    memslots.createSlot({ id: 4, baseGfn: 8, pages: 2, userspaceAddr: HOST });
    const seen: unknown[] = [];
    fixture.onFlush = () =>
      seen.push([
        memslots.lookup(0, 8),
        memslots.translate(0, 8),
        memslots.translateRead(0, 8),
        memslots.gfnToHva(0, 9),
        memslots.isVisibleGfn(0, 8),
        memslots.snapshot().gfnToHva(8),
        memslots.generation(0),
      ]);
    memslots.moveSlot(4, 20);
    memslots.deleteSlot(4);
    expect(seen).toEqual([
      [4, -1, -1, -1, false, -1, 4],
      [-1, -1, -1, -1, false, -1, 8],
    ]);
    expect(fixture.steps.slice(4).map(([step]) => step)).toEqual([
      ...['install', 'generation', 'flush', 'prepare', 'install', 'generation', 'commit'],
      ...['install', 'generation', 'flush', 'prepare', 'install', 'generation', 'commit'],
    ]);
  });

  it('puts the slot back when the preparation of a delete or move fails, at the price of two generations', () => {
    const fixture = slotsFixture();
    const { memslots } = fixture;
    memslots.createSlot({ id: 4, baseGfn: 8, pages: 2, userspaceAddr: HOST, flags: 1 });
    memslots.markPageDirty(0, 9);
    fixture.refuseWith = -12;
    for (const call of [() => memslots.moveSlot(4, 20), () => memslots.deleteSlot(4)]) {
      expect(caught(call)).toMatchObject({ refusal: { code: 'prepare', errno: 'ENOMEM', ret: -12 } });
    }
    expect(memslots.generation(0)).toBe(10);
    expect([memslots.translate(0, 9), memslots.translate(0, 20)]).toEqual([HOST + 4096, -1]);
    expect(memslots.getDirtyLog(4).runs).toEqual([[1, 1]]);
    expect(caught(() => memslots.createSlot({ id: 5, baseGfn: 90, pages: 1, userspaceAddr: HOST }))).toMatchObject({
      refusal: { ret: -12 },
    });
    expect(caught(() => memslots.setFlags(4, 0))).toMatchObject({ refusal: { ret: -12 } });
    expect([memslots.generation(0), memslots.usedSlots(0)]).toEqual([10, 1]);
    expect(fixture.facts).toHaveLength(1);
  });

  it('reads as an update in progress between install and generation: equal to no generation that was or will be', () => {
    const seen: number[] = [];
    const memslots: Memslots = createMemslots({ hooks: { install: (asId) => seen.push(memslots.generation(asId)) } });
    memslots.createSlot({ id: 0, baseGfn: 0, pages: 1, userspaceAddr: HOST });
    memslots.createSlot({ id: 0, asId: 1, baseGfn: 0, pages: 1, userspaceAddr: HOST });
    memslots.deleteSlot(0);
    expect(seen).toEqual([-1, -2, -3, -5]);
    expect(memslots.space(0).generation).toBe(6);
  });

  it('refuses a change from inside a step, and finishes the one it is in', () => {
    const errors: unknown[] = [];
    const inner = (): unknown => errors.push(caught(() => memslots.createSlot({ id: 9, baseGfn: 99, pages: 1, userspaceAddr: HOST })));
    const memslots: Memslots = createMemslots({
      hooks: { install: inner, generation: inner, flush: inner, prepare: () => void inner(), commit: inner },
    });
    memslots.createSlot({ id: 0, baseGfn: 0, pages: 1, userspaceAddr: HOST });
    memslots.deleteSlot(0);
    expect(errors).toHaveLength(11);
    for (const error of errors) expect(error).toMatchObject({ refusal: { code: 'busy', errno: 'EBUSY' } });
    expect(memslots.usedSlots(0)).toBe(0);
    memslots.createSlot({ id: 9, baseGfn: 99, pages: 1, userspaceAddr: HOST });
  });

  it.each(['flush', 'prepare', 'install', 'generation'] as const)('undoes a delete when %s throws, and passes the error on', (step) => {
    let armed = false;
    const fault = new Error('broken hook');
    const memslots = createMemslots({
      hooks: {
        [step]: () => {
          if (!armed) return;
          armed = false;
          throw fault;
        },
      },
    });
    memslots.createSlot({ id: 0, baseGfn: 5, pages: 1, userspaceAddr: HOST });
    armed = true;
    expect(caught(() => memslots.deleteSlot(0))).toBe(fault);
    expect([memslots.translate(0, 5), memslots.generation(0), memslots.usedSlots(0)]).toEqual([HOST, 6, 1]);
    memslots.deleteSlot(0);
    expect(memslots.lookup(0, 5)).toBe(-1);
  });
});

describe('a hook that throws once the change stands', () => {
  it.each(['install', 'generation', 'commit'] as const)('%s: the slot is there, the others are told, and the error comes out', (step) => {
    const fault = new Error('broken hook');
    const told: string[] = [];
    class Hooks {
      install(): void {
        if (step === 'install') throw fault;
      }
      generation(): void {
        if (step === 'generation') throw fault;
      }
      commit(): void {
        told.push('commit');
        if (step === 'commit') throw fault;
      }
    }
    const memslots = createMemslots({ hooks: new Hooks() });
    memslots.changes().subscribe(({ kind, generation }) => told.push(`${kind} ${generation}`));
    expect(caught(() => memslots.createSlot({ id: 0, baseGfn: 5, pages: 1, userspaceAddr: HOST }))).toBe(fault);
    expect([memslots.translate(0, 5), memslots.generation(0), told]).toEqual([HOST, 2, ['commit', 'create 2']]);
  });
});

describe('a cached translation', () => {
  it('is never used stale, even inside a handler: the generation it was kept with is no longer current', () => {
    const bus = createEventBus<MemslotsEvents>();
    const memslots = createMemslots({ bus });
    const space = memslots.space(0);
    memslots.createSlot({ id: 0, baseGfn: 0, pages: 1, userspaceAddr: HOST });
    const cached = { generation: space.generation, host: space.translate(0) };
    const seen: boolean[] = [];
    memslots.changes().subscribe(() => seen.push(cached.generation === space.generation));
    memslots.moveSlot(0, 7);
    memslots.deleteSlot(0);
    expect(seen).toEqual([false, false]);
    expect(cached.host).toBe(HOST);
  });
});

describe('changes()', () => {
  it('tells old, new, kind and generation of every change, in order, and nothing of refusals or calls without effect', () => {
    const { memslots, facts } = slotsFixture();
    const slot = { id: 1, asId: 0, baseGfn: 4, pages: 2, flags: 0, userspaceAddr: HOST };
    memslots.createSlot(slot);
    memslots.moveSlot(1, 4);
    memslots.moveSlot(1, 9);
    caught(() => memslots.deleteSlot(2));
    memslots.setFlags(1, 1);
    memslots.deleteSlot(1);
    const moved = { ...slot, baseGfn: 9 };
    const logged = { ...moved, flags: 1 };
    const source = 'memslots';
    expect(facts).toEqual([
      { source, asId: 0, kind: 'create', old: null, new: slot, generation: 2 },
      { source, asId: 0, kind: 'move', old: slot, new: moved, generation: 6 },
      { source, asId: 0, kind: 'flags', old: moved, new: logged, generation: 8 },
      { source, asId: 0, kind: 'delete', old: logged, new: null, generation: 12 },
    ]);
  });

  it('tells two tables on one bus apart, and delivers a fact of a handler after the one it handles', () => {
    const bus = createEventBus<MemslotsEvents>();
    const one = createMemslots({ bus, name: 'one' });
    const two = createMemslots({ bus, name: 'two' });
    const seen: string[] = [];
    one.changes().subscribe(({ source, kind }) => {
      seen.push(`a ${source} ${kind}`);
      if (kind === 'create') one.deleteSlot(0);
    });
    one.changes().subscribe(({ source, kind }) => seen.push(`b ${source} ${kind}`));
    two.createSlot({ id: 0, baseGfn: 0, pages: 1, userspaceAddr: HOST });
    one.createSlot({ id: 0, baseGfn: 0, pages: 1, userspaceAddr: HOST });
    expect(seen).toEqual(['a one create', 'b one create', 'a one delete', 'b one delete']);
  });
});

describe('the plugin', () => {
  it('puts its facts on the host bus, and deletes every slot when it is taken off', () => {
    const bus = createEventBus<MemslotsEvents>();
    const facts: SlotChange[] = [];
    bus.on('memslots:changed').subscribe((fact) => facts.push(fact));
    const plugin = memslotsPlugin({ userMemSlots: 4 });
    expect([plugin.name, plugin.requires]).toEqual(['memslots', ['bus']]);
    const { api, detach } = plugin.attach({ bus });
    api.createSlot({ id: 3, baseGfn: 0, pages: 1, userspaceAddr: HOST });
    api.setMemoryRegion({ slot: 5, asId: 1, guestPhysAddr: 0, memorySize: 4096, userspaceAddr: HOST });
    detach();
    expect(facts.map(({ kind, asId }) => `${kind} ${asId}`)).toEqual(['create 0', 'create 1', 'delete 0', 'delete 1']);
    expect([api.usedSlots(0), api.usedSlots(1)]).toEqual([0, 0]);
  });
});

it('errors are of one class that names the errno, the check, the argument, its value and what is allowed', () => {
  const memslots = createMemslots({ userMemSlots: 509 });
  const error = caught(() => memslots.setUserMemoryRegion({ slot: 600, guestPhysAddr: 0, memorySize: 4096, userspaceAddr: 0 }));
  expect(error).toBeInstanceOf(MemslotsError);
  expect((error as MemslotsError).refusal).toEqual({
    code: 'slot-limit',
    errno: 'EINVAL',
    ret: -22,
    argument: 'slot',
    value: '600',
    allowed: 'an id below 509',
  });
  expect((error as MemslotsError).message).toBe('memory slots refused (EINVAL, -22; slot-limit): slot is 600; allowed is an id below 509');
});
