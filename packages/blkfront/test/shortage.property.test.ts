import fc from 'fast-check';
import { expect, it } from 'vitest';
import { OP } from '../src/index.ts';
import { connected, pattern } from './fixture.ts';

const PAGES = 40;
const SECTORS = 1280;

interface Asked {
  readonly op: 0 | 1 | 2 | 7;
  readonly page: number;
  readonly start: number;
  readonly count: number;
}

/**
 * Goal: the driver gets on as long as one reference or one page is left, and does not spin.
 * Method: requests of every length at once, each on its own sectors and frames, a table or a guest that is nearly empty, and a bound on
 * the steps of the world. A request that is refused is tried again after the next step.
 */
function run(requests: readonly Asked[], short: { references?: number; pages?: number; poolRefs: number; persistent: boolean }): void {
  const { references, pages, poolRefs, persistent } = short;
  const name = JSON.stringify({ requests, ...short });
  const { world, back, dev } = connected(
    { persistent, poolRefs, maxSegments: 32 },
    { persistent, indirect: 32, flush: true, sectors: SECTORS },
    // One reference goes to the ring, and the rest of the table to somebody else.
    references === undefined ? {} : { grants: 8 + 1 + references },
  );
  const all = requests.map((asked, cookie) => {
    const frames = Array.from({ length: PAGES }, () => world.page());
    const data = pattern(PAGES * 4096, cookie + 5);
    for (const [i, gfn] of frames.entries()) world.bytes(gfn).set(data.subarray(i * 4096, i * 4096 + 4096));
    return { ...asked, cookie, sector: cookie * 320, frames, data };
  });
  if (pages !== undefined) {
    const taken = [];
    for (let gfn = world.pages.alloc(); gfn !== undefined; gfn = world.pages.alloc()) taken.push(gfn);
    for (const gfn of taken.slice(0, pages)) world.pages.free(gfn);
  }
  for (let i = 0; i < back.disk.length; i++) back.disk[i] = (i * 7 + (i >>> 9)) & 0xff;
  const disk = back.disk.slice();
  const done = new Map<number, number>();
  dev.device.onDone = (cookie, status) => {
    expect(done.has(cookie)).toBe(false);
    done.set(cookie, status);
  };
  const waiting = [...all];
  for (let steps = 0; done.size < all.length && steps < 1000; steps++) {
    while (waiting.length > 0) {
      const { op, sector, frames, page, start, count, cookie } = waiting[0]!;
      const taken = dev.device.submit(op, sector, frames.slice(page), start, count, cookie);
      expect(taken === 0 || taken === -16, `submit answered ${taken}, ${name}`).toBe(true);
      if (taken !== 0) break;
      waiting.shift();
    }
    world.time.step();
  }
  expect([...done.values()], name).toEqual(all.map(() => 0));
  for (const { op, sector, frames, page, start, count, data } of all) {
    const from = page * 4096 + start;
    const want = data.slice();
    if (op === OP.READ) want.set(disk.subarray(sector * 512, (sector + count) * 512), from);
    else if (op === OP.WRITE_ZEROES) disk.fill(0, sector * 512, (sector + count) * 512);
    else disk.set(data.subarray(from, from + count * 512), sector * 512);
    const got = new Uint8Array(PAGES * 4096);
    for (const [i, gfn] of frames.entries()) got.set(world.bytes(gfn), i * 4096);
    expect(Buffer.compare(got, want), name).toBe(0);
  }
  expect(Buffer.compare(back.disk, disk), name).toBe(0);
  expect(back.errors).toEqual([]);
  expect(dev.device.busy).toBe(0);
}

const request: fc.Arbitrary<Asked> = fc.record({
  op: fc.constantFrom(OP.READ, OP.WRITE, OP.WRITE_FUA, OP.WRITE_ZEROES),
  page: fc.nat(3),
  start: fc.oneof(
    fc.nat(7).map((sector) => sector * 512),
    fc.nat(4095),
  ),
  count: fc.integer({ min: 1, max: 256 }),
});
const requests = fc.array(request, { minLength: 1, maxLength: 3, size: 'max' });
const long: Asked[] = [
  { op: OP.READ, page: 0, start: 0, count: 160 },
  { op: OP.READ, page: 0, start: 1000, count: 160 },
  { op: OP.WRITE, page: 1, start: 512, count: 160 },
  { op: OP.WRITE_ZEROES, page: 0, start: 0, count: 160 },
];
const numRuns = process.env['PARAVIRT_FULL'] === undefined ? 4 : 300;

for (const persistent of [false, true]) {
  const grants = persistent ? 'persistent grants' : 'grants of each request';

  it.each([0, 1, 11])(`gets on with as few references as one, ${grants}, a pool of %i`, (poolRefs) => {
    for (let references = 1; references <= 12; references++) {
      run(long, { references, poolRefs, persistent });
      fc.assert(
        fc.property(requests, (asked) => run(asked, { references, poolRefs, persistent })),
        { numRuns },
      );
    }
  });

  it.each([0, 1, 11])(`gets on with as few pages as one, ${grants}, a pool of %i`, (poolRefs) => {
    for (let pages = 1; pages <= 12; pages++) {
      // The page of zeroes stays, and is none that data could pass through.
      const fit = (asked: readonly Asked[]): Asked[] => asked.filter(({ op }) => persistent || pages > 1 || op !== OP.WRITE_ZEROES);
      run(fit(long), { pages, poolRefs, persistent });
      fc.assert(
        fc.property(requests, (asked) => run(fit(asked), { pages, poolRefs, persistent })),
        { numRuns },
      );
    }
  });
}
