import type { PageAllocator, PageTable } from './types.ts';

/** One thing that holds of every implementation of an interface. */
export interface InterfaceCase<Subject> {
  /** A sentence about behaviour, for the test's title. */
  readonly title: string;
  /** Makes its own subject. @throws {Error} what does not hold. */
  run(make: () => Subject): void;
}

function equal(what: string, found: unknown, expected: unknown): void {
  if (found !== expected) throw new Error(`${what} is ${String(found)}, expected ${String(expected)}`);
}

const PLAIN = { writable: true, executable: false };
/** Page numbers of a hypervisor's half of the address space, past 2^32 and next to the border of a table page. */
const VFN = 0xf_fff8_2c00_01f0;

/** What every page table must do; `make` gives one with nothing mapped from page 0xffff82c0001f0 on. */
export const pageTableCases: readonly InterfaceCase<PageTable>[] = [
  {
    title: 'translates a page that was never mapped to -1',
    run: (make) => equal('the frame', make().translate(VFN), -1),
  },
  {
    title: 'maps a run of pages to consecutive frames, across the border of a table page, and nothing beside it',
    run(make) {
      const table = make();
      equal('map', table.map(VFN, 0x1000, 64, PLAIN), true);
      for (let i = 0; i < 64; i++) equal(`the frame of page ${i}`, table.translate(VFN + i), 0x1000 + i);
      equal('the frame before', table.translate(VFN - 1), -1);
      equal('the frame after', table.translate(VFN + 64), -1);
    },
  },
  {
    title: 'unmaps what it is told, passes over what is not mapped, and keeps the rest',
    run(make) {
      const table = make();
      table.map(VFN, 0x1000, 8, PLAIN);
      table.unmap(VFN + 6, 10);
      table.unmap(VFN + 2, 2);
      const found = Array.from({ length: 10 }, (_, i) => table.translate(VFN + i)).join();
      equal('frames', found, [0x1000, 0x1001, -1, -1, 0x1004, 0x1005, -1, -1, -1, -1].join());
    },
  },
  {
    title: 'maps a page anew where one is mapped',
    run(make) {
      const table = make();
      table.map(VFN, 0x1000, 2, PLAIN);
      equal('map', table.map(VFN + 1, 0x2000, 1, PLAIN), true);
      equal('the frame', table.translate(VFN + 1), 0x2000);
      equal('the frame before', table.translate(VFN), 0x1000);
    },
  },
  {
    title: 'has frame 0 as a frame like others',
    run(make) {
      const table = make();
      table.map(VFN, 0, 1, PLAIN);
      equal('the frame', table.translate(VFN), 0);
      table.unmap(VFN, 1);
      equal('the frame', table.translate(VFN), -1);
    },
  },
  {
    title: 'maps nothing when it is asked for no page',
    run(make) {
      const table = make();
      equal('map', table.map(VFN, 0x1000, 0, PLAIN), true);
      equal('the frame', table.translate(VFN), -1);
    },
  },
];

/** What every page allocator must do; `make` gives one with at least 8 frames free. */
export const pageAllocatorCases: readonly InterfaceCase<PageAllocator>[] = [
  {
    title: 'hands out frames that differ while they are out',
    run(make) {
      const heap = make();
      const frames = Array.from({ length: 8 }, () => heap.alloc());
      equal('the number of frames', new Set(frames).size, 8);
      for (const mfn of frames) equal('a whole number from 0', Number.isSafeInteger(mfn) && mfn >= 0, true);
      for (const mfn of frames) heap.free(mfn);
    },
  },
  {
    title: 'has a frame again after one is given back',
    run(make) {
      const heap = make();
      const taken: number[] = [];
      for (let mfn = heap.alloc(); mfn >= 0 && taken.length < 100_000; mfn = heap.alloc()) taken.push(mfn);
      heap.free(taken.pop()!);
      equal('a frame from 0', heap.alloc() >= 0, true);
    },
  },
  {
    title: 'clears a frame that is out',
    run(make) {
      const heap = make();
      const mfn = heap.alloc();
      heap.clear(mfn);
      heap.free(mfn);
    },
  },
];
