import { describe, expect, it } from 'vitest';
import { BLKREQ, type BlkReq, blkDev } from '../src/index.ts';
import { noLeaks, pair } from './fixture.ts';

const request = (gfn: number): BlkReq => ({
  operation: BLKREQ.READ,
  startSector: 0,
  nbSectors: 1,
  gfns: [gfn],
  offset: 0,
  state: 0,
  result: 99,
});

describe('a driver of uk_blkdev', () => {
  it('is told of nothing before it enables interrupts, whichever connection the device has', () => {
    for (const end of ['dies', 'is left', 'starts anew'] as const) {
      const { world, back, dev } = pair({ queues: 2 }, { maxQueues: 2 });
      const configured = blkDev(dev.device).configure({ nbQueues: 2 });
      const calls: number[] = [];
      const finish = (queue: number): void => {
        calls.push(queue);
        running.finishReqs(queue);
      };
      configured.queueConfigure(0, 0, { callback: finish });
      configured.queueConfigure(1, 0, { callback: finish });
      const running = configured.start();
      expect(running.intrEnable(1)).toBe(0);
      if (end === 'dies') {
        back.die();
        back.revive();
      } else if (end === 'starts anew') back.say(5);
      else {
        dev.device.suspend();
        dev.device.resume();
      }
      world.time.settle();
      expect(dev.state).toBe('connected');
      const polled = request(world.page());
      const told = request(world.page());
      calls.length = 0;
      running.submitOne(0, polled);
      running.submitOne(1, told);
      world.time.settle();
      expect([calls, polled.state, told.state]).toEqual([[1], 1, 0]);
      running.finishReqs(0);
      expect(polled.state).toBe(0);
      running.submitOne(1, told);
      world.time.settle();
      expect(calls).toEqual([1, 1]);
      running.stop();
    }
  });

  it('keeps its buffers when it cannot start, or its backend does not let it stop', () => {
    const { world, back, dev } = pair({ closeTicks: 10 });
    back.say(1);
    const buffer = dev.allocBuffer(2);
    const held = world.pagesHeld;
    const configured = blkDev(dev.device).configure({ nbQueues: 1 });
    configured.queueConfigure(0, 0, {});
    expect(() => configured.start()).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ code: 'gone' }) }));
    expect([dev.state, world.pagesHeld]).toEqual(['closed', held]);
    // A folder that names no backend: nothing of the attempt is left.
    world.store.connect(0).remove(`${back.front}/backend-id`);
    expect(() => configured.start()).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ code: 'bad-store' }) }));
    world.store.connect(0).write(`${back.front}/backend-id`, '0');
    back.say(2);
    // A connection of somebody else's is left alone.
    dev.connectSync();
    expect(() => configured.start()).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ code: 'wrong-state' }) }));
    expect(dev.state).toBe('connected');
    dev.closeSync();
    const running = configured.start();
    const read = { ...request(buffer.gfns[0]!), startSector: 9 };
    expect(running.syncIo(0, read)).toBe(0);
    expect(world.bytes(buffer.gfns[0]!)[0]).toBe(9);
    const waitFor = dev.device.waitFor.bind(dev.device);
    dev.device.waitFor = (condition) => condition();
    const stopped = running.stop();
    dev.device.waitFor = waitFor;
    expect(dev.state).toBe('closed');
    expect(buffer.gfns.every((gfn) => world.bytes(gfn).length === 4096)).toBe(true);
    world.time.run(1000);
    expect(world.pagesHeld).toBe(2);
    stopped.queueUnconfigure(0);
    dev.destroy();
    world.time.run(1000);
    expect(world.leaks()).toEqual(noLeaks);
  });
});
