import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import { describe, expect, it } from 'vitest';
import { type TableFixture, tableFixture } from '../src/testing.ts';

const PEER = 2 as DomId;
const gfn = (value: number): Gfn => value as Gfn;

/** Grants `count` pages, numbered from 1, maps them as the peer, and ends them all. */
function pending(fixture: TableFixture, count: number): { grefs: Gref[]; handles: number[] } {
  const grefs = Array.from({ length: count }, (_, i) => fixture.table.grantForeignAccess({ peer: PEER, gfn: gfn(1 + i), readonly: false }));
  const handles = grefs.map((gref) => fixture.mapAs(PEER, gref));
  grefs.forEach((gref, i) => {
    expect(fixture.table.endForeignAccess(gref, gfn(1 + i))).toBe(false);
  });
  return { grefs, handles };
}

describe('the end of a grant', () => {
  it('frees the reference and lets go of the page at once when nobody maps it', () => {
    const { table, pages, factTypes } = tableFixture();
    const gref = table.grantForeignAccess({ peer: PEER, gfn: gfn(7), readonly: false });
    expect(table.endForeignAccess(gref, gfn(7))).toBe(true);
    expect(pages.get(7)).toBe(0);
    expect(table.free).toBe(504);
    expect(factTypes()).toEqual(['allocated', 'granted', 'ended', 'freed']);
  });

  it('leaves pages alone where none is named', () => {
    const { table, pages } = tableFixture();
    expect(table.endForeignAccess(table.grantForeignAccess({ peer: PEER, gfn: gfn(7), readonly: false }))).toBe(true);
    expect(pages.get(7)).toBe(1);
  });

  it('waits while the peer maps the page, is tried every second, and gives reference and page back after the last mapping', () => {
    const fixture = tableFixture();
    const { table, clock, pages, unmapAs } = fixture;
    const { grefs, handles } = pending(fixture, 1);
    expect(table.usage()).toMatchObject({ granted: 0, deferred: 1, private: 0 });
    expect(table.deferredReferences()).toEqual(grefs);
    clock.advance(5500);
    expect([table.free, pages.get(1)]).toEqual([503, 1]);
    unmapAs(PEER, handles[0]!);
    clock.advance(499);
    expect([table.free, pages.get(1)]).toEqual([503, 1]);
    clock.advance(1);
    expect([table.free, pages.get(1)]).toEqual([504, 0]);
    expect(clock.pending).toBe(0);
    expect(fixture.facts.at(-1)).toEqual({ type: 'gnttab:deferred-freed', data: { owner: 1, gref: grefs[0], page: 1 } });
  });

  it("holds the entry's own frame meanwhile where no page is named", () => {
    const { table, pages, clock, mapAs, unmapAs } = tableFixture();
    const gref = table.grantForeignAccess({ peer: PEER, gfn: gfn(9), readonly: true });
    const handle = mapAs(PEER, gref, true);
    table.endForeignAccess(gref);
    expect(pages.get(9)).toBe(2);
    unmapAs(PEER, handle);
    clock.advance(1000);
    expect(pages.get(9)).toBe(1);
  });

  it('never hands a deferred reference out, publishes it or ends it a second time', () => {
    const fixture = tableFixture({ maxFrames: 1 });
    const { table } = fixture;
    const { grefs } = pending(fixture, 1);
    const list = table.allocGrantReferences(503);
    for (let ref = table.claimGrantReference(list); ref !== undefined; ref = table.claimGrantReference(list))
      expect(ref).not.toBe(grefs[0]);
    expect(() => table.allocGrantReference()).toThrow('1 grant references requested, 0 free');
    for (const call of [
      () => table.endForeignAccess(grefs[0]!),
      () => table.tryEnd(grefs[0]!),
      () => table.publish(grefs[0]!, PEER, gfn(1), false),
      () => table.freeGrantReference(grefs[0]!),
    ]) {
      expect(call).toThrow('which is deferred');
    }
  });

  it('looks at so many entries a pass, and stops at the first that failed in it', () => {
    const fixture = tableFixture({ freePerIteration: 3 });
    const { table, clock, unmapAs } = fixture;
    const { grefs, handles } = pending(fixture, 5);
    for (const handle of handles) unmapAs(PEER, handle);
    clock.advance(1000);
    expect(table.deferredReferences()).toEqual(grefs.slice(3));
    clock.advance(1000);
    expect(table.deferredReferences()).toEqual([]);
    const again = pending(fixture, 2);
    clock.advance(1000);
    // Both failed once, and the pass ended when the first came round.
    expect(table.deferredReferences()).toEqual(again.grefs);
  });

  it('looks at all of them where there is no limit', () => {
    const fixture = tableFixture({ freePerIteration: 0 });
    const { handles } = pending(fixture, 40);
    for (const handle of handles) fixture.unmapAs(PEER, handle);
    fixture.clock.advance(1000);
    expect(fixture.table.usage()).toMatchObject({ deferred: 0, free: 504 });
  });

  it('is reported once when it stays pending: after the sixtieth failure', () => {
    const fixture = tableFixture();
    const { grefs } = pending(fixture, 1);
    const reports = (): unknown[] => fixture.facts.filter(({ type }) => type === 'gnttab:still-pending').map(({ data }) => data);
    fixture.clock.advance(59_999);
    expect(reports()).toEqual([]);
    fixture.clock.advance(1);
    expect(reports()).toEqual([{ owner: 1, peer: PEER, gref: grefs[0] }]);
    fixture.clock.advance(600_000);
    expect(reports()).toHaveLength(1);
  });

  it('leaks the reference where no record can be kept, and never frees it', () => {
    const fixture = tableFixture({ canDefer: () => false });
    const { grefs, handles } = pending(fixture, 1);
    fixture.unmapAs(PEER, handles[0]!);
    fixture.clock.advance(10_000);
    expect(fixture.table.usage()).toMatchObject({ leaked: 1, deferred: 0, free: 503 });
    expect(fixture.facts.at(-1)).toEqual({ type: 'gnttab:leaked', data: { owner: 1, peer: PEER, gref: grefs[0] } });
    expect([...fixture.table.liveEntries()].map(({ state }) => state)).toEqual(['leaked']);
  });

  it('calls free callbacks before it tells of the freed reference', () => {
    const fixture = tableFixture();
    const { handles } = pending(fixture, 1);
    const { table, facts } = fixture;
    table.requestFreeCallback({ notify: () => {} }, 504);
    fixture.unmapAs(PEER, handles[0]!);
    const before = facts.length;
    fixture.clock.advance(1000);
    expect(facts.slice(before).map(({ type }) => type)).toEqual(['gnttab:freed', 'gnttab:free-callback', 'gnttab:deferred-freed']);
  });

  it('refuses a page that is no page', () => {
    const { table } = tableFixture();
    const gref = table.grantForeignAccess({ peer: PEER, gfn: gfn(7), readonly: false });
    expect(() => table.endForeignAccess(gref, gfn(-7))).toThrow('page is -7; allowed is a frame number');
    expect(table.usage().granted).toBe(1);
  });
});

describe('a closed table', () => {
  it('keeps no timer, hands nothing out, and still takes things back', () => {
    const fixture = tableFixture();
    const { table, clock, mapAs } = fixture;
    pending(fixture, 2);
    const idle = table.grantForeignAccess({ peer: PEER, gfn: gfn(9), readonly: true });
    const mapped = table.grantForeignAccess({ peer: PEER, gfn: gfn(10), readonly: true });
    mapAs(PEER, mapped, true);
    const claimed = table.allocGrantReference();
    table.close();
    table.close();
    expect(clock.pending).toBe(0);
    const refused: (() => unknown)[] = [
      () => table.allocGrantReference(),
      () => table.allocGrantReferences(1),
      () => table.allocGrantReferenceSeq(2),
      () => table.grantForeignAccess({ peer: PEER, gfn: gfn(1), readonly: true }),
      () => table.publish(claimed, PEER, gfn(1), true),
      () => table.update(idle, PEER, gfn(1), true),
      () => table.requestFreeCallback({ notify: () => {} }, 1),
      () => table.mapRefs([], 0),
      () => table.copy([], 0),
      () => table.unmapRefsAsync({ ops: [], count: 0, done: () => {} }),
      () => table.setVersion(2),
    ];
    for (const call of refused) expect(call).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ code: 'closed' }) }));
    expect(table.endForeignAccess(idle)).toBe(true);
    expect(table.endForeignAccess(mapped)).toBe(false);
    table.freeGrantReference(claimed);
    expect(table.usage()).toMatchObject({ granted: 0, deferred: 0, leaked: 3, private: 0 });
    expect(clock.pending).toBe(0);
  });
});
