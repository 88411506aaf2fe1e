import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ERRNO } from '@paravirt/blkfront';
import {
  corruptFilter,
  cowDisk,
  createRandom,
  type Disk,
  delayFilter,
  diskFaults,
  errorFilter,
  memoryDisk,
  statsFilter,
  tornFilter,
  volatileCacheFilter,
} from '@paravirt/hv-sim';
import { cowFileDisk, fileDisk, sparseDisk } from '@paravirt/hv-sim/node';
import { afterAll, describe, expect, it } from 'vitest';
import { Stack } from './blkfront-stack.ts';

const FULL = process.env['PARAVIRT_FULL'] !== undefined;
const MIB = 1 << 20;
const folder = mkdtempSync(join(tmpdir(), 'e2e-blkback-'));
afterAll(() => rmSync(folder, { recursive: true }));
let names = 0;
const file = (bytes?: Uint8Array): string => {
  const path = join(folder, `image-${names++}`);
  if (bytes !== undefined) writeFileSync(path, bytes);
  return path;
};
const pattern = (bytes: number, seed = 1): Uint8Array => {
  const random = createRandom(seed);
  return Uint8Array.from({ length: bytes }, () => random.next() & 0xff);
};
const connected = async (disk: Disk, front = {}): Promise<Stack> => {
  const stack = new Stack({ wrap: () => disk, front });
  await stack.settled(stack.dev.connect());
  return stack;
};
const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
const gone = async (stack: Stack): Promise<void> => {
  await stack.settled(stack.dev.close());
  stack.dev.destroy();
  expect(stack.leftovers()).toEqual([]);
};

describe('bytes that a guest writes', () => {
  const kinds: [string, (path: string) => Disk][] = [
    ['a raw file', (path) => fileDisk({ path })],
    ['a sparse file', (path) => sparseDisk({ path })],
  ];
  for (const [what, open] of kinds) {
    it(`reach ${what}, and are there when the disk is closed`, async () => {
      const path = file(new Uint8Array(4 * MIB));
      const disk = open(path);
      const stack = await connected(disk);
      const bytes = pattern(MIB + 4096 + 512);
      await stack.settled(stack.dev.write(3, bytes));
      await stack.settled(stack.dev.flush());
      expect(same((await stack.settled(stack.dev.read(3, bytes.length))) as Uint8Array, bytes)).toBe(true);
      await gone(stack);
      disk.close();
      expect(same(readFileSync(path).subarray(3 * 512, 3 * 512 + bytes.length), bytes)).toBe(true);
    });
  }

  it('stay beside a file that they are written over', async () => {
    const original = pattern(MIB);
    const path = file(original);
    const disk = cowFileDisk({ path });
    const stack = await connected(disk);
    const bytes = pattern(8192, 2);
    await stack.settled(stack.dev.write(16, bytes));
    const seen = (await stack.settled(stack.dev.read(0, MIB))) as Uint8Array;
    const model = Uint8Array.from(original);
    model.set(bytes, 8192);
    expect(same(seen, model)).toBe(true);
    await gone(stack);
    disk.close();
    expect(same(readFileSync(path), original)).toBe(true);
  });

  it('take the time that the disk takes, and no more doorbells than batches', async () => {
    let scheduler: Stack['dom0']['scheduler'] | undefined;
    const late = {
      now: () => scheduler!.now(),
      schedule: (...args: Parameters<NonNullable<typeof scheduler>['schedule']>) => scheduler!.schedule(...args),
    };
    const disk = delayFilter(memoryDisk({ sizeBytes: 4 * MIB }), { scheduler: late as never, ticks: 2 });
    const stack = new Stack({ wrap: () => disk });
    scheduler = stack.dom0.scheduler;
    await stack.settled(stack.dev.connect());
    const began = stack.machine.now;
    await stack.settled(Promise.all(Array.from({ length: 32 }, (_, i) => stack.dev.read(i * 8, 4096))));
    expect(stack.machine.now - began).toBe(2);
    const { counters } = stack.host.blkback;
    expect(counters.doorbellsOut).toBeLessThanOrEqual(3);
    await gone(stack);
  });
});

describe('filters between the guest and the disk', () => {
  it('fail what they are told to, which the guest sees as EIO and nothing else', async () => {
    const disk = errorFilter(memoryDisk({ sizeBytes: MIB }), {
      rules: [
        { op: 'read', offset: 8192, bytes: 512, times: 1 },
        { op: 'write', atReach: 2, errno: 28 },
      ],
    });
    const stack = await connected(disk);
    await expect(stack.settled(stack.dev.read(0, 65536))).rejects.toMatchObject({ refusal: { errno: ERRNO.EIO } });
    await stack.settled(stack.dev.read(0, 65536));
    await stack.settled(stack.dev.write(0, new Uint8Array(512)));
    await expect(stack.settled(stack.dev.write(0, new Uint8Array(512)))).rejects.toMatchObject({ refusal: { errno: ERRNO.EIO } });
    await stack.settled(stack.dev.write(0, new Uint8Array(512)));
    expect(diskFaults(disk).map(({ fired }) => fired)).toEqual([1, 1]);
    await gone(stack);
  });

  it('corrupt and tear without a word', async () => {
    const inner = memoryDisk({ sizeBytes: MIB });
    const torn = tornFilter(inner, { rules: [{ op: 'write' }], random: createRandom(1) });
    const disk = corruptFilter(torn, { rules: [{ op: 'read' }], random: createRandom(2) });
    const stack = await connected(disk);
    const bytes = new Uint8Array(8192).fill(0xff);
    await stack.settled(stack.dev.write(0, bytes));
    const first = (await stack.settled(stack.dev.read(0, 8192))) as Uint8Array;
    const second = (await stack.settled(stack.dev.read(0, 8192))) as Uint8Array;
    expect(same(first, second)).toBe(false);
    expect(second.includes(0)).toBe(true);
    expect(second.every((byte) => byte === 0 || byte === 0xff)).toBe(true);
    await gone(stack);
  });

  it('count what blkback counts', async () => {
    const stats = statsFilter(cowDisk({ base: memoryDisk({ sizeBytes: 4 * MIB }) }));
    const stack = await connected(stats);
    await stack.settled(stack.dev.write(0, new Uint8Array(MIB)));
    await stack.settled(stack.dev.read(100, 10 * 512));
    await stack.settled(stack.dev.flush());
    await stack.settled(stack.dev.discard(0, 64));
    const { counters } = stack.host.blkback;
    const { read, write, flush, discard } = stats.stats;
    expect([read.bytes, write.bytes, discard.bytes]).toEqual([counters.bytesRead, counters.bytesWritten, counters.bytesDiscarded]);
    expect(read.calls + write.calls).toBe(counters.diskCalls);
    expect([flush.calls, discard.calls]).toEqual([counters.flushes + counters.barriers, counters.discards]);
    await gone(stack);
  });
});

describe('a power cut under a guest', () => {
  const cuts = FULL ? 200 : 25;
  /**
   * Goal: what the guest flushed is there after a cut; a sector that it wrote since holds one of its versions.
   * Method: seeded writes, FUA writes and flushes by the real driver, several at once, a cut after a random number of them.
   */
  it(`keeps everything that was flushed, in ${cuts} seeded cuts`, async () => {
    for (let seed = 0; seed < cuts; seed++) {
      const random = createRandom(seed);
      const inner = memoryDisk({ sizeBytes: 64 * 512 });
      const disk = volatileCacheFilter(inner, { random, cacheBytes: seed % 2 === 0 ? 1 << 20 : 8192 });
      const stack = new Stack({ wrap: () => disk, guestPages: 512, front: { persistent: seed % 3 === 0 } });
      await stack.settled(stack.dev.connect());
      const versions: number[][] = Array.from({ length: 64 }, () => [0]);
      const rounds = 1 + random.below(20);
      let stamp = 0;
      for (let round = 0; round < rounds; round++) {
        const first = random.below(64);
        const count = 1 + random.below(Math.min(12, 64 - first));
        const kind = random.below(4);
        if (kind === 0) {
          await stack.settled(stack.dev.flush());
          for (const list of versions) list.splice(0, list.length - 1);
          continue;
        }
        stamp = (stamp % 250) + 1;
        const bytes = new Uint8Array(count * 512).fill(stamp);
        await stack.settled(stack.dev.write(first, bytes, { fua: kind === 1 }));
        for (let sector = first; sector < first + count; sector++) {
          versions[sector]!.push(stamp);
          if (kind === 1) versions[sector]!.splice(0, versions[sector]!.length - 1);
        }
      }
      disk.powerCut();
      const after = new Uint8Array(64 * 512);
      const views = { u8: after, u16: new Uint16Array(after.buffer), u32: new Uint32Array(after.buffer) };
      inner.read(views, 0, 0, after.length, { done: () => {} });
      for (let sector = 0; sector < 64; sector++) expect(versions[sector]).toContain(after[sector * 512]);
    }
  });
});
