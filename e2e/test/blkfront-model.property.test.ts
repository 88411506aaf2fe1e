import { BlkfrontError } from '@paravirt/blkfront';
import { delayFilter, type FaultRequest } from '@paravirt/hv-sim';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Stack } from './blkfront-stack.ts';

const SECTORS = 1024;
const runs = process.env['PARAVIRT_FULL'] === undefined ? 25 : 1000;

const steps = fc.array(
  fc.oneof(
    {
      weight: 10,
      arbitrary: fc.record({
        kind: fc.constantFrom('write' as const, 'write' as const, 'read' as const, 'zero' as const, 'discard' as const),
        sector: fc.nat(SECTORS - 1),
        count: fc.integer({ min: 1, max: 400 }),
        value: fc.integer({ min: 1, max: 255 }),
        fua: fc.boolean(),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constantFrom('flush' as const, 'suspend' as const, 'reconnect' as const, 'wait' as const, 'wait' as const),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('resize' as const), sectors: fc.integer({ min: 128, max: SECTORS }) }) },
  ),
  { maxLength: 50 },
);

/** What may go wrong on the way without anybody being at fault. Each may fire, none must. */
const weather: FaultRequest[] = [
  { kind: 'map-fail', probability: 0.01 },
  { kind: 'map-eagain', probability: 0.02 },
  { kind: 'doorbell-late', probability: 0.05, ticks: 3 },
  { kind: 'doorbell-doubled', probability: 0.05, ticks: 2 },
  { kind: 'doorbell-spurious', probability: 0.02 },
  { kind: 'store-conflict', probability: 0.1 },
  { kind: 'page-held', probability: 0.02 },
];

/**
 * Goal: through the whole stack the device is an array of sectors, each request ends once, and nothing is left on either side.
 * Method: random steps on a machine that runs domains in random order over a disk whose answers overtake one another, in fine and in
 * foul weather, against a plain array; a sector whose write failed may hold either value.
 */
describe('a device of the simulated hypervisor against an array of sectors', () => {
  for (const foul of [false, true]) {
    it(`agrees, and leaves nothing, ${foul ? 'with faults on the way' : 'undisturbed'}: ${runs} schedules`, async () => {
      await fc.assert(
        fc.asyncProperty(
          steps,
          fc.integer(),
          fc.boolean(),
          fc.boolean(),
          fc.boolean(),
          async (list, seed, persistent, trusted, indirect) => {
            const stack = new Stack({
              front: { queues: 2, ringPages: 2, maxSegments: indirect ? 64 : 11, persistent, closeTicks: 2000 },
              blkback: { queuesMax: 2, persistent, indirectSegmentsMax: indirect ? 64 : 0 },
              attach: { trusted },
              machine: { seed, order: 'random', ...(foul && { faults: weather }) },
              sectors: SECTORS,
              guestPages: 1024,
              wrap: (disk, machine) =>
                delayFilter(disk, { scheduler: machine.scheduler, ticks: 1, jitterTicks: 4, random: machine.random('disk') }),
            });
            const { dev } = stack;
            stack.dev.connectSync();
            const model: (number | Set<number>)[] = new Array(SECTORS).fill(0);
            const under = new Set<{ from: number; to: number; done: Promise<void> }>();
            let asked = 0;
            let completed = 0;
            const drive = async (): Promise<void> => {
              await stack.settled(Promise.all([...under].map(({ done }) => done)));
              under.clear();
            };
            const track = async (
              from: number,
              to: number,
              start: () => Promise<unknown>,
              then: (ok: boolean, value: unknown) => void,
            ): Promise<void> => {
              if ([...under].some((other) => from < other.to && other.from < to)) await drive();
              asked++;
              const done = start().then(
                (value) => {
                  completed++;
                  then(true, value);
                },
                (error: unknown) => {
                  if (!(error instanceof BlkfrontError)) throw error;
                  completed++;
                  then(false, undefined);
                },
              );
              under.add({ from, to, done });
            };
            for (const step of list) {
              switch (step.kind) {
                case 'write':
                case 'zero':
                case 'discard': {
                  const to = Math.min(SECTORS, step.sector + step.count);
                  const from = step.sector;
                  const beyond = to > dev.info!.sectors;
                  const set = (value: number, sure: boolean) => (ok: boolean) => {
                    if (beyond) return;
                    for (let i = from; i < to; i++) {
                      const before = model[i]!;
                      if (ok && sure) model[i] = value;
                      else model[i] = new Set([...(typeof before === 'number' ? [before] : before), value]);
                    }
                  };
                  if (step.kind === 'write') {
                    const bytes = new Uint8Array((to - from) * 512).fill(step.value);
                    await track(from, to, () => dev.write(from, bytes, { fua: step.fua }), set(step.value, true));
                  } else if (step.kind === 'zero') await track(from, to, () => dev.writeZeroes(from, to - from), set(0, true));
                  else await track(from, to, () => dev.discard(from, to - from), set(0, false));
                  break;
                }
                case 'read': {
                  const to = Math.min(SECTORS, step.sector + step.count);
                  const from = step.sector;
                  await track(
                    from,
                    to,
                    () => dev.read(from, (to - from) * 512),
                    (ok, value) => {
                      if (!ok) return;
                      for (let i = from; i < to; i++) {
                        const byte = (value as Uint8Array)[(i - from) * 512]!;
                        const want = model[i]!;
                        expect(typeof want === 'number' ? byte === want : want.has(byte), `sector ${i} holds ${byte}`).toBe(true);
                      }
                    },
                  );
                  break;
                }
                case 'flush':
                  await track(
                    0,
                    0,
                    () => dev.flush(),
                    () => undefined,
                  );
                  break;
                case 'wait':
                  stack.run(3);
                  break;
                case 'suspend':
                  if (dev.state !== 'connected') break;
                  dev.device.suspend();
                  stack.run(2);
                  dev.device.resume();
                  break;
                case 'reconnect':
                  await drive();
                  await stack.settled(dev.close());
                  await stack.settled(dev.connect());
                  break;
                case 'resize':
                  await drive();
                  // What is cut off and comes back is the disk's to say.
                  for (let i = step.sectors; i < SECTORS; i++)
                    model[i] = new Set([0, ...(typeof model[i] === 'number' ? [model[i] as number] : (model[i] as Set<number>))]);
                  stack.disk.resize(step.sectors * 512);
                  stack.run(20);
                  break;
              }
            }
            await drive();
            expect(completed).toBe(asked);
            await stack.settled(dev.close());
            stack.run(10_000);
            expect(stack.leftovers()).toEqual([]);
          },
        ),
        { numRuns: runs },
      );
    }, 900_000);
  }
});
