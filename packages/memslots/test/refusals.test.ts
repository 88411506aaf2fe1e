import { describe, expect, it } from 'vitest';
import {
  createMemslots,
  HVA_BAD,
  HVA_RO_BAD,
  type MemoryRegion,
  type Memslots,
  MemslotsError,
  type MemslotsRefusal,
} from '../src/index.ts';

const HOST = 0x7000_0000_0000;
const LIMIT = 0x7fff_ffff_f000;

function refusalOf(call: () => unknown): MemslotsRefusal | undefined {
  try {
    call();
  } catch (error) {
    if (error instanceof MemslotsError) return error.refusal;
    throw error;
  }
  return undefined;
}

/** Two slots: 0 at frames 16 to 20, read-only 1 at 100. */
function twoSlots(): Memslots {
  const memslots = createMemslots({ userMemSlots: 509, maxGfn: 2 ** 40 - 1 });
  memslots.createSlot({ id: 0, baseGfn: 16, pages: 4, userspaceAddr: HOST });
  memslots.createSlot({ id: 1, baseGfn: 100, pages: 1, userspaceAddr: HOST, flags: 2 });
  return memslots;
}

const good: MemoryRegion = { slot: 5, asId: 0, flags: 0, guestPhysAddr: 0x100_0000, memorySize: 0x1000, userspaceAddr: HOST };

describe('setUserMemoryRegion', () => {
  /** In the order of the checks: every row is also wrong in everything that comes later, where that can be said in one region. */
  const cases: [code: string, ret: number, region: Partial<MemoryRegion>][] = [
    ['slot-limit', -22, { slot: 509, flags: 4, memorySize: 1, guestPhysAddr: 1, userspaceAddr: 1, asId: 2 }],
    ['flags', -22, { flags: 4, memorySize: 1, guestPhysAddr: 1, userspaceAddr: 1, asId: 2 }],
    ['flags', -22, { flags: 0x8000_0000 }],
    ['size-alignment', -22, { memorySize: 1, guestPhysAddr: 1, userspaceAddr: 1, asId: 2 }],
    ['gpa-alignment', -22, { guestPhysAddr: '0xffffffffffffffff', userspaceAddr: 1, asId: 2 }],
    ['hva-alignment', -22, { userspaceAddr: 0xfffn, asId: 2 }],
    ['hva-range', -22, { userspaceAddr: LIMIT, asId: 2 }],
    ['hva-range', -22, { userspaceAddr: '0xfffffffffffff000', asId: 2 }],
    ['hva-range', -22, { userspaceAddr: 0, memorySize: 0xffff_ffff_ffff_f000n, asId: 2 }],
    ['address-space', -22, { asId: 2, guestPhysAddr: 0xffff_ffff_ffff_f000n }],
    ['gpa-wrap', -22, { guestPhysAddr: 0xffff_ffff_ffff_f000n }],
    ['gpa-wrap', -22, { guestPhysAddr: 0xffff_f800_0000_0000n, memorySize: 0x7ff_ffff_f000n + 0x1000n, userspaceAddr: 0 }],
    ['delete-absent', -22, { memorySize: 0 }],
    ['too-many-pages', -22, { memorySize: 0x800_0000_0000, userspaceAddr: 0 }],
    ['changed-hva', -22, { slot: 0, userspaceAddr: HOST + 4096, memorySize: 0x4000 }],
    ['changed-size', -22, { slot: 0, memorySize: 0x5000, flags: 2 }],
    ['changed-readonly', -22, { slot: 0, memorySize: 0x4000, flags: 2, guestPhysAddr: 100 * 4096 }],
    ['overlap', -17, { guestPhysAddr: 19 * 4096, memorySize: 0x2000 }],
    ['overlap', -17, { guestPhysAddr: 0, memorySize: 17 * 4096 }],
    ['overlap', -17, { slot: 0, memorySize: 0x4000, guestPhysAddr: 97 * 4096 }],
    ['max-gfn', -22, { guestPhysAddr: 2 ** 52 - 4096, memorySize: 0x2000 }],
  ];

  it.each(cases)('refuses by %s (%i): %o', (code, ret, change) => {
    const memslots = twoSlots();
    const before = [memslots.describe(), memslots.generation(0)];
    expect(refusalOf(() => memslots.setUserMemoryRegion({ ...good, ...change }))).toMatchObject({
      code,
      ret,
      errno: ret === -17 ? 'EEXIST' : 'EINVAL',
    });
    expect([memslots.describe(), memslots.generation(0)]).toEqual(before);
  });

  it('names the slot that is in the way', () => {
    expect(refusalOf(() => twoSlots().setUserMemoryRegion({ ...good, guestPhysAddr: 100 * 4096 }))).toMatchObject({
      code: 'overlap',
      other: 1,
    });
  });

  it('accepts what only just fits: the last frames of all, the end of host addresses, the most pages', () => {
    const memslots = createMemslots();
    expect(memslots.setUserMemoryRegion({ ...good, guestPhysAddr: 0xffff_ffff_ffff_e000n })).toBe('create');
    expect([memslots.translate(0, 2 ** 52 - 2), memslots.translate(0, 2 ** 52 - 1), memslots.lookup(0, 2 ** 52 - 3)]).toEqual([
      HOST,
      -1,
      -1,
    ]);
    expect(memslots.setUserMemoryRegion({ ...good, slot: 6, userspaceAddr: LIMIT - 4096, guestPhysAddr: 0 })).toBe('create');
    expect(memslots.setUserMemoryRegion({ ...good, slot: 7, memorySize: 0x7ff_ffff_f000, guestPhysAddr: 2 ** 45, userspaceAddr: 0 })).toBe(
      'create',
    );
    expect(memslots.translate(0, 2 ** 33 + 0x7fff_fffe)).toBe(0x7ff_ffff_e000);
    expect(
      memslots.setUserMemoryRegion({ ...good, slot: 7, memorySize: 0, userspaceAddr: LIMIT, guestPhysAddr: 0xffff_ffff_ffff_f000n }),
    ).toBe('delete');
  });

  it('lets the internal entry pass the ids above those of user space, and no further', () => {
    const memslots = twoSlots();
    expect(memslots.setMemoryRegion({ ...good, slot: 511 })).toBe('create');
    expect(memslots.isVisibleGfn(0, 0x1000)).toBe(false);
    expect(refusalOf(() => memslots.setMemoryRegion({ ...good, slot: 512 }))).toMatchObject({ code: 'address-space', argument: 'slot' });
    expect(refusalOf(() => memslots.setUserMemoryRegion({ ...good, slot: 4 }))).toMatchObject({ code: 'overlap', other: 511 });
  });

  it.each([
    { slot: -1 },
    { slot: 1.5 },
    { slot: Number.NaN },
    { slot: 65536 },
    { asId: -1 },
    { flags: 2 ** 32 },
    { guestPhysAddr: -4096 },
    { guestPhysAddr: 2 ** 54 },
    { guestPhysAddr: 0.5 },
    { memorySize: 1n << 64n },
    { memorySize: '0x' as const },
    { userspaceAddr: '0x10000000000000000' as const },
    { userspaceAddr: undefined as never },
    { guestPhysAddr: null as never },
  ])('refuses what is no number of its kind, whatever else holds: %o', (change) => {
    expect(refusalOf(() => twoSlots().setUserMemoryRegion({ ...good, ...change }))).toMatchObject({
      code: 'bad-argument',
      errno: 'EINVAL',
    });
  });
});

describe('calls in frames', () => {
  it('refuse what setUserMemoryRegion would take for something else', () => {
    const memslots = twoSlots();
    expect(refusalOf(() => memslots.createSlot({ id: 2, baseGfn: 0, pages: 0, userspaceAddr: HOST }))?.argument).toBe('pages');
    expect(refusalOf(() => memslots.createSlot({ id: 0, baseGfn: 200, pages: 4, userspaceAddr: HOST }))?.argument).toBe('id');
    expect(refusalOf(() => memslots.moveSlot(9, 0))).toMatchObject({ code: 'no-slot', ret: -2 });
    expect(refusalOf(() => memslots.setFlags(0, 2))?.code).toBe('changed-readonly');
    expect(refusalOf(() => memslots.setFlags(0, -1))).toMatchObject({ code: 'bad-argument', argument: 'flags' });
    expect(refusalOf(() => memslots.moveSlot(0, -1))).toMatchObject({ code: 'bad-argument', argument: 'baseGfn' });
    expect(refusalOf(() => memslots.moveSlot(0, 2 ** 52))).toMatchObject({ code: 'bad-argument', argument: 'guestPhysAddr' });
    expect(refusalOf(() => memslots.deleteSlot(509))?.code).toBe('slot-limit');
    expect([memslots.moveSlot(0, 16), memslots.setFlags(0, 0), memslots.moveSlot(0, 17), memslots.setFlags(0, 1)]).toEqual([
      'none',
      'none',
      'move',
      'flags',
    ]);
  });
});

describe('lookups', () => {
  it('take numbers, bigint and hexadecimal, and miss beyond all frames', () => {
    const memslots = twoSlots();
    expect([memslots.gfnToMemslot(0, 16), memslots.gfnToMemslot(0, 16n), memslots.gfnToMemslot(0, '0x10')]).toEqual([0, 0, 0]);
    for (const gfn of [2 ** 52, 2 ** 53, 1n << 53n, (1n << 64n) - 1n, '0xffffffffffffffff'] as const) {
      expect([memslots.gfnToMemslot(0, gfn), memslots.gfnToHva(0, gfn), memslots.isVisibleGfn(0, gfn)]).toEqual([-1, HVA_BAD, false]);
      expect(memslots.gfnToHvaProt(0, gfn)).toEqual({ hva: HVA_BAD, writable: false });
    }
    expect(memslots.gfnToHva(0, 100)).toBe(HVA_RO_BAD);
    const out = { hva: 0, writable: false };
    expect(memslots.gfnToHvaProt(0, 17, out)).toBe(out);
    expect(out).toEqual({ hva: HOST + 4096, writable: true });
  });

  it('miss for frames that are no frames, without a check', () => {
    const memslots = twoSlots();
    for (const gfn of [-1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 2 ** 64]) {
      expect([memslots.translate(0, gfn), memslots.translateRead(0, gfn), memslots.lookup(0, gfn)]).toEqual([-1, -1, -1]);
    }
  });

  it('refuse an address space that is not there, and no number of frames', () => {
    const memslots = twoSlots();
    for (const call of [
      () => memslots.translate(2, 0),
      () => memslots.translateRead(-1, 0),
      () => memslots.lookup(9, 0),
      () => memslots.space(2),
      () => memslots.generation(2),
      () => memslots.gfnToHva(2, 0),
      () => memslots.snapshot(3),
      () => memslots.gfnToHva(0, -1),
      () => memslots.gfnToMemslot(0, 0.5),
      () => memslots.hvaRange('0xzz', 1),
    ]) {
      expect(refusalOf(call)?.code).toBe('bad-argument');
    }
  });

  it('give host ranges byte by byte at both ends, over all of 64 bits', () => {
    const memslots = twoSlots();
    const hits = (start: MemoryRegion['memorySize'], end: MemoryRegion['memorySize']) =>
      memslots.hvaRange(start, end).map(({ id, firstGfn, endGfn }) => [id, firstGfn, endGfn]);
    expect(hits(HOST + 4095, HOST + 4097)).toEqual([[1, 100, 101], [0, 16, 18]]); // biome-ignore format: hits read best in one line
    expect(hits(HOST + 4 * 4096 - 1, (1n << 64n) - 1n)).toEqual([[0, 19, 20]]);
    expect(hits(0, '0xffffffffffffffff')).toEqual([[1, 100, 101], [0, 16, 20]]); // biome-ignore format: hits read best in one line
    for (const [start, end] of [
      [HOST + 1, HOST + 1],
      [HOST + 2, HOST + 1],
      [HOST + 4 * 4096, HOST * 1.1],
      [HOST - 4096, HOST],
    ] as const) {
      expect(hits(Math.floor(start), Math.floor(end))).toEqual([]);
    }
  });
});

describe('options', () => {
  it.each([
    { userMemSlots: -1 },
    { userMemSlots: 65535 },
    { userMemSlots: 65000, internalSlots: 1000 },
    { addressSpaces: 0 },
    { addressSpaces: 257 },
    { maxPagesPerSlot: 2 ** 31 },
    { userAddrLimit: -1 },
    { userAddrLimit: 1n << 64n },
    { maxGfn: -1 },
    { manualDirtyLogProtect: 2 as never },
  ])('out of range are refused: %o', (options) => {
    expect(refusalOf(() => createMemslots(options))?.code).toBe('bad-argument');
  });
});
