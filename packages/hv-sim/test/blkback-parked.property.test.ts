import { BLKIF_OP } from '@paravirt/xen-abi';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Disk, LATER, memoryDisk } from '../src/index.ts';
import { fixture } from './blkback-fixture.ts';

const RUNS = process.env['PARAVIRT_FULL'] === undefined ? 150 : 4000;
const { READ, WRITE, FLUSH_DISKCACHE: FLUSH, WRITE_BARRIER: BARRIER } = BLKIF_OP;
const DISK = 1 << 21;

/** Kinds of request, as often as they stand here. */
const KINDS = ['indirect', 'indirect', 'indirect', 'direct', 'flush', 'barrier'] as const;

/**
 * Goal: requests that wait for pages, for the hypervisor's "try again" or for a barrier are carried out, each once, however many of
 * them wait at a time.
 * Method: rounds of random requests with as few pages to map at as there may be, over a disk that answers now or later, while maps say
 * "try again" at random; in the end the frontend closes, with requests under way or without.
 */
describe(`requests that wait for pages (${RUNS} runs)`, () => {
  it('are each answered once, a barrier after everything before it, and a close is never held up by them', { timeout: 600_000 }, () => {
    const request = fc.record({
      kind: fc.constantFrom(...KINDS),
      write: fc.boolean(),
      segments: fc.constantFrom(1, 9, 64, 200, 256),
    });
    const shape = fc.record({
      persistent: fc.boolean(),
      persistentMax: fc.constantFrom(1, 16, 64),
      turnCost: fc.constantFrom(1, 128, 1000),
      tryAgain: fc.constantFrom(0, 0.002, 0.02, 0.2),
      seed: fc.nat(1000),
      laters: fc.array(fc.nat(6), { minLength: 1, maxLength: 12 }),
      rounds: fc.array(fc.record({ requests: fc.array(request, { minLength: 1, maxLength: 12 }), ticks: fc.nat(4) }), {
        minLength: 1,
        maxLength: 6,
      }),
      closes: fc.boolean(),
    });
    fc.assert(
      fc.property(shape, ({ persistent, persistentMax, turnCost, tryAgain, seed, laters, rounds, closes }) => {
        const store = memoryDisk({ sizeBytes: DISK });
        let calls = 0;
        const call = (waiter: { done(status: number): void }, carryOut: () => number): number => {
          const ticks = laters[calls++ % laters.length]!;
          if (ticks === 0) return carryOut();
          f.dom0.scheduler.schedule(() => waiter.done(carryOut()), ticks);
          return LATER;
        };
        const disk = Object.assign(Object.create(store) as Disk, {
          read: (...args: Parameters<Disk['read']>) => call(args[4], () => store.read(...args)),
          write: (...args: Parameters<Disk['write']>) => call(args[4], () => store.write(...args)),
        });
        const f = fixture({
          disk,
          blkback: { turnCost, persistentMax, mappedPagesMax: 264 },
          machine: { seed, ramBytes: 32 << 20, faults: [] },
        });
        const front = f.connect({ persistent });
        if (tryAgain > 0) f.machine.faults.request({ kind: 'map-eagain', domid: 0, probability: tryAgain });
        const grefs = Array.from({ length: 256 }, (_, i) => front.grant(front.page(i)));
        const order: number[] = [];
        const good = new Set<number>();
        f.bus.on('blkback:completed').subscribe(({ idLo, status }) => {
          order.push(idLo);
          if (status === 0) good.add(idLo);
        });
        const asked: number[] = [];
        const barriers: number[] = [];
        const answered: number[] = [];
        const collect = (): void => {
          answered.push(...front.answers().map(({ id }) => id));
        };
        for (const { requests, ticks } of rounds) {
          for (const { kind, write, segments } of requests) {
            if (front.queues[0]!.ring.full()) break;
            const op = write ? WRITE : READ;
            const pages = grefs.slice(0, kind === 'indirect' ? segments : Math.min(segments, 11)).map((ref) => [ref, 0, 7] as const);
            if (kind === 'flush') asked.push(front.put(FLUSH, 0));
            else if (kind === 'indirect') asked.push(front.indirect(op, 0, pages));
            else if (kind === 'direct') asked.push(front.put(op, 0, pages));
            else {
              const id = front.put(BARRIER, 0, pages);
              asked.push(id);
              barriers.push(id);
            }
          }
          front.ring();
          f.machine.run({ untilTicks: f.machine.now + ticks });
          collect();
        }
        if (closes) front.setState(5);
        if (closes) front.setState(6);
        f.machine.run({ untilTicks: f.machine.now + 20_000 });
        collect();
        expect(answered).toHaveLength(new Set(answered).size);
        for (const barrier of barriers) {
          if (!good.has(barrier)) continue;
          const at = order.indexOf(barrier);
          expect(order.slice(0, at).every((id) => id < barrier)).toBe(true);
          expect(order.slice(at).every((id) => id >= barrier)).toBe(true);
        }
        if (closes) {
          expect(f.back('state')).toBe('6');
          front.release();
          return;
        }
        expect(answered.sort((a, b) => a - b)).toEqual(asked);
        expect(good.size).toBe(asked.length);
        expect(f.device.inFlight).toBe(0);
        if (!persistent) front.releaseData();
      }),
      { numRuns: RUNS },
    );
  });
});
