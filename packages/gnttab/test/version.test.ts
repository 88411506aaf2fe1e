import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import { describe, expect, it } from 'vitest';
import { createGrantTable } from '../src/index.ts';
import { FakeHypervisor, TickScheduler, tableFixture } from '../src/testing.ts';

const PEER = 2 as DomId;

describe('switching the layout', () => {
  it('makes a fresh table of as many frames', () => {
    const { table, facts } = tableFixture({ initialFrames: 2 });
    table.freeGrantReferences(table.allocGrantReferences(5));
    table.setVersion(2);
    expect([table.version, table.frames, table.entries, table.free]).toEqual([2, 2, 512, 504]);
    expect([...table.freeReferences()].slice(0, 3)).toEqual([8, 9, 10]);
    expect(facts.at(-1)).toEqual({ type: 'gnttab:version-changed', data: { owner: 1, version: 2, entries: 512 } });
    const gref = table.grantForeignAccess({ peer: PEER, gfn: 3 as Gfn, readonly: false });
    expect(table.entryBytes(gref)).toHaveLength(16);
    table.tryEndForeignAccess(gref);
    table.setVersion(1);
    expect([table.version, table.entries, table.free]).toEqual([1, 1024, 1016]);
  });

  it('keeps the reserved entries, as the hypervisor does', () => {
    const { table, guest } = tableFixture();
    // The toolstack's grant of the store's page.
    guest.views.u16.set([1, 0], 4);
    guest.views.u32[3] = 0x77;
    table.setVersion(2);
    expect(Buffer.from(table.entryBytes(1 as Gref)).toString('hex')).toBe('01000000000000007700000000000000');
  });

  it('is refused while any reference is out, and changes nothing', () => {
    const { table, mapAs } = tableFixture();
    const gref = table.allocGrantReference();
    expect(() => table.setVersion(2)).toThrow('version is 2; allowed only while no reference is out, and 1 are');
    table.publish(gref, PEER, 1 as Gfn, false);
    mapAs(PEER, gref);
    table.endForeignAccess(gref);
    expect(() => table.setVersion(2)).toThrow(expect.objectContaining({ refusal: { code: 'version-busy', version: 2, outstanding: 1 } }));
    expect([table.version, table.entries]).toEqual([1, 512]);
  });

  it('is refused with the errno of the hypervisor', () => {
    const { guest, clock } = tableFixture();
    let answer = 0;
    const hypercalls = { ...guest.hypercalls, setVersion: (version: 1 | 2) => answer || guest.hypercalls.setVersion(version) };
    const table = createGrantTable({}, { hypercalls, scheduler: clock });
    answer = -16;
    expect(() => table.setVersion(2)).toThrow('the hypervisor refused set_version with status -16');
    expect(table.version).toBe(1);
    answer = 0;
    table.setVersion(2);
    expect(table.version).toBe(2);
  });

  it('goes back where the new frames cannot be had', () => {
    const { guest, clock } = tableFixture();
    let answer = 0;
    const hypercalls = {
      ...guest.hypercalls,
      getStatusFrames: (frames: number, out: []) => answer || guest.hypercalls.getStatusFrames(frames, out),
    };
    const table = createGrantTable({}, { hypercalls, scheduler: clock });
    answer = -1;
    expect(() => table.setVersion(2)).toThrow('the hypervisor refused setup_table with status -1');
    expect([table.version, guest.version, table.entries, table.free]).toEqual([1, 1, 512, 504]);
    expect(table.allocGrantReferenceSeq(504)).toBe(8);
  });

  it('does nothing for the layout that is there, and refuses one that nobody has', () => {
    const { table, facts } = tableFixture();
    const list = table.allocGrantReferences(3);
    table.setVersion(1);
    expect(list.length).toBe(3);
    expect(facts.map(({ type }) => type)).toEqual(['gnttab:allocated']);
    expect(() => table.setVersion(3 as 1)).toThrow('version is 3; allowed is 1 or 2');
  });
});

describe('a hypervisor without version 2', () => {
  const without = (): { hypercalls: ReturnType<FakeHypervisor['domain']>['hypercalls'] } => {
    const guest = new FakeHypervisor().domain(1);
    return { hypercalls: { ...guest.hypercalls, setVersion: () => -38 } };
  };

  it('serves a table of version 1 and refuses one of version 2', () => {
    const scheduler = new TickScheduler();
    expect(createGrantTable({}, { ...without(), scheduler }).version).toBe(1);
    expect(() => createGrantTable({ version: 2 }, { ...without(), scheduler })).toThrow(
      'the hypervisor refused set_version with status -38',
    );
  });
});
