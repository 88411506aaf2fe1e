import { createPageHeap, createPageTable, type Vmap, VmapError } from '@paravirt/vmap';
import { type FaultPoint, type VmapFixture, vmapFixture } from '@paravirt/vmap/testing';
import { describe, expect, it } from 'vitest';

const OUTSIDE = 0xffff_82d0_8000_0000n;
const MFNS = [0x500, 0x510, 0x520, 0x530, 0x540, 0x550, 0x560, 0x570];

type Operation = (fixture: VmapFixture, pages: number) => bigint | null;

const made = (allocation: { va: bigint } | null): bigint | null => allocation?.va ?? null;
/** A callback that maps page by page through the table that can fail, and undoes what it did. */
const mapper =
  (fixture: VmapFixture, va: bigint) =>
  (frames: readonly number[]): bigint | null => {
    const vfn = Number(va >> 12n);
    for (const [i, mfn] of frames.entries()) {
      if (fixture.pageTable.map(vfn + i, mfn, 1, { writable: true, executable: false })) continue;
      fixture.pageTable.unmap(vfn, frames.length);
      return null;
    }
    return va;
  };

const operations: Record<string, { readonly run: Operation; readonly end: (vmap: Vmap<null>, va: bigint) => void }> = {
  vmAlloc: { run: ({ vmap }, pages) => vmap.vmAlloc(pages), end: (vmap, va) => vmap.vmFree(va) },
  'vmAlloc, aligned': { run: ({ vmap }, pages) => vmap.vmAlloc(pages, { align: 4 }), end: (vmap, va) => vmap.vmFree(va) },
  vmap: { run: ({ vmap }, pages) => vmap.vmap(MFNS.slice(0, pages)), end: (vmap, va) => vmap.vunmap(va) },
  'vmap, granularity 3': {
    run: ({ vmap }, pages) => vmap.vmap(MFNS.slice(0, pages), { granularity: 3, align: 2 }),
    end: (vmap, va) => vmap.vunmap(va),
  },
  vmapContig: { run: ({ vmap }, pages) => vmap.vmapContig(0x700, pages), end: (vmap, va) => vmap.vunmap(va) },
  vmalloc: { run: ({ vmap }, pages) => vmap.vmalloc(pages * 4096), end: (vmap, va) => vmap.vfree(va) },
  vzalloc: { run: ({ vmap }, pages) => vmap.vzalloc(pages * 4096 - 1), end: (vmap, va) => vmap.vfree(va) },
  vmallocXen: { run: ({ vmap }, pages) => vmap.vmallocXen(pages * 4096), end: (vmap, va) => vmap.vfree(va) },
  'vmallocCb without a callback': { run: ({ vmap }, pages) => made(vmap.vmallocCb(pages * 4096, null)), end: (vmap, va) => vmap.vfree(va) },
  'vmallocCb outside': {
    run: (fixture, pages) => made(fixture.vmap.vmallocCb(pages * 4096, mapper(fixture, OUTSIDE))),
    end: (vmap, va) => vmap.vfree(va),
  },
  'vmallocCb that forwards to vmap': {
    run: ({ vmap }, pages) => made(vmap.vmallocCb(pages * 4096, (frames) => forwarded(vmap, frames))),
    end: (vmap, va) => {
      vmap.vfree(va);
      // The original remembers such an area twice, and the second entry stays behind.
      if (!vmap.strict) vmap.vmFree(va);
    },
  },
  vmallocAt: { run: ({ vmap }, pages) => made(vmap.vmallocAt(OUTSIDE, pages * 4096)), end: (vmap, va) => vmap.vfree(va) },
};

/** In strict mode `vmap` throws; a callback answers null. */
function forwarded(vmap: Vmap<null>, frames: readonly number[]): bigint | null {
  try {
    return vmap.vmap(frames);
  } catch (error) {
    if (error instanceof VmapError) return null;
    throw error;
  }
}

/** States to begin in: fresh; with areas, so that memory of other areas can be lost; and with a bitmap that has to grow. */
const states: Record<string, (fixture: VmapFixture) => void> = {
  'nothing allocated': () => {},
  'areas on both sides of a hole': ({ vmap }) => {
    vmap.vmalloc(3 * 4096);
    const hole = vmap.vmalloc(2 * 4096);
    vmap.vmap([0x900, 0x901]);
    vmap.vmallocXen(4096);
    vmap.vmallocAt(OUTSIDE - 0x10_0000n, 8192);
    vmap.vfree(hole);
  },
  'a bitmap that is full': ({ vmap }) => {
    for (const { name, top, low } of vmap.regions) vmap.vmAlloc(top - low - 2, { region: name });
  },
};

const regions = [
  { name: 'default', start: 0xffff_82c0_0000_0000n, pages: 80_000 },
  { name: 'xen', start: 0xffff_82d0_40a0_0000n, pages: 80_000 },
];

describe.each([
  ['strict', { compat: false }],
  ['strict and lazy', { compat: false, lazy: { pagesMax: 64 } }],
  ['compat xen', { compat: true }],
])('an injected failure, %s', (_, mode) => {
  let points = 0;

  for (const [state, prepare] of Object.entries(states)) {
    for (const [name, { run, end }] of Object.entries(operations)) {
      it(`leaves nothing behind at any point of ${name} of 1 to 8 pages, with ${state}`, () => {
        for (let pages = 1; pages <= 8; pages++) {
          for (const point of ['page', 'map', 'small'] as const satisfies FaultPoint[]) {
            for (let nth = 0; ; nth++) {
              const fixture = vmapFixture({ regions, ...mode });
              const { vmap } = fixture;
              prepare(fixture);
              vmap.purge();
              const before = fixture.ledger();
              fixture.failAt(point, nth);
              let va: bigint | null = null;
              try {
                va = run(fixture, pages);
              } catch (error) {
                expect(error).toBeInstanceOf(VmapError);
                expect(['no-memory', 'map-failed']).toContain((error as VmapError).refusal.code);
                expect(mode.compat).toBe(false);
              }
              const fired = fixture.fired();
              expect(va === null).toBe(fired);
              if (va !== null) {
                end(vmap, va);
                vmap.purge();
              }
              expect(fixture.ledger()).toEqual(before);
              expect(vmap.counters).toMatchObject({ warnings: 0, assertions: 0, lazyAreas: 0, lazyPages: 0 });
              vmap.close();
              expect([fixture.heap.live, fixture.table.mapped]).toEqual([0, 0]);
              // A point past the last call of the operation: all of them have been failed.
              if (!fired) break;
              points++;
              expect(nth).toBeLessThan(40);
            }
          }
        }
      });
    }
  }

  it('was tried at more than a thousand points', () => {
    expect(points).toBeGreaterThan(1_000);
  });
});

describe('an injected failure when the allocator is made', () => {
  it.each([
    ['page', 'no-memory'],
    ['map', 'map-failed'],
  ] as const)('of a %s refuses it and gives every page back', (point, code) => {
    for (const nth of [0, 1]) {
      const heap = createPageHeap();
      const table = createPageTable();
      const make = (): VmapFixture => vmapFixture({ regions, heap, table, failFirst: [point, nth] });
      expect(make).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ code }) }));
      expect([heap.live, table.mapped]).toEqual([0, 0]);
    }
  });
});
