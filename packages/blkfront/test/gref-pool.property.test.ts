import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { GrefPool } from '../src/index.ts';
import { FakeGrants } from '../src/testing.ts';

const runs = process.env['PARAVIRT_FULL'] === undefined ? 200 : 5000;

/** Goal: a reference has one holder at a time. Method: random claims, ends and mappings by the peer against a list of holders. */
it(`lends each reference to one holder at a time, and never one that the peer maps: ${runs} schedules`, () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(), { maxLength: 300 }),
      fc.integer({ min: 0, max: 12 }),
      fc.constantFrom('lifo' as const, 'fifo' as const),
      fc.integer({ min: 10, max: 40 }),
      (picks, size, order, entries) => {
        const grants = new FakeGrants(entries);
        const pool = new GrefPool(grants, 0 as never, size, order);
        const made = pool.figures.free;
        const held: { gref: number; open: boolean; maps: number }[] = [];
        const quarantined = new Map<number, number>();
        for (const pick of picks) {
          const one = held[pick % Math.max(1, held.length)];
          switch (pick % 6) {
            case 0:
            case 1: {
              const gref = pool.claim();
              if (gref === -1) {
                expect(grants.taken).toBe(entries - 8);
                break;
              }
              expect(held.some((other) => other.gref === gref)).toBe(false);
              expect(quarantined.has(gref)).toBe(false);
              expect(grants.inUse(gref)).toBe(false);
              held.push({ gref, open: false, maps: 0 });
              break;
            }
            case 2:
              if (one === undefined || one.open) break;
              pool.open(one.gref as never, (one.gref + 100) as never, pick % 4 === 2);
              one.open = true;
              break;
            case 3:
              if (one?.open === true && grants.map(one.gref, 0, false) !== -1) one.maps++;
              break;
            case 4: {
              if (one === undefined) break;
              held.splice(held.indexOf(one), 1);
              if (!one.open) pool.unclaim(one.gref as never);
              else {
                const ended = pool.close(one.gref as never, (one.gref + 100) as never, -1);
                expect(ended).toBe(one.maps === 0);
                expect(pool.holds(one.gref + 100)).toBe(!ended);
                if (!ended) quarantined.set(one.gref, one.maps);
              }
              break;
            }
            default: {
              for (const [gref, maps] of [...quarantined].slice(0, 2)) {
                grants.unmap(gref, false);
                quarantined.set(gref, maps - 1);
              }
              const back: number[] = [];
              pool.retry((gref) => back.push(gref));
              for (const gref of back) {
                expect(quarantined.get(gref)).toBe(0);
                quarantined.delete(gref);
              }
              expect([...quarantined.values()].every((maps) => maps > 0)).toBe(true);
            }
          }
          expect(pool.figures.quarantined).toBe(quarantined.size);
          expect(pool.figures.live).toBe(held.filter(({ open }) => open).length);
        }
        expect(pool.figures.free).toBeLessThanOrEqual(made);
        for (const { gref, open, maps } of held.splice(0)) {
          for (let i = 0; i < maps; i++) grants.unmap(gref, false);
          if (open) pool.close(gref as never, (gref + 100) as never, -1);
          else pool.unclaim(gref as never);
        }
        let returned = 0;
        pool.destroy(() => returned++);
        for (const [gref, maps] of quarantined) for (let i = 0; i < maps; i++) grants.unmap(gref, false);
        expect(returned).toBe(quarantined.size);
        expect(grants.taken).toBe(0);
      },
    ),
    { numRuns: runs },
  );
});

/** A table that takes many references in one call, as that of `@paravirt/gnttab` does. */
class BatchGrants extends FakeGrants {
  permitMany(refs: Uint32Array, at: number, peer: DomId, gfns: ArrayLike<number>, from: number, count: number, readonly: boolean): void {
    for (let i = 0; i < count; i++) this.permit(refs[at + i] as Gref, peer, gfns[from + i] as Gfn, readonly);
  }

  revokeMany(refs: Uint32Array, at: number, count: number): number {
    for (let i = 0; i < count; i++) if (!this.revoke(refs[at + i] as Gref)) return i;
    return count;
  }
}

/**
 * Goal: many references at once are those that come one after the other, and what the peer maps of them is set aside alone.
 * Method: the same schedule with a table that takes many at once and with one that does not.
 */
it(`lends and closes many as it does one by one: ${runs} schedules`, () => {
  const step = fc.record({ lend: fc.boolean(), count: fc.nat({ max: 6 }), mapped: fc.nat({ max: 63 }), which: fc.nat() });
  const shape = fc.record({
    size: fc.integer({ min: 0, max: 12 }),
    order: fc.constantFrom('lifo' as const, 'fifo' as const),
    entries: fc.integer({ min: 10, max: 30 }),
  });
  fc.assert(
    fc.property(shape, fc.array(step, { maxLength: 60 }), ({ size, order, entries }, steps) => {
      const sides = [new BatchGrants(entries), new FakeGrants(entries)].map((grants) => {
        const held: [number, number][] = [];
        const pool = new GrefPool(grants, 0 as never, size, order, (gref, gfn) => held.push([gref, gfn]));
        return { grants, pool, held, lent: [] as { refs: Uint32Array; gfns: number[]; count: number }[] };
      });
      for (const { lend, count, mapped, which } of steps) {
        const seen = sides.map(({ grants, pool, held, lent }) => {
          if (lend) {
            const one = { refs: new Uint32Array(10), gfns: Array.from({ length: 8 }, (_, i) => which * 8 + i), count: 0 };
            one.count = pool.lendMany(one.refs, 3, one.gfns, 2, count, which % 2 === 0);
            for (let i = 0; i < one.count; i++) if ((mapped >> i) & 1) grants.map(one.refs[3 + i]!, 0, false);
            lent.push(one);
          } else if (lent.length > 0) {
            const { refs, gfns, count: all } = lent.splice(which % lent.length, 1)[0]!;
            pool.closeMany(refs, 3, gfns, 2, all);
          }
          return { figures: pool.figures, held: [...held], lent: structuredClone(lent), taken: grants.taken, words: [...grants.words] };
        });
        expect(seen[0]).toEqual(seen[1]);
      }
    }),
    { numRuns: runs },
  );
});

it('tries each of many references once, also one that the peer maps', () => {
  for (const grants of [new BatchGrants(20), new FakeGrants(20)]) {
    const tried: number[] = [];
    const revoke = grants.revoke.bind(grants);
    grants.revoke = (gref) => {
      tried.push(gref);
      return revoke(gref);
    };
    const pool = new GrefPool(grants, 0 as never, 8, 'lifo');
    const refs = new Uint32Array(6);
    expect(pool.lendMany(refs, 0, [1, 2, 3, 4, 5, 6], 0, 6, false)).toBe(6);
    for (const i of [1, 2, 5]) grants.map(refs[i]!, 0, false);
    pool.closeMany(refs, 0, [1, 2, 3, 4, 5, 6], 0, 6);
    expect(tried).toEqual([...refs]);
    expect(pool.figures).toMatchObject({ quarantined: 3, quarantinedEver: 3, live: 0, free: 5 });
  }
});
