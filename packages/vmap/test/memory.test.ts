import { createPageHeap, createPageTable, VmapError } from '@paravirt/vmap';
import { pageAllocatorCases, pageTableCases } from '@paravirt/vmap/testing';
import { describe, expect, it } from 'vitest';

const FLAGS = { writable: true, executable: false };

describe('the page table in memory', () => {
  for (const { title, run } of pageTableCases) it(title, () => run(createPageTable));

  it('maps nothing when a table page is missing for any part of the run', () => {
    const table = createPageTable({ tablesMax: 2 });
    expect(table.map(500, 1, 600, FLAGS)).toBe(false);
    expect([table.mapped, table.tables]).toEqual([0, 0]);
    expect(table.map(500, 1, 100, FLAGS)).toBe(true);
    expect(table.map(5_000, 1, 1, FLAGS)).toBe(false);
    table.unmap(500, 12);
    expect(table.tables).toBe(1);
    expect(table.map(5_000, 1, 1, FLAGS)).toBe(true);
  });

  it('visits every mapped page once', () => {
    const table = createPageTable();
    table.map(510, 7, 4, FLAGS);
    const seen: [number, number][] = [];
    table.each((vfn, mfn) => seen.push([vfn, mfn]));
    expect(seen.sort(([a], [b]) => a - b)).toEqual([
      [510, 7],
      [511, 8],
      [512, 9],
      [513, 10],
    ]);
  });

  it('reaches nothing by an access to a page that is not mapped', () => {
    const table = createPageTable();
    table.map(1, 7, 1, { writable: false, executable: false });
    expect([table.access(1, 'read'), table.access(1, 'write'), table.access(2, 'read'), table.access(9_999, 'read')]).toEqual([
      7, -1, -1, -1,
    ]);
  });
});

describe('the page heap in memory', () => {
  for (const { title, run } of pageAllocatorCases) it(title, () => run(() => createPageHeap({ pages: 64 })));

  it('never uses a frame number twice, and has no more frames out than it was given', () => {
    const heap = createPageHeap({ firstMfn: 10, pages: 2 });
    expect([heap.alloc(), heap.alloc(), heap.alloc()]).toEqual([10, 11, -1]);
    heap.free(10);
    expect(heap.alloc()).toBe(12);
    expect(heap).toMatchObject({ live: 2, handedOut: 3 });
  });

  it('refuses to free or clear a frame that is not out', () => {
    const heap = createPageHeap();
    const mfn = heap.alloc();
    heap.free(mfn);
    expect(() => heap.free(mfn)).toThrow(VmapError);
    expect(() => heap.clear(mfn)).toThrow(VmapError);
    expect(() => heap.bytes(heap.alloc())).toThrow('allowed is true');
  });

  it('shows the bytes of a frame, and clears them', () => {
    const heap = createPageHeap({ memory: true });
    const mfn = heap.alloc();
    expect(heap.bytes(mfn)[4095]).toBe(0xa5);
    heap.clear(mfn);
    expect(heap.bytes(mfn).every((byte) => byte === 0)).toBe(true);
    expect(heap.cleared).toBe(1);
  });
});
