import type { Gfn } from '@paravirt/event-bus/contract';
import type { BlockDevice } from '../block-device.ts';
import { ERRNO } from '../errors.ts';
import { type BlkfrontOptions, OP } from '../types.ts';

/** One way in which the two ends can be set up. */
export interface Combination {
  readonly queues: number;
  readonly ringPages: number;
  /** 0: direct requests only. */
  readonly indirect: number;
  readonly persistent: boolean;
  readonly trusted: boolean;
  readonly sectorBytes: 512 | 4096;
  readonly protocol: 'x86_64-abi' | 'x86_32-abi';
}

/** All 128 of them. */
export function combinations(): Combination[] {
  const all: Combination[] = [];
  for (const queues of [1, 4])
    for (const ringPages of [1, 16])
      for (const indirect of [0, 256])
        for (const persistent of [false, true])
          for (const trusted of [true, false])
            for (const sectorBytes of [512, 4096] as const)
              for (const protocol of ['x86_64-abi', 'x86_32-abi'] as const) {
                all.push({ queues, ringPages, indirect, persistent, trusted, sectorBytes, protocol });
              }
  return all;
}

/** Sixteen of them, among which every choice of any three of the seven settings occurs. */
export function coveringCombinations(): Combination[] {
  return combinations().filter((c) => {
    const a = c.queues > 1;
    const b = c.ringPages > 1;
    const d = c.persistent;
    const i = c.indirect > 0;
    const odd = (...bits: boolean[]): boolean => bits.filter((bit) => bit).length % 2 === 1;
    return c.trusted === odd(a, b, i) && (c.sectorBytes === 4096) === odd(a, b, d) && (c.protocol === 'x86_32-abi') === odd(a, i, d);
  });
}

/** A combination in words, for a test's title. */
export function describeCombination(c: Combination): string {
  return `${c.queues} queue${c.queues > 1 ? 's' : ''}, ${c.ringPages} ring page${c.ringPages > 1 ? 's' : ''}, ${c.indirect > 0 ? 'indirect' : 'direct'}, ${c.persistent ? 'persistent' : 'map and unmap'}, ${c.trusted ? 'trusted' : 'untrusted'}, ${c.sectorBytes}, ${c.protocol}`;
}

/** The frontend's options for a combination. */
export function optionsFor(c: Combination): BlkfrontOptions {
  return {
    device: 51712,
    queues: c.queues,
    ringPages: c.ringPages,
    maxSegments: c.indirect > 0 ? c.indirect : 11,
    persistent: c.persistent,
    protocol: c.protocol,
  };
}

/** A connected frontend, its disk of 8192 sectors of 512 bytes (all zero), and what the suite may do to them. */
export interface SuiteRig {
  readonly dev: BlockDevice;
  /** Runs the machine until the promise has settled. */
  settled<T>(promise: Promise<T>): Promise<T>;
  /** Runs the machine until there is nothing to do but wait for timers. */
  run(): void;
  /** Lets so much virtual time pass. */
  pass(ticks: number): void;
  /** A copy of the disk's bytes. */
  disk(offset: number, bytes: number): Uint8Array;
  /** A fresh page of the guest, the test's own. */
  page(): Gfn;
  /** The 4096 bytes of such a page, in place. */
  bytes(gfn: Gfn): Uint8Array;
  /** Gives pages of `page` back. */
  freePages(): void;
  /** Gives the disk another size; sectors of 512 bytes. */
  resize(sectors: number): void;
  /** The toolstack detaches the device. */
  detach(): void;
  /** Stops the backend from answering, until `answer`. */
  hold(): void;
  /** Lets the backend answer again, beginning with what it held. */
  answer(): void;
  /** What is left on either side, by name: empty after an orderly end. */
  leftovers(): readonly string[];
}

/** The test tools of the caller: vitest's, or any of that shape. */
export interface SuiteTools {
  /** Makes a group of tests. */
  describe(name: string, body: () => void): void;
  /** Makes a test, which fails when its body throws or rejects. */
  it(name: string, body: () => Promise<void> | void): void;
  /** Begins an assertion, which throws when it does not hold. */
  expect(
    actual: unknown,
    message?: string,
  ): {
    /** The same value. */
    toBe(expected: unknown): void;
    /** Equal in every part. */
    toEqual(expected: unknown): void;
    /** Equal in the parts named. */
    toMatchObject(expected: object): void;
  };
}

const DISK_SECTORS = 8192;

function pattern(bytes: number, seed: number): Uint8Array {
  const out = new Uint8Array(bytes);
  let x = (Math.imul(seed, 0x9e37_79b1) | 1) >>> 0;
  for (let i = 0; i < bytes; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    out[i] = x & 0xff;
  }
  return out;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

async function refusalOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'none';
  } catch (error) {
    return (error as { refusal?: { code: string } }).refusal?.code ?? String(error);
  }
}

/**
 * What every backend that this frontend is to work with must pass, in one combination.
 * @param make a rig of the combination, connected, fresh for every test.
 */
export function blkfrontSuite(tools: SuiteTools, c: Combination, make: (c: Combination) => SuiteRig): void {
  const { describe, it, expect } = tools;
  const granule = c.sectorBytes / 512;
  describe(describeCombination(c), () => {
    it('agrees on the transport, moves transfers of any length whole and leaves nothing when it closes', async () => {
      const rig = make(c);
      const { dev } = rig;
      expect(dev.info).toMatchObject({
        sectors: DISK_SECTORS,
        sectorBytes: c.sectorBytes,
        queues: c.queues,
        ringPages: c.ringPages,
        indirect: c.indirect > 0,
        persistent: c.persistent,
        trusted: c.trusted,
        protocol: c.protocol,
      });
      const lengths = [granule, 8, 16 + granule, 11 * 8, 12 * 8, 40 * 8, 300 * 8].map((n) => Math.ceil(n / granule) * granule);
      let sector = granule * 3;
      for (const [i, length] of lengths.entries()) {
        const data = pattern(length * 512, i + 1);
        await rig.settled(dev.write(sector, data));
        expect(same(rig.disk(sector * 512, data.length), data), `disk after ${length} sectors`).toBe(true);
        expect(same(await rig.settled(dev.read(sector, data.length)), data), `read of ${length} sectors`).toBe(true);
        sector += length;
      }
      await rig.settled(dev.close());
      expect(rig.leftovers()).toEqual([]);
    });

    it('reaches buffers at any byte of a page and touches nothing beside them', async () => {
      const rig = make(c);
      const { dev } = rig;
      const { device } = dev;
      const done: number[] = [];
      device.onDone = (cookie, status) => done.push(cookie, status);
      const data = pattern(3 * 4096, 9);
      await rig.settled(dev.write(8, data));
      const gfns = [rig.page(), rig.page(), rig.page(), rig.page()];
      for (const start of [0, 512, 4096 - 512, 1, 777, 4095]) {
        for (const gfn of gfns) rig.bytes(gfn).fill(0xee);
        expect(device.submit(OP.READ, 8, gfns, start, 16, start)).toBe(0);
        rig.run();
        expect(done.splice(0)).toEqual([start, 0]);
        const all = new Uint8Array(4 * 4096);
        gfns.forEach((gfn, i) => void all.set(rig.bytes(gfn), i * 4096));
        expect(same(all.subarray(start, start + 8192), data.subarray(0, 8192)), `bytes read at ${start}`).toBe(true);
        expect(
          all.every((byte, i) => (i >= start && i < start + 8192) || byte === 0xee),
          `bytes beside ${start}`,
        ).toBe(true);
        // Back onto another place of the disk, from the same bytes.
        expect(device.submit(OP.WRITE, 512, gfns, start, 16, start)).toBe(0);
        rig.run();
        expect(done.splice(0)).toEqual([start, 0]);
        expect(same(rig.disk(512 * 512, 8192), data.subarray(0, 8192)), `bytes written from ${start}`).toBe(true);
      }
      await rig.settled(dev.close());
      rig.freePages();
      expect(rig.leftovers()).toEqual([]);
    });

    it('fills every slot of every queue, says when there is room again and completes each request once', async () => {
      const rig = make(c);
      const { dev } = rig;
      const { device } = dev;
      const counts = new Map<number, number>();
      device.onDone = (cookie, status) => void counts.set(cookie, (counts.get(cookie) ?? 0) + (status === 0 ? 1 : 1000));
      const gfn = [rig.page()];
      let told = 0;
      device.onRoom(() => told++);
      rig.hold();
      let taken = 0;
      for (let queue = 0; queue < c.queues; queue++) {
        let status = 0;
        while (status === 0) {
          status = device.submit(OP.READ, (taken % 64) * 8, gfn, 0, 8, taken, queue);
          if (status === 0) taken++;
        }
        expect(status).toBe(ERRNO.EBUSY);
      }
      expect(taken).toBe(dev.info!.slots * c.queues);
      rig.run();
      expect(counts.size).toBe(0);
      rig.answer();
      rig.run();
      expect(counts.size).toBe(taken);
      expect([...counts.values()].every((times) => times === 1)).toBe(true);
      expect(told >= c.queues).toBe(true);
      expect(device.busy).toBe(0);
      await rig.settled(dev.close());
      rig.freePages();
      expect(rig.leftovers()).toEqual([]);
    });

    it('refuses what the disk cannot do, with a reason and without a trace', async () => {
      const rig = make(c);
      const { dev } = rig;
      const { device } = dev;
      const gfn = [rig.page()];
      const before = device.figures.map((queue) => queue.requests);
      const refused = [
        device.submit(OP.READ, DISK_SECTORS, gfn, 0, granule, 1),
        device.submit(OP.READ, DISK_SECTORS - granule, gfn, 0, granule * 2, 1),
        device.submit(OP.READ, -granule, gfn, 0, granule, 1),
        device.submit(OP.READ, Number.NaN, gfn, 0, granule, 1),
        device.submit(OP.READ, 2 ** 53, gfn, 0, granule, 1),
        device.submit(OP.READ, 0, gfn, 0, 0, 1),
        device.submit(OP.READ, 0, gfn, 0, 0.5, 1),
        device.submit(OP.READ, 0, gfn, 512, 8, 1),
        device.submit(OP.READ, 0, gfn, -1, granule, 1),
        device.submit(OP.READ, 0, null, 0, granule, 1),
        device.submit(99, 0, gfn, 0, granule, 1),
        ...(granule > 1 ? [device.submit(OP.READ, 1, gfn, 0, granule, 1), device.submit(OP.READ, 0, gfn, 0, 1, 1)] : []),
      ];
      expect(refused.every((status) => status === ERRNO.EINVAL)).toBe(true);
      expect(device.figures.map((queue) => queue.requests)).toEqual(before);
      expect(await refusalOf(dev.read(DISK_SECTORS, c.sectorBytes))).toBe('out-of-range');
      expect(await refusalOf(dev.read(0, 100))).toBe('bad-argument');
      expect(await refusalOf(dev.write(-1, new Uint8Array(c.sectorBytes)))).toBe('bad-argument');
      expect(await refusalOf(dev.discard(0, DISK_SECTORS + 8))).toBe('out-of-range');
      await rig.settled(dev.close());
      rig.freePages();
      expect(rig.leftovers()).toEqual([]);
    });

    it('flushes, writes durably, discards and writes zeroes', async () => {
      const rig = make(c);
      const { dev } = rig;
      const data = pattern(64 * 4096, 3);
      await rig.settled(dev.write(0, data, { fua: true }));
      await rig.settled(dev.flush());
      expect(same(rig.disk(0, data.length), data)).toBe(true);
      await rig.settled(dev.writeZeroes(8, 40 * 8));
      const zeroed = data.slice();
      zeroed.fill(0, 4096, 41 * 4096);
      expect(same(rig.disk(0, data.length), zeroed)).toBe(true);
      if (dev.info!.discard) {
        await rig.settled(dev.discard(48 * 8, 8 * 8));
        expect(same(rig.disk(0, 48 * 4096), zeroed.subarray(0, 48 * 4096)), 'before the discard').toBe(true);
        expect(same(rig.disk(56 * 4096, 8 * 4096), zeroed.subarray(56 * 4096)), 'after the discard').toBe(true);
      }
      await rig.settled(dev.close());
      expect(rig.leftovers()).toEqual([]);
    });

    it('walks long ranges piece by piece', async () => {
      const rig = make(c);
      const { dev } = rig;
      const data = pattern(1 << 20, 5);
      const pieces = function* (): Iterable<Uint8Array> {
        for (let at = 0; at < data.length; at += 48 * 1024) yield data.subarray(at, at + 48 * 1024);
      };
      expect(await rig.settled(dev.writeRange(1024, pieces()))).toBe(data.length);
      const back = new Uint8Array(data.length);
      const walk = async (): Promise<void> => {
        for await (const { sector, bytes } of dev.readRange(1024, data.length / 512, { chunkBytes: 40 * 1024, depth: 3 })) {
          back.set(bytes, (sector - 1024) * 512);
        }
      };
      await rig.settled(walk());
      expect(same(back, data)).toBe(true);
      await rig.settled(dev.close());
      expect(rig.leftovers()).toEqual([]);
    });

    it('follows a resize while it is connected', async () => {
      const rig = make(c);
      const { dev } = rig;
      expect(await refusalOf(dev.read(DISK_SECTORS, 4096))).toBe('out-of-range');
      rig.resize(DISK_SECTORS * 2);
      rig.run();
      expect(dev.info!.sectors).toBe(DISK_SECTORS * 2);
      const data = pattern(4096, 6);
      await rig.settled(dev.write(DISK_SECTORS, data));
      expect(same(rig.disk(DISK_SECTORS * 512, 4096), data)).toBe(true);
      await rig.settled(dev.close());
      expect(rig.leftovers()).toEqual([]);
    });

    it('issues again, once, what was under way when the domain was suspended', async () => {
      const rig = make(c);
      const { dev } = rig;
      const data = pattern(20 * 4096, 7);
      rig.hold();
      const write = dev.write(64, data);
      const read = dev.read(0, 4096);
      rig.run();
      dev.device.suspend();
      rig.answer();
      dev.device.resume();
      await rig.settled(Promise.all([write, read]));
      expect(dev.state).toBe('connected');
      expect(same(rig.disk(64 * 512, data.length), data)).toBe(true);
      expect(same(await rig.settled(dev.read(64, data.length)), data)).toBe(true);
      await rig.settled(dev.close());
      // What the old connection left mapped is ended by and by.
      rig.pass(5000);
      expect(rig.leftovers()).toEqual([]);
    });

    it('goes when the backend goes', async () => {
      const rig = make(c);
      const { dev } = rig;
      await rig.settled(dev.write(0, pattern(8192, 8)));
      rig.detach();
      rig.run();
      expect(dev.state).toBe('closed');
      expect(await refusalOf(dev.read(0, 4096))).toBe('gone');
      expect(rig.leftovers()).toEqual([]);
    });
  });
}
