import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createGrantTable, type GrantTable, type MemoryFrame } from '../src/index.ts';
import { FakeHypervisor, TickScheduler, tableFixture } from '../src/testing.ts';

const PEER = 5 as DomId;
const gfn = (value: number): Gfn => value as Gfn;
const hex = (table: GrantTable, gref: Gref): string => Buffer.from(table.entryBytes(gref)).toString('hex');

afterEach(() => vi.restoreAllMocks());

describe('a version 1 entry', () => {
  it('holds flags, domid and frame, little endian', () => {
    const { table } = tableFixture();
    const rw = table.grantForeignAccess({ peer: PEER, gfn: gfn(0x1234_5678), readonly: false });
    const ro = table.grantForeignAccess({ peer: PEER, gfn: gfn(7), readonly: true });
    expect([hex(table, rw), hex(table, ro)]).toEqual(['0100050078563412', '0500050007000000']);
  });

  it('holds the low 32 bits of a frame, as the original writes them', () => {
    const { table } = tableFixture();
    expect(hex(table, table.grantForeignAccess({ peer: PEER, gfn: gfn(2 ** 32 + 9), readonly: false }))).toBe('0100050009000000');
  });

  it('is closed by its flags alone; domid and frame stay', () => {
    const { table } = tableFixture();
    const gref = table.grantForeignAccess({ peer: PEER, gfn: gfn(7), readonly: false });
    expect(table.tryEnd(gref)).toBe(true);
    expect(hex(table, gref)).toBe('0000050007000000');
  });

  it('has no sub-page and transitive forms', () => {
    const { table } = tableFixture();
    const gref = table.allocGrantReference();
    const message = 'on a table of version 1; allowed is a table of version 2';
    expect(() => table.publishSubPage(gref, PEER, gfn(1), true, 0, 8)).toThrow(message);
    expect(() => table.publishTransitive(gref, PEER, 2 as DomId, 9 as Gref, true)).toThrow(message);
    expect(hex(table, gref)).toBe('0000000000000000');
  });
});

describe('a version 2 entry', () => {
  it('holds a full page with a frame of 64 bits', () => {
    const { table } = tableFixture({ version: 2 });
    expect(table.entries).toBe(256);
    const gref = table.grantForeignAccess({ peer: PEER, gfn: gfn(2 ** 40 + 3), readonly: true });
    expect(hex(table, gref)).toBe('05000500000000000300000000010000');
  });

  it('holds part of a page', () => {
    const { table } = tableFixture({ version: 2 });
    const gref = table.allocGrantReference();
    table.publishSubPage(gref, PEER, gfn(9), false, 0x100, 0x80);
    expect(hex(table, gref)).toBe('01010500000180000900000000000000');
    expect([...table.liveEntries()]).toEqual([
      { gref, peer: PEER, flags: 0x101, kind: 'sub-page', gfn: 9, inUse: false, state: 'granted' },
    ]);
  });

  it('holds a reference of a third domain', () => {
    const { table } = tableFixture({ version: 2 });
    const gref = table.allocGrantReference();
    table.publishTransitive(gref, PEER, 3 as DomId, 77 as Gref, true);
    expect(hex(table, gref)).toBe('070005000300000' + '04d00000000000000');
    expect([...table.liveEntries()]).toEqual([
      { gref, peer: PEER, flags: 7, kind: 'transitive', gfn: undefined, inUse: false, state: 'granted' },
    ]);
  });

  it('closes its flags when it is in use, and ends when the status word says so', () => {
    const { table, mapAs, unmapAs } = tableFixture({ version: 2 });
    const gref = table.grantForeignAccess({ peer: PEER, gfn: gfn(7), readonly: false });
    const handle = mapAs(PEER, gref);
    expect(table.isInUse(gref)).toBe(true);
    expect(table.tryEnd(gref)).toBe(false);
    expect(hex(table, gref).slice(0, 4)).toBe('0000');
    expect(() => mapAs(PEER, gref)).toThrow('status -1');
    expect(table.usage()).toMatchObject({ granted: 1, busy: 1 });
    unmapAs(PEER, handle);
    expect(table.tryEnd(gref)).toBe(true);
    expect(table.usage()).toMatchObject({ granted: 0, busy: 0 });
  });
});

/** The accesses to the entries' bytes, in order, as a proxy in the memory's place sees them. */
function watchedTable(version: 1 | 2): { table: GrantTable; writes: string[] } {
  const guest = new FakeHypervisor().domain(1);
  const writes: string[] = [];
  const watch = <T extends Uint16Array | Uint32Array>(view: T, bytes: number): T =>
    new Proxy(view, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
      set: (target, key, value: number) => {
        const at = (Number(key) * bytes) % (version === 1 ? 8 : 16);
        // A word at the entry's start is the domid and the flags in one.
        if (at === 0 && bytes === 4) {
          writes.push('domid', `flags=${value & 0xffff}`);
          return Reflect.set(target, key, value, target);
        }
        writes.push(at === 0 && bytes === 2 ? `flags=${value}` : at === 2 ? 'domid' : `byte ${at}`);
        return Reflect.set(target, key, value, target);
      },
    });
  const views = { u8: guest.views.u8, u16: watch(guest.views.u16, 2), u32: watch(guest.views.u32, 4) };
  const hypercalls = {
    ...guest.hypercalls,
    setupTable(frames: number, out: MemoryFrame[]): number {
      for (let i = 0; i < frames; i++) out[i] = { views, offset: i * 4096 };
      return 0;
    },
  };
  return { table: createGrantTable({ version }, { hypercalls, scheduler: new TickScheduler() }), writes };
}

describe('the order of writing', () => {
  it.each([1, 2] as const)('puts the flags last when version %d is published', (version) => {
    const { table, writes } = watchedTable(version);
    const gref = table.grantForeignAccess({ peer: PEER, gfn: gfn(7), readonly: false });
    expect(writes.at(-1)).toBe('flags=1');
    expect(writes.filter((write) => write.startsWith('flags'))).toHaveLength(1);
    expect(writes).toContain('domid');
    writes.length = 0;
    table.tryEnd(gref);
    expect(writes).toEqual(['flags=0']);
  });

  it.each(['sub-page', 'transitive'] as const)('puts the flags last for a %s entry', (kind) => {
    const { table, writes } = watchedTable(2);
    const gref = table.allocGrantReference();
    if (kind === 'sub-page') table.publishSubPage(gref, PEER, gfn(7), true, 0, 16);
    else table.publishTransitive(gref, PEER, 3 as DomId, 9 as Gref, true);
    expect(writes.at(-1)).toMatch(/^flags=/);
    expect(writes.filter((write) => write.startsWith('flags'))).toHaveLength(1);
  });

  it('closes an entry before it is rewritten for another frame', () => {
    const { table, writes } = watchedTable(1);
    const gref = table.grantForeignAccess({ peer: PEER, gfn: gfn(7), readonly: false });
    writes.length = 0;
    expect(table.update(gref, PEER, gfn(8), true)).toBe(true);
    expect(writes).toEqual(['flags=0', 'byte 4', 'domid', 'flags=5']);
  });
});

/** Lets something happen between an atomic load and whatever comes after it, `times` times or always. */
function afterEachLook(act: () => void, times = Number.POSITIVE_INFINITY): void {
  const load: (view: Uint16Array, index: number) => number = Atomics.load;
  let left = times;
  const look = (view: Uint16Array, index: number): number => {
    const seen = load(view, index);
    if (left-- > 0) act();
    return seen;
  };
  vi.spyOn(Atomics, 'load').mockImplementation(look as unknown as typeof Atomics.load & ((view: BigInt64Array) => bigint));
}

describe('ending an entry that a peer may map at any moment', () => {
  it('is one compare-and-swap over shared memory: a mapping between the look and the act wins', () => {
    const { table, guest } = tableFixture({ shared: true });
    const gref = table.grantForeignAccess({ peer: PEER, gfn: gfn(7), readonly: false });
    const swap = vi.spyOn(Atomics, 'compareExchange');
    // Another thread maps the entry right after it was looked at.
    afterEachLook(() => guest.changeFlags(gref, 8, 0), 1);
    expect(table.tryEnd(gref)).toBe(false);
    expect(swap).toHaveBeenCalledTimes(1);
    expect(hex(table, gref)).toBe('0900050007000000');
    guest.changeFlags(gref, 0, 8);
    expect(table.tryEnd(gref)).toBe(true);
    expect(swap).toHaveBeenCalledTimes(2);
  });

  it('gives up after one attempt, so that a peer that keeps flipping bits cannot hold it in a loop', () => {
    const { table, guest } = tableFixture({ shared: true });
    const gref = table.grantForeignAccess({ peer: PEER, gfn: gfn(7), readonly: false });
    let looks = 0;
    afterEachLook(() => guest.changeFlags(gref, looks % 2 === 0 ? 0x20 : 0, looks++ % 2 === 0 ? 0 : 0x20));
    expect(table.tryEnd(gref)).toBe(false);
    expect(looks).toBe(1);
  });

  it('never happens while it is mapped, whatever the memory', () => {
    for (const shared of [false, true]) {
      for (const version of [1, 2] as const) {
        const { table, mapAs, unmapAs } = tableFixture({ shared, version });
        const gref = table.grantForeignAccess({ peer: PEER, gfn: gfn(7), readonly: true });
        const handles = [mapAs(PEER, gref, true), mapAs(PEER, gref, true)];
        expect(table.isInUse(gref)).toBe(true);
        expect(table.tryEndForeignAccess(gref)).toBe(false);
        unmapAs(PEER, handles[0]!);
        expect(table.tryEndForeignAccess(gref)).toBe(false);
        unmapAs(PEER, handles[1]!);
        expect(table.isInUse(gref)).toBe(false);
        expect(table.tryEndForeignAccess(gref)).toBe(true);
        expect(table.free).toBe(version === 1 ? 504 : 248);
      }
    }
  });
});

describe('a pooled reference', () => {
  it('is published, closed and published again without leaving its holder', () => {
    const { table, factTypes } = tableFixture();
    const gref = table.allocGrantReference();
    for (const frame of [1, 2, 3]) {
      table.publish(gref, PEER, gfn(frame), false);
      expect(table.grantedTo(PEER)).toBe(1);
      expect(table.tryEnd(gref)).toBe(true);
    }
    expect(table.usage()).toMatchObject({ granted: 0, private: 1 });
    expect(factTypes()).toEqual(['allocated', 'granted', 'ended', 'granted', 'ended', 'granted', 'ended']);
  });

  it('is not rewritten while the peer maps it', () => {
    const { table, mapAs, unmapAs } = tableFixture();
    const gref = table.grantForeignAccess({ peer: PEER, gfn: gfn(1), readonly: false });
    const handle = mapAs(PEER, gref);
    const before = hex(table, gref);
    expect(table.update(gref, PEER, gfn(2), false)).toBe(false);
    expect(hex(table, gref)).toBe(before);
    unmapAs(PEER, handle);
    expect(table.update(gref, 6 as DomId, gfn(2), true)).toBe(true);
    expect(hex(table, gref)).toBe('0500060002000000');
    expect([table.grantedTo(PEER), table.grantedTo(6 as DomId)]).toEqual([0, 1]);
  });

  it('is refused when it is not in the hands of the caller', () => {
    const { table } = tableFixture();
    const list = table.allocGrantReferences(1);
    const live = table.grantForeignAccess({ peer: PEER, gfn: gfn(1), readonly: false });
    const claimed = table.allocGrantReference();
    for (const gref of [list.head, live, 3, 100, 512] as Gref[]) {
      expect(() => table.publish(gref, PEER, gfn(2), false)).toThrow('allowed is a claimed reference');
    }
    for (const gref of [list.head, claimed, 3, 100, 512] as Gref[]) {
      expect(() => table.tryEnd(gref)).toThrow('allowed is a published reference');
      expect(() => table.endForeignAccess(gref)).toThrow('allowed is a published reference');
      expect(() => table.update(gref, PEER, gfn(2), false)).toThrow('allowed is a published reference');
    }
    expect(table.usage()).toMatchObject({ granted: 1, private: 2 });
  });
});

describe('wrong arguments of a grant', () => {
  const refused: [string, Partial<{ peer: number; gfn: number; readonly: unknown }>, string][] = [
    ['a domid beyond 15 bits', { peer: 0x8000 }, 'peer is 32768; allowed is a domid, 0 to 32767'],
    ['a negative domid', { peer: -1 }, 'peer is -1'],
    ['a fraction of a domid', { peer: 1.5 }, 'peer is 1.5'],
    ['a negative frame', { gfn: -4 }, 'gfn is -4; allowed is a frame number, 0 to 4503599627370495'],
    ['a frame beyond 52 bits', { gfn: 2 ** 52 }, 'gfn is 4503599627370496'],
    ['no frame', { gfn: undefined as unknown as number }, 'gfn is undefined'],
    ['a number for readonly', { readonly: 1 }, 'readonly is 1; allowed is true or false'],
  ];

  it.each(refused)('%s is refused by its name, and no reference is taken', (_title, wrong, message) => {
    const { table } = tableFixture();
    const options = { peer: PEER, gfn: gfn(1), readonly: false, ...wrong } as Parameters<GrantTable['grantForeignAccess']>[0];
    expect(() => table.grantForeignAccess(options)).toThrow(message);
    expect(table.free).toBe(504);
    const gref = table.allocGrantReference();
    expect(() => table.publish(gref, options.peer, options.gfn, options.readonly)).toThrow(message);
    expect(hex(table, gref)).toBe('0000000000000000');
  });

  it('a window that leaves its page is refused', () => {
    const { table } = tableFixture({ version: 2 });
    const gref = table.allocGrantReference();
    expect(() => table.publishSubPage(gref, PEER, gfn(1), true, 4096, 1)).toThrow(
      'pageOffset is 4096; allowed is a whole number from 0 to 4095',
    );
    expect(() => table.publishSubPage(gref, PEER, gfn(1), true, 4000, 97)).toThrow('bytes is 97; allowed is a whole number from 1 to 96');
    expect(() => table.publishSubPage(gref, PEER, gfn(1), true, 0, 0)).toThrow('bytes is 0');
    expect(() => table.publishTransitive(gref, PEER, 70_000 as DomId, 1 as Gref, true)).toThrow('through is 70000');
    expect(() => table.publishTransitive(gref, PEER, 1 as DomId, -1 as Gref, true)).toThrow('throughGref is -1');
  });

  it('a reference beyond the table has no bytes and no use', () => {
    const { table } = tableFixture();
    expect(() => table.isInUse(512 as Gref)).toThrow('gref is 512, which is absent; allowed is a reference of the table, 0 to 511');
    expect(() => table.entryBytes(-1 as Gref)).toThrow('gref is -1');
    expect(table.isInUse(0 as Gref)).toBe(false);
  });
});
