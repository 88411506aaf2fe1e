import { type Vmap, VmapError } from '@paravirt/vmap';
import { type FaultPoint, type VmapFixtureOptions, vmapFixture } from '@paravirt/vmap/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { runs } from './campaign.ts';

const START = 0xffff_82c0_0000_0000n;
const XEN = 0xffff_82d0_40a0_0000n;
const PAGE = 4096n;
/** Below, between and above the regions: 60 pages each. */
const OUTSIDE = [START - 100n * PAGE, XEN - 100n * PAGE, XEN + 200n * PAGE];

const regions = [
  { name: 'default', start: START, pages: 120 },
  { name: 'xen', start: XEN, pages: 150 },
];

interface Held {
  readonly va: bigint;
  readonly pages: number;
  readonly kind: string;
  /** Frames of the heap that it holds. */
  readonly frames: number;
}

const kinds = ['raw', 'vmap', 'contig', 'vmalloc', 'vzalloc', 'xen', 'cb', 'at', 'reserve'] as const;
const step = fc.record({
  free: fc.integer({ min: 0, max: 9 }).map((n) => n < 4),
  kind: fc.constantFrom(...kinds),
  pages: fc.integer({ min: 1, max: 8 }),
  align: fc.constantFrom(1, 1, 2, 8),
  region: fc.constantFrom('default', 'xen'),
  place: fc.record({ base: fc.constantFrom(...OUTSIDE), page: fc.integer({ min: 0, max: 60 }) }),
  pick: fc.nat(),
  fault: fc.option(fc.record({ point: fc.constantFrom<FaultPoint>('page', 'map', 'small'), nth: fc.nat(6) }), { freq: 2 }),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Makes one area; null where it was refused. */
function make(vmap: Vmap<null>, { kind, pages, align, region, place }: Step): Held | null {
  const bytes = pages * 4096;
  const at = place.base + BigInt(place.page) * PAGE;
  const held = (va: bigint | null, as: string, frames: number): Held | null => (va === null ? null : { va, pages, kind: as, frames });
  switch (kind) {
    case 'raw':
      return held(vmap.vmAlloc(pages, { align, region }), 'raw', 0);
    case 'vmap':
      return held(
        vmap.vmap(
          Array.from({ length: pages }, (_, i) => 7 * i),
          { align, region },
        ),
        'vmap',
        0,
      );
    case 'contig':
      return held(vmap.vmapContig(99, pages, { region }), 'vmap', 0);
    case 'vmalloc':
      return held(vmap.vmalloc(bytes - 1, { region }), 'vmalloc', pages);
    case 'vzalloc':
      return held(vmap.vzalloc(bytes, { region }), 'vmalloc', pages);
    case 'xen':
      return held(vmap.vmallocXen(bytes), 'vmalloc', pages);
    case 'cb':
      return held(vmap.vmallocCb(bytes, null, { region })?.va ?? null, 'vmalloc', pages);
    case 'at':
      return held(vmap.vmallocAt(at, bytes)?.va ?? null, 'outside', pages);
    case 'reserve':
      return held(vmap.reserve(at, pages), 'reserved', 0);
  }
}

function end(vmap: Vmap<null>, { va, kind }: Held): void {
  if (kind === 'raw' || kind === 'reserved') vmap.vmFree(va);
  else if (kind === 'vmap') vmap.vunmap(va);
  else vmap.vfree(va);
}

/**
 * Goal: what is held is what was made and not ended; areas never overlap, or touch without a guard; a refusal changes nothing; and
 * when everything is ended the state is the first one. Method: random operations, a third of them with a failure inside, against a
 * list; every page is looked up now and then.
 */
function holds(steps: readonly Step[], options: VmapFixtureOptions): void {
  const fixture = vmapFixture({ regions, ...options });
  const { vmap } = fixture;
  const first = fixture.ledger();
  const live: Held[] = [];
  const touches = (a: Held, b: Held): boolean => a.va <= b.va + BigInt(b.pages) * PAGE && b.va <= a.va + BigInt(a.pages) * PAGE;
  for (const [i, each] of steps.entries()) {
    if (each.free && live.length > 0) end(vmap, live.splice(each.pick % live.length, 1)[0]!);
    else {
      const place = { va: each.place.base + BigInt(each.place.page) * PAGE, pages: each.pages, kind: '', frames: 0 };
      // Compat lets areas outside overlap, and then their mappings are what the last of them left: another property's subject.
      if (options.compat && (each.kind === 'at' || each.kind === 'reserve') && live.some((other) => touches(place, other))) continue;
      const before = fixture.ledger();
      if (each.fault) fixture.failAt(each.fault.point, each.fault.nth);
      let made: Held | null = null;
      try {
        made = make(vmap, each);
      } catch (error) {
        expect(error).toBeInstanceOf(VmapError);
        expect(options.compat).not.toBe(true);
      }
      fixture.fired();
      if (made === null) {
        // A purge may have come first: what waited is gone, what is held is not.
        expect(fixture.ledger()).toEqual(options.lazy ? { ...before, frames: expect.any(Number), low: expect.anything() } : before);
      } else {
        for (const other of live) expect(touches(made, other)).toBe(false);
        live.push(made);
      }
    }
    if (options.lazy === undefined) expect(fixture.ledger().frames).toBe(live.reduce((sum, { frames }) => sum + frames, 0));
    if (i % 16 === 15) agrees(vmap, live);
  }
  agrees(vmap, live);
  for (const held of live) end(vmap, held);
  vmap.purge();
  expect(fixture.ledger()).toEqual(first);
  expect(vmap.counters).toMatchObject({ warnings: 0, assertions: 0, lazyAreas: 0 });
  vmap.close();
  expect([fixture.heap.live, fixture.table.mapped]).toEqual([0, 0]);
}

/** Every page of the three windows and both regions, and the list of areas, against a scan of the list. */
function agrees(vmap: Vmap<null>, live: readonly Held[]): void {
  const sorted = [...live].sort((a, b) => (a.va < b.va ? -1 : 1));
  const listed = [...vmap.areas()].filter(({ kind }) => kind !== 'bitmap').map(({ start, pages, kind }) => [start, pages, kind]);
  expect(listed).toEqual(sorted.map(({ va, pages, kind }) => [va, pages, kind]));
  const windows = [...OUTSIDE.map((base) => [base - 2n * PAGE, 72] as const), [START, 122] as const, [XEN, 152] as const];
  for (const [base, pages] of windows) {
    for (let page = 0; page < pages; page++) {
      const va = base + BigInt(page) * PAGE;
      const expected = live.find((area) => va >= area.va && va < area.va + BigInt(area.pages) * PAGE);
      const found = vmap.area(va + 5n);
      if (found?.kind === 'bitmap') continue;
      expect(found?.start).toBe(expected?.va);
      expect(vmap.vmSize(va)).toBe(expected?.va === va ? expected.pages : 0);
    }
  }
}

describe('an allocator', () => {
  it('holds what it made and gives everything back, in strict mode', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 70 }), (steps) => holds(steps, {})),
      { numRuns: runs(60, 3_000) },
    );
  });

  it('holds what it made and gives everything back, with lazy unmapping', () => {
    const bound = fc.integer({ min: 1, max: 60 });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 70 }), bound, (steps, pagesMax) => holds(steps, { lazy: { pagesMax } })),
      {
        numRuns: runs(60, 3_000),
      },
    );
  });

  it('holds what it made and gives everything back, in compat mode', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 70 }), (steps) => holds(steps, { compat: true })),
      { numRuns: runs(60, 3_000) },
    );
  });

  it('holds what it made when the heap runs out of frames', () => {
    const frames = fc.integer({ min: 2, max: 40 });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 70 }), frames, (steps, heapPages) => holds(steps, { heapPages })),
      {
        numRuns: runs(60, 3_000),
      },
    );
  });
});
