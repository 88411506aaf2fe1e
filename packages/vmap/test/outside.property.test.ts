import { createPageHeap, createPageTable, createVmap, type Vmap, VmapError } from '@paravirt/vmap';
import { vmapFixture } from '@paravirt/vmap/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { runs } from './campaign.ts';

const REGION = 0xffff_82c0_0000_0000n;
const PAGE = 4096n;
/** A window of 400 pages with a region of 64 pages in its middle. */
const BASE = REGION - 168n * PAGE;
const at = (page: number): bigint => BASE + BigInt(page) * PAGE;

interface Plain {
  readonly page: number;
  readonly pages: number;
}

const setup = (): Parameters<typeof createVmap>[0] => ({
  regions: [{ name: 'default', start: REGION, pages: 64 }],
  pageTable: createPageTable(),
  pages: createPageHeap(),
});

/** Whether pages of the window are free for an area outside: no area, no region. */
function map(areas: readonly Plain[]): boolean[] {
  const taken = Array.from({ length: 402 }, (_, page) => page >= 168 && page < 232);
  for (const { page, pages } of areas) for (let i = page; i < page + pages; i++) taken[i] = true;
  return taken;
}

function allowed(taken: readonly boolean[], page: number, pages: number): boolean {
  for (let i = page - 1; i <= page + pages; i++) if (taken[i] === true) return false;
  return true;
}

const strictSteps = fc.array(
  fc.oneof(
    fc.record({ op: fc.constant('claim' as const), page: fc.integer({ min: 1, max: 390 }), pages: fc.integer({ min: 1, max: 9 }) }),
    fc.record({ op: fc.constant('free' as const), pick: fc.nat() }),
  ),
  { maxLength: 80 },
);

describe('areas outside', () => {
  /** Goal: what is remembered is what was claimed. Method: random claims and frees against a list, asked for every page. */
  it('are found by every address of theirs, in strict mode never overlap or touch, and are listed in order', () => {
    fc.assert(
      fc.property(strictSteps, (steps) => {
        const vmap = createVmap(setup()) as Vmap;
        const live: Plain[] = [];
        for (const step of steps) {
          if (step.op === 'free') {
            const [area] = live.splice(step.pick % Math.max(1, live.length), 1);
            if (area) vmap.vmFree(at(area.page));
          } else if (allowed(map(live), step.page, step.pages)) {
            vmap.reserve(at(step.page), step.pages);
            live.push(step);
          } else expect(() => vmap.reserve(at(step.page), step.pages)).toThrow(VmapError);
        }
        live.sort((a, b) => a.page - b.page);
        const listed = [...vmap.areas()].filter(({ region }) => region === null);
        expect(listed.map(({ start, pages }) => [start, pages])).toEqual(live.map(({ page, pages }) => [at(page), pages]));
        for (let page = 0; page < 400; page++) {
          const expected = live.find((area) => page >= area.page && page < area.page + area.pages);
          const found = vmap.area(at(page) + 123n);
          expect(found?.region === null ? found.start : null).toBe(expected ? at(expected.page) : null);
          expect(vmap.vmSize(at(page))).toBe(live.find((area) => area.page === page)?.pages ?? 0);
        }
      }),
      { numRuns: runs(100, 5_000) },
    );
  });

  /** Goal: the lowest place is found. Method: random areas; each request is tried page by page. */
  it('leave the lowest place that fits to findFree, in any window and alignment', () => {
    const request = fc.record({
      pages: fc.integer({ min: 1, max: 40 }),
      align: fc.constantFrom(1, 1, 2, 4, 8, 32),
      lo: fc.integer({ min: 1, max: 399 }),
      span: fc.nat(399),
    });
    fc.assert(
      fc.property(strictSteps, fc.array(request, { minLength: 1, maxLength: 12 }), (steps, requests) => {
        const vmap = createVmap(setup()) as Vmap;
        const live: Plain[] = [];
        for (const step of steps) {
          if (step.op !== 'claim' || !allowed(map(live), step.page, step.pages)) continue;
          vmap.reserve(at(step.page), step.pages);
          live.push(step);
        }
        const taken = map(live);
        for (const { pages, align, lo, span } of requests) {
          const hi = Math.min(400, lo + span);
          let expected: bigint | null = null;
          for (let page = lo; page + pages <= hi && expected === null; page++) {
            if (at(page) % (BigInt(align) * PAGE) === 0n && allowed(taken, page, pages)) expected = at(page);
          }
          const found = vmap.findFree({ pages, align, lo: at(lo), hi: at(hi) });
          expect(found).toBe(expected);
          if (found !== null) {
            expect(vmap.reserve(found, pages)).toBe(found);
            vmap.vmFree(found);
          }
        }
      }),
      { numRuns: runs(150, 10_000) },
    );
  });

  /** Goal: compat mode is the original's list. Method: random callbacks, repeated addresses too, against an array walked from the front. */
  it('are a list in compat mode: the front one answers, and is removed first', () => {
    const step = fc.oneof(
      fc.record({
        op: fc.constant('make' as const),
        page: fc.integer({ min: 1, max: 12 }),
        pages: fc.integer({ min: 1, max: 4 }),
        offset: fc.constantFrom(0n, 0n, 8n),
      }),
      fc.record({ op: fc.constant('free' as const), page: fc.integer({ min: 1, max: 12 }), offset: fc.constantFrom(0n, 0n, 8n) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { vmap } = vmapFixture({ compat: true });
        const list: { va: bigint; pages: number }[] = [];
        let warnings = 0;
        for (const each of steps) {
          const va = at(each.page) + each.offset;
          if (each.op === 'make') {
            vmap.vmallocCb(each.pages * 4096, () => va);
            list.unshift({ va, pages: each.pages });
          } else {
            const found = list.findIndex((area) => area.va === va);
            if (found < 0) warnings++;
            else list.splice(found, 1);
            vmap.vmFree(va);
          }
          expect(vmap.vmSize(va)).toBe(list.find((area) => area.va === va)?.pages ?? 0);
        }
        expect(vmap.outsideNewestFirst()).toEqual(list);
        expect(vmap.counters.warnings).toBe(warnings);
        for (let page = 0; page < 20; page++) {
          const first = list.find(({ va, pages }) => at(page) >= va - (va % PAGE) && at(page) < va - (va % PAGE) + BigInt(pages) * PAGE);
          const found = vmap.area(at(page));
          expect(found && [found.start, found.pages]).toEqual(first && [first.va - (first.va % PAGE), first.pages]);
        }
      }),
      { numRuns: runs(200, 10_000) },
    );
  });
});
