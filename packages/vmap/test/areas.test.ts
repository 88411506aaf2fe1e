import type { Vmap } from '@paravirt/vmap';
import { type VmapFixture, vmapFixture } from '@paravirt/vmap/testing';
import { beforeEach, describe, expect, it } from 'vitest';

const START = 0xffff_82c0_0000_0000n;
const XEN = 0xffff_82d0_40a0_0000n;
const OUTSIDE = 0xffff_82d0_8000_0000n;
const GIB = 2n ** 30n;

let fixture: VmapFixture;
let vmap: Vmap<null>;
beforeEach(() => {
  fixture = vmapFixture();
  vmap = fixture.vmap;
});

describe('an area', () => {
  it('is found by any address of it, with its kind, owner, region and frames', () => {
    const va = vmap.vmalloc(3 * 4096, { region: 'xen', owner: 'percpu' })!;
    for (const offset of [0n, 1n, 4095n, 4096n, 3n * 4096n - 1n]) {
      const area = vmap.area(va + offset)!;
      expect(area).toMatchObject({ start: va, pages: 3, kind: 'vmalloc', owner: 'percpu', region: 'xen', end: va + 3n * 4096n });
      expect(area.frames).toEqual([0, 1, 2].map((i) => vmap.translate(va + BigInt(i) * 4096n)));
    }
    expect(vmap.area(va - 1n)).toBeUndefined();
    expect(vmap.area(va + 3n * 4096n)).toBeUndefined();
  });

  it('says what it is for: raw, vmap, vmalloc, outside, reserved or the bitmap', () => {
    const kinds = [
      vmap.vmAlloc(2, { owner: 'grants' })!,
      vmap.vmap([7, 9])!,
      vmap.vmalloc(1)!,
      vmap.vmallocAt(OUTSIDE, 1)!.va,
      vmap.reserve(OUTSIDE + 0x10_0000n, 4, { owner: 'image' }),
      START,
    ].map((va) => vmap.area(va)!.kind);
    expect(kinds).toEqual(['raw', 'vmap', 'vmalloc', 'outside', 'reserved', 'bitmap']);
    expect(vmap.area(OUTSIDE + 0x10_3fffn)!.owner).toBe('image');
    expect(vmap.area(vmap.region('default').startVfn === 0 ? 0n : START + 8192n)!.owner).toBe('grants');
  });

  it('shows frame -1 where nothing is mapped', () => {
    const va = vmap.vmAlloc(2)!;
    fixture.table.map(Number(va >> 12n) + 1, 77, 1, { writable: true, executable: false });
    expect(vmap.area(va)!.frames).toEqual([-1, 77]);
  });

  it('forgets its owner when its addresses are used again', () => {
    const va = vmap.vmAlloc(1, { owner: 'first' })!;
    vmap.vmFree(va);
    expect(vmap.vmAlloc(1)).toBe(va);
    expect(vmap.area(va)!.owner).toBeNull();
  });

  it('comes in order of address, whichever region or none it is in', () => {
    vmap.vmallocAt(OUTSIDE, 1);
    vmap.vmallocXen(1);
    vmap.reserve(START - 0x10_0000n, 1);
    vmap.vmalloc(1);
    vmap.reserve(XEN - 0x10_0000n, 1);
    const starts = [...vmap.areas()].map(({ start }) => start);
    expect(starts).toEqual([...starts].sort((a, b) => (a < b ? -1 : 1)));
    expect(starts).toEqual([START - 0x10_0000n, START, START + 8192n, XEN - 0x10_0000n, XEN, XEN + 8192n, OUTSIDE]);
  });

  it('is found in the right one of a hundred regions', () => {
    const regions = Array.from({ length: 100 }, (_, i) => ({
      name: `r${i}`,
      start: START + BigInt((i * 37) % 100) * 0x10_0000n,
      pages: 16,
    }));
    const { vmap: many } = vmapFixture({ regions });
    for (const { name, start } of regions) {
      const va = many.vmalloc(8192, { region: name })!;
      expect(va).toBe(start + 2n * 4096n);
      expect([many.area(va + 5000n)?.region, many.vmSize(va), many.area(start)?.kind]).toEqual([name, 2, 'bitmap']);
      expect(many.area(start - 4096n)).toBeUndefined();
      expect(many.area(start + 16n * 4096n)).toBeUndefined();
    }
    expect([...many.areas()].map(({ start }) => start)).toEqual(
      [...many.areas()].map(({ start }) => start).sort((a, b) => (a < b ? -1 : 1)),
    );
  });

  it('may be freed from inside the iteration', () => {
    for (let i = 0; i < 5; i++) vmap.vmalloc(1);
    for (const { start, kind } of vmap.areas()) if (kind === 'vmalloc') vmap.vfree(start);
    expect(fixture.ledger()).toMatchObject({ areas: [], frames: 0 });
  });
});

describe('findFree', () => {
  it('finds a place within 2 GiB of an address, so that a displacement of 32 bits reaches every byte', () => {
    const near = 0xffff_82d0_4020_0000n;
    const va = vmap.findFree({ pages: 512, near })!;
    expect(va).toBe(((near - 2n * GIB + 4096n) / 4096n) * 4096n);
    expect(near - va).toBeLessThan(2n * GIB);
    expect(va + 512n * 4096n - 1n - near).toBeLessThan(2n * GIB);
  });

  it('keeps the last byte within reach too', () => {
    const near = 0xffff_82d0_4020_0000n;
    const low = near - 2n * GIB + 4096n;
    vmap.reserve(low, Number((XEN - low) / 4096n) - 1);
    vmap.reserve(XEN + 32_769n * 4096n, Number((near + 2n * GIB - (XEN + 32_769n * 4096n)) / 4096n) - 5);
    const end = near + 2n * GIB;
    expect(vmap.findFree({ pages: 4, near })).toBe(end - 4n * 4096n);
    expect(vmap.findFree({ pages: 5, near })).toBeNull();
    expect(vmap.findFree({ pages: 5, near, reach: 2n * GIB + 4096n })).toBe(end - 4n * 4096n);
  });

  it('passes regions and areas outside with a page between', () => {
    expect(vmap.findFree({ pages: 2, lo: START - 2n * 4096n, hi: START + 2n ** 40n })).toBe(START + 32_769n * 4096n);
    expect(vmap.findFree({ pages: 2, lo: START - 3n * 4096n, hi: START })).toBe(START - 3n * 4096n);
    expect(vmap.findFree({ pages: 1, lo: START, hi: START + 32_769n * 4096n })).toBeNull();
    vmap.reserve(OUTSIDE, 1);
    expect(vmap.findFree({ pages: 1, lo: OUTSIDE, hi: OUTSIDE + 16n * 4096n })).toBe(OUTSIDE + 2n * 4096n);
    expect(vmap.findFree({ pages: 1, align: 8, lo: OUTSIDE, hi: OUTSIDE + 16n * 4096n })).toBe(OUTSIDE + 8n * 4096n);
  });

  it('takes a hole of exactly its pages and two guards, wherever it lies among many areas', () => {
    // Holes of 1, 2, ... 40 pages in an order that is mixed, one page reserved between each two.
    const holes = Array.from({ length: 40 }, (_, i) => ((i * 17) % 41) + 1);
    const lo = OUTSIDE;
    let page = 0;
    const starts = holes.map((hole) => {
      vmap.reserve(lo + BigInt(page) * 4096n, 1);
      const start = page + 1;
      page = start + hole;
      return start;
    });
    vmap.reserve(lo + BigInt(page) * 4096n, 1);
    const hi = lo + BigInt(page) * 4096n;
    for (let pages = 1; pages <= 42; pages++) {
      const first = holes.findIndex((hole) => hole >= pages + 2);
      const expected = first < 0 ? null : lo + BigInt(starts[first]! + 1) * 4096n;
      expect(vmap.findFree({ pages, lo, hi })).toBe(expected);
    }
  });

  it('looks up to the end of the address space and not past it', () => {
    const hi = 2n ** 64n;
    expect(vmap.findFree({ pages: 1, lo: hi - 3n * 4096n, hi })).toBe(hi - 3n * 4096n);
    expect(vmap.findFree({ pages: 2, lo: hi - 3n * 4096n, hi })).toBe(hi - 3n * 4096n);
    expect(vmap.findFree({ pages: 3, lo: hi - 3n * 4096n, hi })).toBeNull();
    expect(vmap.findFree({ pages: 1, lo: 0n, hi: 2n * 4096n })).toBe(4096n);
    expect(vmap.findFree({ pages: 1, near: 100n })).toBe(4096n);
  });

  it('claims nothing', () => {
    const request = { pages: 1, lo: OUTSIDE, hi: OUTSIDE + 4096n };
    expect(vmap.findFree(request)).toBe(OUTSIDE);
    expect(vmap.findFree(request)).toBe(OUTSIDE);
  });
});

describe('touching', () => {
  it('a guard page faults on both sides of an area, and names the area', () => {
    const va = vmap.vmalloc(2 * 4096, { owner: 'stack' })!;
    const end = va + 2n * 4096n;
    const at = { start: `0x${va.toString(16)}`, pages: 2, kind: 'vmalloc', region: 'default', owner: 'stack' };
    for (const address of [end, end + 4095n]) {
      expect(() => vmap.touch(address, 'write')).toThrow(
        expect.objectContaining({ refusal: { code: 'fault', va: `0x${address.toString(16)}`, access: 'write', reason: 'guard', at } }),
      );
    }
    expect(() => vmap.touch(va - 1n)).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ reason: 'guard' }) }));
    const outside = vmap.vmallocAt(OUTSIDE, 4096)!.va;
    for (const address of [outside - 1n, outside + 4096n]) {
      expect(() => vmap.touch(address)).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ reason: 'guard' }) }));
    }
    expect(vmap.touch(va + 5n)).toBe(vmap.translate(va));
  });

  it('the last page of a full region is a guard page of its last area', () => {
    const { vmap: one } = vmapFixture({ regions: [{ name: 'default', start: START, pages: 8 }] });
    const va = one.vmalloc(5 * 4096)!;
    expect(va).toBe(START + 2n * 4096n);
    expect(() => one.touch(va + 5n * 4096n)).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ reason: 'guard' }) }));
    expect(() => one.vmalloc(1)).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ code: 'no-room' }) }));
  });

  it('obeys the flags of the mapping, here and in the page table', () => {
    const text = vmap.vmap([1, 2], { flags: { writable: false, executable: true } })!;
    const data = vmap.vmalloc(4096)!;
    expect(vmap.touch(text, 'execute')).toBe(1);
    expect(() => vmap.touch(text + 4096n, 'write')).toThrow(
      expect.objectContaining({ refusal: expect.objectContaining({ reason: 'read-only' }) }),
    );
    expect(() => vmap.touch(data, 'execute')).toThrow(
      expect.objectContaining({ refusal: expect.objectContaining({ reason: 'no-execute' }) }),
    );
    const { table } = fixture;
    expect(table.access(Number(text >> 12n), 'write')).toBe(-1);
    expect(table.access(Number(text >> 12n), 'execute')).toBe(1);
    expect(table.access(Number(data >> 12n), 'execute')).toBe(-1);
    expect(table.access(Number(data >> 12n), 'write')).toBe(vmap.translate(data));
  });

  it('an address where nothing is or was faults as unmapped, and raw space until someone maps it', () => {
    expect(() => vmap.touch(OUTSIDE)).toThrow(
      expect.objectContaining({ refusal: expect.objectContaining({ reason: 'unmapped', at: null }) }),
    );
    const raw = vmap.vmAlloc(1)!;
    expect(() => vmap.touch(raw)).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ reason: 'unmapped' }) }));
    fixture.table.map(Number(raw >> 12n), 42, 1, { writable: false, executable: false });
    expect(vmap.touch(raw)).toBe(42);
  });
});

describe('describe', () => {
  it('draws how full a region is, and lists areas outside', () => {
    const { vmap: one } = vmapFixture({ regions: [{ name: 'default', start: START, pages: 128 }] });
    const areas = Array.from({ length: 16 }, () => one.vmAlloc(3)!);
    for (const va of areas.filter((_, i) => i % 4 === 0)) one.vmFree(va);
    one.reserve(OUTSIDE, 512, { owner: 'hypervisor' });
    expect(one.describe().split('\n')).toEqual([
      'vmap, strict',
      'region default at 0xffff82c000000000, 128 pages, low 1, top 128',
      '  12 areas of 36 pages (28 %), 1 for the bitmap, 1 of them populated',
      '  |▄  █▄█▄█▄  █▄█▄█▄  █▄█▄█▄  █▄█▄█▄                               | 2 pages a column',
      '  free 91, largest hole 63, fragmentation 31 %',
      '  holes by pages: 1+: 8, 4+: 4, 32+: 1',
      'outside: 1 areas',
      '  0xffff82d080000000 512 pages reserved hypervisor',
    ]);
  });

  it('draws a region past whose end compat mode hands out addresses, and an allocator that is closed', () => {
    const { vmap: one } = vmapFixture({ compat: true, regions: [{ name: 'default', start: START, pages: 130 }] });
    one.vmAlloc(500);
    expect(one.describe()).toContain(`|▆${'█'.repeat(43)}| 3 pages a column`);
    one.close();
    expect(one.describe()).toBe('vmap, closed');
  });

  it('says how much waits for a purge', () => {
    const { vmap: lazy } = vmapFixture({ lazy: { pagesMax: 8 } });
    lazy.vfree(lazy.vmalloc(3 * 4096));
    expect(lazy.describe().split('\n').at(-1)).toBe('waiting for a purge: 1 areas, 3 pages');
  });

  it('stays within 100 columns, and within some lines however many areas there are', () => {
    for (let i = 0; i < 100; i++) vmap.reserve(OUTSIDE + BigInt(i) * 0x1_0000n, 1, { owner: 'x'.repeat(200) });
    const lines = vmap.describe().split('\n');
    expect(lines.length).toBeLessThan(32);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(100);
    expect(lines.at(-1)).toBe('  and 84 more');
  });
});
