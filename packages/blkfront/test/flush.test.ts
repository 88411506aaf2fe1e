import { describe, expect, it } from 'vitest';
import { BLKREQ, type BlkReq, blkDev, OP } from '../src/index.ts';
import { connected, noLeaks, pair, settled } from './fixture.ts';

describe('a flush of a read-only disk', () => {
  it('succeeds without a request, as a promise and as a plain call, whatever the disk offers', async () => {
    for (const offered of [{ flush: true }, { barrier: true }, {}]) {
      const { world, back, dev } = connected({}, { ...offered, info: 4 });
      await dev.flush();
      const done: number[][] = [];
      dev.device.onDone = (...args) => void done.push(args);
      expect(dev.device.submit(OP.FLUSH, 0, null, 0, 0, 7)).toBe(0);
      // Like any other completion, not from inside the call.
      expect(done).toEqual([]);
      expect(dev.device.busy).toBe(1);
      world.time.run(0);
      expect(done).toEqual([[7, 0]]);
      expect(back.seen).toEqual([]);
      await settled(world, dev.close());
      expect(world.leaks()).toEqual(noLeaks);
    }
  });

  it('succeeds through the calls of uk_blkdev, polled or not', () => {
    const { world, back, dev } = pair({}, { flush: true, info: 4 });
    const configured = blkDev(dev.device).configure({ nbQueues: 1 });
    configured.queueConfigure(0, 0, { callback: (queue) => void running.finishReqs(queue) });
    const running = configured.start();
    const flush: BlkReq = { operation: BLKREQ.FFLUSH, startSector: 0, nbSectors: 0, gfns: null, offset: 0, state: 0, result: 9 };
    running.submitOne(0, flush);
    running.finishReqs(0);
    expect(flush).toMatchObject({ state: 0, result: 0 });
    expect(running.syncIo(0, flush)).toBe(0);
    running.intrEnable(0);
    expect(running.syncIo(0, flush)).toBe(0);
    expect(back.seen).toEqual([]);
    running.stop();
    world.time.run(1000);
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('can be asked for again from its completer without an end, and keeps nobody waiting', async () => {
    const { world, dev } = connected({}, { info: 4 });
    let flushes = 0;
    dev.device.onDone = () => {
      flushes++;
      dev.device.submit(OP.FLUSH, 0, null, 0, 0, 1);
    };
    dev.device.submit(OP.FLUSH, 0, null, 0, 0, 1);
    dev.device.poll();
    expect(flushes).toBe(1);
    expect((await settled(world, dev.read(8, 512)))[0]).toBe(8);
  });

  it('is over once when the device is suspended, closed or reconnected under it, or its completer throws', async () => {
    for (const end of ['suspend', 'cancel', 'stop', 'destroy', 'die', 'throw'] as const) {
      const { world, back, dev } = connected({}, { flush: true, info: 4 });
      const done: number[] = [];
      dev.device.onDone = (cookie) => {
        done.push(cookie);
        if (end === 'throw' && cookie === 1) throw new Error('a completer that throws');
      };
      for (const cookie of [1, 2, 3]) dev.device.submit(OP.FLUSH, 0, null, 0, 0, cookie);
      if (end === 'suspend' || end === 'cancel') {
        dev.device.suspend();
        dev.device.resume(end === 'cancel');
      } else if (end === 'stop') dev.device.stop();
      else if (end === 'destroy') dev.destroy();
      else if (end === 'die') {
        back.die();
        world.time.settle();
        back.revive();
      } else expect(() => world.time.run(0)).toThrow('a completer that throws');
      world.time.run(100);
      expect(done).toEqual([1, 2, 3]);
      expect(dev.device.busy).toBe(0);
      expect(back.seen).toEqual([]);
    }
  });
});

describe('a flush', () => {
  it('is refused by a device that closes or is closed, whether its disk had a cache or not', async () => {
    for (const offered of [{ flush: true }, {}, { flush: true, info: 4 }]) {
      const { world, back, dev } = connected({}, offered);
      back.hold = true;
      const read = dev.read(0, 512);
      world.time.settle();
      dev.device.stop();
      expect(dev.state).toBe('closing');
      await expect(dev.flush()).rejects.toMatchObject({ refusal: { code: 'gone', state: 'closing' } });
      back.release();
      await settled(world, read);
      world.time.run(100);
      await expect(dev.flush()).rejects.toMatchObject({ refusal: { code: 'gone', state: 'closed' } });
    }
  });

  it('waits for the first connection while that is under way', async () => {
    const { world, back, dev } = pair({}, { flush: true });
    await expect(dev.flush()).rejects.toMatchObject({ refusal: { code: 'gone', state: 'closed' } });
    dev.device.start();
    await settled(world, dev.flush());
    expect(back.flushes).toBe(1);
  });
});
