import type { DomId, Gfn } from '@paravirt/event-bus/contract';
import { describe, expect, it } from 'vitest';
import { createGrantTable, type UnmapBatch } from '../src/index.ts';
import { mapOp, type TableFixture, tableFixture, unmapOp } from '../src/testing.ts';

const FRONT = 2 as DomId;

interface Mapped extends TableFixture {
  readonly batch: UnmapBatch;
  /** `[time, result, age]` of each completion. */
  readonly done: number[][];
}

function mapped(count = 3): Mapped {
  const fixture = tableFixture();
  const { table, hypervisor, clock } = fixture;
  const front = createGrantTable({ owner: FRONT }, { hypercalls: hypervisor.domain(FRONT).hypercalls, scheduler: clock });
  const ops = Array.from({ length: count }, (_, i) => {
    const ref = front.grantForeignAccess({ peer: 1 as DomId, gfn: (10 + i) as Gfn, readonly: false });
    return mapOp({ vfn: 0x500 + i, ref, domid: FRONT });
  });
  table.mapRefs(ops, count);
  const done: number[][] = [];
  const batch: UnmapBatch = {
    ops: ops.map(({ vfn, handle }) => unmapOp(vfn, handle)),
    count,
    done: (result, age) => done.push([clock.now(), result, age]),
  };
  return { ...fixture, batch, done };
}

describe('unmapping when nobody uses the pages any more', () => {
  it('happens at once where none is in use', () => {
    const { table, batch, done, clock } = mapped();
    table.unmapRefsAsync(batch);
    expect(done).toEqual([[0, 0, 0]]);
    expect([table.usage().mapped, clock.pending]).toEqual([0, 0]);
  });

  it('is tried after 5, 15, 30, 50 ms while one page of the batch is in use', () => {
    const { table, batch, done, clock, pages, facts } = mapped();
    pages.add(0x501, 1);
    table.unmapRefsAsync(batch);
    clock.advance(49);
    expect(table.usage()).toMatchObject({ mapped: 3, unmapsPending: 1 });
    pages.add(0x501, -1);
    clock.advance(1);
    expect(done).toEqual([[50, 0, 4]]);
    expect(table.usage()).toMatchObject({ mapped: 0, unmapsPending: 0 });
    const retries = facts.filter(({ type }) => type === 'gnttab:unmap-retry').map(({ data }) => data);
    expect(retries).toEqual([5, 10, 15, 20].map((delayMs, age) => ({ owner: 1, batch, age, delayMs })));
    expect(facts.at(-1)).toEqual({ type: 'gnttab:unmap-done', data: { owner: 1, batch, age: 4, result: 0 } });
  });

  it('does not try an error again', () => {
    const { table, batch, done, clock, guest, pages } = mapped();
    pages.add(0x500, 1);
    table.unmapRefsAsync(batch);
    pages.add(0x500, -1);
    guest.refuseBatch = -14;
    clock.advance(1000);
    expect(done).toEqual([[5, -14, 1]]);
    expect(clock.pending).toBe(0);
    expect(table.usage().mapped).toBe(3);
  });

  it('is done at once for no pages', () => {
    const { table, done, batch } = mapped(0);
    table.unmapRefsAsync(batch);
    expect(done).toEqual([[0, 0, 0]]);
  });

  it('serves all users from one queue, each batch at its own pace', () => {
    const { table, clock, pages, batch } = mapped(4);
    const order: string[] = [];
    const part = (name: string, from: number, count: number): UnmapBatch => ({
      ops: batch.ops.slice(from, from + count),
      count,
      done: () => order.push(`${name} at ${clock.now()}`),
    });
    pages.add(0x500, 1);
    pages.add(0x502, 1);
    table.unmapRefsAsync(part('a', 0, 2));
    clock.advance(3);
    table.unmapRefsAsync(part('b', 2, 2));
    expect(table.usage().unmapsPending).toBe(2);
    pages.add(0x502, -1);
    clock.advance(6);
    pages.add(0x500, -1);
    clock.advance(100);
    expect(order).toEqual(['b at 8', 'a at 15']);
  });

  it('refuses a batch that still waits, and takes it again afterwards', () => {
    const { table, clock, pages, batch, done } = mapped();
    pages.add(0x500, 1);
    table.unmapRefsAsync(batch);
    expect(() => table.unmapRefsAsync(batch)).toThrow('allowed is a batch that does not wait to be unmapped');
    pages.add(0x500, -1);
    clock.advance(5);
    expect(done).toHaveLength(1);
    table.unmapRefsAsync(batch);
    expect(done).toHaveLength(2);
    expect(batch.ops.map(({ status }) => status)).toEqual([-4, -4, -4]);
  });

  it('unmaps what was handed in, also when the batch is changed while it waits', () => {
    const { table, clock, pages, batch, done } = mapped();
    pages.add(0x500, 1);
    table.unmapRefsAsync(batch);
    batch.count = 1;
    pages.add(0x500, -1);
    clock.advance(5);
    expect([done, table.usage().mapped]).toEqual([[[5, 0, 1]], 0]);
  });

  it('can be done again from the completion itself', () => {
    const { table, batch } = mapped();
    let turns = 0;
    const again: UnmapBatch = {
      ...batch,
      done: () => {
        if (++turns < 3) table.unmapRefsAsync(again);
      },
    };
    table.unmapRefsAsync(again);
    expect(turns).toBe(3);
  });

  it('gives a promise to who prefers one', async () => {
    const { table, clock, pages, batch } = mapped();
    pages.add(0x502, 1);
    const result = table.unmapRefsWhenIdle(batch.ops, 3);
    pages.add(0x502, -1);
    clock.advance(5);
    expect(await result).toEqual({ result: 0, age: 1 });
    await expect(table.unmapRefsWhenIdle(batch.ops, 9)).rejects.toThrow('count is 9');
  });

  it('is called off when the table is closed: the pages stay mapped, and the waiting are told', () => {
    const { table, clock, pages, batch, done, guest } = mapped();
    pages.add(0x500, 1);
    table.unmapRefsAsync(batch);
    table.close();
    expect(done).toEqual([[0, -108, 0]]);
    pages.add(0x500, -1);
    clock.advance(1000);
    expect(done).toHaveLength(1);
    expect(guest.mappedPage(0x500)).toBeDefined();
  });

  it('takes no page for used where the domain does not count its pages', () => {
    const { clock, hypervisor } = tableFixture();
    const table = createGrantTable({}, { hypercalls: hypervisor.domain(9).hypercalls, scheduler: clock });
    let result = 1;
    table.unmapRefsAsync({ ops: [unmapOp(1, 77)], count: 1, done: (value) => (result = value) });
    expect(result).toBe(0);
  });
});
