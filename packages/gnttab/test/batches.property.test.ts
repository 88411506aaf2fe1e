import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type TableFixture, tableFixture } from '../src/testing.ts';

const runs = process.env['PARAVIRT_FULL'] === undefined ? 150 : 3000;
const PEER = 5 as DomId;
/** References that the schedules use: claimed ones, one of a second frame, a free one, and one beyond the table. */
const CLAIMED = 12;

/** What a call gave: its value, or its refusal. */
function outcome(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    return String(error);
  }
}

/** The calls that a batch stands for. */
const oneByOne = {
  publish({ table }: TableFixture, refs: Uint32Array, peer: DomId, gfns: number[], readonly: boolean): void {
    for (let i = 0; i < gfns.length; i++) table.publish(refs[i]! as Gref, peer, gfns[i]! as Gfn, readonly);
  },
  end({ table }: TableFixture, refs: Uint32Array): number {
    for (let i = 0; i < refs.length; i++) if (!table.tryEnd(refs[i]! as Gref)) return i;
    return refs.length;
  },
};

/**
 * Goal: a batch does what as many calls do, in the same order, up to and with the first that is refused or goes wrong.
 * Method: the same schedule on two tables, on one of them call by call; bytes, counts, facts, answers and refusals are compared.
 */
it(`publishes and ends many as it does one after the other, in ${runs} random schedules`, () => {
  const pick = fc.oneof(
    { weight: 30, arbitrary: fc.nat({ max: CLAIMED - 1 }) },
    { weight: 1, arbitrary: fc.constantFrom(CLAIMED, CLAIMED + 1) },
  );
  const mostly = <T>(common: T, ...rare: T[]): fc.Arbitrary<T> => fc.constantFrom(...Array.from({ length: 8 }, () => common), ...rare);
  const step = fc.record({
    what: fc.constantFrom('publish', 'end', 'map', 'unmap'),
    picks: fc.array(pick, { maxLength: 8 }),
    distinct: mostly(true, false),
    gfn: mostly(7, 2 ** 33, -1, 0.5),
    peer: mostly(5, 6, 6, -1),
    readonly: mostly<boolean | string>(false, true, 'no'),
  });
  const options = fc.record({ version: fc.constantFrom(1 as const, 2 as const), shared: fc.boolean(), record: fc.boolean() });
  fc.assert(
    fc.property(options, fc.array(step, { maxLength: 30 }), (shape, steps) => {
      const [many, single] = [
        tableFixture({ ...shape, initialFrames: 2, pages: 256 }),
        tableFixture({ ...shape, initialFrames: 2, pages: 256 }),
      ];
      const refs: number[] = [];
      for (const { table } of [many, single]) {
        refs.length = 0;
        for (let i = 0; i < CLAIMED; i++) refs.push(table.allocGrantReference());
        // The highest references stand in the second frame.
        const run = table.allocGrantReferenceSeq(table.entries / 2);
        refs[0] = run + table.entries / 2 - 1;
        refs.push(run + table.entries / 2, 0xffff_ffff);
      }
      const handles: [number, number][] = [];
      const all = Uint32Array.from(refs.slice(0, CLAIMED));
      const frames = Array.from(all, (_, i) => 50 + i);
      many.table.publishMany(all, 0, PEER, frames, 0, CLAIMED, false);
      oneByOne.publish(single, all, PEER, frames, false);
      for (const { what, picks, distinct, gfn, peer, readonly } of steps) {
        const chosen = Uint32Array.from(distinct ? [...new Set(picks)] : picks, (at) => refs[at]!);
        // In the middle of longer arrays, as drivers hold them.
        const padded = Uint32Array.from([1, 2, 3, ...chosen]);
        const gfns = Array.from(chosen, (_, i) => (i === 5 ? gfn : 100 + i));
        if (what === 'publish') {
          const flag = readonly as boolean;
          expect(outcome(() => many.table.publishMany(padded, 3, peer as DomId, [0, ...gfns], 1, gfns.length, flag))).toEqual(
            outcome(() => oneByOne.publish(single, chosen, peer as DomId, gfns, flag)),
          );
        } else if (what === 'end') {
          expect(outcome(() => many.table.tryEndMany(padded, 3, chosen.length))).toEqual(outcome(() => oneByOne.end(single, chosen)));
        } else if (what === 'map' && chosen.length > 0) {
          const gref = chosen[0]! as Gref;
          const [a, b] = [many, single].map((fixture) => outcome(() => fixture.mapAs(PEER, gref, true)));
          expect(typeof a).toBe(typeof b);
          if (typeof a === 'number') handles.push([a, b as number]);
        } else if (what === 'unmap' && handles.length > 0) {
          const [a, b] = handles.pop()!;
          many.unmapAs(PEER, a);
          single.unmapAs(PEER, b);
        }
        const usable = refs.filter((gref) => gref < many.table.entries) as Gref[];
        expect(usable.map((gref) => many.table.entryBytes(gref))).toEqual(usable.map((gref) => single.table.entryBytes(gref)));
        expect(many.table.usage()).toEqual(single.table.usage());
        expect(many.table.grantedTo(PEER)).toBe(single.table.grantedTo(PEER));
        expect(many.facts).toEqual(single.facts);
      }
    }),
    { numRuns: runs },
  );
});
