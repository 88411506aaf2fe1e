import { BLKIF_OP, writeIndirectSegment } from '@paravirt/xen-abi';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { attachDisk, createMachine, type Disk, delayFilter, expectNoLeaks, LATER, memoryDisk, serveDisks } from '../src/index.ts';
import { type Fixture, fixture, RawFront, statusOf } from './blkback-fixture.ts';

const FULL = process.env['PARAVIRT_FULL'] !== undefined;
const RINGS = FULL ? 2000 : 40;
const STORES = FULL ? 1000 : 25;
const SEEDS = FULL ? 200 : 20;
const MIB = 1 << 20;
const now = (f: { machine: Fixture['machine'] }): void => {
  f.machine.run({ untilTicks: f.machine.now });
};

/** A memory disk that takes nothing on trust: a call outside its bounds, or memory outside the machine, fails the test. */
function strictDisk(sizeBytes = MIB): { disk: Disk; violations: string[] } {
  const inner = memoryDisk({ sizeBytes });
  const violations: string[] = [];
  const check = (what: string, offset: number, bytes: number): void => {
    const good =
      Number.isInteger(offset) && bytes > 0 && offset >= 0 && offset % 512 === 0 && bytes % 512 === 0 && offset + bytes <= sizeBytes;
    if (!good) violations.push(`${what} ${offset}+${bytes}`);
  };
  const disk: Disk = Object.create(inner, {
    read: {
      value: (...args: Parameters<Disk['read']>) => {
        check('read', args[2], args[3]);
        return inner.read(...args);
      },
    },
    write: {
      value: (...args: Parameters<Disk['write']>) => {
        check('write', args[2], args[3]);
        return inner.write(...args);
      },
    },
    discard: {
      value: (...args: Parameters<Disk['discard']>) => {
        check('discard', args[0], args[1]);
        return inner.discard(...args);
      },
    },
    onResize: { value: undefined },
  });
  return { disk, violations };
}

/** A guest whose memory is its own buffer, so that every 32-bit read of its pages can be seen, and answered with something else. */
function watchedFixture(disk: Disk) {
  const f = fixture({ noAttach: true });
  const guest = f.machine.createDomain({ pages: 256, isolated: true });
  const attached = attachDisk(f.host, { frontend: guest.id, disk });
  now(f);
  const front = new RawFront(guest, attached.frontendPath);
  front.publish();
  now(f);
  const { views } = guest.memory.frame(0);
  const real = views.u32;
  let onRead: ((word: number) => void) | undefined;
  views.u32 = new Proxy(real, {
    get(target, key) {
      if (typeof key === 'string' && /^\d+$/.test(key)) {
        const value = target[Number(key)];
        onRead?.(Number(key));
        return value;
      }
      const value = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
    set(target, key, value) {
      target[Number(key)] = value;
      return true;
    },
  });
  const ringWord = guest.memory.frame(front.queues[0]!.gfns[0]!).offset >>> 2;
  return {
    f,
    guest,
    front,
    real,
    ringWord,
    device: () => f.host.blkback.device(guest.id, 51712)!,
    watch: (handler: ((word: number) => void) | undefined) => {
      onRead = handler;
    },
  };
}

describe('a double fetch is impossible', () => {
  const kinds = ['direct', 'indirect', 'discard', 'flush'] as const;
  const put = (front: RawFront, kind: (typeof kinds)[number]): number[] => {
    const gref = front.grant(front.page(1));
    const other = front.grant(front.page(2));
    if (kind === 'direct') {
      front.put(BLKIF_OP.WRITE, 8, [
        [gref, 0, 7],
        [other, 2, 3],
      ]);
    } else if (kind === 'indirect') {
      front.indirect(
        BLKIF_OP.WRITE,
        8,
        Array.from({ length: 20 }, () => [gref, 0, 7] as const),
      );
    } else if (kind === 'discard') front.discard(8, 8);
    else front.put(BLKIF_OP.FLUSH_DISKCACHE, 0);
    return [gref, other];
  };

  for (const kind of kinds) {
    it(`each word of a ${kind} request is read once, and so is the producer index for each look`, () => {
      const { front, f, ringWord, watch } = watchedFixture(memoryDisk({ sizeBytes: MIB }));
      put(front, kind);
      front.ring();
      const reads = new Map<number, number>();
      watch((word) => reads.set(word, (reads.get(word) ?? 0) + 1));
      // The backend's turn and no more: the frontend reads its own ring afterwards.
      while (f.host.blkback.counters.requests === 0) f.machine.step();
      watch(undefined);
      expect(f.host.blkback.counters.errors).toBe(0);
      const slots = [...reads].filter(([word]) => word >= ringWord + 16);
      expect(slots.length).toBeGreaterThan(4);
      // A response is written into a slot with its padding kept: that is a read of one word more.
      expect(slots.filter(([word, count]) => count > 1 && word !== ringWord + 16 + 2)).toEqual([]);
    });

    it(`whatever a ${kind} request becomes between two reads, what is done was checked`, () => {
      // After each read that there is, until there are no more.
      for (let at = 0, last = false; !last; at++) {
        const { disk, violations } = strictDisk();
        const { front, f, real, ringWord, watch, device } = watchedFixture(disk);
        const grefs = put(front, kind);
        front.ring();
        let count = 0;
        watch((word) => {
          if (word < ringWord || word >= ringWord + 1024 || count++ !== at) return;
          // Everything of the slot that may still be read turns hostile; the indices stay.
          real.fill(0xffff_ffff, ringWord + 16, ringWord + 16 + 28);
        });
        now(f);
        watch(undefined);
        last = count <= at;
        expect(at).toBeLessThan(100);
        expect(violations).toEqual([]);
        expect(device().counters.maps).toBe(device().counters.unmaps);
        expect(front.answers()).toHaveLength(1);
        for (const gref of grefs) expect(front.grants.isInUse(gref as never)).toBe(false);
      }
    });
  }

  it('segments that change while they are copied are checked as they were copied', () => {
    for (let at = 0; at < 20; at++) {
      const { disk, violations } = strictDisk();
      const { front, f, real, watch } = watchedFixture(disk);
      const gref = front.grant(front.page(1));
      front.indirect(
        BLKIF_OP.WRITE,
        8,
        Array.from({ length: 8 }, () => [gref, 0, 7] as const),
      );
      front.ring();
      let count = 0;
      watch((word) => {
        if (real[word] !== gref || count++ !== at) return;
        // A segment's second word: from sector 255 to sector 0 of some other reference.
        real[word] = 0xffff_ffff;
        real[word + 1] = 0x00ff;
      });
      now(f);
      watch(undefined);
      expect(violations).toEqual([]);
      expect(front.answers()).toHaveLength(1);
    }
  });

  it('a producer index that changes at every read stops the ring or is worked off, and the turn ends', () => {
    const { disk, violations } = strictDisk();
    const { front, f, real, ringWord, watch } = watchedFixture(disk);
    const gref = front.grant(front.page());
    for (let i = 0; i < 32; i++) front.put(BLKIF_OP.READ, 0, [[gref, 0, 7]]);
    front.ring();
    let flip = 0;
    watch((word) => {
      if (word === ringWord) real[ringWord] = flip++ % 2 === 0 ? 0 : 32;
    });
    const steps = f.machine.steps;
    f.machine.run({ untilTicks: f.machine.now, stepsMax: 10_000 });
    watch(undefined);
    expect(f.machine.steps - steps).toBeLessThan(5_000);
    expect(violations).toEqual([]);
  });
});

describe('an impossible producer index', () => {
  for (const ahead of [33, 1000, 0x8000_0000, 0xffff_ffff]) {
    it(`${ahead} ahead stops the ring for good, and only that`, () => {
      const f = fixture();
      const front = f.connect({ queues: 2 });
      const halted: unknown[] = [];
      f.bus.on('blkback:halted').subscribe((fact) => halted.push(fact));
      const gref = front.grant(front.page());
      const { ring, port } = front.queues[0]!;
      ring.shared.reqProd = ahead;
      f.guest.events.send(port);
      now(f);
      expect(halted).toEqual([{ frontend: f.guest.id, device: 51712, queue: 0, reqProd: ahead, rspProd: 0, entries: 32 }]);
      expect(f.device.halted).toBe(true);
      // Back in range it stays stopped.
      ring.shared.reqProd = 0;
      front.put(BLKIF_OP.READ, 0, [[gref, 0, 7]]);
      front.ring();
      now(f);
      expect(front.answers()).toEqual([]);
      const other = front.put(BLKIF_OP.READ, 0, [[gref, 0, 7]], () => {}, 1);
      front.ring(1);
      now(f);
      expect(statusOf(front.answers(1), other)).toBe(0);
      // A new connection starts afresh.
      front.setState(6);
      now(f);
      front.release();
      front.setState(1);
      now(f);
      front.publish();
      now(f);
      expect(f.device).toMatchObject({ state: 4, halted: false });
    });
  }

  it('after the indices have wrapped is told apart from a good one', () => {
    const f = fixture();
    now(f);
    const front = new RawFront(f.guest, f.attached!.frontendPath);
    front.publish(1);
    const { ring } = front.queues[0]!;
    ring.attach(0xffff_fff0);
    ring.shared.reqProd = 0xffff_fff0;
    ring.shared.rspProd = 0xffff_fff0;
    front.setState(3);
    now(f);
    const gref = front.grant(front.page());
    for (let i = 0; i < 32; i++) front.put(BLKIF_OP.READ, 0, [[gref, 0, 7]]);
    front.ring();
    now(f);
    expect(front.answers()).toHaveLength(32);
    ring.shared.reqProd = 0x11 + 32;
    f.guest.events.send(front.queues[0]!.port);
    now(f);
    expect(f.device.halted).toBe(true);
  });
});

describe('anything on the ring', () => {
  /** Goal: no bytes of a frontend's cost more than its own connection. Method: random slots, indices and doorbells; then a look at everything. */
  it(`is answered or stops the ring; the disk sees nothing out of bounds, nothing stays mapped, in ${RINGS} runs`, () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(31), fc.uint8Array({ minLength: 112, maxLength: 112 }), fc.nat(20), fc.boolean()), { maxLength: 40 }),
        fc.constantFrom('x86_64' as const, 'x86_32' as const),
        fc.boolean(),
        (writes, abi, persistent) => {
          const { disk, violations } = strictDisk();
          const f = fixture({ disk });
          const front = f.connect({ abi, persistent });
          const grefs = Array.from({ length: 12 }, (_, i) => front.grant(front.page(i)));
          const { ring, port } = front.queues[0]!;
          const frame = f.guest.memory.frame(front.queues[0]!.gfns[0]!);
          for (const [slot, bytes, advance, nearly] of writes) {
            const at = frame.offset + 64 + slot * ring.shared.slotBytes;
            frame.views.u8.set(bytes.subarray(0, ring.shared.slotBytes), at);
            if (nearly) {
              // Closer to a request: a known operation, a small count, references that exist.
              const u8 = frame.views.u8;
              u8[at] = bytes[0]! % 8;
              u8[at + 1] = bytes[1]! % 13;
              u8.fill(0, at + 14, at + 20);
              for (let s = at + 20; s + 8 <= at + ring.shared.slotBytes; s += 4) u8.set([grefs[bytes[s - at]! % 12]!, 0, 0, 0], s);
            }
            ring.shared.reqProd = ring.shared.rspProd + advance;
            f.guest.events.send(port);
            now(f);
          }
          expect(violations).toEqual([]);
          front.setState(6);
          f.machine.run();
          expect(f.device.state).toBe(6);
          expect(f.host.grants.usage().mapped).toBe(0);
          front.release();
          expect(f.machine.ledger().errors).toEqual([]);
        },
      ),
      { numRuns: RINGS },
    );
  });
});

describe('the store under a hostile frontend', () => {
  const action = fc.oneof(
    fc.record({
      kind: fc.constant('state' as const),
      value: fc.constantFrom('0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '', 'x', '-1', '4 4'),
    }),
    fc.record({
      kind: fc.constant('key' as const),
      value: fc.constantFrom(
        'ring-ref',
        'event-channel',
        'protocol',
        'multi-queue-num-queues',
        'ring-page-order',
        'feature-persistent',
        'queue-0/ring-ref',
      ),
    }),
    fc.record({ kind: fc.constant('good' as const), value: fc.constant('') }),
    fc.record({ kind: fc.constant('run' as const), value: fc.constant('') }),
    fc.record({ kind: fc.constant('request' as const), value: fc.constant('') }),
    fc.record({ kind: fc.constant('remove' as const), value: fc.constantFrom('state', 'ring-ref', 'event-channel', 'protocol') }),
  );

  /** Goal: no order of states and no keys leave anything behind or stop the backend. Method: random ones, then the guest's death. */
  it(`any states in any order, with keys that lie or go, leave nothing behind, in ${STORES} runs`, () => {
    fc.assert(
      fc.property(
        fc.array(action, { maxLength: 50 }),
        fc.array(fc.constantFrom('0', '8', '99999', 'abc', '4294967295', '2'), { minLength: 50, maxLength: 50 }),
        (actions, values) => {
          const f = fixture();
          const bystander = f.machine.createDomain({ pages: 128 });
          const spare = attachDisk(f.host, { frontend: bystander.id, disk: memoryDisk({ sizeBytes: MIB }) });
          now(f);
          const front = new RawFront(f.guest, f.attached!.frontendPath);
          front.publish(1);
          actions.forEach(({ kind, value }, i) => {
            const { queues } = front;
            if (kind === 'state') front.setState(value as never);
            else if (kind === 'key') front.key(value, values[i]!);
            else if (kind === 'remove') {
              if (f.guest.store.exists(`${front.path}/${value}`)) f.guest.store.remove(`${front.path}/${value}`);
            } else if (kind === 'good') {
              front.key('ring-ref', queues[0]!.grefs[0]!);
              front.key('event-channel', queues[0]!.port);
              front.key('protocol', 'x86_64-abi');
              front.key('multi-queue-num-queues', '1');
              front.key('ring-page-order', '0');
              front.setState(3);
            } else if (kind === 'request') {
              front.put(BLKIF_OP.READ, 0, [[front.grant(front.page()), 0, 7]]);
              front.ring();
            } else now(f);
          });
          now(f);
          // Somebody else's disk works as if nothing had been.
          const honest = new RawFront(bystander, spare.frontendPath);
          honest.publish();
          now(f);
          honest.put(BLKIF_OP.READ, 0, [[honest.grant(honest.page()), 0, 7]]);
          honest.ring();
          now(f);
          expect(honest.answers()).toMatchObject([{ status: 0 }]);
          f.machine.destroyDomain(f.guest);
          f.machine.run();
          expect(f.host.blkback.devices()).toHaveLength(1);
          expect(f.host.grants.usage().mapped).toBe(1);
          f.machine.close();
          expectNoLeaks(f.machine);
        },
      ),
      { numRuns: STORES },
    );
  });

  it('a thousand changes of state before the backend looks cost it one look each time it does', () => {
    const f = fixture();
    const front = f.connect();
    const facts: number[] = [];
    f.bus.on('blkback:state').subscribe(({ state }) => facts.push(state));
    for (let i = 0; i < 1000; i++) front.setState(i % 2 === 0 ? 5 : 6);
    now(f);
    expect(facts.length).toBeLessThan(4);
    expect(f.device.state).toBe(6);
  });
});

describe('doorbells without requests', () => {
  it('get the port masked for a while, so that a storm costs its sender', () => {
    const f = fixture();
    const front = f.connect();
    const { port } = front.queues[0]!;
    for (let i = 0; i < 2000; i++) {
      f.guest.events.send(port);
      now(f);
    }
    expect(f.device.counters.doorbellsIn).toBeLessThan(40);
    expect(f.device.counters.doorbellsSpurious).toBeGreaterThan(10);
    // What is asked for afterwards is still done, as soon as the port is let through again.
    const id = front.put(BLKIF_OP.READ, 0, [[front.grant(front.page()), 0, 7]]);
    front.ring();
    f.machine.run();
    expect(statusOf(front.answers(), id)).toBe(0);
  });

  it('leave no mask to the next connection, which is given the port of the one that made the storm', () => {
    const f = fixture();
    const other = f.machine.createDomain({ pages: 256 });
    const attached = attachDisk(f.host, { frontend: other.id, disk: memoryDisk({ sizeBytes: MIB }) });
    const storm = f.connect();
    const { port } = storm.queues[0]!;
    const status = f.guest.events.status(port);
    const theirs = status.status === 'interdomain' ? status.remotePort : port;
    for (let i = 0; i < 100 && !f.dom0.events.isMasked(theirs); i++) {
      f.guest.events.send(port);
      now(f);
    }
    storm.setState(6);
    now(f);
    expect(f.dom0.events.isMasked(theirs)).toBe(true);
    const front = new RawFront(other, attached.frontendPath);
    front.publish();
    now(f);
    expect(other.events.status(front.queues[0]!.port)).toMatchObject({ remotePort: theirs });
    const id = front.put(BLKIF_OP.READ, 0, [[front.grant(front.page()), 0, 7]]);
    front.ring();
    f.machine.run();
    expect(statusOf(front.answers(), id)).toBe(0);
  });
});

describe('grants that fail', () => {
  it(`or say "try again" fail their request or delay it, and nothing leaks, whichever of a batch they hit, in ${SEEDS} runs`, () => {
    for (let seed = 0; seed < SEEDS; seed++) {
      const f = fixture({
        machine: {
          seed,
          faults: [
            { kind: 'map-fail', probability: 0.05, domid: 0 },
            { kind: 'map-eagain', probability: 0.05, domid: 0 },
          ],
        },
      });
      now(f);
      const front = new RawFront(f.guest, f.attached!.frontendPath, { persistent: seed % 2 === 1 });
      front.publish();
      f.machine.run();
      // The ring itself may have been hit.
      if (f.device.state !== 4) continue;
      const grefs = Array.from({ length: 11 }, (_, i) => front.grant(front.page(i)));
      for (let round = 0; round < 10; round++) {
        const ids = [
          front.put(
            BLKIF_OP.WRITE,
            0,
            grefs.map((gref) => [gref, 0, 7] as const),
          ),
          front.put(
            BLKIF_OP.READ,
            0,
            grefs.slice(0, 3).map((gref) => [gref, 0, 7] as const),
          ),
        ];
        front.ring();
        f.machine.run({ untilTicks: f.machine.now + 200 });
        const answers = front.answers();
        for (const id of ids) expect([0, -1]).toContain(statusOf(answers, id));
      }
      front.setState(6);
      f.machine.run();
      front.release();
      expect(f.host.grants.usage().mapped).toBe(0);
      expect(f.machine.ledger().errors).toEqual([]);
    }
  });

  it('that are revoked between two requests fail the second', () => {
    const f = fixture();
    const front = f.connect();
    const page = front.page(1);
    const gref = front.grants.grantForeignAccess({ peer: 0 as never, gfn: page, readonly: false });
    const first = front.put(BLKIF_OP.WRITE, 0, [[gref, 0, 7]]);
    front.ring();
    now(f);
    expect(statusOf(front.answers(), first)).toBe(0);
    expect(front.grants.tryEndForeignAccess(gref)).toBe(true);
    const second = front.put(BLKIF_OP.WRITE, 0, [[gref, 0, 7]]);
    front.ring();
    now(f);
    expect(statusOf(front.answers(), second)).toBe(-1);
  });
});

describe('a disk that is slow when its frontend goes', () => {
  for (const how of ['closes', 'dies', 'is detached by force'] as const) {
    it(`keeps the pages of what is under way until it is done: the frontend ${how}`, () => {
      const f = fixture({ noAttach: true });
      const inner = memoryDisk({ sizeBytes: MIB });
      const disk = delayFilter(inner, { scheduler: f.dom0.scheduler, ticks: 50 });
      const guest = f.machine.createDomain({ pages: 128 });
      const attached = attachDisk(f.host, { frontend: guest.id, disk });
      now(f);
      const front = new RawFront(guest, attached.frontendPath);
      front.publish();
      now(f);
      const grefs = [1, 2, 3].map((fill) => front.grant(front.page(fill)));
      for (const [i, gref] of grefs.entries()) front.put(BLKIF_OP.WRITE, i * 8, [[gref, 0, 7]]);
      front.ring();
      now(f);
      const device = f.host.blkback.device(guest.id, 51712)!;
      expect(device.inFlight).toBe(3);
      if (how === 'closes') front.setState(6);
      else if (how === 'dies') f.machine.destroyDomain(guest);
      else {
        f.dom0.store.remove(attached.backendPath);
        f.dom0.store.remove(attached.frontendPath);
      }
      now(f);
      if (how === 'closes') expect(device.state).toBe(4);
      expect(f.host.grants.usage().mapped).toBe(4);
      f.machine.run();
      if (how === 'closes') expect(device.state).toBe(6);
      else expect(f.host.blkback.devices()).toEqual([]);
      expect(f.host.grants.usage().mapped).toBe(0);
      const memory = { u8: new Uint8Array(512), u16: new Uint16Array(256), u32: new Uint32Array(128) };
      expect(inner.read(memory, 0, 16 * 512, 512, { done: () => {} })).not.toBe(LATER);
      expect(memory.u8[0]).toBe(3);
    });
  }

  it('makes a frontend that comes again at once wait until the old connection is gone', () => {
    const f = fixture({ noAttach: true });
    const disk = delayFilter(memoryDisk({ sizeBytes: MIB }), { scheduler: f.dom0.scheduler, ticks: 50 });
    const attached = attachDisk(f.host, { frontend: f.guest.id, disk });
    now(f);
    const front = new RawFront(f.guest, attached.frontendPath);
    front.publish();
    now(f);
    const gref = front.grant(front.page());
    front.put(BLKIF_OP.WRITE, 0, [[gref, 0, 7]]);
    front.ring();
    now(f);
    front.setState(6);
    now(f);
    front.setState(1);
    now(f);
    const device = f.host.blkback.device(f.guest.id, 51712)!;
    expect(device.state).toBe(4);
    f.machine.run();
    expect(device.state).toBe(2);
    front.release();
    front.publish();
    now(f);
    expect(device.state).toBe(4);
  });
});

describe('a backend that goes while requests are under way', () => {
  const busy = (scheduler: (f: Fixture) => Fixture['dom0']['scheduler']) => {
    const f = fixture({ noAttach: true });
    const disk = delayFilter(memoryDisk({ sizeBytes: MIB }), { scheduler: scheduler(f), ticks: 50 });
    const attached = attachDisk(f.host, { frontend: f.guest.id, disk });
    now(f);
    const front = new RawFront(f.guest, attached.frontendPath, { persistent: true });
    front.publish();
    now(f);
    for (let i = 0; i < 3; i++) front.put(BLKIF_OP.WRITE, i * 8, [[front.grant(front.page(i)), 0, 7]]);
    // Its data would be moved after its flush: then there are no pages any more.
    front.put(BLKIF_OP.FLUSH_DISKCACHE, 64, [[front.grant(front.page(9)), 0, 7]]);
    front.ring();
    now(f);
    return { f, front };
  };

  it('in order, with its grant table, lets them end and throws nothing', () => {
    const { f } = busy(({ dom0 }) => dom0.scheduler);
    f.dom0.detachAll();
    f.machine.run();
    f.machine.destroyDomain(f.dom0);
    f.machine.destroyDomain(f.guest);
    f.machine.run();
    expectNoLeaks(f.machine);
  });

  it('by its death, leaves the ring as it was, even where a disk outlives it', () => {
    const { f, front } = busy(({ machine }) => machine.scheduler);
    const frame = f.guest.memory.frame(front.queues[0]!.gfns[0]!);
    f.machine.destroyDomain(f.dom0);
    const before = frame.views.u8.slice(frame.offset, frame.offset + 4096);
    f.machine.run();
    expect(Buffer.compare(before, frame.views.u8.subarray(frame.offset, frame.offset + 4096))).toBe(0);
    expect(front.answers()).toEqual([]);
  });
});

describe('fairness', () => {
  /** Fills every queue of `greedy` with the largest requests, again and again, and counts what `modest` waits. */
  function contest(queues: number) {
    const machine = createMachine({ seed: 1, ramBytes: 128 * MIB });
    const dom0 = machine.createDomain({ id: 0, pages: 64 });
    const host = serveDisks(dom0);
    const make = (pages: number, options: { queues?: number }) => {
      const guest = machine.createDomain({ pages });
      const attached = attachDisk(host, { frontend: guest.id, disk: memoryDisk({ sizeBytes: 4 * MIB }) });
      machine.run({ untilTicks: machine.now });
      const front = new RawFront(guest, attached.frontendPath, options);
      front.publish();
      machine.run({ untilTicks: machine.now });
      return { guest, front };
    };
    const greedy = make(1024, { queues });
    const modest = make(64, {});
    const grefs = Array.from({ length: 256 }, () => greedy.front.grant(greedy.front.page()));
    const list = greedy.front.page();
    for (const [i, gref] of grefs.entries()) writeIndirectSegment(greedy.guest.memory.frame(list), i, gref, 0, 7);
    const listGref = greedy.front.grant(list);
    const own = modest.front.grant(modest.front.page());
    const device = host.blkback.device(greedy.guest.id, 51712)!;
    const waits: number[] = [];
    for (let round = 0; round < 20; round++) {
      for (let q = 0; q < queues; q++) {
        const { ring, answers } = greedy.front.queues[q]!;
        answers.length = 0;
        while (!ring.full()) {
          greedy.front.put(
            BLKIF_OP.INDIRECT,
            0,
            [],
            (message) => {
              message.indirectOp = BLKIF_OP.READ;
              message.nrSegments = 256;
              message.indirectGrefs[0] = listGref;
            },
            q,
          );
        }
        greedy.front.ring(q);
      }
      machine.step();
      machine.step();
      modest.front.put(BLKIF_OP.READ, 0, [[own, 0, 7]]);
      modest.front.ring();
      const before = device.counters.segments;
      machine.runUntil(() => modest.front.queues[0]!.answers.length > 0);
      modest.front.answers();
      waits.push(device.counters.segments - before);
    }
    return waits;
  }

  it('a storm of doorbells is dammed while others are at work too', () => {
    const f = fixture({ blkback: { turnCost: 1 } });
    const other = f.machine.createDomain({ pages: 64 });
    const attached = attachDisk(f.host, { frontend: other.id, disk: memoryDisk({ sizeBytes: MIB }) });
    const worker = f.connect();
    const storm = new RawFront(other, attached.frontendPath);
    storm.publish();
    now(f);
    const gref = worker.grant(worker.page());
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 32; i++) worker.put(BLKIF_OP.READ, 0, [[gref, 0, 7]]);
      worker.ring();
      for (let i = 0; i < 50; i++) {
        f.machine.step();
        other.events.send(storm.queues[0]!.port);
      }
      now(f);
      expect(worker.answers()).toHaveLength(32);
    }
    const { counters } = f.host.blkback.device(other.id, 51712)!;
    expect(counters.doorbellsIn).toBeLessThan(60);
  });

  for (const queues of [1, 4]) {
    it(`a small request waits for at most two turns of a frontend that floods ${queues} queue(s)`, () => {
      const waits = contest(queues);
      expect(Math.max(...waits)).toBeLessThanOrEqual(3 * 257);
    });
  }
});

describe('memory', () => {
  it('that the backend takes is bounded by its rings, not by what passed through them', () => {
    const f = fixture({ noAttach: true });
    const disk = delayFilter(memoryDisk({ sizeBytes: 4 * MIB }), { scheduler: f.dom0.scheduler, ticks: 1 });
    const attached = attachDisk(f.host, { frontend: f.guest.id, disk });
    now(f);
    const front = new RawFront(f.guest, attached.frontendPath);
    front.publish();
    now(f);
    const grefs = Array.from({ length: 11 }, () => front.grant(front.page()));
    let most = 0;
    for (let round = 0; round < 50; round++) {
      for (let i = 0; i < 32; i++)
        front.put(
          BLKIF_OP.READ,
          0,
          grefs.map((gref) => [gref, 0, 7] as const),
        );
      front.ring();
      now(f);
      most = Math.max(most, f.host.grants.usage().mapped);
      f.machine.run();
      expect(front.answers()).toHaveLength(32);
    }
    expect(most).toBe(32 * 11 + 1);
    expect(f.host.grants.usage().mapped).toBe(1);
  });
});
