import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlkfrontError } from '../src/index.ts';
import { connected, noLeaks } from './fixture.ts';

const SECTORS = 512;
const runs = process.env['PARAVIRT_FULL'] === undefined ? 60 : 2000;

type Step =
  | { kind: 'write' | 'read' | 'discard' | 'zero'; sector: number; count: number; value: number; fua: boolean }
  | { kind: 'flush' | 'suspend' | 'die' | 'restart' | 'reconnect' | 'settle' }
  | { kind: 'resize'; sectors: number }
  | { kind: 'fail'; every: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constantFrom('write' as const, 'read' as const, 'discard' as const, 'zero' as const),
      sector: fc.nat(SECTORS - 1),
      count: fc.integer({ min: 1, max: 200 }),
      value: fc.integer({ min: 1, max: 255 }),
      fua: fc.boolean(),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'flush' as const,
        'suspend' as const,
        'die' as const,
        'restart' as const,
        'reconnect' as const,
        'settle' as const,
      ),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('resize' as const), sectors: fc.integer({ min: 64, max: SECTORS }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('fail' as const), every: fc.integer({ min: 0, max: 9 }) }) },
);

/**
 * Goal: the device is an array of sectors, whatever happens between a request and its answer.
 * Method: random steps against a plain array. Requests that may overlap one another under way are settled first, so that the array
 * says what must be read; one that failed leaves each of its sectors either as it was or as it was to be.
 */
describe('a block device against an array of sectors', () => {
  it(`completes every request once with the right bytes or an error, and leaves nothing: ${runs} schedules`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.boolean(), fc.boolean(), async (steps, persistent, trusted) => {
        const { world, back, dev } = connected(
          { persistent, maxSegments: 32, ringPages: 2, queues: 2 },
          { sectors: SECTORS, persistent, trusted, indirect: 32, flush: true, barrier: true, discard: true, maxQueues: 2, maxRingOrder: 1 },
          { pages: 1024, grants: 2048 },
        );
        back.disk.fill(0);
        // By sector: the byte it must hold, or the bytes it may hold after a failure.
        const model: (number | Set<number>)[] = new Array(SECTORS).fill(0);
        const under: { from: number; to: number; done: Promise<unknown> }[] = [];
        let open = 0;
        let completed = 0;
        let asked = 0;
        let served = 0;
        let every = 0;
        back.fail = () => every > 0 && ++served % every === 0;
        const drive = async (): Promise<void> => {
          for (let i = 0; i < 20_000 && open > 0; i++) {
            world.time.settle();
            for (let turn = 0; turn < 4; turn++) await Promise.resolve();
            if (open > 0 && !world.time.step()) for (let turn = 0; turn < 16; turn++) await Promise.resolve();
          }
          expect(open).toBe(0);
          under.length = 0;
        };
        const track = (
          from: number,
          to: number,
          promise: Promise<unknown>,
          then: (error: BlkfrontError | null, value: unknown) => void,
        ): void => {
          open++;
          asked++;
          let times = 0;
          const over = (error: BlkfrontError | null, value: unknown): void => {
            expect(++times).toBe(1);
            completed++;
            open--;
            then(error, value);
          };
          under.push({
            from,
            to,
            done: promise.then(
              (value) => over(null, value),
              (error: unknown) => {
                if (!(error instanceof BlkfrontError)) throw error;
                over(error, undefined);
              },
            ),
          });
        };
        const apart = async (from: number, to: number): Promise<void> => {
          if (under.some((other) => from < other.to && other.from < to)) await drive();
        };
        for (const s of steps) {
          switch (s.kind) {
            case 'write':
            case 'zero':
            case 'discard': {
              const to = Math.min(SECTORS, s.sector + s.count);
              await apart(s.sector, to);
              const value = s.kind === 'write' ? s.value : 0;
              const bytes = new Uint8Array((to - s.sector) * 512).fill(value);
              const promise =
                s.kind === 'write'
                  ? dev.write(s.sector, bytes, { fua: s.fua })
                  : s.kind === 'zero'
                    ? dev.writeZeroes(s.sector, to - s.sector)
                    : dev.discard(s.sector, to - s.sector);
              track(s.sector, to, promise, (error) => {
                for (let i = s.sector; i < to; i++) {
                  if (error === null) model[i] = value;
                  else if (error.refusal.code !== 'out-of-range') {
                    const before = model[i]!;
                    model[i] = new Set([...(typeof before === 'number' ? [before] : before), value]);
                  }
                }
              });
              break;
            }
            case 'read': {
              const to = Math.min(SECTORS, s.sector + s.count);
              await apart(s.sector, to);
              track(s.sector, to, dev.read(s.sector, (to - s.sector) * 512), (error, value) => {
                if (error !== null) return;
                const bytes = value as Uint8Array;
                for (let i = s.sector; i < to; i++) {
                  const byte = bytes[(i - s.sector) * 512]!;
                  const want = model[i]!;
                  expect(typeof want === 'number' ? byte === want : want.has(byte), `sector ${i}`).toBe(true);
                  expect(bytes[(i - s.sector) * 512 + 511]).toBe(byte);
                }
              });
              break;
            }
            case 'flush':
              track(0, 0, dev.flush(), () => undefined);
              break;
            case 'settle':
              world.time.settle(20);
              break;
            case 'suspend':
              if (dev.state !== 'connected') break;
              dev.device.suspend();
              dev.device.resume(s.kind === 'suspend' && asked % 2 === 0);
              break;
            case 'die':
              if (dev.state !== 'connected') break;
              back.die();
              world.time.settle();
              back.revive();
              break;
            case 'restart':
              if (dev.state === 'connected') back.say(5);
              break;
            case 'reconnect':
              track(0, SECTORS, dev.close(), () => undefined);
              await drive();
              track(0, SECTORS, dev.connect(), () => undefined);
              await drive();
              break;
            case 'resize':
              await drive();
              if (dev.state === 'connected') back.resize(s.sectors);
              world.time.settle();
              break;
            case 'fail':
              every = s.every === 1 ? 0 : s.every;
              break;
          }
        }
        await drive();
        expect(completed).toBe(asked);
        track(0, 0, dev.close(), () => undefined);
        await drive();
        world.time.run(5000);
        expect(back.errors).toEqual([]);
        expect(world.leaks()).toEqual(noLeaks);
      }),
      { numRuns: runs },
    );
  }, 900_000);
});
