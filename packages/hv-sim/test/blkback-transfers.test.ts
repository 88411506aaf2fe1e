import { BLKIF_OP, BLKIF_RSP } from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import { type Disk, type Domain, LATER, memoryDisk } from '../src/index.ts';
import { type Fixture, fixture, type RawFront } from './blkback-fixture.ts';

const { READ } = BLKIF_OP;
const { OKAY } = BLKIF_RSP;
const MIB = 1 << 20;

const go = (f: Fixture, front: RawFront) => {
  front.ring();
  f.machine.run({ untilTicks: f.machine.now });
  return front.answers();
};

/** A disk whose reads are the test's. */
function readingDisk(read: (store: Disk, args: Parameters<Disk['read']>) => number): Disk {
  const store = memoryDisk({ sizeBytes: MIB });
  return Object.assign(Object.create(store) as Disk, { read: (...args: Parameters<Disk['read']>) => read(store, args) });
}

describe('a backend domain that dies in the middle of a batch', () => {
  it.each(['a fact', 'a short request', 'a long request'] as const)('reads nothing more into where its pages were: in %s', (way) => {
    let calls = 0;
    let heard = 0;
    let heir: Domain | undefined;
    const die = (): void => {
      f.machine.destroyDomain(f.dom0);
      f.machine.destroyDomain(f.guest);
      // Whoever comes next gets the frames.
      heir = f.machine.createDomain({ pages: 1200 });
      for (let gfn = 0; gfn < 1200; gfn++) heir.memory.write(gfn * 4096, new Uint8Array(4096).fill(0x55));
    };
    const disk = readingDisk((store, args) => {
      const answer = store.read(...args);
      if (++calls === 2 && way !== 'a fact') die();
      return answer;
    });
    const f = fixture({ disk });
    const front = f.connect();
    // Apart in memory, so that each page is a call of its own.
    const grefs = [4, 3, 2, 1].map((fill) => front.grant(front.page(fill))).reverse();
    const segments = grefs.map((gref) => [gref, 0, 7] as const);
    if (way === 'a long request') front.put(READ, 0, segments);
    else for (const [i, segment] of segments.entries()) front.put(READ, i * 8, [segment]);
    if (way === 'a fact') {
      f.bus.on('blkback:requested').subscribe(() => {
        if (++heard === 2) die();
      });
    }
    expect(() => go(f, front)).toThrow('page-fault');
    expect(calls).toBe(way === 'a fact' ? 1 : 2);
    const page = new Uint8Array(4096);
    for (let gfn = 0; gfn < 1200; gfn++) {
      heir!.memory.read(gfn * 4096, page);
      expect(page[4095]).toBe(0x55);
    }
  });
});

describe('a disk that lets the machine run on inside its call', () => {
  it('is not entered again for the same ring: what came meanwhile has its turn afterwards', () => {
    let state = 'calm';
    const order: number[] = [];
    const disk = readingDisk((store, args) => {
      const sector = args[2] / 512;
      if (sector === 8 && state === 'calm') {
        state = 'waiting';
        f.guest.post(() => {
          late.push(front.put(READ, 40, [[gref, 0, 7]]), front.put(READ, 48, [[gref, 0, 7]]));
          front.ring();
          f.guest.scheduler.schedule(() => {
            state = 'over';
          }, 5);
        });
        expect(f.dom0.waitFor(() => state === 'over')).toBe(true);
      }
      order.push(sector);
      return store.read(...args);
    });
    const f = fixture({ disk });
    const front = f.connect();
    const gref = front.grant(front.page());
    const late: number[] = [];
    const ids = [0, 8, 16, 24].map((sector) => front.put(READ, sector, [[gref, 0, 7]]));
    const answers = go(f, front);
    expect(answers.map(({ id, status }) => [id, status])).toEqual([...ids, ...late].map((id) => [id, OKAY]));
    expect(order).toEqual([0, 8, 16, 24, 40, 48]);
    expect(f.device.inFlight).toBe(0);
    expect(f.device.counters.maps).toBe(f.device.counters.unmaps);
    front.releaseData();
  });

  it('keeps the persistent grants that it works on, however long it takes', () => {
    let slow = false;
    const disk = readingDisk((store, args) => {
      if (slow && args[2] === 4096) {
        slow = false;
        const until = f.machine.now + 50;
        f.dom0.scheduler.schedule(() => undefined, 50);
        expect(f.dom0.waitFor(() => f.machine.now >= until)).toBe(true);
      }
      return store.read(...args);
    });
    const f = fixture({ disk, blkback: { persistentIdleTicks: 10 } });
    const front = f.connect({ persistent: true });
    const grefs = [1, 2, 3, 4].map((fill) => front.grant(front.page(fill)));
    for (const round of [0, 1]) {
      slow = round === 1;
      const ids = grefs.map((gref, i) => front.put(READ, i * 8, [[gref, 0, 7]]));
      expect(go(f, front).map(({ id, status }) => [id, status])).toEqual(ids.map((id) => [id, OKAY]));
    }
    // Nobody works on them any more.
    f.machine.run({ untilTicks: f.machine.now + 100 });
    expect(f.device.persistentGrants).toBe(0);
    front.releaseData();
  });
});

describe('a persistent grant that requests under way name 65,536 times', () => {
  it('stays until the last of them has ended', () => {
    const waiting: (() => void)[] = [];
    const disk = readingDisk((store, args) => {
      waiting.push(() => args[4].done(store.read(...args)));
      return LATER;
    });
    const f = fixture({ disk, blkback: { persistentIdleTicks: 10 }, guestPages: 2048, machine: { ramBytes: 2 ** 25 } });
    const front = f.connect({ persistent: true, ringPages: 16 });
    const gref = front.grant(front.page());
    front.put(READ, 0, [[gref, 0, 7]]);
    expect(go(f, front)).toEqual([]);
    waiting.pop()!();
    expect(go(f, front)).toHaveLength(1);
    const segments = Array.from({ length: 256 }, () => [gref, 0, 7] as const);
    for (let i = 0; i < 256; i++) front.indirect(READ, 0, segments);
    expect(go(f, front)).toEqual([]);
    expect(f.device.inFlight).toBe(256);
    f.machine.run({ untilTicks: f.machine.now + 100 });
    expect(front.grants.isInUse(gref)).toBe(true);
    for (const work of waiting.splice(0)) work();
    expect(go(f, front)).toHaveLength(256);
    f.machine.run({ untilTicks: f.machine.now + 100 });
    expect(f.device.persistentGrants).toBe(0);
    front.releaseData();
  });
});
