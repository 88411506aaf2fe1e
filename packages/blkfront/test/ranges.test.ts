import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BlkfrontError } from '../src/index.ts';
import { connected, settled } from './fixture.ts';

/** A turn of the host, in which it looks for rejections that nobody handles. */
const hostTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const code = (error: BlkfrontError): string => error.refusal.code;

describe('a long range', () => {
  const unhandled: unknown[] = [];
  const note = (reason: unknown): void => void unhandled.push(reason);
  let others: NodeJS.UnhandledRejectionListener[] = [];

  beforeEach(() => {
    unhandled.length = 0;
    others = process.listeners('unhandledRejection');
    process.removeAllListeners('unhandledRejection');
    process.on('unhandledRejection', note);
  });

  afterEach(() => {
    process.removeAllListeners('unhandledRejection');
    for (const listener of others) process.on('unhandledRejection', listener);
  });

  it('throws the error of a piece read ahead at that piece, and leaves no rejection unhandled before', async () => {
    const { world, back, dev } = connected();
    back.fail = (seen) => seen.sector >= 64;
    const range = dev.readRange(0, 256, { chunkBytes: 16384 });
    expect((await settled(world, range.next())).value).toMatchObject({ sector: 0 });
    world.time.settle();
    await hostTurn();
    expect((await settled(world, range.next())).value).toMatchObject({ sector: 32 });
    await hostTurn();
    await expect(settled(world, range.next())).rejects.toMatchObject({ refusal: { code: 'io', sector: 64 } });
    await hostTurn();
    expect(unhandled).toEqual([]);
  });

  it('leaves no rejection unhandled when its consumer returns, throws, or never goes on', async () => {
    for (const end of ['return', 'throw', 'nothing'] as const) {
      const { world, back, dev } = connected();
      back.fail = (seen) => seen.sector >= 32;
      const range = dev.readRange(0, 256, { chunkBytes: 16384 }) as AsyncGenerator<unknown>;
      await settled(world, range.next());
      if (end === 'return') await range.return(undefined);
      if (end === 'throw') await range.throw(new Error('enough')).catch(() => undefined);
      world.time.settle();
      await hostTurn();
    }
    expect(unhandled).toEqual([]);
  });

  it('says which write failed while its source takes its time, and leaves no rejection unhandled', async () => {
    const { world, back, dev } = connected();
    back.fail = () => true;
    let asked = 0;
    const slow = async function* (): AsyncIterable<Uint8Array> {
      for (; asked < 4; asked++) {
        yield new Uint8Array(4096);
        world.time.settle();
        await hostTurn();
      }
    };
    await expect(dev.writeRange(0, slow())).rejects.toMatchObject({ refusal: { code: 'io', sector: 0 } });
    const breaks = async function* (): AsyncIterable<Uint8Array> {
      yield new Uint8Array(4096);
      throw new Error('the source broke');
    };
    await expect(dev.writeRange(0, breaks())).rejects.toThrow('the source broke');
    world.time.settle();
    await hostTurn();
    expect(unhandled).toEqual([]);
  });

  it('refuses sectors that are none by name, before anything is asked', async () => {
    const { back, dev } = connected({}, { sectorBytes: 4096 });
    const wrong: [number, number, string][] = [
      [0, Number.NaN, 'sectors'],
      [Number.NaN, 8, 'sector'],
      [0, -8, 'sectors'],
      [-8, 8, 'sector'],
      [0.5, 8, 'sector'],
      [0, 12, 'sectors'],
      [4, 8, 'sector'],
    ];
    for (const [sector, sectors, argument] of wrong) {
      const refusal = { code: 'bad-argument', argument, allowed: 'a multiple of 8' };
      await expect(dev.readRange(sector, sectors).next()).rejects.toMatchObject({ refusal });
      if (argument === 'sector') await expect(dev.writeRange(sector, [])).rejects.toMatchObject({ refusal });
    }
    expect(back.seen).toEqual([]);
    expect(await dev.readRange(0, 0).next()).toEqual({ done: true, value: undefined });
    dev.device.stop();
    expect(await dev.readRange(0, 8).next().catch(code)).toBe('gone');
  });
});
