import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import { describe, expect, it } from 'vitest';
import { type CopyOp, createGrantTable, type ForeignPage, type GrantTable, type MapOp } from '../src/index.ts';
import { fillPage, mapOp, type TableFixture, tableFixture, unmapOp } from '../src/testing.ts';

const FRONT = 2 as DomId;

/** A backend's table (the fixture's), and a frontend that grants it pages. */
function backend(pages = 4): TableFixture & { front: GrantTable; ops: MapOp[]; page(): ForeignPage } {
  const fixture = tableFixture();
  const { hypercalls } = fixture.hypervisor.domain(FRONT);
  const front = createGrantTable({ owner: FRONT }, { hypercalls, scheduler: fixture.clock });
  const ops = Array.from({ length: pages }, (_, i) => {
    const ref = front.grantForeignAccess({ peer: 1 as DomId, gfn: (10 + i) as Gfn, readonly: false });
    return mapOp({ vfn: 0x500 + i, ref, domid: FRONT });
  });
  return { ...fixture, front, ops, page: () => ({ domid: -1, gref: -1, handle: -1 }) };
}

describe('mapping', () => {
  it('gives every element a status and a handle, and knows who granted each page', () => {
    const { table, ops, page, guest, hypervisor } = backend();
    fillPage(hypervisor.domain(FRONT), 12 as Gfn, 0x5a);
    expect(table.mapRefs(ops, 4)).toBe(0);
    expect(ops.map(({ status }) => status)).toEqual([0, 0, 0, 0]);
    const foreign = page();
    expect(table.foreignPageOf(0x502, foreign)).toBe(true);
    expect(foreign).toEqual({ domid: FRONT, gref: ops[2]!.ref, handle: ops[2]!.handle });
    expect(guest.mappedPage(0x502)?.views.u8[guest.mappedPage(0x502)!.offset]).toBe(0x5a);
    expect(table.usage().mapped).toBe(4);
  });

  it('knows no other page, and none after it was unmapped', () => {
    const { table, ops, page } = backend(2);
    table.mapRefs(ops, 1);
    expect(table.foreignPageOf(0x501, page())).toBe(false);
    expect(table.unmapRefs([unmapOp(0x500, ops[0]!.handle)], 1)).toBe(0);
    expect(table.foreignPageOf(0x500, page())).toBe(false);
    expect(table.usage().mapped).toBe(0);
  });

  it('inspects every element, whatever the others came to', () => {
    const { table, ops, page, front } = backend();
    ops[1]!.ref = 4000;
    ops[2]!.domid = 77;
    expect(table.mapRefs(ops, 4)).toBe(0);
    expect(ops.map(({ status }) => status)).toEqual([0, -3, -2, 0]);
    expect([0, 1, 2, 3].map((i) => table.foreignPageOf(0x500 + i, page()))).toEqual([true, false, false, true]);
    // What was mapped is unmapped again, and then nothing is left that keeps the frontend's grants.
    const unmaps = [0, 3].map((i) => unmapOp(ops[i]!.vfn, ops[i]!.handle));
    table.unmapRefs(unmaps, 2);
    expect(ops.map((_, i) => front.isInUse((8 + i) as Gref))).toEqual([false, false, false, false]);
  });

  it('keeps a device mapping apart from the pages', () => {
    const { table, ops, page } = backend(1);
    ops[0]!.flags = 1;
    table.mapRefs(ops, 1);
    expect(ops[0]!.status).toBe(0);
    expect(table.foreignPageOf(0x500, page())).toBe(false);
    const unmap = unmapOp(0, ops[0]!.handle);
    table.unmapRefs([unmap], 1);
    expect(unmap.status).toBe(0);
  });

  it('takes a status that was not written, or is above 0, for an error', () => {
    const { clock, guest } = tableFixture();
    const statuses = [1, undefined, 0];
    const hypercalls = {
      ...guest.hypercalls,
      map(ops: readonly MapOp[], count: number): number {
        for (let i = 0; i < count; i++) if (statuses[i] !== undefined) ops[i]!.status = statuses[i]!;
        return 0;
      },
    };
    const table = createGrantTable({}, { hypercalls, scheduler: clock });
    const ops = [0, 1, 2].map((i) => mapOp({ vfn: i, ref: 8, domid: FRONT }));
    table.mapRefs(ops, 3);
    expect(ops.map(({ status }) => status)).toEqual([-1, -1, 0]);
    expect(table.usage().mapped).toBe(1);
  });

  it('reports the errno of a hypercall that failed as a whole', () => {
    const { table, ops, guest } = backend(2);
    guest.refuseBatch = -14;
    expect(table.mapRefs(ops, 2)).toBe(-14);
    expect(ops.map(({ status }) => status)).toEqual([-1, -1]);
    expect(table.usage().mapped).toBe(0);
    table.mapRefs(ops, 2);
    guest.refuseBatch = -22;
    const unmaps = ops.map(({ vfn, handle }) => unmapOp(vfn, handle));
    expect(table.unmapRefs(unmaps, 2)).toBe(-22);
    expect(unmaps.map(({ status }) => status)).toEqual([-1, -1]);
    expect(table.usage().mapped).toBe(2);
  });

  it('keeps a page whose unmap was refused', () => {
    const { table, ops, page } = backend(1);
    table.mapRefs(ops, 1);
    const wrong = unmapOp(0x500, 9999);
    table.unmapRefs([wrong], 1);
    expect(wrong.status).toBe(-4);
    expect(table.foreignPageOf(0x500, page())).toBe(true);
  });

  it('tells a fact for every page', () => {
    const { table, ops, facts } = backend(1);
    table.mapRefs(ops, 1);
    const { handle, ref: gref } = ops[0]!;
    table.unmapRefs([unmapOp(0x500, handle)], 1);
    expect(facts.map(({ type, data }) => [type, data])).toEqual([
      ['gnttab:mapped', { owner: 1, peer: FRONT, gref, vfn: 0x500, handle }],
      ['gnttab:unmapped', { owner: 1, vfn: 0x500, handle }],
    ]);
  });

  it.each([-1, 5, 0.5, Number.NaN])('refuses a count of %s for a batch of four', (count) => {
    const { table, ops } = backend();
    const message = `count is ${count}; allowed is a whole number from 0 to 4, the length of ops`;
    expect(() => table.mapRefs(ops, count)).toThrow(message);
    const unmaps = ops.map(({ vfn }) => unmapOp(vfn, 0));
    expect(() => table.unmapRefs(unmaps, count)).toThrow(message);
    expect(() => table.unmapRefsAsync({ ops: unmaps, count, done: () => {} })).toThrow(message);
  });

  it('refuses what is no batch and what cannot be called back', () => {
    const { table, ops, page } = backend(1);
    expect(() => table.mapRefs(undefined as never, 1)).toThrow('ops is undefined; allowed is an array');
    expect(() => table.mapRefs(ops, 1, 'soon' as never)).toThrow('done is soon; allowed is a function');
    expect(() => table.copy([], 0, 7 as never)).toThrow('done is 7; allowed is a function');
    expect(() => table.unmapRefsAsync(null as never)).toThrow('batch is null; allowed is a batch with ops, count and done');
    expect(() => table.unmapRefsAsync({ ops: [], count: 0 } as never)).toThrow('batch.done is undefined; allowed is a function');
    expect(table.foreignPageOf(0x500, page())).toBe(false);
  });

  it('does nothing for no elements', () => {
    const { table } = backend(0);
    expect([table.mapRefs([], 0), table.copy([], 0), table.unmapRefs([], 0)]).toEqual([0, 0, 0]);
  });
});

describe('elements that are to be tried again', () => {
  it('keep their status where the caller does not wait for them', () => {
    const { table, ops, guest, clock } = backend();
    guest.eagain = 2;
    expect(table.mapRefs(ops, 4)).toBe(0);
    expect(ops.map(({ status }) => status)).toEqual([-12, -12, 0, 0]);
    expect(clock.pending).toBe(0);
  });

  it('are mapped together with the others after 1, 2, 3 ... ms', () => {
    const { table, ops, guest, clock, facts, page } = backend();
    guest.eagain = 4 + 4 + 3;
    let done = 0;
    expect(table.mapRefs(ops, 4, () => done++)).toBe(4);
    clock.advance(1 + 2);
    expect([done, ops.map(({ status }) => status)]).toEqual([0, [-12, -12, -12, 0]]);
    expect(table.foreignPageOf(0x503, page())).toBe(true);
    clock.advance(2);
    expect(done).toBe(0);
    clock.advance(1);
    expect([done, ops.map(({ status }) => status)]).toEqual([1, [0, 0, 0, 0]]);
    expect(table.usage().mapped).toBe(4);
    const waits = facts.filter(({ type }) => type === 'gnttab:eagain').map(({ data }) => data);
    expect(waits).toEqual([
      { owner: 1, count: 4, delayMs: 1 },
      { owner: 1, count: 4, delayMs: 2 },
      { owner: 1, count: 3, delayMs: 3 },
    ]);
  });

  it('are given up after the wait of 255 ms, with the status of a bad page', () => {
    const { table, ops, guest, clock } = backend(2);
    guest.eagain = 1e6;
    let done = 0;
    table.mapRefs(ops, 2, () => done++);
    clock.advance((255 * 256) / 2 - 1);
    expect(done).toBe(0);
    clock.advance(1);
    expect([done, ops.map(({ status }) => status), clock.pending]).toEqual([1, [-9, -9], 0]);
  });

  it('have an error when the table is closed', () => {
    const { table, ops, guest, clock } = backend(2);
    guest.eagain = 2;
    let done = 0;
    table.mapRefs(ops, 2, () => done++);
    table.close();
    expect([done, ops.map(({ status }) => status), clock.pending]).toEqual([1, [-1, -1], 0]);
  });
});

describe('copying', () => {
  const copyOp = (ref: number, own: number, bytes: number): CopyOp => ({
    source: { isRef: true, frameOrRef: ref, domid: FRONT, offset: 0 },
    dest: { isRef: false, frameOrRef: own, domid: 1, offset: 8 },
    bytes,
    status: 0,
  });

  it('moves bytes from a reference to an own frame, with a status each', () => {
    const { table, ops, guest, hypervisor } = backend(1);
    fillPage(hypervisor.domain(FRONT), 10 as Gfn, 0x77);
    const batch = [copyOp(ops[0]!.ref, 3, 16), copyOp(4000, 3, 16), copyOp(ops[0]!.ref, 3, 4096)];
    expect(table.copy(batch, 3)).toBe(0);
    expect(batch.map(({ status }) => status)).toEqual([0, -3, -10]);
    const { views, offset } = guest.page(3);
    expect([...views.u8.subarray(offset + 7, offset + 25)]).toEqual([0, ...Array.from({ length: 16 }, () => 0x77), 0]);
  });

  it('is tried again like mapping', () => {
    const { table, ops, guest, clock } = backend(1);
    guest.eagain = 2;
    const batch = [copyOp(ops[0]!.ref, 3, 16)];
    let done = 0;
    expect(table.copy(batch, 1, () => done++)).toBe(1);
    clock.advance(3);
    expect([done, batch[0]!.status]).toEqual([1, 0]);
  });

  it('goes through a transitive reference, and keeps to the window of a sub-page one', () => {
    const fixture = tableFixture();
    const { hypervisor, clock } = fixture;
    const middle = createGrantTable({ owner: 3 as DomId, version: 2 }, { hypercalls: hypervisor.domain(3).hypercalls, scheduler: clock });
    const owner = createGrantTable({ owner: FRONT, version: 2 }, { hypercalls: hypervisor.domain(FRONT).hypercalls, scheduler: clock });
    fillPage(hypervisor.domain(FRONT), 10 as Gfn, 0x33);
    const window = owner.allocGrantReference();
    owner.publishSubPage(window, 3 as DomId, 10 as Gfn, true, 64, 32);
    const through = middle.allocGrantReference();
    middle.publishTransitive(through, 1 as DomId, FRONT, window, true);
    const inside = copyOp(through, 3, 32);
    inside.source = { isRef: true, frameOrRef: through, domid: 3, offset: 64 };
    const outside = copyOp(through, 3, 33);
    outside.source = inside.source;
    fixture.table.copy([inside, outside], 2);
    expect([inside.status, outside.status]).toEqual([0, -10]);
    const { views, offset } = fixture.guest.page(3);
    expect([...views.u8.subarray(offset + 8, offset + 40)].every((byte) => byte === 0x33)).toBe(true);
  });
});
