import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createGuestMemory,
  createMemslots,
  fromLayout,
  type GuestMemory,
  LOG_DIRTY_PAGES,
  type Memslots,
  MemslotsError,
  PAGE_SIZE,
  pcLayout,
  READONLY,
} from '../src/index.ts';

const HOST = 0x7000_0000_0000;
const codeOf = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    if (error instanceof MemslotsError) return error.refusal.code;
    throw error;
  }
  return 'none';
};

interface Machine {
  memslots: Memslots;
  memory: GuestMemory;
  u8: Uint8Array;
}

/** Frames 0-1 and 2-3 side by side in the guest and swapped in the host, a hole at 4, read-only 5, frame 8 beyond the backing. */
function machine(): Machine {
  const u8 = new Uint8Array(5 * PAGE_SIZE);
  const memslots = createMemslots();
  memslots.createSlot({ id: 0, baseGfn: 0, pages: 2, userspaceAddr: HOST + 2 * PAGE_SIZE, flags: LOG_DIRTY_PAGES });
  memslots.createSlot({ id: 1, baseGfn: 2, pages: 2, userspaceAddr: HOST, flags: LOG_DIRTY_PAGES });
  memslots.createSlot({ id: 2, baseGfn: 5, pages: 1, userspaceAddr: HOST + 4 * PAGE_SIZE, flags: READONLY | LOG_DIRTY_PAGES });
  memslots.createSlot({ id: 3, baseGfn: 8, pages: 1, userspaceAddr: HOST + 5 * PAGE_SIZE });
  return { memslots, memory: createGuestMemory(memslots, { u8, hva: HOST }), u8 };
}

describe('guest memory over a buffer', () => {
  it('is written and read across pages and slots, wherever their host memory is, and marks what it wrote', () => {
    const { memslots, memory, u8 } = machine();
    const bytes = Uint8Array.from({ length: PAGE_SIZE + 2 }, (_, i) => i * 7);
    memory.write(2 * PAGE_SIZE - 1, bytes);
    expect(u8[4 * PAGE_SIZE - 1]).toBe(bytes[0]);
    expect(u8.subarray(0, PAGE_SIZE + 1)).toEqual(bytes.subarray(1));
    const back = new Uint8Array(bytes.length);
    memory.read(2 * PAGE_SIZE - 1, back);
    expect(back).toEqual(bytes);
    expect([memslots.getDirtyLog(0).runs, memslots.getDirtyLog(1).runs]).toEqual([[[1, 1]], [[0, 2]]]);
  });

  it('refuses a range with a hole, a read-only page or a page outside the backing in it, before it touches a byte', () => {
    const { memslots, memory, u8 } = machine();
    memory.fill(0, 1, 4 * PAGE_SIZE);
    for (const id of [0, 1]) memslots.getDirtyLog(id);
    const before = u8.slice();
    const long = new Uint8Array(2 * PAGE_SIZE).fill(9);
    expect(codeOf(() => memory.write(3 * PAGE_SIZE, long))).toBe('hole');
    expect(codeOf(() => memory.read(3 * PAGE_SIZE, long))).toBe('hole');
    expect(codeOf(() => memory.write(5 * PAGE_SIZE, long.subarray(0, 1)))).toBe('write-protected');
    expect(codeOf(() => memory.fill(5 * PAGE_SIZE, 1, 1))).toBe('write-protected');
    expect(codeOf(() => memory.view(5 * PAGE_SIZE, 1, true))).toBe('write-protected');
    expect(codeOf(() => memory.read(8 * PAGE_SIZE, long.subarray(0, 1)))).toBe('outside-backing');
    expect(codeOf(() => memory.read(0xffff_ffff_ffff_ffffn, long.subarray(0, 1)))).toBe('hole');
    expect(codeOf(() => memory.read(-1, long))).toBe('bad-argument');
    expect(codeOf(() => memory.view(0, -1))).toBe('bad-argument');
    expect(u8).toEqual(before);
    expect(long.every((byte) => byte === 9)).toBe(true);
    expect([0, 1, 2].map((id) => memslots.getDirtyLog(id).runs)).toEqual([[], [], []]);
  });

  it('gives views of what is side by side in the host, and refuses what is not', () => {
    const { memslots, memory, u8 } = machine();
    const view = memory.view(PAGE_SIZE - 2, 4);
    view[3] = 5;
    expect(u8[3 * PAGE_SIZE + 1]).toBe(5);
    expect(memslots.getDirtyLog(0).runs).toEqual([]);
    memory.view(PAGE_SIZE - 2, 4, true);
    expect(memslots.getDirtyLog(0).runs).toEqual([[0, 2]]);
    expect(codeOf(() => memory.view(2 * PAGE_SIZE - 1, 2))).toBe('not-contiguous');
    expect(memory.view(5 * PAGE_SIZE, PAGE_SIZE).length).toBe(PAGE_SIZE);
    expect(memory.view(4 * PAGE_SIZE, 0).length).toBe(0);
  });

  it('follows a buffer that grew behind it', () => {
    const memslots = createMemslots();
    const backing = { u8: new Uint8Array(0), hva: HOST };
    const memory = createGuestMemory(memslots, backing);
    memslots.createSlot({ id: 0, baseGfn: 0, pages: 1, userspaceAddr: HOST });
    expect(codeOf(() => memory.write(0, Uint8Array.of(1)))).toBe('outside-backing');
    backing.u8 = new Uint8Array(PAGE_SIZE);
    memory.write(1, Uint8Array.of(1));
    expect([...backing.u8.subarray(0, 3)]).toEqual([0, 1, 0]);
  });

  it('reads back what was written at any address and length, as one flat memory would', () => {
    const flat = new Uint8Array(4 * PAGE_SIZE);
    const { memory } = machine();
    fc.assert(
      fc.property(fc.nat(4 * PAGE_SIZE - 1), fc.nat(3 * PAGE_SIZE), fc.nat(255), (gpa, length, byte) => {
        const bytes = Math.min(length, flat.length - gpa);
        memory.write(gpa, new Uint8Array(bytes).fill(byte));
        flat.fill(byte, gpa, gpa + bytes);
        const back = new Uint8Array(flat.length);
        memory.read(0, back);
        expect(back.findIndex((value, at) => value !== flat[at])).toBe(-1);
      }),
      { numRuns: 60 },
    );
  });
});

describe('layouts', () => {
  it('make the map of a PC: RAM below and above the PCI hole, read-only firmware at its end', () => {
    const memslots = fromLayout(pcLayout({ ramBytes: 8 * 2 ** 30, hva: HOST }));
    expect(memslots.describe()).toBe(
      [
        'guest range                        size     slot  flags  host address',
        '0000000100000000-000000023fffffff  5 GiB    1     rw     0x7000c0000000',
        '00000000fffc0000-00000000ffffffff  256 KiB  2     ro     0x700200000000',
        '0000000000000000-00000000bfffffff  3 GiB    0     rw     0x700000000000',
      ].join('\n'),
    );
    expect(memslots.translate(0, 0xc0000)).toBe(-1);
    expect(fromLayout(pcLayout({ ramBytes: 2 ** 20, hva: HOST, firmwareBytes: 0 })).usedSlots(0)).toBe(1);
  });

  it('give rows without an id the lowest free one of their address space, past those that are named', () => {
    const memslots = fromLayout([
      { gpa: 0, size: 4096, hva: HOST },
      { gpa: '0x1000', size: 4096n, hva: HOST, slot: 1, flags: LOG_DIRTY_PAGES },
      { gpa: 0x2000, size: 4096, hva: HOST },
      { gpa: 0, size: 4096, hva: HOST, asId: 1 },
    ]);
    expect([...memslots.slots()].map(({ id }) => id)).toEqual([2, 1, 0]);
    expect(memslots.lookup(1, 0)).toBe(0);
    expect(memslots.describe(1).split('\n')).toHaveLength(2);
    expect(memslots.describe()).toContain('rw,log');
  });

  it('refuse rows that overlap, that share an id, or that are empty', () => {
    const row = { gpa: 0, size: 8192, hva: HOST };
    expect(codeOf(() => fromLayout([row, { ...row, gpa: 4096 }]))).toBe('overlap');
    expect(
      codeOf(() =>
        fromLayout([
          { ...row, slot: 3 },
          { ...row, slot: 3 },
        ]),
      ),
    ).toBe('bad-argument');
    expect(codeOf(() => fromLayout([{ ...row, size: 0 }]))).toBe('delete-absent');
    expect(codeOf(() => fromLayout([{ ...row, slot: 99 }], { userMemSlots: 8 }))).toBe('slot-limit');
    expect(codeOf(() => pcLayout({ ramBytes: 100, hva: 0 }))).toBe('bad-argument');
    expect(codeOf(() => pcLayout({ ramBytes: 4096, hva: 0, firmwareBytes: 2 ** 31 }))).toBe('bad-argument');
  });
});

describe('walks by range', () => {
  it('give the slots that meet it, ascending, both ends included and no neighbour', () => {
    const memslots = createMemslots();
    for (const [id, baseGfn, pages] of [
      [0, 0, 4],
      [1, 4, 4],
      [2, 10, 1],
      [3, 2 ** 52 - 2, 1],
    ] as const) {
      // biome-ignore format: a table
      memslots.createSlot({ id, baseGfn, pages, userspaceAddr: HOST });
    }
    const ids = (start: number, end: number): number[] => [...memslots.slotsIn(start, end)].map(({ id }) => id);
    expect([ids(0, 4), ids(3, 5), ids(4, 10), ids(8, 10), ids(4, 11), ids(5, 5), ids(0, 2 ** 52)]).toEqual([
      [0],
      [0, 1],
      [1],
      [],
      [1, 2],
      [],
      [0, 1, 2, 3],
    ]);
    expect(ids(2 ** 52 - 2, 2 ** 52 - 1)).toEqual([3]);
    expect(ids(2 ** 52 - 1, 2 ** 52)).toEqual([]);
  });
});
