import { describe, expect, it } from 'vitest';
import { createMemslots, type Memslots, MemslotsError } from '../src/index.ts';
import { PlainSlots, seeded } from '../src/testing.ts';

const FRAMES = 2 ** 52;
const HOST = 0x7000_0000_0000;

interface Shape {
  /** Slots kept. */
  slots: number;
  /** A first frame. */
  base(below: (n: number) => number): number;
  pages(below: (n: number) => number): number;
  /** A host page; few of them means that many slots share memory. */
  host(below: (n: number) => number): number;
}

const shapes: Record<string, Shape> = {
  'one-page slots in a crowd': { slots: 3000, base: (below) => below(9000), pages: () => 1, host: (below) => below(3000) },
  'sizes of every power of two over all frames': {
    slots: 2000,
    base: (below) => below(2 ** 26) * 2 ** 26 + below(2 ** 26),
    pages: (below) => 2 ** below(19),
    host: (below) => below(2 ** 24),
  },
  'a crowd at each end of the frames and nothing between': {
    slots: 1500,
    base: (below) => (below(2) === 0 ? below(4000) : FRAMES - 2 - below(4000)),
    pages: (below) => 1 + below(2),
    host: (below) => below(40),
  },
  'every slot over the same host pages': { slots: 1200, base: (below) => below(2 ** 31), pages: (below) => 1 + below(3), host: () => 5 },
};

const full = process.env['PARAVIRT_FULL'] !== undefined;
const changes = full ? 60_000 : 8_000;

/** The map, compared whole: order, ids, ranges. */
function compareRows(memslots: Memslots, rows: Map<number, { base: number; pages: number; host: number }>): void {
  const expected = [...rows].sort(([, a], [, b]) => b.base - a.base).map(([id, { base, pages }]) => [id, base, pages]);
  expect([...memslots.slots()].map(({ id, baseGfn, pages }) => [id, baseGfn, pages])).toEqual(expected);
}

/** Goal: with any number of slots, found is what a sorted list finds. Method: random changes of many slots, and questions at their borders. */
describe(`thousands of slots, ${changes} changes for each shape`, () => {
  it.each(Object.entries(shapes))(
    'answer as a sorted list does: %s',
    (name, shape) => {
      const random = seeded(name.length);
      const below = (n: number): number => Math.floor(random() * n);
      const memslots = createMemslots();
      const plain = new PlainSlots();
      const rows = new Map<number, { base: number; pages: number; host: number }>();
      for (let i = 0; i < changes; i++) {
        // Fills up, empties, fills up again, so that blocks are made, joined and made anew.
        const most = Math.floor(i / (changes / 4)) % 2 === 0 ? shape.slots : shape.slots / 8;
        const id = below(shape.slots);
        const had = rows.get(id);
        if (had !== undefined && (rows.size > most || below(4) === 0)) {
          memslots.deleteSlot(id);
          plain.delete(id);
          rows.delete(id);
        } else {
          const base = shape.base(below);
          const { pages, host } = had ?? { pages: Math.min(shape.pages(below), FRAMES - 1 - base), host: HOST + shape.host(below) * 4096 };
          if (pages < 1 || base + pages >= FRAMES) continue;
          let expected = true;
          try {
            plain.set(id, base, pages, host, 0);
          } catch {
            expected = false;
          }
          let actual = true;
          try {
            if (had === undefined) memslots.createSlot({ id, baseGfn: base, pages, userspaceAddr: host });
            else memslots.moveSlot(id, base);
          } catch (error) {
            if (!(error instanceof MemslotsError) || error.refusal.code !== 'overlap') throw error;
            actual = false;
          }
          expect({ i, id, base, done: actual }).toEqual({ i, id, base, done: expected });
          if (actual) rows.set(id, { base, pages, host });
        }
        const near = rows.get(below(shape.slots)) ?? { base: shape.base(below), pages: 1, host: HOST };
        for (const gfn of [near.base - 1, near.base, near.base + near.pages - 1, near.base + near.pages]) {
          if (memslots.translate(0, gfn) !== plain.translate(gfn))
            expect({ i, gfn, at: memslots.translate(0, gfn) }).toEqual({ i, gfn, at: plain.translate(gfn) });
        }
        if (i % 16 === 0) {
          const start = near.host + (below(3) - 1) * 4096 + below(2);
          const end = start + 1 + below(9000);
          const expected: unknown[] = [];
          plain.hvaRange(start, end, (slot, first, last) => expected.unshift([slot, first, last]));
          expect(memslots.hvaRange(start, end).map(({ id: slot, firstGfn, endGfn }) => [slot, firstGfn, endGfn])).toEqual(expected);
        }
        if (i % 1000 === 0) compareRows(memslots, rows);
      }
      compareRows(memslots, rows);
    },
    1_800_000,
  );
});
