import type { Gref } from '@paravirt/event-bus/contract';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GrantError, type GrantList } from '../src/index.ts';
import { ListModel, tableFixture } from '../src/testing.ts';

const FULL = process.env['PARAVIRT_FULL'] !== undefined;
const RUNS = FULL ? 1000 : 60;

interface Step {
  readonly kind: 'list' | 'seq' | 'free' | 'freeSeq' | 'freeList' | 'claim';
  readonly pick: number;
  readonly count: number;
}

function attempt<T>(call: () => T): T | -1 {
  try {
    return call();
  } catch (error) {
    if (error instanceof GrantError && error.refusal.code === 'exhausted') return -1;
    throw error;
  }
}

/**
 * Goal: the stack, the set and the tree of runs hand out what Linux's linked list hands out, in the same order, and have the
 * same tail run. Method: random requests against the list as Linux has it, wherever that has a defined answer.
 */
describe(`the allocator beside the original's list (${RUNS} schedules)`, () => {
  const step: fc.Arbitrary<Step> = fc.record({
    kind: fc.constantFrom('list', 'list', 'seq', 'seq', 'seq', 'free', 'free', 'freeSeq', 'freeList', 'claim'),
    pick: fc.nat({ max: 1_000_000 }),
    count: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 300 }), fc.integer({ min: 400, max: 1500 })),
  });

  it.each([
    [1, 1, 512],
    [1, 6, 512],
    [2, 3, 512],
    [1, 9, 256],
    [40, 64, 512],
  ])('gives the same references: %d frames at first, %d at most, %d references a frame', (frames, maxFrames, perFrame) => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400, size: 'max' }), (steps) => {
        const version = perFrame === 512 ? 1 : 2;
        const { table } = tableFixture({ initialFrames: frames, maxFrames, version, record: false, pages: 0 });
        const model = new ListModel({ frames, maxFrames, perFrame, reserved: 8 });
        const singles: Gref[] = [];
        const runs: { first: Gref; count: number }[] = [];
        const lists: GrantList[] = [];
        for (const { kind, pick, count } of steps) {
          if (kind === 'list' && !model.undefinedFor(count)) {
            const list = attempt(() => table.allocGrantReferences(count));
            expect(list === -1 ? -1 : list.head).toBe(model.take(count));
            if (list !== -1) lists.push(list);
          } else if (kind === 'seq' && !model.undefinedSeqFor(count)) {
            const first = attempt(() => table.allocGrantReferenceSeq(count));
            expect(first).toBe(count === 1 ? model.take(1) : model.takeSeq(count));
            if (first !== -1) runs.push({ first, count });
          } else if (kind === 'free' && singles.length > 0) {
            const [ref] = singles.splice(pick % singles.length, 1);
            table.freeGrantReference(ref!);
            model.put(ref!);
          } else if (kind === 'freeSeq' && runs.length > 0) {
            const [run] = runs.splice(pick % runs.length, 1);
            // Part of a run now and then, so that its rest fragments the table.
            const part = 1 + (pick % run!.count);
            table.freeGrantReferenceSeq(run!.first, part);
            model.putSeq(run!.first, part);
            for (let ref = run!.first + part; ref < run!.first + run!.count; ref++) singles.push(ref as Gref);
          } else if (kind === 'claim' && lists.length > 0) {
            const list = lists[pick % lists.length]!;
            const ref = table.claimGrantReference(list);
            if (ref !== undefined) singles.push(ref);
          } else if (kind === 'freeList' && lists.length > 0) {
            const [list] = lists.splice(pick % lists.length, 1);
            for (let ref = list!.head, left = list!.length; left > 0; left--) {
              const next = model.link[ref]!;
              model.put(ref);
              ref = next;
            }
            table.freeGrantReferences(list!);
          }
          expect(table.free).toBe(model.freeCount);
          expect(table.frames).toBe(model.frames);
          if (!model.undefinedFor(0x1_0000)) expect(table.usage().tailRun).toBe(model.seqAvailable);
        }
        if (!model.undefinedFor(0x1_0000)) expect([...table.freeReferences()]).toEqual(model.inOrder());
      }),
      { numRuns: Math.ceil(RUNS / 4) },
    );
  });
});
