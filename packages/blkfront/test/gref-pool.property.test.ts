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
