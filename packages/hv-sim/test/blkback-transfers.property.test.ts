import type { Gref } from '@paravirt/event-bus/contract';
import { BLKIF_OP, BLKIF_RSP } from '@paravirt/xen-abi';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Disk, type DiskWaiter, LATER, memoryDisk } from '../src/index.ts';
import { fixture, type RawFront } from './blkback-fixture.ts';

const RUNS = process.env['PARAVIRT_FULL'] === undefined ? 120 : 3000;
const { READ, WRITE } = BLKIF_OP;
const { OKAY, ERROR } = BLKIF_RSP;
const DISK = 1 << 20;
/** Sectors a request may take: each has a stretch of the disk of its own, so that their order does not matter. */
const STRETCH = 88;
const EIO = -5;

/** How the disk carries a call out: at once, by a refusal, or later, and then well or not. */
type Mood = 'now' | 'refuse' | 'later' | 'later-refuse';

interface Wish {
  readonly write: boolean;
  readonly segments: readonly (readonly [first: number, last: number])[];
  readonly mood: Mood;
  /** What is wrong with the request. */
  readonly fault: 'none' | 'reference' | 'readonly' | 'segment' | 'beyond' | 'far';
}

const wish: fc.Arbitrary<Wish> = fc.record({
  write: fc.boolean(),
  segments: fc.oneof(
    { weight: 2, arbitrary: fc.constant([[0, 7]] as [number, number][]) },
    { weight: 1, arbitrary: fc.tuple(fc.nat(7), fc.nat(7)).map(([a, b]) => [[Math.min(a, b), Math.max(a, b)]] as [number, number][]) },
    fc.array(
      fc.tuple(fc.nat(7), fc.nat(7)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as [number, number]),
      { minLength: 1, maxLength: 11 },
    ),
  ),
  mood: fc.oneof({ weight: 6, arbitrary: fc.constant<Mood>('now') }, fc.constantFrom<Mood>('refuse', 'later', 'later-refuse')),
  fault: fc.oneof(
    { weight: 8, arbitrary: fc.constant<Wish['fault']>('none') },
    fc.constantFrom<Wish['fault']>('reference', 'readonly', 'segment', 'beyond', 'far'),
  ),
});

/** A disk whose mood depends on where it is asked. */
function moodyDisk(
  inner: Disk,
  moodAt: (sector: number) => Mood,
  later: (work: () => void) => void,
  inWork: (sector: number) => void,
): Disk {
  const call = (offset: number, waiter: DiskWaiter, carryOut: () => number): number => {
    const mood = moodAt(offset / 512);
    if (mood === 'refuse') return EIO;
    if (mood === 'now') return carryOut();
    later(() => {
      inWork(offset / 512);
      waiter.done(mood === 'later' ? carryOut() : EIO);
    });
    return LATER;
  };
  return Object.assign(Object.create(inner) as Disk, {
    read: (...args: Parameters<Disk['read']>) => call(args[2], args[4], () => inner.read(...args)),
    write: (...args: Parameters<Disk['write']>) => call(args[2], args[4], () => inner.write(...args)),
  });
}

const bytesOf = (front: RawFront, gfns: readonly number[], segments: Wish['segments']): number[] =>
  segments.flatMap(([first, last], i) => [...front.bytes(gfns[i] as never).subarray(first * 512, (last + 1) * 512)]);

/**
 * Goal: whatever stands together on a ring, each request ends once, with its own bytes or its own error, and leaves nothing mapped.
 * Method: rounds of random reads and writes over a disk that answers at once, later or with a refusal, some of them wrong, with every
 * kind of ring; against plain arrays.
 */
describe(`reads and writes of all kinds together (${RUNS} runs)`, () => {
  it('end each for itself, once, with the right bytes, and leave nothing mapped', { timeout: 600_000 }, () => {
    const shape = fc.record({
      abi: fc.constantFrom('x86_64' as const, 'x86_32' as const),
      ringPages: fc.constantFrom(1, 2, 4),
      persistent: fc.boolean(),
      isolated: fc.boolean(),
      turnCost: fc.constantFrom(1, 7, 128, 1000),
      rounds: fc.array(fc.array(wish, { minLength: 1, maxLength: 40 }), { minLength: 1, maxLength: 4 }),
      seed: fc.nat(),
    });
    fc.assert(
      fc.property(shape, ({ abi, ringPages, persistent, isolated, turnCost, rounds, seed }) => {
        const moods = new Map<number, Mood>();
        const grefsAt = new Map<number, readonly Gref[]>();
        const content = new Uint8Array(DISK);
        const store = memoryDisk({ sizeBytes: DISK });
        const disk = moodyDisk(
          store,
          (sector) => moods.get(Math.floor(sector / STRETCH)) ?? 'now',
          (work) => void f.dom0.scheduler.schedule(work, 1 + (moods.size % 3)),
          // What a disk still works on stays mapped.
          (sector) => expect(grefsAt.get(Math.floor(sector / STRETCH))!.map((gref) => front.grants.isInUse(gref))).not.toContain(false),
        );
        const f = fixture({ disk, blkback: { turnCost }, machine: { seed, ramBytes: 32 << 20, order: 'random' } });
        // With a second memory in the machine nothing is located in one go.
        if (isolated) f.machine.createDomain({ pages: 8, isolated: true });
        const front = f.connect({ abi, ringPages, persistent });
        for (const wishes of rounds) {
          moods.clear();
          const made = wishes
            .slice(0, front.queues[0]!.ring.entries)
            .slice(0, Math.floor(DISK / 512 / STRETCH) - 1)
            .map((each, place) => {
              const { write, segments, fault } = each;
              const gfns = segments.map((_, i) => front.page((place * 11 + i + 1) & 0xff));
              const grefs = gfns.map((gfn) => front.grant(gfn, fault === 'readonly' && !write));
              const sector = place * STRETCH;
              moods.set(place, each.mood);
              grefsAt.set(place, grefs);
              const wire = segments.map(([first, last], i) => [grefs[i]!, first, last] as [number, number, number]);
              if (fault === 'reference') wire[wire.length - 1]![0] = 400 + place;
              if (fault === 'segment') wire[wire.length - 1]![2] = 8;
              const at = fault === 'beyond' ? DISK / 512 - 1 : sector;
              const sectors = segments.reduce((sum, [first, last]) => sum + last - first + 1, 0);
              const id = front.put(write ? WRITE : READ, at, wire, (message) => {
                if (fault === 'far') message.setSectorHalves(sector, 0x8000_0000);
              });
              const beyond = fault === 'beyond' && sectors > 1;
              const bad =
                fault === 'reference' ||
                fault === 'segment' ||
                fault === 'far' ||
                beyond ||
                (fault === 'readonly' && !write && !persistent);
              return { id, each, gfns, grefs, sector: at, sectors, bad, unsure: fault === 'readonly' || (fault === 'beyond' && !beyond) };
            });
          const before = made.map(({ gfns, each }) => bytesOf(front, gfns, each.segments));
          front.ring();
          f.machine.run();
          const answers = front.answers();
          expect(answers.map(({ id }) => id).sort((a, b) => a - b)).toEqual(made.map(({ id }) => id));
          for (const [i, { id, each, gfns, sector, sectors, bad, unsure }] of made.entries()) {
            const { status, operation } = answers.find((answer) => answer.id === id)!;
            expect(operation).toBe(each.write ? WRITE : READ);
            const refused = bad || each.mood === 'refuse' || each.mood === 'later-refuse';
            if (!unsure) expect(status).toBe(refused ? ERROR : OKAY);
            const now = bytesOf(front, gfns, each.segments);
            const place = content.subarray(sector * 512, (sector + sectors) * 512);
            if (each.write) expect(now).toEqual(before[i]);
            else if (status === OKAY) expect(now).toEqual([...place]);
            if (each.write && status === OKAY) place.set(before[i]!);
          }
          const { maps, unmaps } = f.device.counters;
          expect(maps - unmaps).toBe(f.device.persistentGrants);
          expect(f.device.inFlight).toBe(0);
          if (!persistent) front.releaseData();
        }
        const whole = new Uint8Array(DISK);
        const views = { u8: whole, u16: new Uint16Array(whole.buffer), u32: new Uint32Array(whole.buffer) };
        expect(store.read(views, 0, 0, DISK, { done: () => undefined })).toBe(0);
        expect(Buffer.compare(whole, content)).toBe(0);
      }),
      { numRuns: RUNS },
    );
  });
});
