import { createPageHeap, createPageTable, createVmap, VmapError, type VmRegion } from '@paravirt/vmap';
import { createScanModel } from '@paravirt/vmap/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { runs } from './campaign.ts';

const START = 0xffff_82c0_0000_0000n;

type Step =
  | { readonly op: 'alloc'; readonly nr: number; readonly align: number }
  | { readonly op: 'free'; readonly pick: number }
  | { readonly op: 'poke'; readonly bit: number };

const small = fc.integer({ min: 1, max: 9 });
const anyAlign = fc.oneof(
  { weight: 6, arbitrary: fc.constant(1) },
  { weight: 4, arbitrary: fc.constantFrom(0, 2, 3, 4, 6, 8, 12, 16, 24, 64, 96, 256) },
  { weight: 1, arbitrary: fc.constantFrom(1024, 4096, 32_768, 65_536, 2 ** 31, 3 * 2 ** 30, 2 ** 32 - 1, 2 ** 32 - 16) },
);
const strictSize = fc.oneof(
  { weight: 12, arbitrary: small },
  { weight: 3, arbitrary: fc.integer({ min: 10, max: 700 }) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 90_000 }) },
);
const compatSize = fc.oneof(
  { weight: 12, arbitrary: strictSize },
  { weight: 1, arbitrary: fc.constant(0) },
  { weight: 2, arbitrary: fc.integer({ min: 2 ** 32 - 600, max: 2 ** 32 - 1 }) },
  { weight: 1, arbitrary: fc.integer({ min: 2 ** 31 - 5, max: 2 ** 32 - 1 }) },
);
const steps = (size: fc.Arbitrary<number>, maxLength: number): fc.Arbitrary<Step[]> =>
  fc.array(
    fc.oneof(
      { weight: 5, arbitrary: fc.record({ op: fc.constant('alloc' as const), nr: size, align: anyAlign }) },
      { weight: 4, arbitrary: fc.record({ op: fc.constant('free' as const), pick: fc.nat() }) },
      { weight: 1, arbitrary: fc.record({ op: fc.constant('poke' as const), bit: fc.integer({ min: -2, max: 420 }) }) },
    ),
    { maxLength },
  );
const sizes = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 1, max: 400 }) },
  { weight: 1, arbitrary: fc.constantFrom(32_767, 32_768, 32_769, 40_001, 65_536, 70_000) },
);

function regionOf(pages: number, compat: boolean): { region: VmRegion; assertions: () => number } {
  const setup = { regions: [{ name: 'default', start: START, pages }], pageTable: createPageTable(), pages: createPageHeap() };
  const vmap = compat ? createVmap({ ...setup, compat: 'xen' }) : createVmap(setup);
  return { region: vmap.region('default'), assertions: () => vmap.counters.assertions };
}

const runsOf = (region: VmRegion): [number, number][] => {
  const list: [number, number][] = [];
  region.eachRun((start, length) => list.push([start, length]));
  return list;
};

/**
 * Goal: a region is the scanning algorithm, in what it returns, in `low` and `top` and in every bit, wherever 32-bit sums wrap.
 * Method: random requests and frees, of live areas and of arbitrary pages, against a scan of an array.
 */
function agrees(pages: number, program: readonly Step[], compat: boolean): void {
  const { region, assertions } = regionOf(pages, compat);
  const model = createScanModel(pages, !compat);
  const base = region.startVfn;
  const live: number[] = [];
  expect([region.low, region.top]).toEqual([model.low, model.top]);
  for (const step of program) {
    if (step.op === 'alloc') {
      const expected = model.alloc(step.nr, step.align);
      const found = region.vmAlloc(step.nr, step.align);
      expect(found < 0 ? -1 : found - base).toBe(expected);
      if (found >= 0) live.push(expected);
    } else {
      const bit = step.op === 'poke' ? step.bit : (live.splice(step.pick % Math.max(1, live.length), 1)[0] ?? 7);
      expect(region.vmSize(base + bit)).toBe(model.size(bit));
      const expected = model.free(bit);
      if (expected || compat) expect(region.vmFree(base + bit)).toBe(expected);
      else expect(() => region.vmFree(base + bit)).toThrow(VmapError);
    }
    expect([region.low, region.top, assertions()]).toEqual([model.low, model.top, model.assertions]);
  }
  expect(runsOf(region)).toEqual(model.runs());
}

describe('a region', () => {
  it('is the scanning algorithm in compat mode, wrapping sums included', () => {
    fc.assert(
      fc.property(sizes, steps(compatSize, 60), (pages, program) => agrees(pages, program, true)),
      { numRuns: runs(400, 8_000) },
    );
  });

  it('is the scanning algorithm in strict mode, within the region and with a guard at its end', () => {
    fc.assert(
      fc.property(sizes, steps(strictSize, 60), (pages, program) => agrees(pages, program, false)),
      { numRuns: runs(400, 8_000) },
    );
  });

  it('is the scanning algorithm where a wrapped request put low on a set bit, and areas grow together', () => {
    const odd = fc.array(
      fc.oneof(
        {
          weight: 5,
          arbitrary: fc.record({
            op: fc.constant('alloc' as const),
            nr: fc.constantFrom(1, 1, 2, 3, 9, 40, 2 ** 32 - 1, 2 ** 32 - 2, 2 ** 32 - 3, 2 ** 32 - 7),
            align: fc.constantFrom(1, 1, 1, 2, 4),
          }),
        },
        { weight: 3, arbitrary: fc.record({ op: fc.constant('free' as const), pick: fc.nat() }) },
        { weight: 1, arbitrary: fc.record({ op: fc.constant('poke' as const), bit: fc.integer({ min: 1, max: 60 }) }) },
      ),
      { minLength: 4, maxLength: 60 },
    );
    fc.assert(
      fc.property(sizes, odd, (pages, program) => agrees(pages, program, true)),
      { numRuns: runs(600, 8_000) },
    );
  });

  it('is the scanning algorithm for long programs of small areas, where aligned requests have trees of their own', () => {
    const dense = fc.array(
      fc.oneof(
        fc.record({ op: fc.constant('alloc' as const), nr: fc.integer({ min: 1, max: 5 }), align: fc.constantFrom(1, 1, 1, 2, 4, 8, 16) }),
        fc.record({ op: fc.constant('free' as const), pick: fc.nat() }),
        fc.record({ op: fc.constant('free' as const), pick: fc.nat() }),
      ),
      { minLength: 300, maxLength: 700 },
    );
    const filled = (program: readonly Step[]): Step[] => [
      ...Array.from({ length: 400 }, () => ({ op: 'alloc', nr: 1, align: 1 }) as const),
      ...program,
    ];
    fc.assert(
      fc.property(dense, (program) => agrees(1_900, filled(program), true)),
      { numRuns: runs(12, 200) },
    );
  });

  /** Goal: areas keep a clear page on both sides. Method: after random programs, look at the two pages beside each area. */
  it('keeps a guard page on both sides of every area in strict mode', () => {
    fc.assert(
      fc.property(sizes, steps(strictSize, 60), (pages, program) => {
        const { region } = regionOf(pages, false);
        const live: [number, number][] = [];
        for (const step of program) {
          if (step.op === 'alloc') {
            const vfn = region.vmAlloc(step.nr, step.align);
            if (vfn >= 0) live.push([vfn, step.nr]);
          } else if (step.op === 'free' && live.length > 0) region.vmFree(live.splice(step.pick % live.length, 1)[0]![0]);
        }
        const taken = new Set<number>();
        for (const [vfn, nr] of live) for (let i = 0; i < nr; i++) taken.add(vfn + i);
        expect(taken.size).toBe(live.reduce((sum, [, nr]) => sum + nr, 0));
        for (const [vfn, nr] of live) {
          expect(vfn - 1).toBeGreaterThanOrEqual(region.startVfn + Math.ceil(pages / 32_768));
          expect(vfn + nr).toBeLessThan(region.startVfn + pages);
          expect(taken.has(vfn - 1) || taken.has(vfn + nr)).toBe(false);
          for (let i = 0; i < nr; i += Math.ceil(nr / 5)) expect(region.areaStart(vfn + i)).toBe(vfn);
          expect(region.areaStart(vfn - 1)).toBe(-1);
          expect(region.areaStart(vfn + nr)).toBe(-1);
        }
      }),
      { numRuns: runs(200, 8_000) },
    );
  });
});
