import { BLKIF_OP, BLKIF_RSP } from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import { type Disk, errorFilter, LATER, memoryDisk } from '../src/index.ts';
import { type Fixture, fixture, type RawFront, statusOf } from './blkback-fixture.ts';

const { OKAY, ERROR, EOPNOTSUPP } = BLKIF_RSP;
const { READ, WRITE, FLUSH_DISKCACHE: FLUSH } = BLKIF_OP;
const MIB = 1 << 20;

const go = (f: Fixture, front: RawFront) => {
  front.ring();
  f.machine.run({ untilTicks: f.machine.now });
  return front.answers();
};

/** How mappings and unmappings follow one another: `map 3, unmap 3`. */
function runs(f: Fixture): string[] {
  const seen: { what: string; count: number }[] = [];
  const note = (what: string): void => {
    const last = seen.at(-1);
    if (last?.what === what) last.count++;
    else seen.push({ what, count: 1 });
  };
  f.bus.on('hv:mapped').subscribe(() => note('map'));
  f.bus.on('hv:unmapped').subscribe(() => note('unmap'));
  return new Proxy([], {
    get: (_, key) =>
      Reflect.get(
        seen.map(({ what, count }) => `${what} ${count}`),
        key,
      ),
  });
}

describe('reads and writes that are on the ring together', () => {
  it('are mapped together, carried out in their order, unmapped together and answered in their order', () => {
    const f = fixture({ disk: memoryDisk({ sizeBytes: MIB }) });
    const front = f.connect();
    const seen = runs(f);
    const gfns = Array.from({ length: 32 }, (_, i) => front.page(i));
    // Each odd one reads what the one before it wrote.
    const ids = gfns.map((gfn, i) => front.put(i % 2 === 0 ? WRITE : READ, Math.floor(i / 2) * 8, [[front.grant(gfn), 0, 7]]));
    const answers = go(f, front);
    expect(answers.map(({ id }) => id)).toEqual(ids);
    expect(answers.every(({ status }) => status === OKAY)).toBe(true);
    for (let i = 0; i < 32; i++) expect(front.bytes(gfns[i]!)[4095]).toBe(i - (i % 2));
    expect([...seen]).toEqual(['map 32', 'unmap 32']);
    front.releaseData();
  });

  it('are as many batches as their pages need', () => {
    const f = fixture({ disk: memoryDisk({ sizeBytes: 2 * MIB }), blkback: { turnCost: 1000 } });
    const front = f.connect();
    const seen = runs(f);
    const segments = Array.from({ length: 11 }, () => [front.grant(front.page()), 0, 7] as const);
    for (let i = 0; i < 32; i++) front.put(WRITE, i * 88, segments);
    expect(go(f, front).filter(({ status }) => status === OKAY)).toHaveLength(32);
    // Of 264 pages at once there are 24 such requests.
    expect([...seen]).toEqual(['map 264', 'unmap 264', 'map 88', 'unmap 88']);
    expect(f.device.counters).toMatchObject({ maps: 352, unmaps: 352, segments: 352, writes: 32 });
    front.releaseData();
  });

  it('fail one by one: what cannot be mapped, or is wrong, or meets an error of the disk, spoils no neighbour', () => {
    const bad = errorFilter(memoryDisk({ sizeBytes: MIB }), { rules: [{ op: 'read', offset: 56 * 512, bytes: 4096 }] });
    const f = fixture({ disk: bad });
    const front = f.connect();
    const gref = front.grant(front.page(1));
    const good = [front.put(WRITE, 0, [[gref, 0, 7]])];
    const unmapped = front.put(READ, 8, [
      [gref, 0, 7],
      [499, 0, 7],
    ]);
    good.push(front.put(WRITE, 16, [[gref, 0, 7]]));
    const wrong = front.put(WRITE, 24, [[gref, 5, 3]]);
    good.push(front.put(WRITE, 32, [[gref, 0, 7]]));
    const unknown = front.put(77, 40, [[gref, 0, 7]]);
    good.push(front.put(READ, 48, [[gref, 0, 7]]));
    const broken = front.put(READ, 56, [[gref, 0, 7]]);
    const answers = go(f, front);
    expect(good.map((id) => statusOf(answers, id))).toEqual([OKAY, OKAY, OKAY, OKAY]);
    expect([unmapped, wrong, unknown, broken].map((id) => statusOf(answers, id))).toEqual([ERROR, ERROR, EOPNOTSUPP, ERROR]);
    expect(f.device.counters.maps).toBe(f.device.counters.unmaps);
    expect(front.grants.isInUse(gref)).toBe(false);
  });

  it('are carried out before a flush that came behind them', () => {
    const calls: string[] = [];
    const disk = memoryDisk({ sizeBytes: MIB });
    const watched: Disk = Object.assign(Object.create(disk) as Disk, {
      write: (...args: Parameters<Disk['write']>) => {
        calls.push('write');
        return disk.write(...args);
      },
      flush: (...args: Parameters<Disk['flush']>) => {
        calls.push('flush');
        return disk.flush(...args);
      },
    });
    const f = fixture({ disk: watched });
    const front = f.connect();
    const gref = front.grant(front.page());
    front.put(WRITE, 0, [[gref, 0, 7]]);
    front.put(WRITE, 8, [[gref, 0, 7]]);
    front.put(FLUSH, 0);
    front.put(WRITE, 16, [[gref, 0, 7]]);
    expect(go(f, front).every(({ status }) => status === OKAY)).toBe(true);
    expect(calls).toEqual(['write', 'write', 'flush', 'write']);
    front.releaseData();
  });

  it('keep their pages as long as the disk needs them, each its own', () => {
    const waiting: (() => void)[] = [];
    const disk = memoryDisk({ sizeBytes: MIB });
    const slow: Disk = Object.assign(Object.create(disk) as Disk, {
      read: (...args: Parameters<Disk['read']>) => {
        if (args[2] !== 4096) return disk.read(...args);
        waiting.push(() => args[4].done(disk.read(...args)));
        return LATER;
      },
    });
    const f = fixture({ disk: slow });
    const front = f.connect();
    const grefs = [0, 1, 2].map(() => front.grant(front.page()));
    const ids = grefs.map((gref, i) => front.put(READ, i * 8, [[gref, 0, 7]]));
    expect(go(f, front).map(({ id }) => id)).toEqual([ids[0], ids[2]]);
    expect(grefs.map((gref) => front.grants.isInUse(gref))).toEqual([false, true, false]);
    f.dom0.scheduler.schedule(() => waiting[0]!(), 1);
    f.machine.run();
    expect(front.answers()).toEqual([{ id: ids[1], operation: READ, status: OKAY }]);
    front.releaseData();
  });

  it('wait together where one page is in use, and those that come later do not wait for them', () => {
    const f = fixture({ disk: memoryDisk({ sizeBytes: MIB }) });
    const front = f.connect();
    const grefs = [0, 1, 2, 3].map(() => front.grant(front.page()));
    let held = -1;
    const first = f.bus.on('hv:mapped').subscribe(({ vfn }) => {
      if (held === -1) {
        held = vfn;
        f.dom0.pageUse.use(vfn);
      }
    });
    const ids = [0, 1].map((i) => front.put(WRITE, i * 8, [[grefs[i]!, 0, 7]]));
    expect(go(f, front)).toEqual([]);
    first.unsubscribe();
    const later = [2, 3].map((i) => front.put(WRITE, i * 8, [[grefs[i]!, 0, 7]]));
    expect(go(f, front).map(({ id }) => id)).toEqual(later);
    expect(f.device.inFlight).toBe(2);
    f.dom0.pageUse.unuse(held);
    f.machine.run();
    expect(front.answers().map(({ id, status }) => [id, status])).toEqual(ids.map((id) => [id, OKAY]));
    expect(f.device.counters).toMatchObject({ unmapsDeferred: 2, maps: 4, unmaps: 4 });
    front.releaseData();
  });

  it('find what the one before them made persistent', () => {
    const f = fixture({ disk: memoryDisk({ sizeBytes: MIB }) });
    const front = f.connect({ persistent: true });
    const grefs = [0, 1].map(() => front.grant(front.page(9)));
    for (let i = 0; i < 16; i++) {
      front.put(WRITE, i * 8, [
        [grefs[i & 1]!, 0, 7],
        [grefs[0]!, 0, 7],
      ]);
    }
    expect(go(f, front).filter(({ status }) => status === OKAY)).toHaveLength(16);
    // The first named one reference twice, and its second mapping was its own.
    expect(f.device.counters).toMatchObject({ maps: 3, unmaps: 1, persistentHits: 29 });
    expect(f.device.persistentGrants).toBe(2);
  });
});
