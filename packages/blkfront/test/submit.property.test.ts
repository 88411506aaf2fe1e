import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BlockDevice, ERRNO, OP } from '../src/index.ts';
import type { World } from '../src/testing.ts';
import { connected } from './fixture.ts';

const SECTORS = 64;
const PAGES = 3;
const runs = process.env['PARAVIRT_FULL'] === undefined ? 1000 : 10_000;

interface Request {
  op: number;
  sector: number;
  start: number;
  count: number;
}

const near = (...edges: number[]): fc.Arbitrary<number> =>
  fc.tuple(fc.constantFrom(...edges), fc.constantFrom(-8, -1, -0.5, 0, 0, 0, 0.5, 1, 8)).map(([edge, by]) => edge + by);
/** Mostly what is allowed, so that one argument at a time is at its edge. */
const mostly = (fine: fc.Arbitrary<number>, rest: fc.Arbitrary<number>): fc.Arbitrary<number> =>
  fc.oneof({ weight: 4, arbitrary: fine }, { weight: 1, arbitrary: rest });
const request: fc.Arbitrary<Request> = fc.record({
  op: mostly(fc.constantFrom(OP.READ, OP.WRITE), fc.constantFrom(OP.WRITE_FUA, 9, -1, 0.5)),
  sector: mostly(
    fc.nat(SECTORS - 1),
    fc.oneof(near(0, SECTORS - 8, SECTORS), fc.constantFrom(2 ** 31, 2 ** 32, 2 ** 53, Number.NaN, Infinity)),
  ),
  start: mostly(
    fc.nat(PAGES * 8).map((sector) => sector * 512),
    fc.oneof(near(0, 512, 4096, PAGES * 4096), fc.nat(PAGES * 4096), fc.constantFrom(2 ** 31, 2 ** 32, Number.NaN)),
  ),
  count: mostly(fc.integer({ min: 1, max: 8 }), fc.oneof(near(0, 1, 8, 16), fc.constantFrom(2 ** 31, 2 ** 32, Number.NaN))),
});

/** The rules, each by itself. */
function allowed({ op, sector, start, count }: Request, sectorBytes: number, readonly: boolean): number {
  const whole = sectorBytes / 512;
  if (!Number.isInteger(sector) || !Number.isInteger(count) || sector < 0 || count < 1) return ERRNO.EINVAL;
  if (sector + count > SECTORS || sector % whole !== 0 || count % whole !== 0) return ERRNO.EINVAL;
  if (op !== OP.READ && readonly) return ERRNO.EROFS;
  if (op !== OP.READ && op !== OP.WRITE && op !== OP.WRITE_FUA) return ERRNO.EINVAL;
  if (!Number.isInteger(start) || start < 0 || start + count * 512 > PAGES * 4096) return ERRNO.EINVAL;
  return 0;
}

const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);

/** Submits one request into pages of a known pattern and says what came of it. */
function once(
  world: World,
  dev: BlockDevice,
  gfns: number[],
  { op, sector, start, count }: Request,
): { submitted: number; done: number[] } {
  const done: number[] = [];
  dev.device.onDone = (_cookie, status) => done.push(status);
  const submitted = dev.device.submit(op, sector, gfns, start, count, 1);
  world.time.settle();
  return { submitted, done };
}

/**
 * Goal: what one page takes goes a shorter way than other requests, and nobody can tell: the same refusals, the same bytes.
 * Method: requests at the edges of every argument, against the rules one by one and a plain copy of the disk.
 */
describe('submit at its edges', () => {
  it(`refuses what the rules refuse and moves the right bytes otherwise: ${runs} requests`, { timeout: 300_000 }, () => {
    fc.assert(
      fc.property(
        request,
        fc.constantFrom(512, 512, 4096),
        fc.constantFrom(false, false, true),
        fc.boolean(),
        fc.boolean(),
        fc.boolean(),
        (asked, sectorBytes, readonly, persistent, trusted, pinned) => {
          const { world, back, dev } = connected(
            { persistent },
            { sectors: SECTORS, sectorBytes, persistent, trusted, flush: true, info: readonly ? 4 : 0 },
          );
          for (let i = 0; i < back.disk.length; i++) back.disk[i] = (i * 7 + (i >>> 9)) & 0xff;
          const before = back.disk.slice();
          const gfns: number[] = pinned ? [...dev.allocBuffer(PAGES).gfns] : Array.from({ length: PAGES }, () => world.page());
          const pageOf = (i: number): Uint8Array => {
            const { views, offset } = world.pages.frame(gfns[i] as Parameters<typeof world.pages.frame>[0]);
            return views.u8.subarray(offset, offset + 4096);
          };
          gfns.forEach((_, i) => void pageOf(i).fill(0xa0 + i));
          const { submitted, done } = once(world, dev, gfns, asked);
          expect(submitted).toBe(allowed(asked, sectorBytes, readonly));
          expect(done).toEqual(submitted === 0 ? [0] : []);
          const memory = new Uint8Array(PAGES * 4096);
          gfns.forEach((_, i) => void memory.set(pageOf(i), i * 4096));
          const expected = new Uint8Array(PAGES * 4096);
          for (let i = 0; i < PAGES; i++) expected.fill(0xa0 + i, i * 4096, i * 4096 + 4096);
          const { op, sector, start, count } = asked;
          if (submitted === 0 && op === OP.READ) expected.set(before.subarray(sector * 512, (sector + count) * 512), start);
          if (submitted === 0 && op !== OP.READ) before.set(expected.subarray(start, start + count * 512), sector * 512);
          expect(same(memory, expected)).toBe(true);
          expect(same(back.disk, before)).toBe(true);
        },
      ),
      { numRuns: runs },
    );
  });
});
