import type { Gref } from '@paravirt/event-bus/contract';
import { describe, expect, it, vi } from 'vitest';
import { createGrantTable, END_OF_LIST, GrantError, type GrantList, type GrantRefusal } from '../src/index.ts';
import { FakeHypervisor, TickScheduler, tableFixture } from '../src/testing.ts';

const gref = (value: number): Gref => value as Gref;

function refusalOf(call: () => unknown): GrantRefusal {
  try {
    call();
  } catch (error) {
    if (error instanceof GrantError) return error.refusal;
    throw error;
  }
  throw new Error('the call was not refused');
}

/** What nobody may change: the list, the counts and the frames. */
function stateOf({ table }: ReturnType<typeof tableFixture>): string {
  return JSON.stringify([[...table.freeReferences()], table.usage()]);
}

describe('single references', () => {
  it('come in ascending order at first, and the last one freed comes first', () => {
    const { table } = tableFixture();
    expect([1, 2, 3].map(() => table.allocGrantReference())).toEqual([8, 9, 10]);
    table.freeGrantReference(gref(9));
    table.freeGrantReference(gref(8));
    expect([1, 2, 3].map(() => table.allocGrantReference())).toEqual([8, 9, 11]);
  });

  it('are refused when the table is full and may not grow, with the facts', () => {
    const fixture = tableFixture({ maxFrames: 1 });
    const { table } = fixture;
    for (let i = 8; i < 512; i++) table.allocGrantReference();
    const before = stateOf(fixture);
    expect(refusalOf(() => table.allocGrantReference())).toEqual({ code: 'exhausted', requested: 1, free: 0, frames: 1, maxFrames: 1 });
    expect(stateOf(fixture)).toBe(before);
  });

  it('are asked for without an exception by who expects to find none', () => {
    for (const record of [true, false]) {
      const { table, facts } = tableFixture({ maxFrames: 1, record });
      expect([table.tryAllocGrantReference(), table.tryAllocGrantReferenceSeq(500)]).toEqual([8, 9]);
      const list = table.allocGrantReferences(3);
      const told = facts.length;
      expect([table.tryAllocGrantReference(), table.tryAllocGrantReferenceSeq(1), table.tryAllocGrantReferenceSeq(2)]).toEqual([
        undefined,
        undefined,
        undefined,
      ]);
      expect(facts.length).toBe(told);
      table.freeGrantReferences(list);
      expect(() => table.tryAllocGrantReferenceSeq(0)).toThrow('count is 0; allowed is a whole number from 1 to 4294967295');
      table.close();
      expect(() => table.tryAllocGrantReference()).toThrow('on a closed grant table');
    }
  });

  it('ignore the freeing of a reserved reference', () => {
    const fixture = tableFixture();
    const before = stateOf(fixture);
    fixture.table.freeGrantReference(gref(3));
    fixture.table.freeGrantReferenceSeq(gref(0), 8);
    expect(stateOf(fixture)).toBe(before);
  });
});

describe('the growing table', () => {
  it('takes frames one after the other up to the limit', () => {
    const { table, facts } = tableFixture({ maxFrames: 3 });
    table.allocGrantReferences(504);
    expect(table.frames).toBe(1);
    table.allocGrantReference();
    expect([table.frames, table.entries]).toEqual([2, 1024]);
    table.allocGrantReferences(512);
    expect(table.frames).toBe(3);
    expect(facts.filter(({ type }) => type === 'gnttab:grown').map(({ data }) => data)).toEqual([
      { owner: 1, frames: 2, entries: 1024 },
      { owner: 1, frames: 3, entries: 1536 },
    ]);
  });

  it('never grows by fewer frames than are needed', () => {
    const { table } = tableFixture({ maxFrames: 3 });
    expect(refusalOf(() => table.allocGrantReferences(1600)).code).toBe('exhausted');
    expect(table.frames).toBe(1);
  });

  it('obeys the hypervisor where that allows less than the options', () => {
    const { hypercalls } = new FakeHypervisor({ maxFrames: 2 }).domain(1);
    const table = createGrantTable({ maxFrames: 10 }, { hypercalls, scheduler: new TickScheduler() });
    expect(table.usage().maxFrames).toBe(2);
    expect(refusalOf(() => table.allocGrantReferences(1100))).toMatchObject({ code: 'exhausted', maxFrames: 2 });
  });

  it('changes nothing when the hypervisor has no frame to give, and says with which status', () => {
    const fixture = tableFixture({ maxFrames: 4 });
    const { table, guest } = fixture;
    const list = table.allocGrantReferences(500);
    guest.refuseGrowth = -13;
    const before = stateOf(fixture);
    expect(refusalOf(() => table.allocGrantReferences(5))).toEqual({
      code: 'exhausted',
      requested: 5,
      free: 4,
      frames: 1,
      maxFrames: 4,
      status: -13,
    });
    expect(refusalOf(() => table.allocGrantReferenceSeq(5))).toMatchObject({ code: 'exhausted', status: -13 });
    expect(stateOf(fixture)).toBe(before);
    guest.refuseGrowth = 0;
    expect(table.allocGrantReferences(5).length).toBe(5);
    expect(list.length).toBe(500);
  });

  it('changes nothing when its own memory cannot grow', () => {
    const fixture = tableFixture({ maxFrames: 4 });
    const { table, guest } = fixture;
    table.allocGrantReferences(500);
    const before = stateOf(fixture);
    vi.stubGlobal(
      'Int32Array',
      class {
        constructor() {
          throw new RangeError('Array buffer allocation failed');
        }
      },
    );
    try {
      expect(refusalOf(() => table.allocGrantReferences(5))).toEqual({ code: 'exhausted', requested: 5, free: 4, frames: 1, maxFrames: 4 });
      expect(refusalOf(() => table.allocGrantReferenceSeq(5)).code).toBe('exhausted');
    } finally {
      vi.unstubAllGlobals();
    }
    expect(stateOf(fixture)).toBe(before);
    expect(guest.frames).toBe(1);
    expect(table.allocGrantReferences(5).length).toBe(5);
  });

  it('puts the list in order even where a request in a row then fails, as the original does', () => {
    const { table } = tableFixture({ maxFrames: 1 });
    const list = table.allocGrantReferences(504);
    for (let ref = table.claimGrantReference(list); ref !== undefined; ref = table.claimGrantReference(list)) {
      if (ref % 2 === 0) table.freeGrantReference(ref);
    }
    expect([...table.freeReferences()].slice(0, 2)).toEqual([510, 508]);
    expect(refusalOf(() => table.allocGrantReferenceSeq(2)).code).toBe('exhausted');
    expect([...table.freeReferences()].slice(0, 2)).toEqual([8, 10]);
    expect(table.free).toBe(252);
  });
});

describe('private lists', () => {
  it('are claimed from the head and take references back in front', () => {
    const { table } = tableFixture();
    const list = table.allocGrantReferences(3);
    expect([list.head, list.length]).toEqual([8, 3]);
    const ref = table.claimGrantReference(list)!;
    expect([ref, list.head, list.length]).toEqual([8, 9, 2]);
    table.releaseGrantReference(list, ref);
    expect([list.head, list.length]).toEqual([8, 3]);
  });

  it('are empty at their end, which is no refusal', () => {
    const { table } = tableFixture();
    const list = table.allocGrantReferences(1);
    expect(table.emptyGrantReferences(list)).toBe(false);
    table.claimGrantReference(list);
    expect(table.emptyGrantReferences(list)).toBe(true);
    expect(list.head).toBe(END_OF_LIST);
    expect(table.claimGrantReference(list)).toBe(undefined);
  });

  it('are freed with their members reversed, and end with it', () => {
    const { table } = tableFixture();
    const list = table.allocGrantReferences(3);
    table.freeGrantReferences(list);
    expect([...table.freeReferences()].slice(0, 4)).toEqual([10, 9, 8, 11]);
    expect(refusalOf(() => table.claimGrantReference(list)).code).toBe('bad-list');
    expect(refusalOf(() => table.freeGrantReferences(list)).code).toBe('bad-list');
  });

  it('of another table, or made up, are refused', () => {
    const one = tableFixture().table;
    const fixture = tableFixture();
    const list = one.allocGrantReferences(2);
    const before = stateOf(fixture);
    expect(refusalOf(() => fixture.table.claimGrantReference(list)).code).toBe('bad-list');
    const madeUp = { head: 8, length: 1 } as GrantList;
    expect(refusalOf(() => fixture.table.freeGrantReferences(madeUp)).code).toBe('bad-list');
    expect(refusalOf(() => fixture.table.claimGrantReference(undefined as never)).code).toBe('bad-list');
    expect(stateOf(fixture)).toBe(before);
  });
});

/** The original has no defined behaviour in these cases. */
describe('where the original is undefined', () => {
  it.each([0, -1, 1.5, Number.NaN, 2 ** 32, '4' as unknown as number])('a count of %s is refused by its name, value and range', (count) => {
    const fixture = tableFixture();
    const before = stateOf(fixture);
    for (const call of [
      () => fixture.table.allocGrantReferences(count),
      () => fixture.table.allocGrantReferenceSeq(count),
      () => fixture.table.freeGrantReferenceSeq(gref(8), count),
    ]) {
      expect(refusalOf(call)).toEqual({
        code: 'bad-argument',
        argument: 'count',
        value: count,
        allowed: 'a whole number from 1 to 4294967295',
      });
    }
    expect(() => fixture.table.allocGrantReferences(count)).toThrow(`count is ${count}; allowed is a whole number from 1 to 4294967295`);
    expect(stateOf(fixture)).toBe(before);
  });

  it('freeing what is free is refused, and nothing is freed', () => {
    const fixture = tableFixture();
    const { table } = fixture;
    const first = table.allocGrantReferenceSeq(4);
    table.freeGrantReference(gref(first + 1));
    const before = stateOf(fixture);
    expect(refusalOf(() => table.freeGrantReference(gref(first + 1)))).toEqual({
      code: 'bad-gref',
      argument: 'gref',
      gref: first + 1,
      state: 'free',
      allowed: 'a claimed reference',
      status: -3,
    });
    expect(refusalOf(() => table.freeGrantReferenceSeq(first, 4))).toMatchObject({ code: 'bad-gref', gref: first + 1, state: 'free' });
    expect(stateOf(fixture)).toBe(before);
  });

  it("freeing another's reference is refused: one in a private list, granted, or deferred", () => {
    const fixture = tableFixture();
    const { table, mapAs } = fixture;
    const list = table.allocGrantReferences(1);
    const granted = table.grantForeignAccess({ peer: 2 as never, gfn: 1 as never, readonly: true });
    const deferred = table.grantForeignAccess({ peer: 2 as never, gfn: 2 as never, readonly: true });
    mapAs(2 as never, deferred, true);
    table.endForeignAccess(deferred);
    const before = stateOf(fixture);
    const states = [list.head, granted, deferred].map((ref) => {
      const refusal = refusalOf(() => table.freeGrantReference(gref(ref)));
      return refusal.code === 'bad-gref' ? refusal.state : refusal.code;
    });
    expect(states).toEqual(['listed', 'granted', 'deferred']);
    expect(refusalOf(() => table.releaseGrantReference(list, gref(list.head)))).toMatchObject({ code: 'bad-gref', state: 'listed' });
    expect(refusalOf(() => table.releaseGrantReference(list, granted))).toMatchObject({ code: 'bad-gref', state: 'granted' });
    expect(stateOf(fixture)).toBe(before);
  });

  it.each([512, 4096, -1, 8.5, Number.NaN, 2 ** 32])('reference %s, which the table does not have, is refused', (ref) => {
    const fixture = tableFixture();
    const before = stateOf(fixture);
    expect(refusalOf(() => fixture.table.freeGrantReference(gref(ref)))).toMatchObject({ code: 'bad-gref', state: 'absent' });
    expect(refusalOf(() => fixture.table.freeGrantReferenceSeq(gref(ref), 1)).code).toBe('bad-argument');
    expect(stateOf(fixture)).toBe(before);
  });

  it('singles that make the table grow after the run at its end was used up to the last get all that is free first', () => {
    const { table } = tableFixture({ maxFrames: 2 });
    const low = table.allocGrantReferences(10);
    // The rest of the frame in a row, to its very end, while ten others are free.
    expect(table.allocGrantReferenceSeq(494)).toBe(18);
    table.freeGrantReferences(low);
    expect(table.usage()).toMatchObject({ free: 10, tailRun: 0 });
    const list = table.allocGrantReferences(12);
    const members: number[] = [];
    for (let ref = table.claimGrantReference(list); ref !== undefined; ref = table.claimGrantReference(list)) members.push(ref);
    expect(members).toEqual([17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 512, 513]);
    expect(table.usage()).toMatchObject({ free: 510, tailRun: 510, largestRun: 510 });
    expect([...table.freeReferences()]).toEqual(Array.from({ length: 510 }, (_, i) => 514 + i));
  });

  it('a request in a row for as many as whole new frames hold gets all of them', () => {
    const { table } = tableFixture({ maxFrames: 3 });
    // Nothing at the end of the table is free, so there is no run that new frames could lengthen.
    const all = table.allocGrantReferenceSeq(504);
    table.freeGrantReferenceSeq(all, 500);
    expect(table.allocGrantReferenceSeq(1024)).toBe(512);
    expect(table.usage()).toMatchObject({ free: 500, tailRun: 0, frames: 3, largestRun: 500 });
    expect([...table.freeReferences()]).toEqual(Array.from({ length: 500 }, (_, i) => 8 + i));
    // And the list goes on as if nothing had happened.
    expect(table.allocGrantReference()).toBe(8);
    expect(table.allocGrantReferenceSeq(499)).toBe(9);
    expect(table.free).toBe(0);
  });
});

describe('options of a table', () => {
  it.each([
    [{ maxFrames: 0 }, 'maxFrames is 0; allowed is a whole number from 1 to 4294967295'],
    [{ initialFrames: 9, maxFrames: 4 }, 'initialFrames is 9; allowed is a whole number from 1 to 4'],
    [{ reservedEntries: 512 }, 'reservedEntries is 512; allowed is a whole number from 0 to 511'],
    [{ freePerIteration: -1 }, 'freePerIteration is -1; allowed is a whole number from 0 to 4294967295'],
    [{ version: 3 as unknown as 1 }, 'version is 3; allowed is 1 or 2'],
  ])('%o are refused', (options, message) => {
    expect(() => tableFixture(options)).toThrow(message);
  });
});
