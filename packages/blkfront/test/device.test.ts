import { describe, expect, it } from 'vitest';
import { OP } from '../src/index.ts';
import { connected, noLeaks, pattern, settled } from './fixture.ts';

describe('a block device over its loopback backend', () => {
  it('connects, writes, reads back and closes with nothing left', async () => {
    const { world, back, dev } = connected();
    expect(dev.info).toMatchObject({ sectors: 2048, sectorBytes: 512, queues: 1, ringPages: 1, slots: 32, flush: 'none' });
    const data = pattern(64 * 1024, 1);
    await settled(world, dev.write(8, data));
    expect(back.disk.subarray(8 * 512, 8 * 512 + data.length)).toEqual(data);
    expect(await settled(world, dev.read(8, data.length))).toEqual(data);
    await settled(world, dev.close());
    expect(back.errors).toEqual([]);
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('completes plain calls through one callback', () => {
    const { world, dev, run } = connected({ poolRefs: 'full' });
    const { device } = dev;
    const done: number[] = [];
    device.onDone = (cookie, status) => done.push(cookie, status);
    const gfns = [world.page(), world.page()];
    // The pages start at byte 512 of the first and end in the second.
    expect(device.submit(OP.READ, 3, gfns, 512, 9, 77)).toBe(0);
    run();
    expect(done).toEqual([77, 0]);
    expect(world.bytes(gfns[0]!)[512]).toBe(3);
    expect(world.bytes(gfns[1]!)[512]).toBe(11);
    expect(world.bytes(gfns[1]!)[1024]).toBe(0);
    expect(world.bytes(gfns[0]!)[0]).toBe(0);
  });

  it('hands out every answer although a completer throws', () => {
    const { world, dev } = connected({ persistent: false });
    const gfn = [world.page()];
    const done: number[] = [];
    dev.device.onDone = (cookie) => {
      done.push(cookie);
      if (cookie === 1) throw new Error('the caller is at fault');
    };
    for (let i = 0; i < 4; i++) dev.device.submit(OP.READ, 0, gfn, 0, 8, i);
    expect(() => world.time.settle()).toThrow('the caller is at fault');
    world.time.run(1);
    expect(done).toEqual([0, 1, 2, 3]);
    dev.device.submit(OP.READ, 0, gfn, 0, 8, 4);
    world.time.settle();
    expect(done).toEqual([0, 1, 2, 3, 4]);
  });

  it('writes zeroes whatever buffer comes with the request', () => {
    for (const persistent of [false, true]) {
      const { world, back, dev, run } = connected({ persistent }, { persistent });
      const status: number[] = [];
      dev.device.onDone = (_cookie, ended) => status.push(ended);
      back.disk.fill(7);
      expect(dev.device.submit(OP.WRITE_ZEROES, 0, [world.page(9)], 0, 8, 1)).toBe(0);
      expect(dev.device.submit(OP.WRITE_ZEROES, 8, [-1], 100, 40, 2)).toBe(0);
      run();
      expect(status).toEqual([0, 0]);
      expect(back.disk.subarray(0, 48 * 512).every((byte) => byte === 0)).toBe(true);
      expect(back.disk[48 * 512]).toBe(7);
    }
  });
});
