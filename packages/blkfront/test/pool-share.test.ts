import fc from 'fast-check';
import { expect, it } from 'vitest';
import { OP } from '../src/index.ts';
import { connected, noLeaks, pair, settled } from './fixture.ts';

it.each(['lifo', 'fifo'] as const)('has a share of a small table for every queue where all want full pools, %s', async (poolOrder) => {
  const { world, dev } = connected(
    { queues: 4, poolRefs: 'full', poolOrder, persistent: false },
    { maxQueues: 4 },
    { grants: 8 + 4 + 400 },
  );
  const { device } = dev;
  const free = [0, 1, 2, 3].map((queue) => device.poolFigures(queue)!.free);
  expect(free).toEqual([75, 75, 75, 75]);
  const done: number[] = [];
  device.onDone = (cookie, status) => {
    expect(status).toBe(0);
    done.push(cookie);
  };
  const gfn = world.page();
  for (let queue = 0; queue < 4; queue++) expect(device.submit(OP.READ, 0, [gfn], 0, 8, queue, queue)).toBe(0);
  world.time.settle();
  expect(done.sort()).toEqual([0, 1, 2, 3]);
  world.pages.free(gfn);
  await settled(world, dev.close());
  expect(world.leaks()).toEqual(noLeaks);
});

it('leaves some of the table to a second device that wants full pools too', () => {
  const { world, dev } = connected({ poolRefs: 'full', persistent: false }, {}, { grants: 8 + 1 + 100 });
  expect(dev.device.poolFigures()?.free).toBe(75);
  expect(world.grants.available()).toBe(25);
});

/**
 * Goal: no queue waits for ever while references lie idle in the device.
 * Method: a table that does not tell what it can give, so that the first queue's pool takes all of it; or one that tells, of which
 * somebody else takes what the pools left. Who is refused asks again when it is told, and not before.
 */
it('gets a queue on with the idle references of others when its own and the table are spent', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 64 }),
      fc.boolean(),
      fc.constantFrom('lifo' as const, 'fifo' as const),
      fc.array(fc.record({ queue: fc.nat(2), pages: fc.integer({ min: 1, max: 24 }) }), { minLength: 1, maxLength: 30 }),
      async (references, tells, poolOrder, asked) => {
        const { world, dev } = pair(
          { queues: 3, poolRefs: 'full', poolOrder, persistent: false },
          { maxQueues: 3, indirect: 32 },
          { grants: 8 + 3 + references },
        );
        if (!tells) Object.assign(world.grants, { available: undefined });
        dev.connectSync();
        world.grants.exhaust(0);
        const { device } = dev;
        const idle = [0, 1, 2].reduce((sum, queue) => sum + device.poolFigures(queue)!.free, 0);
        if (idle === 0) return;
        const gfns = Array.from({ length: 24 }, () => world.page());
        const waiting = asked.map((one, cookie) => ({ ...one, cookie }));
        const done: number[] = [];
        device.onDone = (cookie, status) => {
          expect(status).toBe(0);
          done.push(cookie);
        };
        const submit = (queue: number): void => {
          for (let at = waiting.findIndex((one) => one.queue === queue); at !== -1; at = waiting.findIndex((one) => one.queue === queue)) {
            const { pages, cookie } = waiting[at]!;
            const status = device.submit(OP.READ, 0, gfns, 0, pages * 8, cookie, queue);
            expect(status === 0 || status === -16).toBe(true);
            if (status !== 0) return;
            waiting.splice(at, 1);
          }
        };
        device.onRoom(submit);
        for (let queue = 0; queue < 3; queue++) submit(queue);
        world.time.run(100_000);
        expect(done.sort((a, b) => a - b)).toEqual(asked.map((_, cookie) => cookie));
        expect(device.busy).toBe(0);
      },
    ),
    { numRuns: process.env['PARAVIRT_FULL'] === undefined ? 100 : 3000 },
  );
});
