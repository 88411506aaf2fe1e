import { BLKIF_OP, BLKIF_RSP } from '@paravirt/xen-abi';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { attachDisk, type BlkbackOptions, type Disk, DiskError, delayFilter, LATER, memoryDisk } from '../src/index.ts';
import { Fixture, fixture, type RawFront, statusOf } from './blkback-fixture.ts';

const { READ, WRITE, FLUSH_DISKCACHE: FLUSH, WRITE_BARRIER: BARRIER } = BLKIF_OP;
const { OKAY, ERROR } = BLKIF_RSP;
const MIB = 1 << 20;
const BROKEN = 'the disk throws';

type Call = 'read' | 'write' | 'flush' | 'discard';

/** What a rule answers where the disk is to do what it was asked. */
const OBEY = Symbol('obey');

/** A memory disk that answers what `rule` does. */
function brokenDisk(rule: (call: Call, sector: number, waiter: { done(status: number): void }) => unknown): Disk {
  const store = memoryDisk({ sizeBytes: MIB });
  const through = (call: Call, sector: number, waiter: { done(status: number): void }, really: () => number): number => {
    const answer = rule(call, sector, waiter);
    return answer === OBEY ? really() : (answer as number);
  };
  return Object.assign(Object.create(store) as Disk, {
    volatileCache: true,
    fua: false,
    read: (...args: Parameters<Disk['read']>) => through('read', args[2] / 512, args[4], () => store.read(...args)),
    write: (...args: Parameters<Disk['write']>) => through('write', args[2] / 512, args[4], () => store.write(...args)),
    flush: (...args: Parameters<Disk['flush']>) => through('flush', 0, args[0], () => store.flush(...args)),
    discard: (...args: Parameters<Disk['discard']>) => through('discard', args[0] / 512, args[3], () => store.discard(...args)),
  });
}

const throws = (): never => {
  throw new Error(BROKEN);
};

/** Rings and runs until nothing is left to do now. @returns what was thrown on the way. */
function go(f: Fixture, front: RawFront): unknown[] {
  front.ring();
  const thrown: unknown[] = [];
  for (let i = 0; i < 100; i++) {
    try {
      f.machine.run({ untilTicks: f.machine.now });
      return thrown;
    } catch (error) {
      thrown.push(error);
    }
  }
  throw new Error('it never ends');
}

const settled = (f: Fixture, front: RawFront): void => {
  expect(f.device.inFlight).toBe(0);
  expect(f.device.counters.unmaps).toBe(f.device.counters.maps);
  // The backend has let go of every page.
  front.releaseData();
};

describe('a disk that throws', () => {
  const ways: [string, (front: RawFront, gref: number) => number][] = [
    ['a short read', (front, gref) => front.put(READ, 8, [[gref, 0, 7]])],
    ['a short write', (front, gref) => front.put(WRITE, 8, [[gref, 0, 7]])],
    [
      'a read of two pages',
      (front, gref) =>
        front.put(
          READ,
          8,
          [gref, gref].map((g) => [g, 0, 7] as const),
        ),
    ],
    ['an indirect write', (front, gref) => front.indirect(WRITE, 8, [[gref, 0, 7]])],
    ['a flush', (front) => front.put(FLUSH, 0)],
    ['a barrier with data', (front, gref) => front.put(BARRIER, 8, [[gref, 0, 7]])],
    ['a discard', (front) => front.discard(8, 8)],
  ];
  it.each(ways)('fails %s with an I/O error, and the requests around it go well', (_, ask) => {
    let broken = true;
    const disk = brokenDisk((call, sector) => (broken && (call === 'flush' || sector === 8) ? throws() : OBEY));
    const f = fixture({ disk });
    const front = f.connect();
    const gref = front.grant(front.page());
    const before = front.put(READ, 0, [[gref, 0, 7]]);
    const bad = ask(front, gref);
    const after = front.put(READ, 16, [[gref, 0, 7]]);
    expect(go(f, front)).toEqual([new Error(BROKEN)]);
    const answers = front.answers();
    expect([before, bad, after].map((id) => statusOf(answers, id))).toEqual([OKAY, ERROR, OKAY]);
    expect(answers).toHaveLength(3);
    broken = false;
    const again = ask(front, gref);
    expect(go(f, front)).toEqual([]);
    expect(statusOf(front.answers(), again)).toBe(OKAY);
    settled(f, front);
  });

  it.each([undefined, null, Number.NaN, 1, 2, 0.5, -0.5, 'EIO', {}])(
    'is wrong to tell its waiter %s later: the request fails, and who runs the machine is told',
    (wrong) => {
      const disk = brokenDisk((_call, sector, waiter) => {
        if (sector !== 8) return OBEY;
        f.dom0.scheduler.schedule(() => waiter.done(wrong as number), 5);
        return LATER;
      });
      const f = fixture({ disk });
      const front = f.connect();
      const gref = front.grant(front.page());
      const ids = [0, 8, 16].map((sector) => front.put(READ, sector, [[gref, 0, 7]]));
      const long = front.put(READ, 8, [
        [gref, 0, 7],
        [gref, 0, 7],
      ]);
      expect(go(f, front)).toEqual([]);
      for (let told = 0; told < 2; told++) {
        expect(() => f.machine.run()).toThrow(new DiskError({ code: 'bad-answer', disk: 'memory', answer: String(wrong) }));
      }
      f.machine.run();
      const answers = front.answers();
      expect([...ids, long].map((id) => statusOf(answers, id))).toEqual([OKAY, ERROR, OKAY, ERROR]);
      settled(f, front);
    },
  );

  it.each([undefined, null, Number.NaN, 2, 0.5, 'EIO', {}])(
    'is wrong to answer %s: the request fails, and who runs the machine is told',
    (wrong) => {
      const disk = brokenDisk((_call, sector) => (sector === 8 ? wrong : OBEY));
      const f = fixture({ disk });
      const front = f.connect();
      const gref = front.grant(front.page());
      const ids = [0, 8, 16].map((sector) => front.put(READ, sector, [[gref, 0, 7]]));
      const [error, ...others] = go(f, front);
      expect(others).toEqual([]);
      expect(error).toBeInstanceOf(DiskError);
      expect((error as DiskError).refusal).toEqual({ code: 'bad-answer', disk: 'memory', answer: String(wrong) });
      expect((error as Error).message).toContain('allowed is 0, a negative errno or LATER');
      const answers = front.answers();
      expect(ids.map((id) => statusOf(answers, id))).toEqual([OKAY, ERROR, OKAY]);
      settled(f, front);
    },
  );

  it('gives its first error when several requests of a turn meet one', () => {
    let count = 0;
    const disk = brokenDisk(() => {
      throw new Error(`error ${++count}`);
    });
    const f = fixture({ disk });
    const front = f.connect();
    const gref = front.grant(front.page());
    for (let i = 0; i < 4; i++) front.put(READ, i * 8, [[gref, 0, 7]]);
    expect(go(f, front)).toEqual([new Error('error 1')]);
    expect(front.answers().map(({ status }) => status)).toEqual([ERROR, ERROR, ERROR, ERROR]);
    settled(f, front);
  });

  it('costs no request that it had put off its answer, nor one that is under way when it tells a waiter that it threw at', () => {
    const waiting: (() => void)[] = [];
    const spurious: (() => void)[] = [];
    const disk = brokenDisk((_call, sector, waiter) => {
      if (sector === 8) {
        spurious.push(() => waiter.done(0));
        return throws();
      }
      waiting.push(() => waiter.done(0));
      return LATER;
    });
    const f = fixture({ disk });
    const front = f.connect();
    const gref = front.grant(front.page());
    const first = front.put(READ, 0, [[gref, 0, 7]]);
    const bad = front.put(READ, 8, [[gref, 0, 7]]);
    expect(go(f, front)).toHaveLength(1);
    const more = [16, 24, 32].map((sector) => front.put(READ, sector, [[gref, 0, 7]]));
    expect(go(f, front)).toEqual([]);
    expect(front.answers()).toEqual([{ id: bad, operation: READ, status: ERROR }]);
    for (const tell of spurious.splice(0)) expect(tell).toThrow('told its waiter');
    expect(go(f, front)).toEqual([]);
    expect(front.answers()).toEqual([]);
    for (const tell of waiting.splice(0)) tell();
    expect(go(f, front)).toEqual([]);
    expect(front.answers().map(({ id, status }) => [id, status])).toEqual([first, ...more].map((id) => [id, OKAY]));
    settled(f, front);
  });

  it('at the flush behind a barrier that was written later, fails it when that flush was to begin', () => {
    let finish: (() => void) | undefined;
    let flushes = 0;
    const disk = brokenDisk((call, _sector, waiter) => {
      if (call === 'flush') return ++flushes === 2 ? throws() : OBEY;
      finish = () => waiter.done(0);
      return LATER;
    });
    const f = fixture({ disk });
    const front = f.connect();
    const barrier = front.put(BARRIER, 0, [[front.grant(front.page()), 0, 7]]);
    expect(go(f, front)).toEqual([]);
    expect(finish!).toThrow(BROKEN);
    expect(go(f, front)).toEqual([]);
    expect(front.answers()).toEqual([{ id: barrier, operation: BARRIER, status: ERROR }]);
    settled(f, front);
  });

  it('keeps no other ring from its turn', () => {
    const disk = brokenDisk((_call, sector) => (sector === 8 ? throws() : OBEY));
    // Each ring comes round several times.
    const f = fixture({ disk, blkback: { turnCost: 2 } });
    const front = f.connect({ queues: 4 });
    const gref = front.grant(front.page());
    for (const q of [0, 1, 2, 3]) {
      for (const sector of [0, 24, q < 2 ? 8 : 16]) front.put(READ, sector, [[gref, 0, 7]], () => undefined, q);
    }
    for (const q of [1, 2, 3]) front.ring(q);
    expect(go(f, front)).toEqual([new Error(BROKEN), new Error(BROKEN)]);
    expect([0, 1, 2, 3].map((q) => front.answers(q).map(({ status }) => status))).toEqual([
      [OKAY, OKAY, ERROR],
      [OKAY, OKAY, ERROR],
      [OKAY, OKAY, OKAY],
      [OKAY, OKAY, OKAY],
    ]);
    settled(f, front);
  });

  it('behind a delay fails its own request alone, and those after it come in time', () => {
    const disk = brokenDisk((_call, sector) => (sector === 8 ? throws() : OBEY));
    // The delay needs the clock of a domain that is made with the fixture.
    const { machine, bus, dom0, guest, host } = fixture({ noAttach: true });
    const slow = delayFilter(disk, { scheduler: dom0.scheduler, ticks: 5 });
    const f = new Fixture(machine, bus, dom0, guest, host, slow, attachDisk(host, { frontend: guest.id, disk: slow }));
    const front = f.connect();
    const gref = front.grant(front.page());
    const ids = [0, 8, 16].map((sector) => front.put(READ, sector, [[gref, 0, 7]]));
    expect(go(f, front)).toEqual([]);
    expect(() => f.machine.run({ untilTicks: f.machine.now + 5 })).toThrow(BROKEN);
    f.machine.run({ untilTicks: f.machine.now + 5 });
    const answers = front.answers();
    expect(ids.map((id) => statusOf(answers, id))).toEqual([OKAY, ERROR, OKAY]);
    settled(f, front);
  });

  it('at any moment, in any way, leaves every request one answer and no page mapped', () => {
    const step = fc.record({
      way: fc.constantFrom('okay', 'throw', 'wrong', 'later', 'error', 'throw-and-tell'),
      kind: fc.constantFrom('read', 'write', 'long', 'flush', 'indirect'),
    });
    const options: fc.Arbitrary<{ persistent: boolean; blkback: BlkbackOptions }> = fc.record({
      persistent: fc.boolean(),
      blkback: fc.record({ turnCost: fc.constantFrom(3, 64) }),
    });
    fc.assert(
      fc.property(options, fc.array(fc.array(step, { minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 6 }), (option, rounds) => {
        let plan: string[] = [];
        const late: (() => void)[] = [];
        const disk = brokenDisk((_call, _sector, waiter) => {
          const way = plan.shift();
          if (way === 'throw') throws();
          if (way === 'throw-and-tell') {
            late.push(() => expect(() => waiter.done(0)).toThrow('told its waiter'));
            throws();
          }
          if (way === 'wrong') return 'x';
          if (way === 'error') return -5;
          if (way !== 'later') return OBEY;
          late.push(() => waiter.done(0));
          return LATER;
        });
        const f = fixture({ disk, blkback: option.blkback });
        const front = f.connect({ persistent: option.persistent });
        const grefs = [3, 2, 1, 0].map((fill) => front.grant(front.page(fill)));
        const segments = grefs.map((gref) => [gref, 0, 7] as const);
        const asked: number[] = [];
        const answered: number[] = [];
        for (const round of rounds) {
          plan = round.map(({ way }) => way);
          for (const { kind } of round) {
            if (kind === 'flush') asked.push(front.put(FLUSH, 0));
            else if (kind === 'long') asked.push(front.put(READ, 0, segments));
            else if (kind === 'indirect') asked.push(front.indirect(WRITE, 0, segments));
            else asked.push(front.put(kind === 'read' ? READ : WRITE, 0, segments.slice(0, 1)));
          }
          for (const error of go(f, front)) expect(String(error)).toMatch(/the disk throws|answered x/);
          for (const tell of late.splice(0)) {
            try {
              tell();
            } catch (error) {
              expect(String(error)).toMatch(/the disk throws|answered x/);
            }
          }
          go(f, front);
          answered.push(...front.answers().map(({ id }) => id));
        }
        plan = [];
        while (late.length > 0) {
          late.shift()!();
          go(f, front);
        }
        answered.push(...front.answers().map(({ id }) => id));
        expect(answered.sort((a, b) => a - b)).toEqual(asked);
        expect(f.device.inFlight).toBe(0);
        if (!option.persistent) settled(f, front);
      }),
      { numRuns: process.env['PARAVIRT_FULL'] === undefined ? 150 : 3000 },
    );
  });
});
