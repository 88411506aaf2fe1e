import { BLKIF_OP } from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import { type Disk, type Domain, memoryDisk } from '../src/index.ts';
import { type Fixture, fixture, type RawFront } from './blkback-fixture.ts';

const { READ, WRITE, FLUSH_DISKCACHE: FLUSH } = BLKIF_OP;
const MIB = 1 << 20;

/** Requests of every way through the backend, more than one turn carries out. */
function ask(front: RawFront): void {
  const pages = Array.from({ length: 12 }, (_, i) => front.grant(front.page(i)));
  const segments = pages.map((gref) => [gref, 0, 7] as const);
  for (let i = 0; i < 3; i++) {
    front.put(READ, 0, segments.slice(0, 1));
    front.put(WRITE, 8, segments.slice(1, 2));
    front.put(FLUSH, 0);
    front.put(READ, 0, segments.slice(2, 6));
    front.indirect(WRITE, 16, segments);
    front.discard(64, 8);
  }
  front.ring();
}

const WAYS = {
  'its plugins are taken off': (f: Fixture) => f.dom0.detachAll(),
  'the domain dies': (f: Fixture) => f.machine.destroyDomain(f.dom0),
};

describe.each(Object.keys(WAYS) as (keyof typeof WAYS)[])('a backend of which %s', (way) => {
  describe.each([false, true])('with persistent grants: %s', (persistent) => {
    it('by whoever hears of a completed request begins nothing more, and nobody is thrown anything', () => {
      for (let at = 1; at <= 18; at++) {
        const f = fixture({ blkback: { turnCost: 40 } });
        const front = f.connect({ persistent });
        ask(front);
        f.machine.run({ untilTicks: f.machine.now });
        front.answers();
        ask(front);
        let heard = 0;
        let begun = 0;
        f.bus.on('blkback:requested').subscribe(() => {
          if (heard >= at) begun++;
        });
        f.bus.on('blkback:completed').subscribe(() => {
          if (++heard === at) WAYS[way](f);
        });
        f.machine.run({ untilTicks: f.machine.now + 1000 });
        expect(heard).toBeGreaterThanOrEqual(at);
        expect(begun).toBe(0);
        expect(front.answers().length).toBeLessThanOrEqual(18);
      }
    });
  });

  it('by a disk, in the last call of a turn, is thrown nothing', () => {
    const store = memoryDisk({ sizeBytes: MIB });
    let calls = 0;
    const disk = Object.assign(Object.create(store) as Disk, {
      flush: (...args: Parameters<Disk['flush']>) => {
        if (++calls === 1) WAYS[way](f);
        return store.flush(...args);
      },
    });
    const f = fixture({ disk });
    const front = f.connect();
    front.put(FLUSH, 0);
    front.ring();
    f.machine.run({ untilTicks: f.machine.now + 1000 });
    expect(calls).toBe(1);
  });
});

describe('a backend of which the plugins are taken off', () => {
  it('by whoever hears of a request that begins carries out what has begun, and throws nothing', () => {
    for (let at = 1; at <= 18; at++) {
      const f = fixture();
      const front = f.connect();
      ask(front);
      let heard = 0;
      f.bus.on('blkback:requested').subscribe(() => {
        if (++heard === at) f.dom0.detachAll();
      });
      f.machine.run({ untilTicks: f.machine.now + 1000 });
      expect(heard).toBeGreaterThanOrEqual(at);
    }
  });
});

describe('a backend domain and its frontend that die when a request is completed', () => {
  it('leave the memory to whoever gets it next', () => {
    for (let at = 1; at <= 18; at++) {
      const f = fixture();
      const front = f.connect();
      ask(front);
      let heard = 0;
      let heir: Domain | undefined;
      f.bus.on('blkback:completed').subscribe(() => {
        if (++heard !== at) return;
        f.machine.destroyDomain(f.dom0);
        f.machine.destroyDomain(f.guest);
        heir = f.machine.createDomain({ pages: 1200 });
        for (let gfn = 0; gfn < 1200; gfn++) heir.memory.write(gfn * 4096, new Uint8Array(4096).fill(0x55));
      });
      f.machine.run({ untilTicks: f.machine.now + 1000 });
      const page = new Uint8Array(4096);
      for (let gfn = 0; gfn < 1200; gfn++) {
        heir!.memory.read(gfn * 4096, page);
        expect(page.every((byte) => byte === 0x55)).toBe(true);
      }
    }
  });
});
