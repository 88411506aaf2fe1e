import type { DomId, Gfn } from '@paravirt/event-bus/contract';
import { Subscription } from 'rxjs';
import { describe, expect, it, vi } from 'vitest';
import { createGrantTable, type GnttabEvents, GrantError, gnttab } from '../src/index.ts';
import { FakeHypervisor, grantHypercallsSuite, recorderBus, TickScheduler, tableFixture } from '../src/testing.ts';

const gfn = (value: number): Gfn => value as Gfn;
const [A, B] = [2, 3].map((domid) => domid as DomId) as [DomId, DomId];

describe('usage', () => {
  it('says how many references are where', () => {
    const { table, mapAs } = tableFixture({ maxFrames: 2 });
    const list = table.allocGrantReferences(10);
    table.claimGrantReference(list);
    const grefs = [A, A, B, B].map((peer, i) => table.grantForeignAccess({ peer, gfn: gfn(i), readonly: false }));
    mapAs(A, grefs[0]!);
    mapAs(B, grefs[2]!);
    table.tryEnd(grefs[0]!);
    table.endForeignAccess(grefs[2]!);
    expect(table.usage()).toEqual({
      frames: 1,
      maxFrames: 2,
      entries: 512,
      free: 490,
      tailRun: 490,
      largestRun: 490,
      private: 10,
      granted: 3,
      busy: 1,
      deferred: 1,
      leaked: 0,
      mapped: 0,
      unmapsPending: 0,
      peers: [
        { peer: A, granted: 2 },
        { peer: B, granted: 2 },
      ],
    });
    expect([A, B, 9 as DomId].map((peer) => table.grantedTo(peer))).toEqual([2, 2, 0]);
  });

  it('tells the longest run from the run at the end', () => {
    const { table } = tableFixture({ maxFrames: 1 });
    const all = table.allocGrantReferenceSeq(504);
    table.freeGrantReferenceSeq((all + 100) as never, 40);
    table.freeGrantReferenceSeq((all + 300) as never, 25);
    expect(table.usage()).toMatchObject({ free: 65, largestRun: 40, tailRun: 0 });
  });

  it('counts entries of very many peers', () => {
    const { table } = tableFixture({ record: false });
    const grefs = Array.from({ length: 3000 }, (_, i) => table.grantForeignAccess({ peer: (i * 7) as DomId, gfn: gfn(i), readonly: true }));
    expect(table.usage().peers).toHaveLength(3000);
    for (const gref of grefs.slice(1)) table.tryEndForeignAccess(gref);
    expect(table.usage().peers).toEqual([{ peer: 0, granted: 1 }]);
  });
});

describe('the live entries', () => {
  it('are told in ascending order with what their bytes say', () => {
    const { table, mapAs } = tableFixture();
    const one = table.grantForeignAccess({ peer: A, gfn: gfn(5), readonly: true });
    table.allocGrantReference();
    const two = table.grantForeignAccess({ peer: B, gfn: gfn(6), readonly: false });
    mapAs(B, two);
    expect([...table.liveEntries()]).toEqual([
      { gref: one, peer: A, flags: 5, kind: 'full-page', gfn: 5, inUse: false, state: 'granted' },
      { gref: two, peer: B, flags: 0x19, kind: 'full-page', gfn: 6, inUse: true, state: 'granted' },
    ]);
    table.tryEnd(two);
    expect([...table.liveEntries()].map(({ state }) => state)).toEqual(['granted', 'busy']);
  });
});

describe('facts', () => {
  it('are told of every change', () => {
    const { table, facts } = tableFixture({ maxFrames: 2 });
    const list = table.allocGrantReferences(2);
    const gref = table.claimGrantReference(list)!;
    table.releaseGrantReference(list, gref);
    table.freeGrantReferences(list);
    const first = table.allocGrantReferenceSeq(504);
    table.freeGrantReferenceSeq(first, 504);
    expect(facts.map(({ type, data }) => [type.slice(7), data])).toEqual([
      ['allocated', { owner: 1, gref: 8, count: 2, consecutive: false }],
      ['claimed', { owner: 1, gref: 8 }],
      ['released', { owner: 1, gref: 8 }],
      ['freed', { owner: 1, gref: 9, count: 2 }],
      ['rebuilt', { owner: 1, count: 504, first: 8 }],
      ['allocated', { owner: 1, gref: 8, count: 504, consecutive: true }],
      ['freed', { owner: 1, gref: 8, count: 504 }],
    ]);
  });

  it('are not even made while nobody listens', () => {
    const guest = new FakeHypervisor().domain(1);
    const emit = vi.fn();
    const bus = { ...recorderBus<GnttabEvents>(() => {}), emit, observed: () => false };
    const table = createGrantTable({}, { hypercalls: guest.hypercalls, scheduler: new TickScheduler(), bus });
    const gref = table.grantForeignAccess({ peer: A, gfn: gfn(1), readonly: true });
    table.endForeignAccess(gref);
    table.freeGrantReferenceSeq(table.allocGrantReferenceSeq(9), 9);
    expect(emit).not.toHaveBeenCalled();
  });
});

describe('the plugin', () => {
  it('attaches a table and closes it when it is taken off', () => {
    const guest = new FakeHypervisor().domain(1);
    const plugin = gnttab({ maxFrames: 4 });
    expect([plugin.name, plugin.requires]).toEqual(['gnttab', ['hypercalls', 'scheduler']]);
    const { api, detach } = plugin.attach({ hypercalls: guest.hypercalls, scheduler: new TickScheduler() });
    expect(api.allocGrantReference()).toBe(8);
    detach();
    expect(() => api.allocGrantReference()).toThrow('allocGrantReference on a closed grant table');
  });

  it('does not attach where the hypervisor refuses the first frames', () => {
    const guest = new FakeHypervisor().domain(1);
    const hypercalls = { ...guest.hypercalls, setupTable: () => -1 };
    const call = (): unknown => gnttab().attach({ hypercalls, scheduler: new TickScheduler() });
    expect(call).toThrow(GrantError);
    expect(call).toThrow('the hypervisor refused setup_table with status -1');
  });
});

describe('the clock', () => {
  it('runs timers by their expiry, and of equals the first armed first', () => {
    const clock = new TickScheduler(250);
    const ran: string[] = [];
    clock.schedule(() => ran.push(`late at ${clock.now()}`), 40);
    clock.schedule(() => ran.push(`a at ${clock.now()}`), 5);
    clock.schedule(() => ran.push(`b at ${clock.now()}`), 8);
    clock.schedule(() => ran.push('never'), 1).unsubscribe();
    expect(clock.advance(9)).toBe(9);
    expect(ran).toEqual(['a at 2', 'b at 2']);
    clock.advance(1);
    expect(ran.at(-1)).toBe('late at 10');
  });

  it('lets work arm itself again, and others meanwhile', () => {
    const clock = new TickScheduler();
    const ran: number[] = [];
    const work = clock.schedule(
      function (this, turn) {
        ran.push(clock.now());
        if (turn! < 3) this.schedule(turn! + 1, 10);
      },
      10,
      1,
    );
    clock.advance(100);
    expect([ran, clock.pending]).toEqual([[10, 20, 30], 0]);
    expect(work).toBeInstanceOf(Subscription);
  });
});

for (const shared of [false, true]) {
  grantHypercallsSuite({ describe, it, expect }, shared ? 'the hypervisor in memory, shared' : 'the hypervisor in memory', () => {
    const hypervisor = new FakeHypervisor({ shared });
    const side = (domid: number) => {
      const domain = hypervisor.domain(domid);
      const bytes = (frame: { views: { u8: Uint8Array }; offset: number }): Uint8Array =>
        frame.views.u8.subarray(frame.offset, frame.offset + 4096);
      return {
        domid: domid as DomId,
        hypercalls: domain.hypercalls,
        gfns: [gfn(4), gfn(5), gfn(6)] as const,
        vfns: [0x10, 0x11, 0x12, 0x13] as const,
        page: (page: Gfn) => bytes(domain.page(page)),
        mapped: (vfn: number) => {
          const frame = domain.mappedPage(vfn);
          return frame && bytes(frame);
        },
      };
    };
    return { granter: side(1), grantee: side(2), scheduler: new TickScheduler() };
  });
}
