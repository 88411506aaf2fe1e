import { BLKIF_DISCARD_SECURE, BLKIF_OP, BLKIF_RSP, GTF } from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import { delayFilter, errorFilter, expectNoLeaks, memoryDisk, statsFilter } from '../src/index.ts';
import { type Fixture, fixture, type RawFront, statusOf } from './blkback-fixture.ts';

const now = (f: Fixture): void => {
  f.machine.run({ untilTicks: f.machine.now });
};
/** Rings, lets the machine go on at the present moment, and gives what was answered. */
const go = (f: Fixture, front: RawFront, q = 0) => {
  front.ring(q);
  now(f);
  return front.answers(q);
};
const { OKAY, ERROR, EOPNOTSUPP } = BLKIF_RSP;

describe('a request', () => {
  it('that writes reaches the disk, and one that reads comes back the same', () => {
    const f = fixture();
    const front = f.connect();
    const gref = front.grant(front.page(0x5a));
    const write = front.put(BLKIF_OP.WRITE, 8, [[gref, 0, 7]]);
    expect(go(f, front)).toEqual([{ id: write, operation: BLKIF_OP.WRITE, status: OKAY }]);
    const other = front.page(0);
    const read = front.put(BLKIF_OP.READ, 8, [[front.grant(other), 0, 7]]);
    expect(statusOf(go(f, front), read)).toBe(OKAY);
    expect(front.bytes(other).every((byte) => byte === 0x5a)).toBe(true);
    expect(front.grants.isInUse(gref)).toBe(false);
    front.releaseData();
  });

  it('moves only the sectors that each segment names, in order', () => {
    const f = fixture();
    const front = f.connect();
    const a = front.page(1);
    const b = front.page(2);
    front.put(BLKIF_OP.WRITE, 16, [
      [front.grant(a), 2, 4],
      [front.grant(b), 7, 7],
      [front.grant(a), 0, 0],
    ]);
    expect(go(f, front)[0]!.status).toBe(OKAY);
    const out = front.page(9);
    front.put(BLKIF_OP.READ, 15, [[front.grant(out), 0, 6]]);
    go(f, front);
    const seen = [0, 1, 2, 3, 4, 5, 6, 7].map((sector) => front.bytes(out)[sector * 512]);
    expect(seen).toEqual([0, 1, 1, 1, 2, 1, 0, 9]);
  });

  it('of eleven segments in pages that follow one another is one call to the disk', () => {
    const stats = statsFilter(memoryDisk({ sizeBytes: 1 << 20 }));
    const f = fixture({ disk: stats });
    const front = f.connect();
    const segments = Array.from({ length: 11 }, (_, i) => [front.grant(front.page(i + 1)), 0, 7] as const);
    front.put(BLKIF_OP.WRITE, 0, segments);
    expect(go(f, front)[0]!.status).toBe(OKAY);
    expect(stats.stats.write.bytes).toBe(11 * 4096);
    expect(f.device.counters.segments).toBe(11);
    expect(f.device.counters.diskCalls).toBe(stats.stats.write.calls);
  });

  it('of segments whose pages do not follow one another in memory is as many calls, and every byte lands where it belongs', () => {
    const f = fixture();
    const front = f.connect();
    const pages = Array.from({ length: 11 }, (_, i) => front.page(i + 1)).sort((a, b) => ((a * 7) % 11) - ((b * 7) % 11));
    const grefs = pages.map((page) => front.grant(page));
    const order = pages.map((page) => front.bytes(page)[0]!);
    front.put(
      BLKIF_OP.WRITE,
      0,
      grefs.map((gref) => [gref, 0, 7] as const),
    );
    expect(go(f, front)[0]!.status).toBe(OKAY);
    expect(f.device.counters.diskCalls).toBeGreaterThan(1);
    const seen = order.map((_, i) => {
      const out = front.page();
      front.put(BLKIF_OP.READ, i * 8, [[front.grant(out), 0, 7]]);
      go(f, front);
      return front.bytes(out).every((byte) => byte === front.bytes(out)[0]) ? front.bytes(out)[0] : -1;
    });
    expect(seen).toEqual(order);
  });

  it('gives the guest nothing but the sectors it asked for: the rest of a page that is read into keeps its bytes', () => {
    const f = fixture();
    const front = f.connect();
    const page = front.page(0xee);
    front.put(BLKIF_OP.READ, 0, [[front.grant(page), 3, 3]]);
    expect(go(f, front)[0]!.status).toBe(OKAY);
    const bytes = front.bytes(page);
    expect(bytes.subarray(0, 3 * 512).every((byte) => byte === 0xee)).toBe(true);
    expect(bytes.subarray(3 * 512, 4 * 512).every((byte) => byte === 0)).toBe(true);
    expect(bytes.subarray(4 * 512).every((byte) => byte === 0xee)).toBe(true);
  });

  it('maps what is read into writable and what is written read-only, and unmaps both before it answers', () => {
    const disk = delayFilter(memoryDisk({ sizeBytes: 1 << 20 }), { scheduler: fixtureScheduler(), ticks: 5 });
    const f = fixture({ disk });
    setScheduler(f);
    const front = f.connect();
    const into = front.grant(front.page());
    const from = front.grant(front.page());
    front.put(BLKIF_OP.READ, 0, [[into, 0, 7]]);
    front.put(BLKIF_OP.WRITE, 8, [[from, 0, 7]]);
    expect(go(f, front)).toEqual([]);
    const flags = (gref: number): number => new DataView(front.grants.entryBytes(gref as never).buffer).getUint16(0, true);
    expect(flags(into)).toBe(GTF.permit_access | GTF.reading | GTF.writing);
    expect(flags(from)).toBe(GTF.permit_access | GTF.reading);
    f.machine.run({ untilTicks: f.machine.now + 5 });
    expect(front.answers().map(({ status }) => status)).toEqual([OKAY, OKAY]);
    expect(flags(into)).toBe(GTF.permit_access);
    expect(flags(from)).toBe(GTF.permit_access);
  });

  it('reads through a read-only grant only what it writes to the disk', () => {
    const f = fixture();
    const front = f.connect();
    const gref = front.grant(front.page(3), true);
    const write = front.put(BLKIF_OP.WRITE, 0, [[gref, 0, 7]]);
    const read = front.put(BLKIF_OP.READ, 0, [[gref, 0, 7]]);
    const answers = go(f, front);
    expect(statusOf(answers, write)).toBe(OKAY);
    expect(statusOf(answers, read)).toBe(ERROR);
  });
});

/** The delay filter wants a scheduler before the machine stands; this one is filled in afterwards. */
let scheduler: Fixture['dom0']['scheduler'] | undefined;
function fixtureScheduler(): Fixture['dom0']['scheduler'] {
  return {
    now: () => scheduler!.now(),
    schedule: (...args: Parameters<Fixture['dom0']['scheduler']['schedule']>) => scheduler!.schedule(...args),
  } as Fixture['dom0']['scheduler'];
}
function setScheduler(f: Fixture): void {
  scheduler = f.dom0.scheduler;
}

describe('a wrong request is answered with an error and never reaches the disk', () => {
  const stats = statsFilter(memoryDisk({ sizeBytes: 1 << 20 }));
  const f = fixture({ disk: stats });
  const front = f.connect();
  const gref = front.grant(front.page());
  const sectors = (1 << 20) / 512;
  const cases: [string, () => number, number][] = [
    ['no segments', () => front.put(BLKIF_OP.READ, 0, []), ERROR],
    [
      'more segments than a request holds',
      () =>
        front.put(BLKIF_OP.READ, 0, [[gref, 0, 7]], (m) => {
          m.nrSegments = 12;
        }),
      ERROR,
    ],
    [
      '255 segments',
      () =>
        front.put(BLKIF_OP.WRITE, 0, [[gref, 0, 7]], (m) => {
          m.nrSegments = 255;
        }),
      ERROR,
    ],
    ['a last sector beyond the page', () => front.put(BLKIF_OP.READ, 0, [[gref, 0, 8]]), ERROR],
    ['a last sector of 255', () => front.put(BLKIF_OP.WRITE, 0, [[gref, 0, 255]]), ERROR],
    ['a last sector before the first', () => front.put(BLKIF_OP.READ, 0, [[gref, 5, 4]]), ERROR],
    ['a place beyond the end', () => front.put(BLKIF_OP.READ, sectors - 7, [[gref, 0, 7]]), ERROR],
    ['a place at the end', () => front.put(BLKIF_OP.WRITE, sectors, [[gref, 0, 0]]), ERROR],
    [
      'a sector whose sum wraps',
      () => front.put(BLKIF_OP.READ, 0, [[gref, 0, 7]], (m) => m.setSectorHalves(0xffff_fffc, 0xffff_ffff)),
      ERROR,
    ],
    ['a sector above 2^53', () => front.put(BLKIF_OP.READ, 0, [[gref, 0, 7]], (m) => m.setSectorHalves(0, 0x20_0000)), ERROR],
    ['a reference that was never granted', () => front.put(BLKIF_OP.READ, 0, [[500, 0, 7]]), ERROR],
    ['a reference beyond the table', () => front.put(BLKIF_OP.READ, 0, [[0xffff_ffff, 0, 7]]), ERROR],
    ['an operation nobody knows', () => front.put(77, 0, [[gref, 0, 7]]), EOPNOTSUPP],
    ['the reserved operation', () => front.put(BLKIF_OP.RESERVED_1, 0, [[gref, 0, 7]]), EOPNOTSUPP],
    ['an indirect request with a bad inner operation', () => front.indirect(BLKIF_OP.FLUSH_DISKCACHE, 0, [[gref, 0, 7]]), ERROR],
    [
      'an indirect request of 257 segments',
      () =>
        front.put(BLKIF_OP.INDIRECT, 0, [], (m) => {
          m.indirectOp = BLKIF_OP.READ;
          m.nrSegments = 257;
          m.indirectGrefs[0] = gref;
        }),
      ERROR,
    ],
    [
      'an indirect request of no segments',
      () =>
        front.put(BLKIF_OP.INDIRECT, 0, [], (m) => {
          m.indirectOp = BLKIF_OP.READ;
          m.nrSegments = 0;
          m.indirectGrefs[0] = gref;
        }),
      ERROR,
    ],
    [
      'an indirect page that is not granted',
      () =>
        front.put(BLKIF_OP.INDIRECT, 0, [], (m) => {
          m.indirectOp = BLKIF_OP.READ;
          m.nrSegments = 1;
          m.indirectGrefs[0] = 501;
        }),
      ERROR,
    ],
    ['an indirect segment beyond its page', () => front.indirect(BLKIF_OP.READ, 0, [[gref, 0, 9]]), ERROR],
    ['a discard beyond the end', () => front.discard(sectors - 1, 2), ERROR],
    [
      'a discard of 2^63 sectors',
      () =>
        front.put(BLKIF_OP.DISCARD, 1, [], (m) => {
          m.setNrSectorsHalves(0, 0x8000_0000);
        }),
      ERROR,
    ],
  ];
  for (const [what, put, status] of cases) {
    it(what, () => {
      stats.reset();
      const id = put();
      expect(statusOf(go(f, front), id)).toBe(status);
      expect(stats.stats.read.calls + stats.stats.write.calls + stats.stats.discard.calls).toBe(0);
      const good = front.put(BLKIF_OP.READ, 0, [[gref, 0, 7]]);
      expect(statusOf(go(f, front), good)).toBe(OKAY);
      expect(front.grants.isInUse(gref)).toBe(false);
    });
  }

  it('a good segment beside one that cannot be mapped is unmapped again', () => {
    const id = front.put(BLKIF_OP.READ, 0, [
      [gref, 0, 7],
      [499, 0, 7],
      [gref, 0, 7],
    ]);
    expect(statusOf(go(f, front), id)).toBe(ERROR);
    expect(front.grants.isInUse(gref)).toBe(false);
    expect(f.device.counters.maps).toBe(f.device.counters.unmaps);
  });

  it('an unknown operation is answered with itself and the id unchanged, both halves', () => {
    front.message.operation = 200;
    front.message.idLo = 0xdead_beef;
    front.message.idHi = 0xffff_ffff;
    front.queues[0]!.ring.putRequest(front.message);
    const [answer] = go(f, front);
    expect(answer).toEqual({ id: 0xdead_beef, operation: 200, status: EOPNOTSUPP });
    expect(front.response.idHi).toBe(0xffff_ffff);
  });
});

describe('a disk of 4096-byte sectors', () => {
  it('takes whole sectors only, counted in units of 512 on the wire', () => {
    const f = fixture({ disk: memoryDisk({ sizeBytes: 1 << 20, sectorBytes: 4096 }) });
    const front = f.connect();
    expect(f.back('sector-size')).toBe('4096');
    expect(f.back('sectors')).toBe('2048');
    const gref = front.grant(front.page(1));
    const good = front.put(BLKIF_OP.WRITE, 8, [[gref, 0, 7]]);
    const halfway = front.put(BLKIF_OP.WRITE, 4, [[gref, 0, 7]]);
    const short = front.put(BLKIF_OP.WRITE, 8, [[gref, 0, 3]]);
    const discard = front.discard(8, 4);
    const answers = go(f, front);
    expect([good, halfway, short, discard].map((id) => statusOf(answers, id))).toEqual([OKAY, ERROR, ERROR, ERROR]);
  });
});

describe('a read-only device', () => {
  for (const [what, options] of [
    ['by its disk', { disk: memoryDisk({ sizeBytes: 1 << 20, readonly: true }) }],
    ['by its mode', { attach: { mode: 'r' as const } }],
  ] as const) {
    it(`${what}: reads, and refuses writes, flushes and discards`, () => {
      const f = fixture(options);
      const front = f.connect();
      expect(f.back('mode')).toBe('r');
      expect(f.back('info')).toBe('4');
      expect(f.back('feature-discard')).toBeUndefined();
      const gref = front.grant(front.page());
      const ids = [
        front.put(BLKIF_OP.READ, 0, [[gref, 0, 7]]),
        front.put(BLKIF_OP.WRITE, 0, [[gref, 0, 7]]),
        front.put(BLKIF_OP.FLUSH_DISKCACHE, 0),
        front.discard(0, 8),
      ];
      const answers = go(f, front);
      expect(ids.map((id) => statusOf(answers, id))).toEqual([OKAY, ERROR, ERROR, EOPNOTSUPP]);
    });
  }
});

describe('an indirect request', () => {
  it('moves 256 segments, is answered with its inner operation, and lets go of its page of segments', () => {
    const f = fixture();
    const front = f.connect();
    const pages = Array.from({ length: 256 }, (_, i) => front.page(i));
    const grefs = pages.map((page) => front.grant(page));
    const write = front.indirect(
      BLKIF_OP.WRITE,
      0,
      grefs.map((gref) => [gref, 0, 7] as const),
    );
    expect(go(f, front)).toEqual([{ id: write, operation: BLKIF_OP.WRITE, status: OKAY }]);
    for (const page of pages) front.bytes(page).fill(0xff);
    const read = front.indirect(
      BLKIF_OP.READ,
      8,
      grefs.slice(1).map((gref) => [gref, 0, 7] as const),
      true,
    );
    expect(go(f, front)).toEqual([{ id: read, operation: BLKIF_OP.READ, status: OKAY }]);
    expect(pages.slice(1).every((page, i) => front.bytes(page).every((byte) => byte === (i + 1) % 256))).toBe(true);
    expect(f.device.counters.indirect).toBe(2);
    front.releaseData();
  });

  it('keeps its page of segments mapped only while it is parsed', () => {
    const f = fixture({ disk: delayFilter(memoryDisk({ sizeBytes: 1 << 20 }), { scheduler: fixtureScheduler(), ticks: 5 }) });
    setScheduler(f);
    const front = f.connect();
    const gref = front.grant(front.page());
    front.indirect(BLKIF_OP.READ, 0, [[gref, 0, 7]]);
    go(f, front);
    expect(front.grants.isInUse(gref)).toBe(true);
    expect(front.grants.isInUse(front.message.indirectGrefs[0]! as never)).toBe(false);
    f.machine.run();
    expect(front.answers()).toHaveLength(1);
  });

  it('is refused where it was not offered', () => {
    const f = fixture({ blkback: { indirectSegmentsMax: 0 } });
    const front = f.connect();
    expect(f.back('feature-max-indirect-segments')).toBeUndefined();
    const id = front.indirect(BLKIF_OP.READ, 0, [[front.grant(front.page()), 0, 7]]);
    expect(statusOf(go(f, front), id)).toBe(EOPNOTSUPP);
  });
});

describe('flushes and barriers', () => {
  it('flush the disk before their data, and a barrier flushes after it too where the disk cannot write through', () => {
    const inner = memoryDisk({ sizeBytes: 1 << 20 });
    const calls: string[] = [];
    const disk = Object.create(inner, {
      fua: { value: false },
      flush: { value: (waiter: never) => calls.push('flush') && inner.flush(waiter) },
      write: { value: (...args: Parameters<typeof inner.write>) => calls.push('write') && inner.write(...args) },
      onResize: { value: undefined },
    });
    const f = fixture({ disk });
    const front = f.connect();
    const gref = front.grant(front.page());
    front.put(BLKIF_OP.FLUSH_DISKCACHE, 0);
    front.put(BLKIF_OP.FLUSH_DISKCACHE, 0, [[gref, 0, 7]]);
    front.put(BLKIF_OP.WRITE_BARRIER, 0, [[gref, 0, 7]]);
    front.put(BLKIF_OP.WRITE_BARRIER, 0);
    expect(go(f, front).map(({ status }) => status)).toEqual([OKAY, OKAY, OKAY, OKAY]);
    expect(calls).toEqual(['flush', 'flush', 'write', 'flush', 'write', 'flush', 'flush']);
    expect(f.device.counters).toMatchObject({ flushes: 2, barriers: 2 });
  });

  it('take the sector of all ones that Linux sends', () => {
    const f = fixture();
    const front = f.connect();
    const id = front.put(BLKIF_OP.FLUSH_DISKCACHE, 0, [], (m) => m.setSectorHalves(0xffff_ffff, 0xffff_ffff));
    expect(statusOf(go(f, front), id)).toBe(OKAY);
  });

  it('a barrier waits for everything before it and holds everything behind it', () => {
    const f = fixture({ disk: delayFilter(memoryDisk({ sizeBytes: 1 << 20 }), { scheduler: fixtureScheduler(), ticks: 5 }) });
    setScheduler(f);
    const front = f.connect();
    const grefs = Array.from({ length: 4 }, () => front.grant(front.page()));
    const before = front.put(BLKIF_OP.WRITE, 0, [[grefs[0]!, 0, 7]]);
    const barrier = front.put(BLKIF_OP.WRITE_BARRIER, 8, [[grefs[1]!, 0, 7]]);
    const behind = front.put(BLKIF_OP.WRITE, 16, [[grefs[2]!, 0, 7]]);
    front.ring();
    const order: number[] = [];
    for (let tick = 0; tick < 40; tick++) {
      f.machine.run({ untilTicks: f.machine.now + 1 });
      order.push(...front.answers().map(({ id }) => id));
      if (front.grants.isInUse(grefs[2]!)) expect(order).toEqual([before, barrier]);
    }
    expect(order).toEqual([before, barrier, behind]);
  });

  it('are withdrawn in the store when the disk says that it cannot', () => {
    const disk = errorFilter(memoryDisk({ sizeBytes: 1 << 20 }), { rules: [{ op: 'flush', errno: 95, times: 2 }] });
    const f = fixture({ disk });
    const front = f.connect();
    const flush = front.put(BLKIF_OP.FLUSH_DISKCACHE, 0);
    const barrier = front.put(BLKIF_OP.WRITE_BARRIER, 0);
    const answers = go(f, front);
    expect([flush, barrier].map((id) => statusOf(answers, id))).toEqual([EOPNOTSUPP, EOPNOTSUPP]);
    expect([f.back('feature-flush-cache'), f.back('feature-barrier')]).toEqual(['0', '0']);
  });

  it('are refused where they were not offered', () => {
    const f = fixture({ blkback: { flush: false, barrier: false } });
    const front = f.connect();
    expect([f.back('feature-flush-cache'), f.back('feature-barrier')]).toEqual(['0', '0']);
    const ids = [front.put(BLKIF_OP.FLUSH_DISKCACHE, 0), front.put(BLKIF_OP.WRITE_BARRIER, 0)];
    const answers = go(f, front);
    expect(ids.map((id) => statusOf(answers, id))).toEqual([EOPNOTSUPP, EOPNOTSUPP]);
  });
});

describe('discards', () => {
  it('empty the range, and a secure one is told to the disk only where it was offered', () => {
    const f = fixture();
    const front = f.connect();
    const page = front.page(7);
    front.put(BLKIF_OP.WRITE, 0, [[front.grant(page), 0, 7]]);
    const plain = front.discard(2, 2);
    const secure = front.discard(4, 1, BLKIF_DISCARD_SECURE);
    const nothing = front.discard(1 << 30, 0);
    const answers = go(f, front);
    expect([plain, secure, nothing].map((id) => statusOf(answers, id))).toEqual([OKAY, OKAY, OKAY]);
    front.put(BLKIF_OP.READ, 0, [[front.grant(page), 0, 7]]);
    go(f, front);
    expect([0, 1, 2, 3, 4, 5].map((sector) => front.bytes(page)[sector * 512])).toEqual([7, 7, 0, 0, 0, 7]);
    expect(f.device.counters.bytesDiscarded).toBe(3 * 512);
  });

  it('are refused where the toolstack switched them off', () => {
    const f = fixture({ attach: { discard: false } });
    const front = f.connect();
    expect(f.back('discard-enable')).toBe('0');
    expect(f.back('feature-discard')).toBeUndefined();
    const id = front.discard(0, 8);
    expect(statusOf(go(f, front), id)).toBe(EOPNOTSUPP);
  });
});

describe('persistent grants', () => {
  it('stay mapped after their request and are found by the next', () => {
    const f = fixture();
    const front = f.connect({ persistent: true });
    expect(f.device.persistent).toBe(true);
    const gref = front.grant(front.page(4));
    for (let i = 0; i < 10; i++) front.put(BLKIF_OP.WRITE, i * 8, [[gref, 0, 7]]);
    expect(go(f, front)).toHaveLength(10);
    expect(f.device.persistentGrants).toBe(1);
    expect(f.device.counters).toMatchObject({ maps: 1, unmaps: 0, persistentHits: 9 });
    const flags = new DataView(front.grants.entryBytes(gref).buffer).getUint16(0, true);
    expect(flags).toBe(GTF.permit_access | GTF.reading | GTF.writing);
  });

  it('are unmapped after a minute without use, and not before', () => {
    const f = fixture();
    const front = f.connect({ persistent: true });
    const idle = front.grant(front.page());
    const used = front.grant(front.page());
    front.put(BLKIF_OP.WRITE, 0, [
      [idle, 0, 7],
      [used, 0, 7],
    ]);
    go(f, front);
    f.machine.run({ untilTicks: f.machine.now + 40_000 });
    front.put(BLKIF_OP.WRITE, 0, [[used, 0, 7]]);
    go(f, front);
    f.machine.run({ untilTicks: f.machine.now + 19_000 });
    expect(f.device.persistentGrants).toBe(2);
    f.machine.run({ untilTicks: f.machine.now + 3_000 });
    expect(front.grants.isInUse(idle)).toBe(false);
    expect(front.grants.isInUse(used)).toBe(true);
    f.machine.run();
    expect(f.device.persistentGrants).toBe(0);
    expect(front.grants.isInUse(used)).toBe(false);
  });

  it('never exceed their limit: beyond it requests map for themselves, and the least recently used make room', () => {
    const f = fixture({ blkback: { persistentMax: 16 } });
    const purged: number[] = [];
    f.bus.on('blkback:purged').subscribe(({ grants }) => purged.push(grants));
    const front = f.connect({ persistent: true });
    const grefs = Array.from({ length: 40 }, () => front.grant(front.page()));
    for (const gref of grefs) {
      front.put(BLKIF_OP.WRITE, 0, [[gref, 0, 7]]);
      expect(go(f, front)[0]!.status).toBe(OKAY);
      expect(f.device.persistentGrants).toBeLessThanOrEqual(16);
    }
    expect(purged.length).toBeGreaterThan(0);
    expect(front.grants.isInUse(grefs[0]!)).toBe(false);
  });

  it('serve one reference used several times at once', () => {
    const f = fixture();
    const front = f.connect({ persistent: true });
    const gref = front.grant(front.page(6));
    front.put(BLKIF_OP.WRITE, 0, [
      [gref, 0, 7],
      [gref, 0, 7],
      [gref, 0, 7],
    ]);
    expect(go(f, front)[0]!.status).toBe(OKAY);
    expect(f.device.persistentGrants).toBe(1);
    expect(front.grants.isInUse(gref)).toBe(true);
  });

  it('are all given back when the frontend closes', () => {
    const f = fixture();
    const front = f.connect({ persistent: true });
    const grefs = Array.from({ length: 8 }, () => front.grant(front.page()));
    front.indirect(
      BLKIF_OP.WRITE,
      0,
      grefs.map((gref) => [gref, 0, 7] as const),
    );
    expect(go(f, front)[0]!.status).toBe(OKAY);
    expect(f.device.persistentGrants).toBe(9);
    front.setState(6);
    now(f);
    expect(f.device.state).toBe(6);
    front.release();
    expectNoLeaksAfterClose(f);
  });
});

function expectNoLeaksAfterClose(f: Fixture): void {
  const counters = f.host.blkback.counters;
  expect(counters.maps).toBe(counters.unmaps);
  expect(f.host.grants.usage().mapped).toBe(0);
}

describe('a queue with few addresses', () => {
  it('lets requests wait for pages rather than refuse them, and carries all of them out', () => {
    const disk = delayFilter(memoryDisk({ sizeBytes: 16 << 20 }), { scheduler: fixtureScheduler(), ticks: 1 });
    const f = fixture({ disk, blkback: { mappedPagesMax: 264 }, guestPages: 2048 });
    setScheduler(f);
    const front = f.connect();
    const grefs = Array.from({ length: 128 }, () => front.grant(front.page()));
    for (let i = 0; i < 16; i++) {
      front.indirect(
        BLKIF_OP.WRITE,
        i * 1024,
        grefs.map((gref) => [gref, 0, 7] as const),
      );
    }
    front.ring();
    f.machine.run();
    expect(front.answers().map(({ status }) => status)).toEqual(Array.from({ length: 16 }, () => OKAY));
    front.releaseData();
    expect(f.host.grants.usage().mapped).toBe(1);
  });
});

describe('a page that is still in use', () => {
  it('is unmapped only when it no longer is, and the answer waits for that', () => {
    const f = fixture();
    const front = f.connect();
    const gref = front.grant(front.page());
    let held = -1;
    const mapped = f.bus.on('hv:mapped').subscribe(({ vfn }) => {
      held = vfn;
      f.dom0.pageUse.use(vfn);
    });
    const id = front.put(BLKIF_OP.WRITE, 0, [[gref, 0, 7]]);
    expect(go(f, front)).toEqual([]);
    mapped.unsubscribe();
    f.machine.run({ untilTicks: f.machine.now + 100 });
    expect(front.answers()).toEqual([]);
    expect(front.grants.isInUse(gref)).toBe(true);
    f.dom0.pageUse.unuse(held);
    f.machine.run();
    expect(statusOf(front.answers(), id)).toBe(OKAY);
    expect(front.grants.isInUse(gref)).toBe(false);
    expect(f.device.counters.unmapsDeferred).toBe(1);
  });
});

describe('a whole life', () => {
  it('leaves nothing behind, on either side', () => {
    const f = fixture();
    const front = f.connect({ queues: 4, ringPages: 4 });
    expect(f.device).toMatchObject({ queues: 4, ringPages: 4 });
    const gref = front.grant(front.page());
    for (let q = 0; q < 4; q++) {
      front.put(BLKIF_OP.WRITE, q * 8, [[gref, 0, 7]], () => {}, q);
      expect(go(f, front, q)[0]!.status).toBe(OKAY);
    }
    f.dom0.store.write(`${f.attached!.backendPath}/online`, '0');
    front.setState(6);
    now(f);
    expect(f.host.blkback.device(f.guest.id, 51712)).toBeUndefined();
    front.release();
    front.grants.close();
    f.machine.close();
    expectNoLeaks(f.machine);
  });
});
