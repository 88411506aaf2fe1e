import { describe, expect, it } from 'vitest';
import { createGuestMemory, createMemslots, LOG_DIRTY_PAGES, type Memslots, PAGE_SIZE, READONLY } from '../src/index.ts';
import { slotsFixture } from '../src/testing.ts';

const HOST = 0x7000_0000_0000;
const refusalOf = (call: () => unknown): unknown => {
  try {
    call();
  } catch (error) {
    return (error as { refusal: { code: string } }).refusal.code;
  }
  return 'none';
};

/** What KVM's own selftests check: set_memory_region_test, memslot_modification_stress_test, memslot_perf_test, dirty_log_test. */
describe("what KVM's selftests check", () => {
  it('refuses every flag bit alone but the two it has', () => {
    const memslots = createMemslots();
    for (let bit = 0; bit < 32; bit++) {
      const flags = 2 ** bit;
      const call = (): unknown =>
        memslots.setUserMemoryRegion({ slot: 0, flags, guestPhysAddr: 0, memorySize: 0x20_0000, userspaceAddr: 0 });
      if (flags === LOG_DIRTY_PAGES || flags === READONLY) {
        expect(call()).toBe('create');
        memslots.deleteSlot(0);
      } else expect([bit, refusalOf(call)]).toEqual([bit, 'flags']);
    }
    expect(memslots.usedSlots(0)).toBe(0);
  });

  it.each([509, 32764])('fills all %i ids and refuses one more', (userMemSlots) => {
    const memslots = createMemslots({ userMemSlots });
    const region = (slot: number) => ({ slot, guestPhysAddr: slot * 0x20_0000, memorySize: 0x20_0000, userspaceAddr: HOST });
    for (let slot = 0; slot < userMemSlots; slot++) memslots.setUserMemoryRegion(region(slot));
    expect(memslots.usedSlots(0)).toBe(userMemSlots);
    expect(refusalOf(() => memslots.setUserMemoryRegion(region(userMemSlots)))).toBe('slot-limit');
    expect(memslots.setMemoryRegion(region(userMemSlots))).toBe('create');
    expect([memslots.isVisibleGfn(0, userMemSlots * 512), memslots.lookup(0, userMemSlots * 512)]).toEqual([false, userMemSlots]);
  });

  it('never shows a reader stale memory while a slot moves one page down and back: it reads the value, or misses', () => {
    const u8 = new Uint8Array(16 * PAGE_SIZE);
    const fixture = slotsFixture();
    const { memslots } = fixture;
    const memory = createGuestMemory(memslots, { u8, hva: HOST });
    memslots.createSlot({ id: 0, baseGfn: 256, pages: 8, userspaceAddr: HOST });
    for (let page = 0; page < 8; page++) u8.fill(page + 1, page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
    const cell = new Uint8Array(1);
    let misses = 0;
    const look = (base: number | null): void => {
      for (let gfn = 254; gfn < 266; gfn++) {
        const inside = base !== null && gfn >= base && gfn < base + 8;
        const code = refusalOf(() => memory.read(gfn * PAGE_SIZE, cell));
        expect([gfn, code]).toEqual([gfn, inside ? 'none' : 'hole']);
        if (inside) expect(cell[0]).toBe(gfn - base + 1);
        else misses += 1;
      }
    };
    fixture.onFlush = () => look(null);
    for (let round = 0; round < 10; round++) {
      memslots.moveSlot(0, 255);
      look(255);
      memslots.moveSlot(0, 256);
      look(256);
    }
    expect(misses).toBeGreaterThan(20 * 12);
  });

  it('misses after a delete, and reads zeros after the slot was made again over fresh memory', () => {
    const u8 = new Uint8Array(8 * PAGE_SIZE);
    const memslots = createMemslots();
    const memory = createGuestMemory(memslots, { u8, hva: HOST });
    memslots.createSlot({ id: 0, baseGfn: 10, pages: 4, userspaceAddr: HOST });
    memory.write(10 * PAGE_SIZE, new Uint8Array(4 * PAGE_SIZE).fill(7));
    memslots.deleteSlot(0);
    const page = new Uint8Array(PAGE_SIZE);
    expect(refusalOf(() => memory.read(10 * PAGE_SIZE, page))).toBe('hole');
    memslots.createSlot({ id: 0, baseGfn: 10, pages: 4, userspaceAddr: HOST + 4 * PAGE_SIZE });
    memory.read(13 * PAGE_SIZE, page.fill(1));
    expect(page.every((byte) => byte === 0)).toBe(true);
  });

  it('does not disturb a busy slot with a dummy one that comes and goes right below it', () => {
    const memslots = createMemslots();
    memslots.createSlot({ id: 1, baseGfn: 1000, pages: 4096, userspaceAddr: HOST, flags: LOG_DIRTY_PAGES });
    for (let round = 0; round < 200; round++) {
      memslots.createSlot({ id: 0, baseGfn: 999, pages: 1, userspaceAddr: HOST });
      expect([memslots.translate(0, 1000), memslots.translate(0, 5095), memslots.lookup(0, 999)]).toEqual([HOST, HOST + 4095 * 4096, 0]);
      memslots.markPageDirty(0, 1000 + round);
      memslots.deleteSlot(0);
      expect([memslots.translate(0, 1000), memslots.lookup(0, 999)]).toEqual([HOST, -1]);
    }
    expect(memslots.getDirtyLog(1).runs).toEqual([[0, 200]]);
  });

  it.each([0, 1, 3] as const)(
    'reports every write and no other in a log of 64 n + 3 pages (manual protection %i)',
    (manualDirtyLogProtect) => {
      const pages = 64 * 40 + 3;
      const memslots: Memslots = createMemslots({ manualDirtyLogProtect });
      const memory = createGuestMemory(memslots, { u8: new Uint8Array(pages * PAGE_SIZE), hva: HOST });
      memslots.createSlot({ id: 0, baseGfn: 5, pages, userspaceAddr: HOST, flags: LOG_DIRTY_PAGES });
      if (manualDirtyLogProtect === 3) {
        expect(memslots.getDirtyLog(0).runs).toEqual([[0, pages]]);
        memslots.clearDirtyLog({ slot: 0, firstPage: 0, numPages: pages, runs: [[0, pages]] });
      }
      for (let round = 0; round < 20; round++) {
        const written = new Set<number>();
        for (let i = 0; i < 50; i++) {
          const page = (i * 7919 * (round + 1)) % pages;
          memory.write((5 + page) * PAGE_SIZE + 100, Uint8Array.of(round));
          written.add(page);
        }
        memory.write((5 + pages) * PAGE_SIZE - 1, Uint8Array.of(round));
        written.add(pages - 1);
        const bitmap = new Uint8Array(Math.ceil(pages / 64) * 8);
        const dirty = memslots.readDirtyBitmap(0, 0, bitmap);
        const reported = Array.from({ length: bitmap.length * 8 }, (_, bit) => bit).filter((bit) => (bitmap[bit >> 3]! >> (bit & 7)) & 1);
        expect(reported).toEqual([...written].sort((a, b) => a - b));
        expect(dirty).toBe(written.size);
        if (manualDirtyLogProtect !== 0) {
          expect(memslots.getDirtyLog(0).runs.length).toBeGreaterThan(0);
          memslots.clearDirtyLog({ slot: 0, firstPage: 0, numPages: pages, runs: [[0, pages]] });
        }
        expect(memslots.getDirtyLog(0).runs).toEqual([]);
      }
    },
  );
});
