import { describe, expect, it } from 'vitest';
import { createMemslots, type DirtyPages, LOG_DIRTY_PAGES, type Memslots, MemslotsError, type MemslotsRefusal } from '../src/index.ts';
import { seeded } from '../src/testing.ts';

const HOST = 0x7000_0000_0000;
const codeOf = (call: () => unknown): MemslotsRefusal['code'] | 'none' => {
  try {
    call();
  } catch (error) {
    if (error instanceof MemslotsError) return error.refusal.code;
    throw error;
  }
  return 'none';
};

function logged(pages: number, manualDirtyLogProtect: 0 | 1 | 3 = 0): Memslots {
  const memslots = createMemslots({ manualDirtyLogProtect });
  memslots.createSlot({ id: 0, baseGfn: 0, pages, userspaceAddr: 0, flags: LOG_DIRTY_PAGES });
  return memslots;
}

/** The runs as the ABI's bitmap, bit by bit. */
function bitsOf({ bytes, runs }: DirtyPages): Uint8Array {
  const bitmap = new Uint8Array(bytes);
  for (const [first, count] of runs) for (let bit = first; bit < first + count; bit++) bitmap[bit >> 3]! |= 1 << (bit & 7);
  return bitmap;
}

describe('the dirty log', () => {
  it('is kept by moves and by setting the flag again, and lost with the flag or the slot', () => {
    const memslots = logged(70);
    memslots.markPageDirty(0, 69);
    memslots.moveSlot(0, 1000);
    memslots.setFlags(0, LOG_DIRTY_PAGES);
    memslots.markPageDirty(0, 69);
    memslots.markPageDirty(0, 1000);
    expect(memslots.getDirtyLog(0)).toEqual({ bytes: 16, pages: 70, runs: [[0, 1], [69, 1]] }); // biome-ignore format: runs
    memslots.markPageDirty(0, 1001);
    memslots.setFlags(0, 0);
    memslots.markPageDirty(0, 1001);
    expect(codeOf(() => memslots.getDirtyLog(0))).toBe('no-dirty-log');
    memslots.setFlags(0, LOG_DIRTY_PAGES);
    expect(memslots.getDirtyLog(0).runs).toEqual([]);
    memslots.markPageDirty(0, 1001);
    memslots.deleteSlot(0);
    expect(codeOf(() => memslots.getDirtyLog(0))).toBe('no-slot');
    memslots.createSlot({ id: 0, baseGfn: 1000, pages: 70, userspaceAddr: 0, flags: LOG_DIRTY_PAGES });
    expect(memslots.getDirtyLog(0).runs).toEqual([]);
  });

  it('logs pages of a read-only slot too', () => {
    const memslots = createMemslots();
    memslots.createSlot({ id: 0, baseGfn: 0, pages: 2, userspaceAddr: 0, flags: 3 });
    memslots.markPageDirty(0, 1);
    expect(memslots.getDirtyLog(0).runs).toEqual([[1, 1]]);
  });

  it('starts with exactly the pages of the slot where it starts full, and marks nothing twice', () => {
    for (const pages of [1, 63, 64, 65, 32767, 32768, 32769, 100_003]) {
      const memslots = logged(pages, 3);
      memslots.markPageDirty(0, pages - 1);
      expect(memslots.getDirtyLog(0).runs).toEqual([[0, pages]]);
      const bitmap = new Uint8Array(Math.ceil(pages / 64) * 8);
      expect(memslots.readDirtyBitmap(0, 0, bitmap)).toBe(pages);
      expect(bitmap).toEqual(bitsOf(memslots.getDirtyLog(0)));
    }
  });

  it('holds the largest slot there is, in a few pages of bits', () => {
    const pages = 0x7fff_ffff;
    const memslots = logged(pages, 3);
    expect(memslots.memoryBytes().dirtyLogs).toBe(0);
    memslots.clearDirtyLog({ slot: 0, firstPage: 2 ** 30, numPages: 64, runs: [[1, 62]] });
    expect(memslots.getDirtyLog(0).runs).toEqual([[0, 2 ** 30 + 1], [2 ** 30 + 63, pages - 2 ** 30 - 63]]); // biome-ignore format: runs
    memslots.clearDirtyLog({ slot: 0, firstPage: 0, numPages: pages, runs: [[0, pages]] });
    expect([memslots.getDirtyLog(0).runs, memslots.memoryBytes().dirtyLogs]).toEqual([[], 0]);
    memslots.markPageDirty(0, 2 ** 30);
    expect(memslots.getDirtyLog(0).runs).toEqual([[2 ** 30, 1]]);
    const plain = logged(pages);
    for (const page of [pages - 1, 2 ** 30, 0]) plain.markPageDirty(0, page);
    expect(plain.getDirtyLog(0).runs).toEqual([[0, 1], [2 ** 30, 1], [pages - 1, 1]]); // biome-ignore format: runs
    expect(memslots.memoryBytes().dirtyLogs).toBeLessThan(32768);
  });

  it('reports runs and bitmap as a set of pages says, over many marks and clears', () => {
    const random = seeded(7);
    const below = (n: number): number => Math.floor(random() * n);
    for (const pages of [1, 64, 65, 1000, 70_001]) {
      const memslots = logged(pages, 1);
      const set = new Set<number>();
      for (let i = 0; i < 3000; i++) {
        const page = below(2) === 0 ? below(pages) : Math.min(pages - 1, 32768 + below(5) - 2);
        memslots.markPageDirty(0, page);
        set.add(page);
        if (i % 100 !== 0) continue;
        const firstPage = below(Math.floor(pages / 64) + 1) * 64;
        const numPages = pages - firstPage;
        const first = below(numPages + 1);
        const count = below(numPages - first + 1);
        memslots.clearDirtyLog({ slot: 0, firstPage, numPages, runs: [[first, count]] });
        for (let bit = first; bit < first + count; bit++) set.delete(firstPage + bit);
        const log = memslots.getDirtyLog(0);
        expect(log.runs.flatMap(([from, length]) => Array.from({ length }, (_, j) => from + j))).toEqual([...set].sort((a, b) => a - b));
        for (let r = 1; r < log.runs.length; r++) expect(log.runs[r]![0]).toBeGreaterThan(log.runs[r - 1]![0] + log.runs[r - 1]![1]);
        const bitmap = new Uint8Array(log.bytes + 3).fill(0xaa);
        expect(memslots.readDirtyBitmap(0, 0, bitmap)).toBe(set.size);
        expect(bitmap.subarray(0, log.bytes)).toEqual(bitsOf(log));
        expect([...bitmap.subarray(log.bytes)]).toEqual([0xaa, 0xaa, 0xaa]);
      }
    }
  });
});

describe('refusals of the dirty log', () => {
  const memslots = logged(130, 1);
  memslots.createSlot({ id: 1, baseGfn: 500, pages: 1, userspaceAddr: HOST });
  const clear = (range: Partial<Parameters<Memslots['clearDirtyLog']>[0]>) => () =>
    memslots.clearDirtyLog({ slot: 0, firstPage: 0, numPages: 130, runs: [], ...range });

  it.each([
    ['address-space', () => memslots.getDirtyLog(0, 2)],
    ['slot-limit', () => memslots.getDirtyLog(32764)],
    ['no-slot', () => memslots.getDirtyLog(2)],
    ['no-slot', () => memslots.getDirtyLog(0, 1)],
    ['no-dirty-log', () => memslots.getDirtyLog(1)],
    ['bitmap-size', () => memslots.readDirtyBitmap(0, 0, new Uint8Array(23))],
    ['address-space', clear({ asId: 2, firstPage: 1, slot: 40000 })],
    ['slot-limit', clear({ slot: 32764, firstPage: 1 })],
    ['first-page', clear({ slot: 2, firstPage: 1 })],
    ['first-page', clear({ slot: 2, firstPage: (1n << 63n) + 1n })],
    ['no-slot', clear({ slot: 2 })],
    ['no-dirty-log', clear({ slot: 1, numPages: 7 })],
    ['page-range', clear({ firstPage: 192 })],
    ['page-range', clear({ firstPage: 1n << 63n })],
    ['page-range', clear({ numPages: 131 })],
    ['page-range', clear({ firstPage: 128, numPages: 3 })],
    ['page-range', clear({ numPages: 129 })],
    ['bad-argument', clear({ numPages: 64, runs: [[60, 5]] })],
    ['bad-argument', clear({ runs: [[-1, 5]] })],
    ['bad-argument', clear({ numPages: -1 })],
    ['none', clear({ numPages: 64 })],
    ['none', clear({ numPages: 0 })],
    ['none', clear({ firstPage: 128, numPages: 2, runs: [[0, 64]] })],
  ] as const)('%s', (code, call) => {
    memslots.markPageDirty(0, 5);
    const before = memslots.getDirtyLog(0).runs;
    expect(codeOf(call)).toBe(code);
    if (code !== 'none') expect(memslots.getDirtyLog(0).runs).toEqual(before);
  });
});
