import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createMemslots, MemslotsError } from '../src/index.ts';

const FRAMES = 2 ** 52;
const HOST = 0x7000_0000_0000;
const full = process.env['PARAVIRT_FULL'] !== undefined;
const numRuns = full ? 20_000 : 400;

/** A frame anywhere in 2^52, the ends and powers of two more often than not. */
const frame = fc.oneof(
  fc.maxSafeInteger().map((n) => Math.abs(n) % FRAMES),
  fc.integer({ min: -3, max: 3 }).map((n) => (n + FRAMES) % FRAMES),
  fc.tuple(fc.nat(51), fc.integer({ min: -2, max: 2 })).map(([bit, n]) => (2 ** bit + n + FRAMES) % FRAMES),
  fc.nat(40),
);
const pages = fc.oneof(
  fc.integer({ min: 1, max: 5 }),
  fc.nat(30).map((bit) => 2 ** bit),
  fc.constant(0x7fff_ffff),
);
const step = fc.record({ id: fc.nat(6), base: frame, pages, remove: fc.nat(3).map((n) => n === 0), flags: fc.nat(3) });

interface Range {
  id: number;
  base: number;
  end: number;
  flags: number;
}

/** Goal: which slot a frame belongs to, and which change is refused, are what a list of ranges says. Method: random regions and the frames at all their borders. */
describe(`regions anywhere in the 2^52 frames, ${numRuns} runs`, () => {
  it('are found, refused and listed as a list of ranges has them', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const memslots = createMemslots({ userMemSlots: 7 });
        let ranges: Range[] = [];
        for (const { id, base, pages: count, remove, flags } of steps) {
          const old = ranges.find((range) => range.id === id);
          const length = old === undefined ? count : old.end - old.base;
          let expected: string;
          if (remove) expected = old === undefined ? 'delete-absent' : 'delete';
          else if (base + length >= FRAMES) expected = 'gpa-wrap';
          else if (old !== undefined && ((old.flags ^ flags) & 2) !== 0) expected = 'changed-readonly';
          else if (old !== undefined && old.base === base) expected = old.flags === flags ? 'none' : 'flags';
          else if (ranges.some((other) => other !== old && other.base < base + length && other.end > base)) expected = 'overlap';
          else expected = old === undefined ? 'create' : 'move';
          let actual: string;
          try {
            actual = memslots.setUserMemoryRegion({
              slot: id,
              flags,
              guestPhysAddr: BigInt(base) << 12n,
              memorySize: remove ? 0 : length * 4096,
              userspaceAddr: remove ? 0 : id * 4096,
            });
          } catch (error) {
            if (!(error instanceof MemslotsError)) throw error;
            actual = error.refusal.code;
          }
          expect(actual).toBe(expected);
          if (['delete', 'move', 'flags'].includes(actual)) ranges = ranges.filter((range) => range !== old);
          if (['create', 'move', 'flags'].includes(actual)) ranges.push({ id, base, end: base + length, flags });
        }
        for (const gfn of ranges
          .flatMap((range) => [range.base - 1, range.base, range.end - 1, range.end])
          .concat(0, FRAMES - 2, FRAMES - 1, FRAMES)) {
          const range = ranges.find((one) => one.base <= gfn && gfn < one.end);
          expect(memslots.lookup(0, gfn)).toBe(range?.id ?? -1);
          const host = range === undefined ? -1 : range.id * 4096 + (gfn - range.base) * 4096;
          expect(memslots.translateRead(0, gfn)).toBe(host);
          expect(memslots.translate(0, gfn)).toBe(range !== undefined && (range.flags & 2) === 0 ? host : -1);
        }
        const rows = [...memslots.slots()].map(({ id, baseGfn, pages: count, flags }) => ({
          id,
          base: baseGfn,
          end: baseGfn + count,
          flags,
        }));
        expect(rows).toEqual([...ranges].sort((a, b) => b.base - a.base));
      }),
      { numRuns },
    );
  }, 1_800_000);

  it('meet a host range exactly where their own host pages do', () => {
    const region = fc.record({ base: fc.nat(1000).map((n) => n * 100), host: fc.nat(60), pages: fc.integer({ min: 1, max: 30 }) });
    fc.assert(
      fc.property(fc.array(region, { maxLength: 30 }), fc.nat(100 * 4096), fc.nat(20 * 4096), (regions, start, length) => {
        const memslots = createMemslots();
        const made: (typeof regions)[number][] = [];
        for (const one of regions) {
          if (made.some(({ base }) => base === one.base)) continue;
          memslots.createSlot({ id: made.length, baseGfn: one.base, pages: one.pages, userspaceAddr: HOST + one.host * 4096 });
          made.push(one);
        }
        const end = start + length;
        const expected = made
          .map((one, id) => ({
            id,
            ...one,
            touched: [...Array(one.pages).keys()].filter((page) => {
              const at = (one.host + page) * 4096;
              return at < end && at + 4096 > start && start < end;
            }),
          }))
          .filter(({ touched }) => touched.length > 0)
          .sort((a, b) => b.base - a.base)
          .map(({ id, base, touched }) => ({ asId: 0, id, firstGfn: base + touched[0]!, endGfn: base + touched.at(-1)! + 1 }));
        expect(memslots.hvaRange(HOST + start, HOST + end)).toEqual(expected);
      }),
      { numRuns },
    );
  }, 1_800_000);
});
