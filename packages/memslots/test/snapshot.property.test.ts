import { describe, expect, it } from 'vitest';
import { createMemslots, type Memslots, type Slot, type SlotSnapshot } from '../src/index.ts';
import { seeded } from '../src/testing.ts';

const HOST = 0x7000_0000_0000;
const full = process.env['PARAVIRT_FULL'] !== undefined;
const runs = full ? 400 : 25;

const idAt = (slots: readonly Slot[], gfn: number): number =>
  slots.find(({ baseGfn, pages }) => baseGfn <= gfn && gfn < baseGfn + pages)?.id ?? -1;

/** Goal: a snapshot never changes. Method: random changes between and after snapshots, each compared with a copy of the rows made at its time. */
describe(`snapshots, ${runs} runs`, () => {
  it('show what was, whatever changes afterwards and however long they are kept', () => {
    for (let seed = 1; seed <= runs; seed++) {
      const random = seeded(seed);
      const below = (n: number): number => Math.floor(random() * n);
      const memslots = createMemslots({ userMemSlots: 509 });
      let kept: { snapshot: SlotSnapshot; rows: Slot[]; generation: number }[] = [];
      for (let i = 0; i < 400; i++) {
        const id = below(60);
        const slot = memslots.slot(id);
        try {
          if (slot === null)
            memslots.createSlot({ id, baseGfn: below(500), pages: 1 + below(6), userspaceAddr: HOST + id * 0x10000, flags: below(4) });
          else if (below(3) === 0) memslots.deleteSlot(id);
          else if (below(2) === 0) memslots.moveSlot(id, below(500));
          else memslots.setFlags(id, slot.flags ^ 1);
        } catch {
          // Overlaps are part of it.
        }
        if (below(20) === 0) kept.push({ snapshot: memslots.snapshot(), rows: [...memslots.slots()], generation: memslots.generation(0) });
        if (below(30) === 0 && kept.length > 0) kept.splice(below(kept.length), 1)[0]!.snapshot.release();
        const check = kept[below(kept.length)];
        if (check === undefined) continue;
        const { snapshot, rows, generation } = check;
        const gfn = below(520) - 5;
        expect(snapshot.gfnToMemslot(Math.max(0, gfn))).toBe(idAt(rows, Math.max(0, gfn)));
        expect(snapshot.slot(id)).toEqual(rows.find((row) => row.id === id) ?? null);
        if (i % 8 !== 0) continue;
        expect([snapshot.generation, snapshot.usedSlots]).toEqual([generation, rows.length]);
        expect([...snapshot.slots()]).toEqual(rows);
        const start = below(500);
        const end = start + below(100);
        const meeting = rows.filter(({ baseGfn, pages }) => baseGfn < end && baseGfn + pages > start).reverse();
        expect([...snapshot.slotsIn(start, end)]).toEqual(start < end ? meeting : []);
      }
      kept = [];
    }
  }, 1_800_000);

  it('let a reader in the middle of a walk go on with what it had', () => {
    const memslots = createMemslots();
    for (let id = 0; id < 100; id++) memslots.createSlot({ id, baseGfn: id * 4, pages: 2, userspaceAddr: HOST });
    const seen: number[] = [];
    for (const { id } of memslots.slots()) {
      seen.push(id);
      if (id === 50) {
        for (let other = 0; other < 100; other += 3) memslots.deleteSlot(other);
        memslots.createSlot({ id: 200, baseGfn: 2, pages: 1, userspaceAddr: HOST });
        memslots.moveSlot(1, 4000);
      }
    }
    expect(seen).toEqual(Array.from({ length: 100 }, (_, i) => 99 - i));
    expect([...memslots.slots()][0]?.id).toBe(1);
  });

  it('refuse to be read once released, and know no id that cannot be', () => {
    const memslots = createMemslots({ userMemSlots: 4 });
    const snapshot = memslots.snapshot(1);
    expect([snapshot.asId, snapshot.slot(70_000), snapshot.slot(-1), snapshot.slot(3)]).toEqual([1, null, null, null]);
    snapshot.release();
    snapshot.release();
    for (const call of [() => snapshot.gfnToMemslot(0), () => snapshot.slot(0), () => snapshot.slots().next()]) {
      expect(call).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ code: 'bad-argument' }) }));
    }
  });

  it('are of their own moment inside hooks too, and release one holder at a time', () => {
    const seen: (readonly [step: string, generation: number, host: number])[] = [];
    const note = (step: string): void => {
      const snapshot = memslots.snapshot();
      seen.push([step, snapshot.generation, snapshot.gfnToHva(7)]);
    };
    const memslots: Memslots = createMemslots({
      hooks: {
        install: () => note('install'),
        generation: () => note('generation'),
        flush: () => note('flush'),
        commit: () => note('commit'),
      },
    });
    memslots.createSlot({ id: 0, baseGfn: 7, pages: 1, userspaceAddr: HOST });
    const [one, two] = [memslots.snapshot(), memslots.snapshot()];
    one.release();
    one.release();
    memslots.deleteSlot(0);
    expect([two.gfnToHva(7), memslots.snapshot().gfnToHva(7)]).toEqual([HOST, -1]);
    expect(seen).toEqual([
      ['install', -1, HOST],
      ['generation', 2, HOST],
      ['commit', 2, HOST],
      ['install', -3, -1],
      ['generation', 4, -1],
      ['flush', 4, -1],
      ['install', -5, -1],
      ['generation', 6, -1],
      ['commit', 6, -1],
    ]);
  });

  it('stay right over thousands of changes that nobody reads', () => {
    const memslots = createMemslots({ userMemSlots: 509 });
    for (let id = 0; id < 50; id++) memslots.createSlot({ id, baseGfn: id * 4, pages: 2, userspaceAddr: HOST });
    const before = memslots.snapshot();
    const rows = [...memslots.slots()];
    for (let i = 0; i < 5000; i++) memslots.moveSlot(i % 50, 1000 + (i % 3000) * 2);
    expect([...before.slots()]).toEqual(rows);
    expect(before.gfnToHva(5)).toBe(HOST + 4096);
    expect(before.gfnToHva(4000)).toBe(-1);
    const forgotten = Array.from({ length: 3000 }, (_, i) => {
      memslots.moveSlot(i % 50, 20_000 + (i % 3000) * 2);
      return memslots.snapshot();
    });
    expect(forgotten[10]!.gfnToMemslot(20_020)).toBe(10);
    expect(forgotten[9]!.gfnToMemslot(20_020)).toBe(-1);
    expect([...before.slots()]).toEqual(rows);
  });
});
