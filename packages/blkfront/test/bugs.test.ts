import { BLKIF_OP } from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import { BLKREQ, BlkfrontError, type BlkReq, BlockDevice, blkDev, ERRNO, GrefPool, hasMore, isSuccessful, OP } from '../src/index.ts';
import { FakeGrants, Loopback, World } from '../src/testing.ts';
import { connected, noLeaks, pair, pattern, settled } from './fixture.ts';

const pool = (size: number, order: 'lifo' | 'fifo' = 'lifo', entries = 256): { grants: FakeGrants; pool: GrefPool } => {
  const grants = new FakeGrants(entries);
  return { grants, pool: new GrefPool(grants, 0 as never, size, order) };
};

function request(over: Partial<BlkReq> & Pick<BlkReq, 'operation'>): BlkReq {
  return { startSector: 0, nbSectors: 8, gfns: null, offset: 0, state: 0, result: 99, ...over };
}

describe('what the original got wrong must not happen', () => {
  it('1: releasing a pool does not touch an element after it was given back', () => {
    const { grants, pool: p } = pool(11);
    const order: number[] = [];
    const release = grants.release.bind(grants);
    grants.release = (gref) => {
      order.push(gref);
      release(gref);
    };
    p.destroy(() => undefined);
    expect(new Set(order).size).toBe(11);
    expect(grants.taken).toBe(0);
  });

  it('2: a request that cannot have all its references does not shrink the pool', () => {
    const { world, dev, run } = connected({ poolRefs: 4, persistent: false }, {}, { grants: 64 });
    const giveBack = world.grants.exhaust(0);
    const done: number[] = [];
    dev.device.onDone = (_cookie, status) => done.push(status);
    const gfns = Array.from({ length: 8 }, () => world.page());
    // Eight pages and four references: it goes in two parts rather than not at all.
    expect(dev.device.submit(OP.WRITE, 0, gfns, 0, 64, 1)).toBe(0);
    expect(dev.device.submit(OP.WRITE, 0, gfns, 0, 64, 2)).toBe(ERRNO.EBUSY);
    run();
    expect(done).toEqual([0]);
    expect(dev.device.poolFigures()).toMatchObject({ free: 4, live: 0, misses: 0 });
    giveBack();
  });

  it('3: an element that was never mapped is not ended', () => {
    const { world, dev } = connected({ poolRefs: 0, persistent: false });
    const before = world.grants.revokes;
    const taken = world.grants.taken;
    // Sector 5 of a page list too short: refused before a reference is taken.
    expect(dev.device.submit(OP.READ, 0, [world.page()], 0, 16, 1)).toBe(ERRNO.EINVAL);
    const giveBack = world.grants.exhaust(0);
    expect(dev.device.submit(OP.READ, 0, [world.page()], 0, 8, 1)).toBe(ERRNO.EBUSY);
    expect(world.grants.revokes).toBe(before);
    giveBack();
    expect(world.grants.taken).toBe(taken);
  });

  it('4: a reference of the pool gives no access before a request or after it', () => {
    const { world, back, dev, run } = connected({ persistent: false });
    const reachable = (): number[] => [...world.grants.reachable()];
    const ringOnly = reachable();
    expect(ringOnly.length).toBe(1);
    const gfn = world.page();
    back.hold = true;
    expect(dev.device.submit(OP.READ, 0, [gfn], 0, 8, 1)).toBe(0);
    run();
    expect(reachable().sort()).toEqual([...ringOnly, gfn].sort());
    back.hold = false;
    back.release();
    run();
    expect(reachable()).toEqual(ringOnly);
    expect(dev.device.poolFigures()).toMatchObject({ free: 11, live: 0 });
  });

  it('5: a page that the backend keeps mapped crashes nobody, and its reference is not lent again before it is let go', () => {
    const { world, back, dev } = connected({ persistent: false });
    back.clings = true;
    const done: number[] = [];
    dev.device.onDone = (_cookie, status) => done.push(status);
    const gfn = world.page();
    expect(dev.device.submit(OP.READ, 0, [gfn], 0, 8, 1)).toBe(0);
    world.time.run(5);
    expect(done).toEqual([0]);
    const held = back.seen[0]!.segments[0]!.gref;
    expect(dev.device.poolFigures()).toMatchObject({ quarantined: 1, quarantinedEver: 1, free: 10 });
    expect(dev.device.isHeld(gfn)).toBe(true);
    back.clings = false;
    for (let i = 0; i < 30; i++) {
      dev.device.submit(OP.READ, 0, [world.page()], 0, 8, 2);
      world.time.run(1);
    }
    expect(back.seen.slice(1).map((seen) => seen.segments[0]!.gref)).not.toContain(held);
    back.letGo();
    world.time.run(5000);
    expect(dev.device.poolFigures()).toMatchObject({ quarantined: 0, free: 11 });
    expect(dev.device.isHeld(gfn)).toBe(false);
  });

  it('6: a completion that submits from inside does not lock itself out', () => {
    const { world, dev, run } = connected({ poolRefs: 1, persistent: false });
    let left = 100;
    const gfn = [world.page()];
    dev.device.onDone = () => {
      if (left-- > 0) expect(dev.device.submit(OP.READ, 0, gfn, 0, 8, left)).toBe(0);
    };
    dev.device.submit(OP.READ, 0, gfn, 0, 8, 0);
    run();
    expect(left).toBe(-1);
    expect(dev.device.busy).toBe(0);
  });

  it('7: giving back does not stop at the first reference that is not of the pool', () => {
    const { grants, pool: p } = pool(2);
    const refs = Array.from({ length: 5 }, () => p.claim() as never);
    expect(grants.taken).toBe(5);
    // In any order: those of the pool among those that are not.
    for (const gref of [refs[3]!, refs[0]!, refs[4]!, refs[1]!, refs[2]!]) {
      p.open(gref, 7 as never, false);
      expect(p.close(gref, 7 as never, -1)).toBe(true);
    }
    expect(p.figures).toMatchObject({ hits: 2, misses: 3, free: 2, live: 0 });
    expect(grants.taken).toBe(2);
  });

  it('8: a connection that cannot be made whole leaves no port, page or reference, and a stop waits for requests under way', async () => {
    const { world, dev } = pair({ ringPages: 4, queues: 4 }, { maxQueues: 4, maxRingOrder: 4 }, { pages: 8 });
    const outcome = await settled(
      world,
      dev.connect().catch((error: BlkfrontError) => error.refusal),
    );
    expect(outcome).toMatchObject({ code: 'gone' });
    expect(world.leaks()).toMatchObject({ pages: 0, references: 0, ports: 0, watches: 0 });

    const other = connected();
    other.back.hold = true;
    const read = other.dev.read(0, 512);
    other.world.time.settle();
    const closing = other.dev.close();
    other.world.time.settle();
    expect(other.dev.state).toBe('closing');
    other.back.hold = false;
    other.back.release();
    await settled(other.world, Promise.all([read, closing]));
    expect(other.world.leaks()).toEqual(noLeaks);
  });

  it('9: persistent grants are not lent first in first out', () => {
    const { world, back, dev } = connected({}, { persistent: true });
    for (let i = 0; i < 8; i++) {
      dev.device.submitTo(0, OP.READ, 0, null, new Uint8Array(4096), 0, 8, i, () => undefined);
      world.time.settle();
    }
    expect(new Set(back.seen.map((seen) => seen.segments[0]!.gref)).size).toBe(1);
    const lifo = pool(4).pool;
    const first = lifo.claim() as never;
    lifo.unclaim(first);
    expect(lifo.claim()).toBe(first);
    // The original's order is there for whoever asks.
    const fifo = pool(4, 'fifo').pool;
    const oldest = fifo.claim() as never;
    fifo.unclaim(oldest);
    expect([fifo.claim(), fifo.claim(), fifo.claim()]).not.toContain(oldest);
    expect(fifo.claim()).toBe(oldest);
  });

  it('10: an operation above one does not leak into the flags of an entry', () => {
    const { world, back, dev } = connected({ persistent: false }, { barrier: true, flush: true });
    const flags: number[] = [];
    const permit = world.grants.permit.bind(world.grants);
    world.grants.permit = (gref, peer, gfn, readonly) => {
      permit(gref, peer, gfn, readonly);
      flags.push(world.grants.words[gref * 2]! & 0xffff);
    };
    const gfn = [world.page()];
    for (const op of [OP.READ, OP.WRITE, OP.WRITE_FUA, OP.WRITE_ZEROES]) {
      expect(dev.device.submit(op, 0, gfn, 0, 8, op)).toBe(0);
      world.time.settle();
    }
    expect(back.seen.map((seen) => seen.operation)).toEqual([BLKIF_OP.READ, BLKIF_OP.WRITE, BLKIF_OP.WRITE_BARRIER, BLKIF_OP.WRITE]);
    // GTF_permit_access, with GTF_readonly for what the backend only reads.
    expect(flags).toEqual([1, 5, 5, 5]);
  });

  it('11: a queue that is given up is given up whole, and can be configured again', () => {
    const { world, dev } = pair({ queues: 2 }, { maxQueues: 2 });
    const configured = blkDev(dev.device).configure({ nbQueues: 2 });
    expect(configured.queueConfigure(0, 0, {})).toBe(0);
    expect(configured.queueUnconfigure(0)).toBe(0);
    expect(configured.queueUnconfigure(0)).toBe(ERRNO.EINVAL);
    expect(configured.queueConfigure(0, 0, {})).toBe(0);
    expect(configured.queueConfigure(0, 0, {})).toBe(ERRNO.EBUSY);
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('12: a port that cannot be had is not taken for a queue', async () => {
    const world = new World();
    new Loopback(world).start();
    const { events } = world.surroundings;
    const dev = new BlockDevice(
      { device: 51712 },
      {
        ...world.surroundings,
        events: {
          ...events,
          allocUnbound: () => {
            throw new Error('ENOSPC');
          },
        },
      },
    );
    await expect(settled(world, dev.connect())).rejects.toMatchObject({ refusal: { code: 'gone' } });
    expect(dev.device.reason).toContain('ports');
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('13: an id, an operation or a producer index of the backend is not believed', () => {
    for (const lie of ['id', 'operation', 'generation', 'producer'] as const) {
      const { world, back, dev } = connected({ persistent: false });
      const done: number[] = [];
      dev.device.onDone = (cookie, status) => done.push(cookie, status);
      back.hold = true;
      dev.device.submit(OP.READ, 0, [world.page(0xaa)], 0, 8, 5);
      world.time.settle();
      const seen = back.held.splice(0)[0]!;
      if (lie === 'producer') back.queues[0]!.shared.rspProd = 0x8000_0000;
      else {
        back.answer(seen, 0, lie === 'id' ? { idLo: 31 } : lie === 'generation' ? { idHi: 77 } : { operation: BLKIF_OP.WRITE });
        back.pushAll();
      }
      back.queues[0]!.bell.ring();
      world.time.settle();
      expect(dev.state, lie).toBe('broken');
      expect(done, lie).toEqual([5, ERRNO.EIO]);
      expect(dev.device.submit(OP.READ, 0, [1], 0, 8, 6)).toBe(ERRNO.ENODEV);
    }
  });

  it('14: an error is not turned into minus 255', () => {
    const { world, back, dev } = connected({ persistent: false }, { discard: true });
    const done: number[] = [];
    dev.device.onDone = (_cookie, status) => done.push(status);
    back.hold = true;
    for (const status of [-1, -2, -3, 1, 127, -32768]) {
      dev.device.submit(OP.READ, 0, [world.page()], 0, 8, 1);
      world.time.settle();
      back.answer(back.held.splice(0)[0]!, status);
      back.pushAll();
      world.time.settle();
    }
    expect(done).toEqual([ERRNO.EIO, ERRNO.EOPNOTSUPP, ERRNO.EIO, ERRNO.EIO, ERRNO.EIO, ERRNO.EIO]);
  });

  it('15: a doorbell that fails after the request stands on the ring does not say that it was not sent', () => {
    const { world, back, dev } = connected({ persistent: false });
    const { guest } = world.events;
    const send = guest.send;
    guest.send = () => {
      throw new Error('EINVAL: the other end is gone');
    };
    const done: number[] = [];
    dev.device.onDone = (cookie, status) => done.push(cookie, status);
    expect(dev.device.submit(OP.READ, 0, [world.page()], 0, 8, 3)).toBe(0);
    guest.send = send;
    back.poll(0);
    world.time.settle();
    expect(done).toEqual([3, 0]);
  });

  it('16: a backend without multi-queue, flush or barrier keys is not refused', async () => {
    const { world, back, dev } = connected({ queues: 4, ringPages: 16, maxSegments: 256 });
    expect(dev.info).toMatchObject({ queues: 1, ringPages: 1, maxSegments: 11, flush: 'none', discard: false, persistent: false });
    const data = pattern(8192, 2);
    await settled(world, dev.write(0, data));
    await settled(world, dev.flush());
    expect(back.disk.subarray(0, 8192)).toEqual(data);
    expect(dev.device.submit(OP.FLUSH, 0, null, 0, 0, 1)).toBe(ERRNO.EOPNOTSUPP);
    const uk = pair({ queues: 4 }, { maxQueues: 3 });
    expect(blkDev(uk.dev.device).getInfo()).toEqual({ maxQueues: 3 });
    // Configured and most are two things.
    expect(blkDev(uk.dev.device).configure({ nbQueues: 1 }).getInfo()).toEqual({ maxQueues: 3 });
  });

  it('17: device 0 is not refused, keys are not read before the backend waits, and the protocol is always written', () => {
    const world = new World();
    const back = new Loopback(world, { device: 0, maxRingOrder: 4 });
    const dev = new BlockDevice({ device: 0, ringPages: 4 }, world.surroundings);
    dev.device.start();
    world.time.settle();
    expect(dev.state).toBe('initialising');
    expect(world.leaks()).toMatchObject({ pages: 0, references: 0, ports: 0 });
    back.start();
    world.time.settle();
    expect(dev.state).toBe('connected');
    expect(dev.info).toMatchObject({ ringPages: 4 });
    expect(back.protocol).toBe('x86_64-abi');
  });

  it('18: sectors of 4096 bytes do not lose data, and no sum of sectors wraps around', async () => {
    const { world, back, dev } = connected({ persistent: false }, { sectorBytes: 4096 });
    const data = pattern(8192, 4);
    await settled(world, dev.write(8, data));
    expect(back.disk.subarray(4096, 4096 + 8192)).toEqual(data);
    expect(back.seen[0]).toMatchObject({
      sector: 8,
      segments: [
        { first: 0, last: 7 },
        { first: 0, last: 7 },
      ],
    });
    const gfn = [world.page()];
    expect(dev.device.submit(OP.READ, 2 ** 53 - 8, gfn, 0, 8, 1)).toBe(ERRNO.EINVAL);
    expect(dev.device.submit(OP.READ, 2 ** 64, gfn, 0, 8, 1)).toBe(ERRNO.EINVAL);
    expect(dev.device.submit(OP.READ, 4, gfn, 0, 8, 1)).toBe(ERRNO.EINVAL);
  });

  it('19: indices of an old connection do not survive into the next', async () => {
    const { world, back, dev } = connected();
    for (let round = 0; round < 3; round++) {
      const data = pattern(40 * 4096, round + 1);
      await settled(world, dev.write(0, data));
      expect(await settled(world, dev.read(0, data.length))).toEqual(data);
      await settled(world, dev.close());
      expect(world.leaks()).toEqual(noLeaks);
      await settled(world, dev.connect());
      expect(back.queues[0]!.ring.reqCons).toBe(0);
    }
    expect(back.errors).toEqual([]);
  });

  it('20: a barrier is not preferred to a flush, and an operation taken back at run time is not asked for again', async () => {
    const { world, back, dev } = connected({}, { flush: true, barrier: true });
    await settled(world, dev.flush());
    expect(back.seen.at(-1)).toMatchObject({ operation: BLKIF_OP.FLUSH_DISKCACHE, nrSegments: 0, sector: Number.POSITIVE_INFINITY });
    back.unsupported.add(BLKIF_OP.FLUSH_DISKCACHE);
    await settled(world, dev.flush());
    expect(back.seen.slice(-2).map((seen) => seen.operation)).toEqual([BLKIF_OP.FLUSH_DISKCACHE, BLKIF_OP.WRITE_BARRIER]);
    expect(dev.info).toMatchObject({ flush: 'barrier' });
    back.unsupported.add(BLKIF_OP.WRITE_BARRIER);
    await settled(world, dev.flush());
    expect(dev.info).toMatchObject({ flush: 'none' });
    const before = back.seen.length;
    await settled(world, dev.flush());
    expect(back.seen.length).toBe(before);
  });

  it('21: a close does not wait for a backend that never answers, and a backend that closes is not missed', async () => {
    const { world, back, dev } = connected({ closeTicks: 100 });
    // Nobody listens at the other end any more.
    (back as unknown as { watch: { unsubscribe(): void } }).watch.unsubscribe();
    await settled(world, dev.close());
    expect(dev.state).toBe('closed');
    expect(world.time.now()).toBeLessThanOrEqual(300);
    const other = connected();
    other.back.detach();
    other.world.time.settle();
    expect(other.dev.state).toBe('closed');
    expect(other.world.leaks()).toEqual(noLeaks);
  });

  it('22: a misaligned buffer is no assertion, a queue not configured does not start, and a request is not finished before its callback', () => {
    const { world, dev } = pair({ queues: 2 }, { maxQueues: 2 });
    const configured = blkDev(dev.device).configure({ nbQueues: 2 });
    configured.queueConfigure(1, 0, {});
    expect(() => configured.start()).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ code: 'wrong-state' }) }));
    configured.queueConfigure(0, 0, {});
    const running = configured.start();
    const states: number[] = [];
    const read = request({
      operation: BLKREQ.READ,
      gfns: [world.page(), world.page()],
      offset: 3,
      cb: (req) => states.push(req.state, req.result),
    });
    expect(running.syncIo(0, read)).toBe(0);
    expect(states).toEqual([1, 0]);
    expect(read.state).toBe(0);
  });

  it('23: a slot shows no bytes of an older request', () => {
    const { world, back, dev, run } = connected({ persistent: false }, { flush: true });
    const gfns = Array.from({ length: 11 }, () => world.page());
    for (let i = 0; i < 32; i++) dev.device.submit(OP.READ, 0, gfns, 0, 88, i);
    run();
    dev.device.submit(OP.READ, 0, [gfns[0]!], 0, 8, 1);
    const { shared } = back.queues[0]!;
    const slot = new Uint8Array(112);
    shared.copySlot(32, slot);
    expect(slot.subarray(32).every((byte) => byte === 0)).toBe(true);
    run();
  });

  it('24: a completion of nobody in particular is no null dereference, and a ring is not given back while its port can ring', () => {
    const { world, back, dev } = connected({ persistent: false }, { flush: true });
    // Nobody set onDone.
    expect(dev.device.submit(OP.FLUSH, 0, null, 0, 0, 0)).toBe(0);
    world.time.settle();
    expect(back.flushes).toBe(1);
    const { guest } = world.events;
    const closed: number[] = [];
    const close = guest.close;
    const free = world.pages.free;
    guest.close = (port) => {
      closed.push(port);
      close(port);
    };
    world.pages.free = (gfn) => {
      expect(closed.length).toBe(1);
      free(gfn);
    };
    dev.closeSync();
    expect(world.leaks()).toEqual(noLeaks);
  });
});

describe('the calls of uk_blkdev', () => {
  it('say when a request was taken and whether there is room for more', () => {
    const { world, dev } = pair();
    const configured = blkDev(dev.device).configure({ nbQueues: 1 });
    expect(configured.queueGetInfo(0)).toMatchObject({ nbIsPowerOfTwo: 1 });
    expect(configured.queueGetInfo(1)).toBe(ERRNO.EINVAL);
    let called = 0;
    configured.queueConfigure(0, 0, { callback: () => called++ });
    const running = configured.start();
    expect(running.capabilities).toMatchObject({ sectors: 2048, ssize: 512, mode: 'rw', maxSectorsPerReq: 81, ioalign: 512 });
    const reads = Array.from({ length: 33 }, () => request({ operation: BLKREQ.READ, gfns: [world.page()] }));
    const statuses = reads.map((read) => running.submitOne(0, read));
    expect(statuses.slice(0, 31).every(hasMore)).toBe(true);
    expect(isSuccessful(statuses[31]!) && !hasMore(statuses[31]!)).toBe(true);
    expect(statuses[32]).toBe(ERRNO.EBUSY);
    world.time.settle();
    // The port starts masked: nobody is told before the interrupt is enabled.
    expect(called).toBe(0);
    expect(running.intrEnable(0)).toBe(1);
    expect(running.finishReqs(0)).toBe(0);
    expect(reads.slice(0, 32).every((read) => read.state === 0 && read.result === 0)).toBe(true);
    expect(() => running.finishReqs(0)).toThrow(BlkfrontError);
    expect(() => running.stop().start()).not.toThrow();
  });

  it('hand the callback one upcall, which finishing arms again', () => {
    const { world, dev } = pair();
    const configured = blkDev(dev.device).configure({ nbQueues: 1 });
    let called = 0;
    const handle: { finish?: () => void } = {};
    configured.queueConfigure(0, 0, {
      callback: () => {
        called++;
        handle.finish?.();
      },
    });
    const running = configured.start();
    handle.finish = () => void running.finishReqs(0);
    expect(running.intrEnable(0)).toBe(0);
    const gfns = [world.page()];
    for (let i = 0; i < 3; i++) {
      const write = request({ operation: BLKREQ.WRITE, gfns });
      expect(running.syncIo(0, write)).toBe(0);
    }
    expect(called).toBeGreaterThanOrEqual(3);
    expect(running.intrDisable(0)).toBe(0);
    expect(running.syncIo(0, request({ operation: BLKREQ.FFLUSH }))).toBe(ERRNO.EOPNOTSUPP);
    expect(running.submitOne(0, request({ operation: 9, gfns }))).toBe(ERRNO.EINVAL);
    expect(running.submitOne(0, request({ operation: BLKREQ.READ, gfns, startSector: 2048 }))).toBe(ERRNO.EINVAL);
    const stopped = running.stop();
    expect(() => running.submitOne(0, request({ operation: BLKREQ.READ, gfns }))).toThrow(BlkfrontError);
    expect(() => stopped.unconfigure()).toThrow(BlkfrontError);
    stopped.queueUnconfigure(0);
    expect(stopped.unconfigure().state).toBe('unconfigured');
  });

  it('do not compile in the wrong state', () => {
    const { dev } = pair();
    const unconfigured = blkDev(dev.device);
    // @ts-expect-error: nothing is configured yet
    expect(unconfigured.submitOne).toBeUndefined();
    // @ts-expect-error: a configured device is not running
    expect(unconfigured.configure({ nbQueues: 1 }).finishReqs).toBeUndefined();
  });
});
