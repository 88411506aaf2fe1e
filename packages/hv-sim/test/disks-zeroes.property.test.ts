import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import {
  corruptFilter,
  cowDisk,
  createMachine,
  createRandom,
  type Disk,
  delayFilter,
  errorFilter,
  LATER,
  type Machine,
  memoryDisk,
  nullDisk,
  readonlyFilter,
  statsFilter,
  tornFilter,
  volatileCacheFilter,
} from '../src/index.ts';
import { fileDisk, sparseDisk } from '../src/node.ts';

const RUNS = process.env['PARAVIRT_FULL'] === undefined ? 40 : 1000;
/** More than the volatile cache keeps of one zeroing. */
const BYTES = 3 << 18;
/** Sectors on either side of a call that are looked at after it. */
const AROUND = 16;
const folder = mkdtempSync(join(tmpdir(), 'hv-sim-zeroes-'));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;
const file = (sectorBytes: number) => ({ path: join(folder, `disk-${files++}`), create: true, sizeBytes: BYTES, sectorBytes });

const random = createRandom(1);
const disks: { readonly [name: string]: (sectorBytes: number) => Disk } = {
  memory: (sectorBytes) => memoryDisk({ sizeBytes: BYTES, sectorBytes }),
  area: (sectorBytes) => memoryDisk({ sizeBytes: BYTES, sectorBytes, area: { views: views(BYTES), offset: 0 } }),
  file: (sectorBytes) => fileDisk(file(sectorBytes)),
  sparse: (sectorBytes) => sparseDisk(file(sectorBytes)),
  'cow over memory': (sectorBytes) => cowDisk({ base: memoryDisk({ sizeBytes: BYTES, sectorBytes }) }),
  'cow over sparse': (sectorBytes) => cowDisk({ base: sparseDisk(file(sectorBytes)) }),
  null: (sectorBytes) => nullDisk({ sizeBytes: BYTES, sectorBytes }),
};
const filters: { readonly [name: string]: (disk: Disk, machine: Machine) => Disk } = {
  no: (disk) => disk,
  delay: (disk, { scheduler }) => delayFilter(disk, { scheduler, ticks: 2 }),
  error: (disk) => errorFilter(disk, { rules: [] }),
  corrupt: (disk) => corruptFilter(disk, { rules: [], random }),
  torn: (disk) => tornFilter(disk, { rules: [], random }),
  stats: (disk) => statsFilter(disk),
  'readonly, off': (disk) => Object.assign(readonlyFilter(disk), { enabled: false }),
  'volatile-cache': (disk) => volatileCacheFilter(disk, { random }),
  'a small volatile-cache over delay': (disk, { scheduler }) =>
    volatileCacheFilter(delayFilter(disk, { scheduler, ticks: 2 }), { random, cacheBytes: 16_384 }),
};

function views(bytes: number) {
  const buffer = new ArrayBuffer(bytes);
  return { u8: new Uint8Array(buffer), u16: new Uint16Array(buffer), u32: new Uint32Array(buffer) };
}

const step = fc.record({
  op: fc.constantFrom('write' as const, 'write' as const, 'zero' as const, 'discard' as const, 'secure' as const, 'flush' as const),
  /** Places and lengths: small ones where granules begin, and long ones. */
  at: fc.oneof({ weight: 3, arbitrary: fc.nat(40) }, fc.nat(BYTES / 512)),
  length: fc.oneof({ weight: 3, arbitrary: fc.integer({ min: 1, max: 20 }) }, fc.integer({ min: 1, max: BYTES / 512 })),
});

describe('zeroes and discards', () => {
  for (const sectorBytes of [512, 4096]) {
    for (const [name, makeDisk] of Object.entries(disks)) {
      /**
       * Goal: what was zeroed reads as zeroes, whatever its range; a discard does away with every whole granule that the disk tells,
       * and with nothing outside its range. Method: random calls through every filter, against the byte of each sector, if it is known.
       */
      it(`are what the disk says, through every filter: ${name}, sectors of ${sectorBytes}`, () => {
        fc.assert(
          fc.property(fc.array(step, { maxLength: 12 }), fc.constantFrom(...Object.keys(filters)), (steps, filter) => {
            const machine = createMachine({ seed: 1, ramBytes: 1 << 20 });
            const disk = filters[filter]!(makeDisk(sectorBytes), machine);
            const { discards, secureDiscards, discardGranularityBytes: granule, discardAlignmentBytes: first } = disk;
            const call = (make: (waiter: { done(status: number): void }) => number): number => {
              let told: number = LATER;
              const answer = make({
                done: (status) => {
                  told = status;
                },
              });
              if (answer !== LATER) return answer;
              machine.run();
              return told;
            };
            const memory = views(BYTES);
            const sectors = BYTES / sectorBytes;
            /** The byte of each sector; -1 where a discard left it open. */
            const model = new Int16Array(sectors);
            const like = Buffer.alloc(sectorBytes);
            const check = (from: number, to: number): void => {
              memory.u8.fill(0xff);
              expect(call((waiter) => disk.read(memory, 0, from * sectorBytes, (to - from) * sectorBytes, waiter))).toBe(0);
              for (let s = from; s < to; s++) {
                if (model[s] === -1) continue;
                const here = memory.u8.subarray((s - from) * sectorBytes, (s - from + 1) * sectorBytes);
                if (!like.fill(model[s]!).equals(here)) expect.fail(`sector ${s} has ${here[0]}..., not ${model[s]}`);
              }
            };
            let stamp = 0;
            for (const { op, at, length } of steps) {
              const sector = at % sectors;
              const count = Math.min(length, sectors - sector);
              const offset = sector * sectorBytes;
              const bytes = count * sectorBytes;
              let expected = 0;
              let answer = 0;
              if (op === 'write') {
                stamp = (stamp % 250) + 1;
                memory.u8.fill(stamp, 0, bytes);
                answer = call((waiter) => disk.write(memory, 0, offset, bytes, waiter, false));
                // A cache in front of a null disk shows what was written for as long as it likes.
                model.fill(name === 'null' ? -1 : stamp, sector, sector + count);
              } else if (op === 'zero') {
                answer = call((waiter) => disk.writeZeroes(offset, bytes, waiter));
                model.fill(0, sector, sector + count);
              } else if (op === 'flush') answer = call((waiter) => disk.flush(waiter));
              else {
                const secure = op === 'secure' && secureDiscards;
                answer = call((waiter) => disk.discard(offset, bytes, secure, waiter));
                if (!discards) expected = -95;
                else if (secure) model.fill(0, sector, sector + count);
                else {
                  model.fill(-1, sector, sector + count);
                  const from = Math.ceil((offset - first) / granule) * granule + first;
                  const to = Math.floor((offset + bytes - first) / granule) * granule + first;
                  if (to > from) model.fill(0, from / sectorBytes, to / sectorBytes);
                }
              }
              expect(answer).toBe(expected);
              check(Math.max(0, sector - AROUND), Math.min(sectors, sector + count + AROUND));
            }
            check(0, sectors);
            disk.close();
          }),
          { numRuns: RUNS },
        );
      });
    }
  }
});
