import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  cowDisk,
  createMachine,
  createRandom,
  type Disk,
  delayFilter,
  LATER,
  type Machine,
  memoryDisk,
  statsFilter,
  volatileCacheFilter,
} from '../src/index.ts';

const FULL = process.env['PARAVIRT_FULL'] !== undefined;
const RUNS = FULL ? 1000 : 40;
const CUTS = FULL ? 2000 : 100;
const SECTORS = 256;
const BYTES = SECTORS * 512;

function views(bytes: number) {
  const buffer = new ArrayBuffer(bytes);
  return { u8: new Uint8Array(buffer), u16: new Uint16Array(buffer), u32: new Uint32Array(buffer) };
}

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('write' as const),
      sector: fc.nat(SECTORS - 1),
      sectors: fc.integer({ min: 1, max: 40 }),
      fua: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('read' as const),
      sector: fc.nat(SECTORS - 1),
      sectors: fc.integer({ min: 1, max: 40 }),
      fua: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('zero' as const),
      sector: fc.nat(SECTORS - 1),
      sectors: fc.integer({ min: 1, max: 90 }),
      fua: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('discard' as const),
      sector: fc.nat(SECTORS - 1),
      sectors: fc.integer({ min: 1, max: 90 }),
      fua: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('flush' as const), sector: fc.constant(0), sectors: fc.constant(1), fua: fc.boolean() }),
  },
);

const stacks: [string, (machine: Machine) => Disk][] = [
  ['memory', () => memoryDisk({ sizeBytes: BYTES })],
  ['memory in an area', () => memoryDisk({ sizeBytes: BYTES, area: { views: views(2 * BYTES), offset: 4096 } })],
  ['cow', () => cowDisk({ base: memoryDisk({ sizeBytes: BYTES }) })],
  [
    'cow over cow over delay',
    ({ scheduler }) => cowDisk({ base: cowDisk({ base: delayFilter(memoryDisk({ sizeBytes: BYTES }), { scheduler, ticks: 1 }) }) }),
  ],
  ['volatile cache', () => volatileCacheFilter(memoryDisk({ sizeBytes: BYTES }), { random: createRandom(1) })],
  ['a small volatile cache', () => volatileCacheFilter(memoryDisk({ sizeBytes: BYTES }), { random: createRandom(1), cacheBytes: 8192 })],
  [
    'stats over a small volatile cache over a disk that reorders',
    ({ scheduler }) => {
      const slow = delayFilter(memoryDisk({ sizeBytes: BYTES }), { scheduler, ticks: 1, jitterTicks: 9, random: createRandom(3) });
      return statsFilter(volatileCacheFilter(slow, { random: createRandom(1), cacheBytes: 16384 }));
    },
  ],
];

describe('any disk', () => {
  for (const [name, make] of stacks) {
    /** Goal: what is read is what was written last. Method: random calls, one at a time, against an array of bytes. */
    it(`reads what was written last, in ${RUNS} runs: ${name}`, () => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
          const machine = createMachine({ seed: 1, ramBytes: 1 << 20 });
          const disk = make(machine);
          const model = new Uint8Array(BYTES);
          const memory = views(64 * 512);
          let stamp = 0;
          for (const { op, sector, sectors, fua } of steps) {
            const offset = sector * 512;
            const bytes = Math.min(sectors, SECTORS - sector, 64) * 512;
            let told: number | undefined;
            const waiter = {
              done: (status: number) => {
                expect(told).toBeUndefined();
                told = status;
              },
            };
            let answer = 0;
            if (op === 'write') {
              for (let i = 0; i < bytes; i++) memory.u8[i] = stamp + i;
              stamp += 7;
              answer = disk.write(memory, 0, offset, bytes, waiter, fua);
              model.set(memory.u8.subarray(0, bytes), offset);
            } else if (op === 'read') {
              memory.u8.fill(0x77);
              answer = disk.read(memory, 0, offset, bytes, waiter);
            } else if (op === 'zero' || op === 'discard') {
              answer = op === 'zero' ? disk.writeZeroes(offset, bytes, waiter) : disk.discard(offset, bytes, fua, waiter);
              model.fill(0, offset, offset + bytes);
            } else answer = disk.flush(waiter);
            if (answer === LATER) {
              machine.run();
              expect(told).toBe(0);
            } else {
              expect(told).toBeUndefined();
              expect(answer).toBe(0);
            }
            if (op === 'read') expect(Buffer.compare(memory.u8.subarray(0, bytes), model.subarray(offset, offset + bytes))).toBe(0);
          }
        }),
        { numRuns: RUNS },
      );
    });
  }
});

describe('a power cut', () => {
  /**
   * Goal: what was flushed survives; what was not is, sector by sector, one of the versions since, or the flushed one.
   * Method: random writes, zeroing and flushes against a list of the versions that each sector may have.
   */
  it(`leaves of each sector a version not older than its last flush, in ${CUTS} cuts`, () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.nat(), fc.boolean(), (steps, seed, small) => {
        const inner = memoryDisk({ sizeBytes: BYTES });
        const disk = volatileCacheFilter(inner, { random: createRandom(seed), ...(small ? { cacheBytes: 20 * 512 } : {}) });
        const versions: number[][] = Array.from({ length: SECTORS }, () => [0]);
        const memory = views(64 * 512);
        const nobody = { done: () => {} };
        const flushed = (): void => {
          for (const list of versions) list.splice(0, list.length - 1);
        };
        let stamp = 0;
        for (const { op, sector, sectors, fua } of steps) {
          const count = Math.min(sectors, SECTORS - sector, 64);
          if (op === 'write') {
            stamp = (stamp % 250) + 1;
            memory.u8.fill(stamp);
            expect(disk.write(memory, 0, sector * 512, count * 512, nobody, fua)).toBe(0);
            for (let s = sector; s < sector + count; s++) {
              versions[s]!.push(stamp);
              if (fua) versions[s]!.splice(0, versions[s]!.length - 1);
            }
          } else if (op === 'zero') {
            disk.writeZeroes(sector * 512, count * 512, nobody);
            for (let s = sector; s < sector + count; s++) versions[s]!.push(0);
          } else if (op === 'flush') {
            expect(disk.flush(nobody)).toBe(0);
            flushed();
          }
        }
        const before = disk.dirtySectors;
        const cut = disk.powerCut();
        expect(cut.unflushed).toBe(before);
        expect(cut.newest + cut.older + cut.lost).toBe(before);
        expect([disk.dirtyBytes, disk.dirtySectors]).toEqual([0, 0]);
        const after = views(512);
        for (let s = 0; s < SECTORS; s++) {
          expect(disk.read(after, 0, s * 512, 512, nobody)).toBe(0);
          expect(after.u8.every((byte) => byte === after.u8[0])).toBe(true);
          expect(versions[s]).toContain(after.u8[0]);
        }
      }),
      { numRuns: CUTS },
    );
  });
});
