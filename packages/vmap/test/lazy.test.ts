import { createEventBus } from '@paravirt/event-bus';
import { type Vmap, VmapError, type VmapEvents } from '@paravirt/vmap';
import { vmapFixture } from '@paravirt/vmap/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { runs } from './campaign.ts';

const OUTSIDE = 0xffff_82d0_8000_0000n;
const START = 0xffff_82c0_0000_0000n;

describe('lazy unmapping', () => {
  it('unmaps at once, but keeps addresses and frames until the purge', () => {
    const { vmap, table, heap } = vmapFixture({ lazy: { pagesMax: 16 } });
    const va = vmap.vmalloc(2 * 4096)!;
    const frames = vmap.area(va)!.frames;
    vmap.vfree(va);
    expect(vmap.translate(va)).toBe(-1);
    expect(vmap.area(va)).toBeUndefined();
    expect(vmap.vmSize(va)).toBe(0);
    expect(frames.map((mfn) => heap.isLive(mfn))).toEqual([true, true]);
    expect(table.cached(Number(va >> 12n))).toBe(frames[0]);
    expect(vmap.vmalloc(4096)).toBe(va + 3n * 4096n);
    expect(vmap.counters).toMatchObject({ lazyAreas: 1, lazyPages: 2, purges: 0 });
    expect(vmap.purge()).toEqual({ areas: 1, pages: 2 });
    expect(table.flushes).toBe(1);
    expect(frames.map((mfn) => heap.isLive(mfn))).toEqual([false, false]);
    expect(vmap.vmalloc(4096)).toBe(va);
  });

  it('purges in batches with one flush, within its bound', () => {
    const { vmap, table } = vmapFixture({ lazy: { pagesMax: 16 } });
    for (let i = 0; i < 100; i++) {
      vmap.vfree(vmap.vmalloc(2 * 4096)!);
      expect(vmap.counters.lazyPages).toBeLessThanOrEqual(16);
    }
    expect(table.flushes).toBe(11);
    vmap.vfree(vmap.vmalloc(17 * 4096)!);
    expect(vmap.counters).toMatchObject({ lazyPages: 0, purges: 12 });
  });

  it('refuses a second free of an area that waits, and says that it does', () => {
    const { vmap } = vmapFixture({ lazy: { pagesMax: 16 } });
    const va = vmap.vmalloc(4096)!;
    vmap.vfree(va);
    const at = expect.objectContaining({ kind: 'freed', pages: 1 });
    for (const free of [vmap.vfree, vmap.vunmap, vmap.vmFree]) {
      expect(() => free.call(vmap, va)).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ code: 'not-an-area', at }) }));
    }
    expect(() => vmap.touch(va)).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ reason: 'unmapped', at }) }));
    expect(vmap.region('default').vmSize(Number(va >> 12n))).toBe(0);
    expect(vmap.region('default').areaStart(Number(va >> 12n))).toBe(-1);
  });

  it('purges rather than refuse, when only what waits would fit', () => {
    const { vmap, table } = vmapFixture({ regions: [{ name: 'default', start: START, pages: 12 }], lazy: { pagesMax: 64 } });
    const va = vmap.vmAlloc(8)!;
    vmap.vmFree(va);
    expect(vmap.vmAlloc(9)).toBe(va);
    expect(table.flushes).toBe(1);
    vmap.vmFree(va);
    expect(() => vmap.vmAlloc(10)).toThrow(VmapError);
  });

  it('holds areas outside too: nothing may be placed there, and findFree purges when it needs to', () => {
    const { vmap } = vmapFixture({ lazy: { pagesMax: 64 } });
    vmap.vmallocAt(OUTSIDE, 4 * 4096);
    vmap.vfree(OUTSIDE);
    expect(vmap.area(OUTSIDE)).toBeUndefined();
    const at = expect.objectContaining({ kind: 'freed' });
    expect(() => vmap.vmallocAt(OUTSIDE, 4096)).toThrow(
      expect.objectContaining({ refusal: expect.objectContaining({ code: 'overlap', at }) }),
    );
    expect(vmap.findFree({ pages: 4, lo: OUTSIDE, hi: OUTSIDE + 16n * 4096n })).toBe(OUTSIDE + 5n * 4096n);
    expect(vmap.findFree({ pages: 4, lo: OUTSIDE, hi: OUTSIDE + 4n * 4096n })).toBe(OUTSIDE);
    expect(vmap.counters).toMatchObject({ lazyAreas: 0, purges: 1 });
  });

  it('takes frees from inside the flush, and lets them wait for the next one', () => {
    const fixture = vmapFixture({ lazy: { pagesMax: 64 } });
    const { vmap, table } = fixture;
    const [first, second] = [vmap.vmalloc(4096)!, vmap.vmalloc(4096)!];
    vmap.vfree(first);
    const flush = table.flush.bind(table);
    let inside = true;
    table.flush = () => {
      if (inside) {
        inside = false;
        vmap.vfree(second);
      }
      flush();
    };
    expect(vmap.purge()).toEqual({ areas: 1, pages: 1 });
    expect(vmap.counters).toMatchObject({ lazyAreas: 1, lazyPages: 1 });
    expect(fixture.ledger().frames).toBe(1);
    expect(vmap.purge()).toEqual({ areas: 1, pages: 1 });
    expect(fixture.ledger().frames).toBe(0);
  });

  it('tells of purges on the bus', () => {
    const bus = createEventBus<VmapEvents>();
    const purged: unknown[] = [];
    bus.on('vmap:purged').subscribe((fact) => purged.push(fact));
    const { vmap } = vmapFixture({ lazy: { pagesMax: 4 }, bus });
    vmap.vfree(vmap.vmalloc(3 * 4096)!);
    vmap.vmFree(vmap.vmAlloc(2)!);
    expect(purged).toEqual([{ areas: 2, pages: 5 }]);
  });

  /**
   * Goal: nothing is reachable through a stale translation once it has a new owner. Method: random allocations and frees; whatever is
   * handed out, address or frame, must not be cached for anyone.
   */
  it('never lets a cached translation reach a frame or an address that is in use again', () => {
    const step = fc.record({ free: fc.boolean(), pick: fc.nat(), pages: fc.integer({ min: 1, max: 6 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.integer({ min: 1, max: 40 }), (steps, pagesMax) => {
        const fixture = vmapFixture({ lazy: { pagesMax }, regions: [{ name: 'default', start: START, pages: 200 }] });
        const { table } = fixture;
        const vmap = fixture.vmap as Vmap;
        const live: bigint[] = [];
        const before = fixture.ledger();
        for (const { free, pick, pages } of steps) {
          if (free && live.length > 0) vmap.vfree(live.splice(pick % live.length, 1)[0]!);
          else {
            let va: bigint;
            try {
              va = vmap.vmalloc(pages * 4096);
            } catch {
              continue;
            }
            live.push(va);
            for (let i = 0n; i < pages; i++) expect(table.cached(Number(va >> 12n) + Number(i))).toBe(-1);
          }
          expect(vmap.counters.lazyPages).toBeLessThanOrEqual(pagesMax);
        }
        for (const va of live) vmap.vfree(va);
        vmap.purge();
        expect(fixture.ledger()).toEqual(before);
      }),
      { numRuns: runs(100, 5_000) },
    );
  });
});
