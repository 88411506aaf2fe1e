import { describe, expect, it } from 'vitest';
import { type Completion, OP } from '../src/index.ts';
import { connected, noLeaks, settled } from './fixture.ts';

// What becomes of a request of one page beside an answer that all went well.
describe.each([false, true])('a request of one page (persistent: %s)', (persistent) => {
  it('is issued again in its turn, whatever slot it had', async () => {
    const { world, back, dev } = connected({ persistent });
    const buffers = Array.from({ length: 6 }, () => dev.allocBuffer(1));
    const done: number[] = [];
    dev.device.onDone = (cookie, status) => {
      expect(status).toBe(0);
      done.push(cookie);
    };
    const submitAll = (from: number): void => {
      for (const [i, { gfns }] of buffers.entries()) expect(dev.device.submit(OP.READ, (from + i) * 8, gfns, 0, 8, from + i)).toBe(0);
      world.time.settle();
    };
    back.hold = true;
    submitAll(0);
    // The slot given back last is taken first: the second six have theirs the other way round.
    back.release();
    world.time.settle();
    submitAll(6);
    back.die();
    world.time.settle();
    back.hold = false;
    back.seen.length = 0;
    back.revive();
    world.time.settle();
    expect(back.seen.map(({ sector }) => sector)).toEqual([48, 56, 64, 72, 80, 88]);
    expect(done).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    for (const buffer of buffers) buffer.free();
    await settled(world, dev.close());
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('or of several, with a frame that is none among them, is refused before anything is taken', async () => {
    const { world, dev } = connected({ persistent });
    const buffer = dev.allocBuffer(3);
    const before = dev.device.poolFigures();
    for (const wrong of [Number.NaN, -1, 0.5, 2 ** 52, Number.POSITIVE_INFINITY]) {
      for (let place = 0; place < 3; place++) {
        const gfns = [...buffer.gfns];
        gfns[place] = wrong as never;
        expect(dev.device.submit(OP.WRITE, 0, gfns, place * 4096, 8, 1)).toBe(-22);
        expect(dev.device.submit(OP.READ, 0, gfns, 0, 24, 1)).toBe(-22);
      }
    }
    expect(dev.device.busy).toBe(0);
    expect(dev.device.poolFigures()).toEqual(before);
    // What lies outside the request's pages is nobody's business.
    expect(dev.device.submit(OP.READ, 0, [...buffer.gfns.slice(0, 1), Number.NaN], 0, 8, 1)).toBe(0);
    world.time.settle();
    buffer.free();
    await settled(world, dev.close());
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('is told of to who listens only when it is under way', () => {
    const { world, back, dev } = connected({ persistent });
    const buffer = dev.allocBuffer(1);
    const told: Completion[] = [];
    back.hold = true;
    expect(dev.device.submit(OP.WRITE, 16, buffer.gfns, 512, 3, 7)).toBe(0);
    const listening = dev.device.onCompletion((completion) => told.push(completion));
    world.time.settle();
    back.release();
    world.time.settle();
    expect(told).toEqual([{ queue: 0, op: OP.WRITE, sector: 16, sectors: 3, status: 0 }]);
    listening.unsubscribe();
  });

  it('gives back a cookie that is no machine integer as it is', () => {
    const { world, dev } = connected({ persistent });
    const buffer = dev.allocBuffer(1);
    const cookies: number[] = [];
    dev.device.onDone = (cookie) => cookies.push(cookie);
    for (const cookie of [2 ** 40 + 1, -1, 0.5, 3]) expect(dev.device.submit(OP.READ, 0, buffer.gfns, 0, 8, cookie)).toBe(0);
    world.time.settle();
    expect(cookies).toEqual([2 ** 40 + 1, -1, 0.5, 3]);
  });
});
