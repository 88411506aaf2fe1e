import { createPageHeap, createPageTable, createVmap, type Vmap, VmapError, type VmapRefusal } from '@paravirt/vmap';
import { type VmapFixture, vmapFixture } from '@paravirt/vmap/testing';
import { beforeEach, describe, expect, it } from 'vitest';

const START = 0xffff_82c0_0000_0000n;
const XEN = 0xffff_82d0_40a0_0000n;
const OUTSIDE = 0xffff_82d0_8000_0000n;

/** The refusal of `call`. */
function refusal(call: () => unknown): VmapRefusal {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(VmapError);
    return (error as VmapError).refusal;
  }
  throw new Error('it was not refused');
}

let fixture: VmapFixture;
let vmap: Vmap<null>;
beforeEach(() => {
  fixture = vmapFixture();
  vmap = fixture.vmap;
});

/** Goal: nothing changes on refusal. Method: the ledger before and after. */
function refused(call: () => unknown): VmapRefusal {
  const before = fixture.ledger();
  const found = refusal(call);
  expect(fixture.ledger()).toEqual(before);
  return found;
}

describe('a strict allocator refuses', () => {
  it('a second free, saying that nothing is there', () => {
    const va = vmap.vmalloc(8192)!;
    vmap.vfree(va);
    expect(refused(() => vmap.vfree(va))).toEqual({ code: 'not-an-area', va: '0xffff82c000002000', region: 'default', at: null });
    expect(refused(() => vmap.vunmap(va)).code).toBe('not-an-area');
    expect(refused(() => vmap.vmFree(va)).code).toBe('not-an-area');
  });

  it('the free of an inner page, naming the area that it is of', () => {
    const va = vmap.vmalloc(3 * 4096, { owner: 'console' })!;
    const at = { start: '0xffff82c000002000', pages: 3, kind: 'vmalloc', region: 'default', owner: 'console' };
    for (const free of [vmap.vfree, vmap.vunmap, vmap.vmFree]) {
      expect(refused(() => free.call(vmap, va + 4096n))).toEqual({ code: 'not-an-area', va: '0xffff82c000003000', region: 'default', at });
    }
    expect(() => vmap.vfree(va + 4096n)).toThrow(
      'vmap refused: no area starts at 0xffff82c000003000: there is vmalloc of 3 pages at 0xffff82c000002000 in region default, owned by console',
    );
  });

  it('an address within a page, to free or to place', () => {
    const va = vmap.vmalloc(4096)!;
    for (const call of [() => vmap.vfree(va + 8n), () => vmap.vmallocAt(OUTSIDE + 1n, 4096), () => vmap.reserve(OUTSIDE + 1n, 1)]) {
      expect(refused(call)).toMatchObject({ code: 'bad-address', allowed: 'a multiple of 4096' });
    }
  });

  it.each([
    ['zero pages', () => vmap.vmAlloc(0), 'pages'],
    ['a fraction of a page', () => vmap.vmAlloc(1.5), 'pages'],
    ['pages past 32 bits', () => vmap.vmAlloc(2 ** 32), 'pages'],
    ['a negative alignment', () => vmap.vmAlloc(1, { align: -1 }), 'align'],
    ['no frames', () => vmap.vmap([]), 'mfns.length'],
    ['a frame that is no number', () => vmap.vmap([1, Number.NaN]), 'mfns[1]'],
    ['granularity 0', () => vmap.vmap([1], { granularity: 0 }), 'granularity'],
    ['granularity past 32 bits in all', () => vmap.vmap([1, 2], { granularity: 2 ** 31 }), 'mfns.length * granularity'],
    ['zero bytes', () => vmap.vmalloc(0), 'size'],
    ['a negative size', () => vmap.vmalloc(-1n), 'size'],
    ['a size that is no number of bytes', () => vmap.vzalloc(0.5), 'size'],
    ['a size past 2^32 pages', () => vmap.vmalloc(2n ** 44n), 'size'],
    ['a reservation of nothing', () => vmap.reserve(OUTSIDE, 0), 'pages'],
    ['a search for nothing', () => vmap.findFree({ pages: 0, lo: 0n, hi: 8192n }), 'pages'],
    ['a search with an alignment that is no power of two', () => vmap.findFree({ pages: 1, align: 3, lo: 0n, hi: 8192n }), 'align'],
    ['a window that ends before it begins', () => vmap.findFree({ pages: 1, lo: 8192n, hi: 4096n }), 'hi'],
    ['a reach of nothing', () => vmap.findFree({ pages: 1, near: OUTSIDE, reach: 0n }), 'reach'],
  ])('%s', (_, call, argument) => {
    expect(refused(call)).toMatchObject({ code: 'bad-argument', argument });
  });

  it.each([
    ['negative', -1n],
    ['past 64 bits', 2n ** 64n],
    ['a plain number', 4096 as unknown as bigint],
  ])('an address that is %s', (_, va) => {
    for (const call of [() => vmap.vfree(va), () => vmap.area(va), () => vmap.translate(va), () => vmap.touch(va), () => vmap.vmSize(va)]) {
      expect(refused(call)).toMatchObject({ code: 'bad-address', argument: 'va' });
    }
  });

  it('a region that there is not', () => {
    expect(refused(() => vmap.vmalloc(1, { region: 'idle' }))).toEqual({ code: 'no-region', region: 'idle', known: ['default', 'xen'] });
    expect(refused(() => vmap.region('idle')).code).toBe('no-region');
    expect(refused(() => vmap.vmSize(START, 'idle')).code).toBe('no-region');
  });

  it('what does not fit, without populating the bitmap in vain', () => {
    const { bitmapPages } = vmap.counters;
    expect(refused(() => vmap.vmAlloc(40_000, { align: 8 }))).toEqual({ code: 'no-room', region: 'default', pages: 40_000, align: 8 });
    expect(refused(() => vmap.vmAlloc(1, { align: 65_536 })).code).toBe('no-room');
    expect(vmap.counters.bitmapPages).toBe(bitmapPages);
  });

  it('an area outside that lies in a region, or beside one without a guard page', () => {
    expect(refused(() => vmap.vmallocAt(XEN + 0x10_0000n, 4096))).toEqual({
      code: 'inside-region',
      va: '0xffff82d040b00000',
      pages: 1,
      at: { start: '0xffff82d040a00000', pages: 32_768, kind: 'region', region: 'xen', owner: null },
    });
    expect(refused(() => vmap.reserve(XEN - 8192n, 3)).code).toBe('inside-region');
    expect(refused(() => vmap.reserve(XEN - 8192n, 2)).code).toBe('no-guard');
    expect(refused(() => vmap.reserve(XEN + 32_768n * 4096n, 1)).code).toBe('no-guard');
    vmap.reserve(XEN - 8192n, 1);
    vmap.reserve(XEN + 32_769n * 4096n, 1);
  });

  it('an area outside that overlaps another, or touches it without a guard page', () => {
    vmap.vmallocAt(OUTSIDE, 2 * 4096, { owner: 'payload 1' });
    const at = { start: '0xffff82d080000000', pages: 2, kind: 'outside', region: null, owner: 'payload 1' };
    expect(refused(() => vmap.vmallocAt(OUTSIDE, 4096))).toEqual({ code: 'overlap', va: '0xffff82d080000000', pages: 1, at });
    expect(refused(() => vmap.vmallocAt(OUTSIDE - 4096n, 8192)).code).toBe('overlap');
    expect(refused(() => vmap.vmallocAt(OUTSIDE + 8192n, 4096))).toEqual({ code: 'no-guard', va: '0xffff82d080002000', pages: 1, at });
    expect(refused(() => vmap.vmallocAt(OUTSIDE - 4096n, 4096)).code).toBe('no-guard');
    vmap.vmallocAt(OUTSIDE + 3n * 4096n, 4096);
  });

  it('an area at either end of the address space, where there is no room for a guard page', () => {
    expect(refused(() => vmap.reserve(0n, 1)).code).toBe('bad-address');
    expect(refused(() => vmap.reserve(2n ** 64n - 4096n, 1)).code).toBe('bad-address');
    vmap.reserve(4096n, 1);
    vmap.reserve(2n ** 64n - 8192n, 1);
  });

  it('the wrong way to free: mapped areas by vmFree, raw ones by vfree, reservations by vunmap', () => {
    const mapped = vmap.vmap([5])!;
    const raw = vmap.vmAlloc(1)!;
    const memory = vmap.vmallocAt(OUTSIDE, 4096)!.va;
    const reserved = vmap.reserve(OUTSIDE + 0x10_0000n, 1);
    const calls = [
      () => vmap.vmFree(mapped),
      () => vmap.vfree(mapped),
      () => vmap.vfree(raw),
      () => vmap.vmFree(memory),
      () => vmap.vfree(reserved),
      () => vmap.vunmap(reserved),
    ];
    for (const call of calls) expect(refused(call).code).toBe('wrong-kind');
    expect(refused(() => vmap.region('default').vmFree(Number(mapped >> 12n))).code).toBe('wrong-kind');
    vmap.vunmap(mapped);
    vmap.vmFree(raw);
    vmap.vfree(memory);
    vmap.vmFree(reserved);
    expect(fixture.ledger()).toMatchObject({ areas: [], frames: 0, mapped: [] });
  });

  it('memory of which a page is no longer mapped, rather than lose its frame', () => {
    const va = vmap.vmalloc(3 * 4096)!;
    fixture.table.unmap(Number(va >> 12n) + 1, 1);
    expect(refused(() => vmap.vfree(va))).toMatchObject({ code: 'fault', va: '0xffff82c000003000', reason: 'unmapped' });
  });

  it('every call after it was closed', () => {
    const region = vmap.region('default');
    const raw = region.vmAlloc(1);
    vmap.close();
    expect([region.vmSize(raw), region.areaStart(raw)]).toEqual([0, -1]);
    const calls = [
      () => vmap.vmalloc(1),
      () => vmap.vmAlloc(1),
      () => vmap.vfree(START),
      () => vmap.area(START),
      () => vmap.areas(),
      () => vmap.purge(),
      () => vmap.findFree({ pages: 1, lo: 0n, hi: 8192n }),
      () => vmap.reserve(OUTSIDE, 1),
      () => region.vmAlloc(1),
      () => region.vmFree(raw),
    ];
    for (const call of calls) expect(refusal(call)).toEqual({ code: 'closed' });
    vmap.close();
  });
});

describe('a callback of a strict allocator', () => {
  it('that returns an address that is not allowed has its mapping and its frames taken back', () => {
    const kept = vmap.vmallocAt(OUTSIDE, 2 * 4096)!;
    const place = (va: bigint) => (frames: readonly number[]) => {
      for (const [i, mfn] of frames.entries()) fixture.table.map(Number(va >> 12n) + i, mfn, 1, { writable: true, executable: false });
      return va;
    };
    expect(refused(() => vmap.vmallocCb(4096, place(OUTSIDE + 8192n))).code).toBe('no-guard');
    expect(refused(() => vmap.vmallocCb(4096, place(XEN + 0x10_0000n))).code).toBe('inside-region');
    expect(refused(() => vmap.vmallocCb(4096, () => OUTSIDE)).code).toBe('overlap');
    expect(kept.frames.map((_, i) => vmap.translate(OUTSIDE + BigInt(i) * 4096n))).toEqual(kept.frames);
  });

  it('that claims to have mapped and did not is not believed', () => {
    expect(refused(() => vmap.vmallocCb(8192, () => OUTSIDE))).toEqual({ code: 'map-failed', va: '0xffff82d080000000', region: null });
  });

  it('that throws has its frames taken back, and its error comes through', () => {
    const before = fixture.ledger();
    expect(() =>
      vmap.vmallocCb(8192, () => {
        throw new RangeError('no module space');
      }),
    ).toThrow('no module space');
    expect(fixture.ledger()).toEqual(before);
  });

  it('that changes its list of frames changes nothing for anyone', () => {
    const before = fixture.ledger();
    expect(() =>
      vmap.vmallocCb(8192, (frames) => {
        (frames as number[]).splice(0, 2, 7);
        return null;
      }),
    ).toThrow(VmapError);
    expect(fixture.ledger()).toEqual(before);
  });

  it('that forwards to vmap leaves one area of the region, and no stale entry when it is freed', () => {
    const { va } = vmap.vmallocCb(3 * 4096, (frames) => vmap.vmap(frames), { owner: 'payload' })!;
    expect(vmap.area(va)).toMatchObject({ start: va, pages: 3, kind: 'vmalloc', region: 'default', owner: 'payload' });
    expect(vmap.outsideNewestFirst()).toEqual([]);
    vmap.vfree(va);
    expect(vmap.vmSize(va)).toBe(0);
    expect(fixture.ledger()).toMatchObject({ areas: [], frames: 0, mapped: [] });
  });
});

describe('options', () => {
  const base = { regions: [{ name: 'default', start: START, pages: 64 }], pageTable: createPageTable(), pages: createPageHeap() };
  const region = (change: object): object => ({ regions: [{ ...base.regions[0]!, ...change }] });
  it.each([
    ['another compat', { compat: 'linux' }, 'compat'],
    ['neither mode', { strict: false }, 'strict'],
    ['both modes', { strict: true, compat: 'xen' }, 'strict'],
    ['lazy beside compat', { compat: 'xen', lazy: { pagesMax: 8 } }, 'lazy'],
    ['a lazy bound of nothing', { lazy: { pagesMax: 0 } }, 'lazy.pagesMax'],
    ['a lazy bound without end', { lazy: { pagesMax: Number.POSITIVE_INFINITY } }, 'lazy.pagesMax'],
    ['a region without a name', region({ name: '' }), 'regions[0].name'],
    ['a region without pages', region({ pages: 0 }), 'regions[0].pages'],
    ['a region past 2^31 pages', region({ pages: 2 ** 31 + 1 }), 'regions[0].pages'],
    ['a region that starts within a page', region({ start: START + 1n }), 'regions[0].start'],
    ['a region at 0', region({ start: 0n }), 'regions[0].start'],
    ['a region at a number', region({ start: 4096 }), 'regions[0].start'],
    ['a region past the address space', region({ start: 2n ** 64n - 8192n }), 'regions[0].start'],
    ['two regions of a name', { regions: [base.regions[0]!, { ...base.regions[0]!, start: XEN }] }, 'regions[1].name'],
  ])('with %s are refused', (_, change, argument) => {
    const found = refusal(() => createVmap({ ...base, ...change } as Parameters<typeof createVmap>[0]));
    expect(found).toMatchObject({ argument });
  });

  it('with regions that overlap are refused', () => {
    const regions = [...base.regions, { name: 'xen', start: START + 63n * 4096n, pages: 4 }];
    expect(refusal(() => createVmap({ ...base, regions }))).toMatchObject({ code: 'overlap', at: { region: 'default' } });
  });
});
