import { describe, expect, it } from 'vitest';
import { createMemslots } from '../src/index.ts';
import { seeded } from '../src/testing.ts';

interface Entry {
  id: number;
  base: number;
  pages: number;
}

/** The array design as it was before the fix of CVE-2020-36313: `last` is an index, a delete shrinks `used`, and nobody brings the two together. */
class NaiveArray {
  readonly entries: Entry[] = [];
  used = 0;
  last = 0;

  find(gfn: number): Entry | undefined {
    const last = this.entries[this.last];
    if (last !== undefined && gfn >= last.base && gfn < last.base + last.pages) return last;
    for (let i = 0; i < this.used; i++) {
      const entry = this.entries[i]!;
      if (gfn >= entry.base && gfn < entry.base + entry.pages) {
        this.last = i;
        return entry;
      }
    }
    return undefined;
  }

  insert(entry: Entry): void {
    this.entries[this.used] = entry;
    this.used += 1;
    this.entries.splice(0, this.used, ...this.entries.slice(0, this.used).sort((a, b) => b.base - a.base));
  }

  /** The entries after the deleted one move down; what stood last stays behind, past the end. */
  delete(id: number): void {
    const at = this.entries.findIndex((entry, i) => i < this.used && entry.id === id);
    this.entries.copyWithin(at, at + 1, this.used);
    this.used -= 1;
  }
}

const HOST = 0x7000_0000_0000;

describe('the cache of the slot found last', () => {
  it('answers with a deleted slot in the naive design, whose index points past the used ones (CVE-2020-36313)', () => {
    const naive = new NaiveArray();
    naive.insert({ id: 1, base: 100, pages: 4 });
    naive.insert({ id: 2, base: 10, pages: 4 });
    expect(naive.find(11)?.id).toBe(2);
    expect(naive.last).toBe(1);
    naive.delete(2);
    expect(naive.last).toBeGreaterThanOrEqual(naive.used);
    expect(naive.find(11)?.id).toBe(2);
  });

  it('misses after the same steps here', () => {
    const memslots = createMemslots();
    memslots.createSlot({ id: 1, baseGfn: 100, pages: 4, userspaceAddr: HOST });
    memslots.createSlot({ id: 2, baseGfn: 10, pages: 4, userspaceAddr: HOST });
    for (let i = 0; i < 5; i++) expect(memslots.lookup(0, 11)).toBe(2);
    memslots.deleteSlot(2);
    expect([memslots.lookup(0, 11), memslots.translate(0, 11), memslots.isVisibleGfn(0, 11)]).toEqual([-1, -1, false]);
    memslots.deleteSlot(1);
    expect([memslots.lookup(0, 101), memslots.translateRead(0, 101)]).toEqual([-1, -1]);
  });

  it('never outlives a delete, a move or a change of flags, whichever slot was hot', () => {
    const random = seeded(36313);
    const memslots = createMemslots();
    const base = new Map<number, number>();
    for (let id = 0; id < 100; id++) {
      memslots.createSlot({ id, baseGfn: id * 8, pages: 4, userspaceAddr: HOST + id * 0x10000 });
      base.set(id, id * 8);
    }
    for (let i = 0; i < 4000; i++) {
      const hot = [...base.keys()][Math.floor(random() * base.size)]!;
      const at = base.get(hot)!;
      for (let again = 0; again < 3; again++) expect(memslots.translate(0, at + 3)).toBe(HOST + hot * 0x10000 + 3 * 4096);
      const roll = random();
      if (roll < 0.3 && base.size > 1) {
        memslots.deleteSlot(hot);
        base.delete(hot);
        expect([memslots.translate(0, at), memslots.lookup(0, at)]).toEqual([-1, -1]);
        memslots.createSlot({ id: hot, baseGfn: at, pages: 4, userspaceAddr: HOST + hot * 0x10000 });
        base.set(hot, at);
      } else if (roll < 0.6) {
        const to = 2000 + Math.floor(random() * 500) * 8;
        if ([...base.values()].includes(to)) continue;
        memslots.moveSlot(hot, to);
        base.set(hot, to);
        expect([memslots.translate(0, at), memslots.lookup(0, at)]).toEqual([-1, -1]);
      }
    }
  });

  it('is empty again when the slots are: nothing is found in an address space that lost its last slot', () => {
    const memslots = createMemslots();
    memslots.createSlot({ id: 0, baseGfn: 0, pages: 1, userspaceAddr: HOST });
    memslots.lookup(0, 0);
    memslots.lookup(0, 0);
    memslots.deleteSlot(0);
    expect([memslots.lookup(0, 0), memslots.usedSlots(0), [...memslots.slots()]]).toEqual([-1, 0, []]);
  });
});
