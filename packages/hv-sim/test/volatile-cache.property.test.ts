import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createMachine,
  createRandom,
  type Disk,
  type DiskWaiter,
  LATER,
  type Machine,
  memoryDisk,
  type Random,
  volatileCacheFilter,
} from '../src/index.ts';

const RUNS = process.env['PARAVIRT_FULL'] === undefined ? 1000 : 20_000;
const SECTOR = 512;
/** More than the cache keeps of one zeroing. */
const SECTORS = 520;
/** Where most calls go, so that they meet. */
const BUSY = 5;
/** What every sector has at first: not zero, which a discard that failed may leave behind. */
const FIRST = 255;

function views(bytes: number) {
  const buffer = new ArrayBuffer(bytes);
  return { u8: new Uint8Array(buffer), u16: new Uint16Array(buffer), u32: new Uint32Array(buffer) };
}

/** A disk that carries calls out now or later, in any order, and may fail them whether they were carried out or not. */
function unsureDisk(machine: Machine, random: Random, mood: { sure: boolean }): Disk {
  const inner = memoryDisk({ sizeBytes: SECTORS * SECTOR });
  const nobody: DiskWaiter = { done: () => {} };
  const first = views(SECTORS * SECTOR);
  first.u8.fill(FIRST);
  inner.write(first, 0, 0, SECTORS * SECTOR, nobody, false);
  const call = (carryOut: () => number, waiter: DiskWaiter): number => {
    if (mood.sure) return carryOut();
    const fails = random.chance(0.3);
    const carriesOut = !fails || random.chance(0.5);
    const end = (): number => {
      const answer = carriesOut ? carryOut() : 0;
      return fails ? -5 : answer;
    };
    if (random.chance(0.3)) return end();
    machine.scheduler.schedule(() => waiter.done(end()), random.below(6));
    return LATER;
  };
  return Object.assign(Object.create(inner) as Disk, {
    read: (...[memory, address, offset, bytes, waiter]: Parameters<Disk['read']>) =>
      call(() => inner.read(memory, address, offset, bytes, nobody), waiter),
    write: (...[memory, address, offset, bytes, waiter, fua]: Parameters<Disk['write']>) =>
      call(() => inner.write(memory, address, offset, bytes, nobody, fua), waiter),
    flush: (waiter: DiskWaiter) => call(() => inner.flush(nobody), waiter),
    discard: (...[offset, bytes, secure, waiter]: Parameters<Disk['discard']>) =>
      call(() => inner.discard(offset, bytes, secure, nobody), waiter),
    writeZeroes: (...[offset, bytes, waiter]: Parameters<Disk['writeZeroes']>) =>
      call(() => inner.writeZeroes(offset, bytes, nobody), waiter),
  });
}

/** One change of a sector. Times count events. */
interface Change {
  readonly value: number;
  readonly begun: number;
  ended: number;
  good: boolean;
}

/** Whether a sector may have a value for whoever began to look at `since`: nothing that was answered well by then came after it. */
function possible(changes: readonly Change[], value: number, since: number): boolean {
  return changes.some(
    (change) => change.value === value && !changes.some((later) => later.good && later.begun > change.ended && later.ended < since),
  );
}

const range = { sector: fc.nat(BUSY - 1), sectors: fc.integer({ min: 1, max: 4 }) };
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ op: fc.constantFrom('write' as const, 'fua' as const), ...range }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('read' as const), ...range }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constantFrom('discard' as const, 'zero' as const), ...range }) },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constantFrom('discard' as const, 'zero' as const),
      sector: fc.constant(0),
      sectors: fc.constant(SECTORS),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constantFrom('flush' as const, 'wait' as const, 'switch' as const),
      sector: fc.constant(0),
      sectors: fc.integer({ min: 1, max: 4 }),
    }),
  },
);

describe('a volatile cache over a disk that answers now, later, or with errors, in any order', () => {
  /**
   * Goal: what was answered with success is never lost while the power stays on, and is on the disk behind after a flush.
   * Method: random calls, many at once, against the list of changes that each sector may show.
   */
  it(`loses nothing that was acknowledged, in ${RUNS} runs`, () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 50 }), fc.nat(), fc.boolean(), (steps, seed, small) => {
        const machine = createMachine({ seed: 1, ramBytes: 1 << 20 });
        const random = createRandom(seed);
        const mood = { sure: false };
        const inner = unsureDisk(machine, random, mood);
        const disk = volatileCacheFilter(inner, { random, cacheBytes: small ? 6 * SECTOR : 1 << 20 });
        const changes: Change[][] = Array.from({ length: SECTORS }, () => [{ value: FIRST, begun: 0, ended: 0, good: true }]);
        let events = 0;
        let stamp = 0;
        let underWay = 0;
        /** Makes a call and tells its end, which comes once. */
        const make = (call: (waiter: DiskWaiter) => number, ended: (status: number) => void): void => {
          let told = 0;
          underWay++;
          const end = (status: number): void => {
            expect(++told).toBe(1);
            underWay--;
            ended(status);
          };
          const answer = call({ done: end });
          if (answer !== LATER) end(answer);
        };
        const change = (value: number, sector: number, sectors: number, call: (waiter: DiskWaiter) => number): void => {
          const made: Change = { value, begun: ++events, ended: Number.POSITIVE_INFINITY, good: false };
          for (let at = sector; at < sector + sectors; at++) changes[at]!.push(made);
          make(call, (status) => {
            made.ended = ++events;
            made.good = status === 0;
          });
        };
        const check = (seen: Uint8Array, sector: number, sectors: number, since: number): void => {
          for (let at = 0; at < sectors; at++) {
            const value = seen[at * SECTOR]!;
            if (!possible(changes[sector + at]!, value, since)) {
              expect.fail(`sector ${sector + at} has ${value}: ${JSON.stringify(changes[sector + at])}, seen since ${since}`);
            }
          }
        };
        const read = (from: Disk, sector: number, sectors: number, since: number): void => {
          const memory = views(sectors * SECTOR);
          make(
            (waiter) => from.read(memory, 0, sector * SECTOR, sectors * SECTOR, waiter),
            (status) => {
              if (status === 0) check(memory.u8, sector, sectors, since);
            },
          );
        };
        const flush = (): void => {
          const since = ++events;
          make(
            (waiter) => disk.flush(waiter),
            (status) => {
              if (status !== 0) return;
              const was = mood.sure;
              mood.sure = true;
              read(inner, 0, SECTORS, since);
              mood.sure = was;
            },
          );
        };
        for (const { op, sector, sectors } of steps) {
          const offset = sector * SECTOR;
          const bytes = sectors * SECTOR;
          if (op === 'write' || op === 'fua') {
            stamp = (stamp % 250) + 1;
            const memory = views(bytes);
            memory.u8.fill(stamp);
            change(stamp, sector, sectors, (waiter) => disk.write(memory, 0, offset, bytes, waiter, op === 'fua'));
          } else if (op === 'zero') change(0, sector, sectors, (waiter) => disk.writeZeroes(offset, bytes, waiter));
          else if (op === 'discard') change(0, sector, sectors, (waiter) => disk.discard(offset, bytes, false, waiter));
          else if (op === 'read') read(disk, sector, sectors, ++events);
          else if (op === 'flush') flush();
          else if (op === 'switch') disk.enabled = !disk.enabled;
          else machine.run({ untilTicks: machine.now + sectors });
        }
        machine.run();
        expect(underWay).toBe(0);
        mood.sure = true;
        read(disk, 0, SECTORS, ++events);
        flush();
        read(disk, 0, SECTORS, ++events);
        expect([underWay, disk.dirtyBytes]).toEqual([0, 0]);
      }),
      { numRuns: RUNS },
    );
  });
});
