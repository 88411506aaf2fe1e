import { createEventBus } from '@paravirt/event-bus';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BlkfrontError, type BlkfrontEvents, BlockDevice } from '../src/index.ts';
import { Loopback, World } from '../src/testing.ts';
import { connected, settled } from './fixture.ts';

const runs = process.env['PARAVIRT_FULL'] === undefined ? 150 : 3000;
const code = (error: BlkfrontError): string => error.refusal.code;

/** Turns in which promises say what became of them. */
async function turns(): Promise<void> {
  for (let i = 0; i < 16; i++) await Promise.resolve();
}

describe('a signal', () => {
  it('keeps the rest of a request off the ring, and rejects it with its reason when the part that stands there is over', async () => {
    const { world, back, dev } = connected({ maxSegments: 11 }, { hold: true });
    for (let i = 0; i < 31; i++) void dev.read(0, 512);
    const controller = new AbortController();
    let end = 'pending';
    const reason = new Error('enough');
    const read = dev.read(0, 512 * 1024, { signal: controller.signal }).catch((error: BlkfrontError) => {
      end = code(error);
      return error.cause;
    });
    world.time.settle();
    expect(dev.device.figures[0]!.requests).toBe(32);
    controller.abort(reason);
    await turns();
    expect(end).toBe('pending');
    back.hold = false;
    back.release();
    expect(await settled(world, read)).toBe(reason);
    expect(end).toBe('aborted');
    expect(dev.device.figures[0]!.requests).toBe(32);
    await settled(world, dev.read(0, 512));
  });

  it('rejects at once what the device keeps for its next connection, and does not issue it again', async () => {
    for (const before of [true, false]) {
      const { world, back, dev } = connected({}, { hold: true });
      const controller = new AbortController();
      const read = dev.read(0, 512, { signal: controller.signal }).catch(code);
      const other = dev.read(8, 512);
      world.time.settle();
      if (before) controller.abort();
      back.die();
      world.time.settle();
      expect(dev.state).toBe('lost');
      if (!before) controller.abort();
      expect(await Promise.race([read, turns()])).toBe('aborted');
      expect(dev.device.busy).toBe(1);
      back.hold = false;
      back.seen.length = 0;
      back.revive();
      await settled(world, other);
      expect(back.seen.map(({ sector }) => sector)).toEqual([8]);
    }
  });

  it('does not take back what a backend can still reach while the device is suspended', async () => {
    const { world, dev } = connected({ persistent: false }, { hold: true });
    const buffer = dev.allocBuffer(1);
    const controller = new AbortController();
    let end = 'pending';
    void dev.read(0, buffer, { signal: controller.signal }).catch((error: BlkfrontError) => {
      end = code(error);
    });
    world.time.settle();
    dev.device.suspend();
    controller.abort();
    await turns();
    expect([end, world.grants.reachable().has(buffer.gfns[0]!)]).toEqual(['pending', true]);
    dev.device.resume();
    world.time.settle();
    await turns();
    expect([end, world.grants.reachable().has(buffer.gfns[0]!)]).toEqual(['aborted', false]);
  });

  it('may come from who is told that a part went on the ring', async () => {
    // Twelve parts and another request go on the ring, and once more on the next.
    for (const nth of [1, 5, 12, 13, 14, 20, 25, 26]) {
      const world = new World();
      const back = new Loopback(world, { hold: true }).start();
      const bus = createEventBus<BlkfrontEvents>();
      const dev = new BlockDevice({ device: 51712, maxSegments: 11 }, { ...world.surroundings, bus });
      dev.connectSync();
      const controller = new AbortController();
      let parts = 0;
      bus.on('blkfront:requested').subscribe(() => {
        if (++parts === nth) controller.abort();
      });
      const read = dev.read(0, 512 * 1024, { signal: controller.signal }).then(() => 'done', code);
      const other = dev.read(8, 512);
      world.time.settle();
      back.die();
      world.time.settle();
      back.hold = false;
      back.revive();
      expect(await settled(world, read)).toBe(nth < 25 ? 'aborted' : 'done');
      expect((await settled(world, other))[0]).toBe(8);
      expect(parts).toBe(nth < 12 ? nth + 2 : nth < 14 ? 14 : nth < 25 ? nth + 1 : 26);
      expect(dev.device.busy).toBe(0);
    }
  });

  it('ends a wait, never the safety of a buffer, whatever happens between', async () => {
    const step = fc.record({
      kind: fc.constantFrom('read', 'read', 'abort', 'abort', 'release', 'settle', 'die', 'suspend', 'hold'),
      which: fc.nat(20),
      pages: fc.integer({ min: 1, max: 40 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const { world, back, dev } = connected({ persistent: false, maxSegments: 11, reconnectTicks: 0x7fff_ffff }, { hold: true });
        const under: { controller: AbortController; promise: Promise<unknown> }[] = [];
        const problems: string[] = [];
        for (const { kind, which, pages } of steps) {
          if (kind === 'read') {
            const controller = new AbortController();
            const buffer = dev.allocBuffer(pages);
            const look = (how: string): void => {
              const reachable = world.grants.reachable();
              if (buffer.gfns.some((gfn) => reachable.has(gfn))) problems.push(`${how}, and the backend can reach its buffer`);
              if (how !== 'done' && (how !== 'aborted' || !controller.signal.aborted)) problems.push(how);
              buffer.free();
            };
            const promise = dev.read(0, buffer, { signal: controller.signal }).then(
              () => look('done'),
              (error: BlkfrontError) => look(code(error)),
            );
            under.push({ controller, promise });
          } else if (kind === 'abort') under[which % Math.max(1, under.length)]?.controller.abort();
          else if (kind === 'hold') back.hold = true;
          else if (kind === 'release') {
            back.hold = false;
            back.release();
          } else if (kind === 'die') {
            back.die();
            world.time.settle();
            if (which % 2 === 0) under[which % Math.max(1, under.length)]?.controller.abort();
            back.revive();
          } else if (kind === 'suspend' && dev.state !== 'suspended') {
            dev.device.suspend();
            if (which % 3 === 0) under[which % Math.max(1, under.length)]?.controller.abort();
            dev.device.resume(which % 2 === 0);
          } else world.time.settle();
          await turns();
        }
        back.hold = false;
        back.release();
        await settled(world, Promise.all(under.map(({ promise }) => promise)));
        expect(problems).toEqual([]);
        expect(dev.device.busy).toBe(0);
        await settled(world, dev.read(0, 512));
      }),
      { numRuns: runs },
    );
  });
});
