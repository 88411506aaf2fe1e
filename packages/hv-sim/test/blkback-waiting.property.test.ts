import { BLKIF_OP } from '@paravirt/xen-abi';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Disk, LATER, memoryDisk } from '../src/index.ts';
import { fixture } from './blkback-fixture.ts';

const RUNS = process.env['PARAVIRT_FULL'] === undefined ? 80 : 2000;
const { READ, WRITE, FLUSH_DISKCACHE: FLUSH, WRITE_BARRIER: BARRIER } = BLKIF_OP;
const DISK = 1 << 20;
/** Where domain 0 maps what it is granted: virtual frames to look through for one that is mapped. */
const LOOKED_AT = 1024;

/** Kinds of request, as often as they stand here. */
const KINDS = ['one', 'one', 'one', 'one', 'many', 'flush', 'barrier', 'indirect', 'bad'] as const;

/**
 * Goal: pages in use hold up the batches that hold them and nothing else, whatever else happens meanwhile.
 * Method: rounds of random requests; while the disk works, somebody begins to use a page that is mapped, and lets go some rounds later;
 * at the end the frontend closes, with batches still waiting.
 */
describe(`batches that wait for pages in use (${RUNS} runs)`, () => {
  it('end, each once, when the pages are idle, and leave nothing behind', { timeout: 600_000 }, () => {
    const shape = fc.record({
      abi: fc.constantFrom('x86_64' as const, 'x86_32' as const),
      ringPages: fc.constantFrom(1, 2, 4),
      persistent: fc.boolean(),
      persistentMax: fc.constantFrom(1, 8, 1056),
      turnCost: fc.constantFrom(1, 7, 128, 1000),
      start: fc.constantFrom(0, 0xffff_fff0, 0x7fff_fff9),
      told: fc.boolean(),
      rounds: fc.array(
        fc.array(fc.record({ kind: fc.constantFrom(...KINDS), write: fc.boolean(), page: fc.nat(15), use: fc.nat(9), later: fc.nat(5) }), {
          minLength: 1,
          maxLength: 40,
        }),
        {
          minLength: 2,
          maxLength: 6,
        },
      ),
      idleAfter: fc.array(fc.nat(3), { minLength: 6, maxLength: 6 }),
    });
    fc.assert(
      fc.property(shape, ({ abi, ringPages, persistent, persistentMax, turnCost, start, told, rounds, idleAfter }) => {
        const used: number[] = [];
        let wishes: { use: number; later: number }[] = [];
        const store = memoryDisk({ sizeBytes: DISK });
        const call = (waiter: { done(status: number): void }, carryOut: () => number): number => {
          const wish = wishes.shift();
          if (wish?.use === 0) {
            for (let vfn = LOOKED_AT; vfn > 0; vfn--) {
              if (f.dom0.addressSpace.translate(vfn) < 0 || used.includes(vfn)) continue;
              f.dom0.pageUse.use(vfn);
              used.push(vfn);
              break;
            }
          }
          if (wish?.later !== 0) return carryOut();
          f.dom0.scheduler.schedule(() => waiter.done(carryOut()), 2);
          return LATER;
        };
        const disk = Object.assign(Object.create(store) as Disk, {
          read: (...args: Parameters<Disk['read']>) => call(args[4], () => store.read(...args)),
          write: (...args: Parameters<Disk['write']>) => call(args[4], () => store.write(...args)),
        });
        const f = fixture({
          disk,
          blkback: { turnCost, persistentMax, mappedPagesMax: 264, persistentIdleTicks: 50 },
          machine: { ramBytes: 32 << 20 },
        });
        const front = f.connect({ abi, ringPages, persistent, start });
        const facts = { requested: 0, completed: 0 };
        if (told) {
          f.bus.on('blkback:requested').subscribe(() => facts.requested++);
          f.bus.on('blkback:completed').subscribe(() => facts.completed++);
        }
        const gfns = Array.from({ length: 16 }, (_, i) => front.page(i + 1));
        const grefs = gfns.map((gfn) => front.grant(gfn));
        const asked: number[] = [];
        const answered: number[] = [];
        for (const [round, each] of rounds.entries()) {
          wishes = each.slice();
          for (const { kind, write, page } of each) {
            if (front.queues[0]!.ring.full()) break;
            const op = write ? WRITE : READ;
            const gref = grefs[page]!;
            const sector = page * 100;
            const high = { idHi: 0xffff_fff0 + page };
            const segments = [gref, grefs[(page + 1) & 15]!, gref].map((ref) => [ref, 0, 7] as const);
            if (kind === 'flush') asked.push(front.put(FLUSH, 0));
            else if (kind === 'indirect') asked.push(front.indirect(op, sector, [...segments, ...segments, ...segments, ...segments]));
            else if (kind === 'many') asked.push(front.put(op, sector, segments, (message) => Object.assign(message, high)));
            else if (kind === 'barrier') asked.push(front.put(BARRIER, sector, segments));
            else asked.push(front.put(op, sector, [[kind === 'bad' ? 480 : gref, 0, 7]], (message) => Object.assign(message, high)));
          }
          front.ring();
          f.machine.run({ untilTicks: f.machine.now + 3 });
          answered.push(...front.answers().map(({ id }) => id));
          if (idleAfter[round] === 0) for (const vfn of used.splice(0)) f.dom0.pageUse.unuse(vfn);
        }
        const closes = idleAfter[0]! > 1;
        if (closes) front.setState(5);
        f.machine.run({ untilTicks: f.machine.now + 3 });
        for (const vfn of used.splice(0)) f.dom0.pageUse.unuse(vfn);
        wishes = [];
        f.machine.run({ untilTicks: f.machine.now + 400 });
        answered.push(...front.answers().map(({ id }) => id));
        const { maps, unmaps, requests } = f.host.blkback.counters;
        expect(answered).toHaveLength(new Set(answered).size);
        if (!closes) {
          expect(answered.sort((a, b) => a - b)).toEqual(asked);
          expect(f.device.inFlight).toBe(0);
        }
        expect(requests).toBe(answered.length);
        expect(maps - unmaps).toBe(closes ? 0 : f.device.persistentGrants);
        if (told) expect(facts.completed).toBe(answered.length);
        if (closes) {
          front.setState(6);
          f.machine.run({ untilTicks: f.machine.now + 400 });
          front.release();
        } else if (!persistent) front.releaseData();
      }),
      { numRuns: RUNS },
    );
  });
});
