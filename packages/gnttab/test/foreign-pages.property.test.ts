import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createGrantTable, type ForeignPage, type MapOp, type UnmapOp } from '../src/index.ts';
import { FakeHypervisor, mapOp, TickScheduler, unmapOp } from '../src/testing.ts';

const RUNS = process.env['PARAVIRT_FULL'] !== undefined ? 1000 : 100;

/**
 * Goal: the lookup knows every mapped page, who granted it and under which handle, and no other page. Method: random batches
 * of maps and unmaps over few and over far-apart frames, answered by a hypervisor that always agrees, against a Map.
 */
/** A table over a hypervisor that agrees to everything and gives the handles of `handles`, one after the other. */
function agreeing(handles: () => number) {
  const hypercalls = {
    ...new FakeHypervisor({ pages: 0 }).domain(1).hypercalls,
    map(ops: readonly MapOp[], count: number): number {
      for (let i = 0; i < count; i++) Object.assign(ops[i]!, { status: 0, handle: handles() });
      return 0;
    },
    unmap(ops: readonly UnmapOp[], count: number): number {
      for (let i = 0; i < count; i++) ops[i]!.status = 0;
      return 0;
    },
  };
  return createGrantTable({}, { hypercalls, scheduler: new TickScheduler() });
}

describe('a page that is mapped again after its mapping was ended past the table', () => {
  const map = (table: ReturnType<typeof agreeing>, vfn: number, domid: number) =>
    table.mapRefs([mapOp({ vfn, ref: 10 + domid, domid })], 1);

  it.each([[[9, 4]], [[4, 9]]])("is the last granter's, whatever handles the two have: %j", (handles) => {
    const table = agreeing(() => handles.shift()!);
    map(table, 7, 1);
    map(table, 7, 2);
    const found: ForeignPage = { domid: 0, gref: 0, handle: 0 };
    expect(table.foreignPageOf(7, found)).toBe(true);
    expect(found).toMatchObject({ domid: 2, gref: 12 });
  });

  it.each([[[9, 4]], [[4, 9]]])("is nobody's once the second mapping has ended: %j", (handles) => {
    const second = handles[1]!;
    const table = agreeing(() => handles.shift()!);
    map(table, 7, 1);
    map(table, 7, 2);
    table.unmapRefs([unmapOp(7, second)], 1);
    expect(table.foreignPageOf(7, { domid: 0, gref: 0, handle: 0 })).toBe(false);
  });
});

describe(`who granted a page (${RUNS} schedules)`, () => {
  it('is known for every mapped page and for no other', () => {
    const vfn = fc.oneof(
      fc.nat({ max: 40 }),
      fc.nat({ max: 20 }).map((high) => high * 2 ** 32 + 7),
      fc.integer({ min: 0, max: 2 ** 32 }),
    );
    const step = fc.tuple(fc.boolean(), vfn, fc.nat({ max: 0x7fff }));
    // Asked from the first step on, or only at the end; with the handles of Xen, or with larger ones.
    const handles = fc.constantFrom<(count: number) => number>(
      (count) => count,
      (count) => count * 5000,
      (count) => 2 ** 32 - count,
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300, size: 'max' }), fc.boolean(), handles, (steps, asks, numbered) => {
        let made = 0;
        const table = agreeing(() => numbered(++made));
        const model = new Map<number, ForeignPage>();
        const found: ForeignPage = { domid: 0, gref: 0, handle: 0 };
        for (const [map, at, domid] of steps) {
          const known = model.get(at);
          // No hypervisor maps a page where one is: what then is known is the last one only where somebody asks.
          if (map && known !== undefined && !asks) continue;
          if (map) {
            const op = mapOp({ vfn: at, ref: made * 3, domid });
            table.mapRefs([op], 1);
            model.set(at, { domid, gref: op.ref, handle: op.handle });
          } else {
            table.unmapRefs([unmapOp(at, known?.handle ?? 1234567)], 1);
            model.delete(at);
          }
          expect(table.usage().mapped).toBe(model.size);
          if (asks) expect(table.foreignPageOf(at, found)).toBe(model.has(at));
        }
        for (const [at, page] of model) {
          expect(table.foreignPageOf(at, found)).toBe(true);
          expect(found).toEqual(page);
        }
        for (let at = 0; at < 60; at++) expect(table.foreignPageOf(at, found)).toBe(model.has(at));
      }),
      { numRuns: RUNS },
    );
  });
});
