import type { Gfn } from '@paravirt/event-bus/contract';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BlkfrontOptions, BlockDevice, ERRNO, OP } from '../src/index.ts';
import { Loopback, type LoopbackOptions, World } from '../src/testing.ts';
import { noLeaks, settled } from './fixture.ts';

const PAGES = 40;
const runs = process.env['PARAVIRT_FULL'] === undefined ? 150 : 3000;

/** A guest with a balloon: `gone` holds the frames that it gave away. */
function ballooned(front: Partial<BlkfrontOptions>, back: LoopbackOptions) {
  const world = new World({ pages: 256 });
  const gone = new Set<number>();
  const frame = (gfn: Gfn) => {
    if (gone.has(gfn)) throw new Error(`frame ${gfn} is given away`);
    return world.pages.frame(gfn);
  };
  const loopback = new Loopback(world, { flush: true, indirect: 32, ...back }).start();
  const dev = new BlockDevice({ device: 51712, ...front }, { ...world.surroundings, pages: { ...world.pages, frame } });
  dev.connectSync();
  const done = new Map<number, number[]>();
  dev.device.onDone = (cookie, status) => void done.set(cookie, [...(done.get(cookie) ?? []), status]);
  return { world, gone, back: loopback, dev, done };
}

describe('a buffer with a page that is not there', () => {
  for (const [name, front, back, start] of [
    ['persistent grants', {}, { persistent: true }, 0],
    ['a backend that is not trusted', {}, { trusted: false }, 0],
    ['a buffer off a sector', { persistent: false }, {}, 100],
  ] as const) {
    it(`is refused before anything is taken, ${name}`, () => {
      const { world, gone, dev, done } = ballooned(front, back);
      const page = world.page();
      const given = world.page();
      gone.add(given);
      const figures = dev.device.poolFigures();
      for (const op of [OP.READ, OP.WRITE, OP.WRITE_FUA]) {
        for (const bad of [given, 1_000_000, 2 ** 31, 2 ** 32, 2 ** 52]) {
          for (const gfns of [[bad, page, page], [page, bad, page], Array.from({ length: 40 }, (_, i) => (i === 33 ? bad : page))]) {
            expect(dev.device.submit(op, 0, gfns, start, gfns.length * 8 - 8, 1)).toBe(ERRNO.EINVAL);
          }
        }
      }
      expect(dev.device.busy).toBe(0);
      expect(dev.device.poolFigures()).toEqual(figures);
      expect(dev.device.submit(OP.READ, 0, [page, page], start, 8, 2)).toBe(0);
      world.time.settle();
      expect([...done]).toEqual([[2, [0]]]);
    });

    it(`fails a read whose page went before the answer, and that read alone, ${name}`, async () => {
      const { world, gone, back: host, dev, done } = ballooned(front, { ...back, hold: true });
      const [kept, given] = [world.page(), world.page()];
      for (let cookie = 0; cookie < 3; cookie++) {
        expect(dev.device.submit(OP.READ, 0, [kept, cookie === 1 ? given : kept], start, 9, cookie)).toBe(0);
      }
      world.time.settle();
      gone.add(given);
      host.release();
      host.hold = false;
      world.time.settle();
      expect([...done].sort()).toEqual([
        [0, [0]],
        [1, [ERRNO.EIO]],
        [2, [0]],
      ]);
      await settled(world, dev.close());
      world.pages.free(kept);
      world.pages.free(given);
      expect(world.leaks()).toEqual(noLeaks);
    });
  }

  it('fails a write that is issued again after its page went', () => {
    const { world, gone, back, dev, done } = ballooned({}, { persistent: true, hold: true });
    const [kept, given] = [world.page(), world.page()];
    expect(dev.device.submit(OP.WRITE, 0, [kept, given], 0, 16, 1)).toBe(0);
    expect(dev.device.submit(OP.WRITE, 0, [kept, kept], 0, 16, 2)).toBe(0);
    world.time.settle();
    dev.device.suspend();
    gone.add(given);
    back.hold = false;
    dev.device.resume();
    world.time.run(1000);
    expect([...done].sort()).toEqual([
      [1, [ERRNO.EIO]],
      [2, [0]],
    ]);
    expect(dev.device.busy).toBe(0);
  });
});

const frame = fc.oneof(
  { weight: 30, arbitrary: fc.constant('page' as const) },
  { weight: 1, arbitrary: fc.constantFrom('given' as const, 'leaving' as const) },
  { weight: 1, arbitrary: fc.constantFrom(5000, 1_000_000, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 52, -1, 0.5, Number.NaN) },
);
const request = fc.record({
  op: fc.constantFrom(OP.READ, OP.WRITE, OP.WRITE_FUA, OP.WRITE_ZEROES, OP.FLUSH),
  frames: fc.array(frame, { minLength: 1, maxLength: PAGES, size: 'max' }),
  start: fc.oneof(fc.constant(0), fc.constant(512), fc.nat(4095)),
  sectors: fc.nat(PAGES * 8),
});

/**
 * Goal: whatever frames a caller names, nothing is thrown, every request that was taken is over once, and nothing stays behind.
 * Method: requests over pages that are there, never were, were given away before or are given away while the request stands on the
 * ring, in every mode; one that was refused or failed must have had such a page.
 */
it(`takes any frames without a throw or a loss: ${runs} runs`, { timeout: 100_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(request, { minLength: 1, maxLength: 6 }),
      fc.boolean(),
      fc.boolean(),
      fc.constantFrom(11, 32),
      async (asked, persistent, trusted, maxSegments) => {
        const { world, gone, back, dev, done } = ballooned({ persistent, maxSegments }, { persistent, trusted, hold: true });
        const [page, given, leaving] = [world.page(), world.page(), world.page()];
        const named = { page, given, leaving };
        gone.add(given);
        const taken: number[] = [];
        asked.forEach(({ op, frames, start, sectors }, cookie) => {
          const gfns = frames.map((one) => (typeof one === 'number' ? one : named[one]));
          const count = Math.max(1, Math.min(sectors, Math.floor((gfns.length * 4096 - start) / 512)));
          const touched = frames.slice(start >>> 12, Math.ceil((start + count * 512) / 4096));
          const status = dev.device.submit(op, 0, gfns, start, count, cookie);
          if (status === 0) taken.push(cookie);
          else if (status !== ERRNO.EBUSY) {
            expect(status).toBe(ERRNO.EINVAL);
            expect(start + count * 512 > gfns.length * 4096 || touched.some((one) => one !== 'page' && one !== 'leaving')).toBe(true);
          }
        });
        world.time.settle();
        gone.add(leaving);
        back.hold = false;
        back.release();
        world.time.run(1000);
        expect([...done.keys()].sort()).toEqual(taken);
        for (const [cookie, statuses] of done) {
          expect(statuses).toHaveLength(1);
          const { op, frames } = asked[cookie]!;
          const data = op === OP.READ || op === OP.WRITE || op === OP.WRITE_FUA;
          expect(statuses[0] === 0 || (data && frames.some((one) => one !== 'page'))).toBe(true);
        }
        expect(dev.device.busy).toBe(0);
        await settled(world, dev.close());
        for (const gfn of [page, given, leaving]) world.pages.free(gfn);
        expect(world.leaks()).toEqual(noLeaks);
      },
    ),
    { numRuns: runs },
  );
});
