import { createEventBus } from '@paravirt/event-bus';
import { BLKIF_OP } from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import { type BlkfrontError, type BlkfrontEvents, BlockDevice, blkfront, ERRNO, OP } from '../src/index.ts';
import { Loopback, World } from '../src/testing.ts';
import { connected, noLeaks, pair, pattern, settled } from './fixture.ts';

const code = async (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'none',
    (error: BlkfrontError) => error.refusal?.code ?? String(error),
  );

describe('promises over the device', () => {
  it('queue in order behind a full ring, and every one settles', async () => {
    const { world, dev } = connected();
    const reads = Array.from({ length: 500 }, (_, i) => dev.read(i, 512));
    const all = await settled(world, Promise.all(reads));
    expect(all.map((bytes) => bytes[0])).toEqual(all.map((_, i) => i & 0xff));
    expect(dev.device.figures[0]!.requests).toBe(500);
  });

  it('wait for a connection that is under way, and fail with the reason when none comes', async () => {
    const { world, back, dev } = pair();
    expect(await code(dev.read(0, 512))).toBe('gone');
    const both = Promise.all([dev.connect(), dev.connect()]);
    await settled(world, both);
    back.die();
    world.time.settle();
    const read = dev.read(3, 512);
    back.revive();
    expect((await settled(world, read))[0]).toBe(3);
  });

  it('give up a wait on a signal, and leave what is on the ring alone', async () => {
    const { world, back, dev } = connected();
    back.hold = true;
    const reads = Array.from({ length: 32 }, () => dev.read(0, 512));
    const controller = new AbortController();
    const waiting = dev.read(5, 512, { signal: controller.signal });
    const issued = new AbortController();
    world.time.settle();
    controller.abort(new Error('enough'));
    expect(await code(waiting)).toBe('aborted');
    expect(await code(dev.read(0, 512, { signal: controller.signal }))).toBe('aborted');
    back.hold = false;
    back.release();
    await settled(world, Promise.all(reads));
    const last = dev.read(7, 512, { signal: issued.signal });
    issued.abort();
    expect((await settled(world, last))[0]).toBe(7);

    const other = pair();
    other.back.say(1);
    const abort = new AbortController();
    const connecting = other.dev.connect({ signal: abort.signal });
    other.world.time.settle();
    abort.abort();
    expect(await code(connecting)).toBe('aborted');
    // The handshake goes on; only the wait ended.
    other.back.start();
    other.world.time.settle();
    expect(other.dev.state).toBe('connected');
  });

  it('read ahead of an iteration by a bounded number of pieces, and no further', async () => {
    const { world, dev } = connected();
    const range = dev.readRange(0, 2048, { chunkBytes: 16384, depth: 3 });
    expect(dev.device.figures[0]!.requests).toBe(0);
    const first = await settled(world, range.next());
    expect(first.value).toMatchObject({ sector: 0 });
    world.time.settle();
    expect(dev.device.figures[0]!.requests).toBe(3);
    const second = await settled(world, range.next());
    expect(second.value.sector).toBe(32);
    await range.return?.(undefined);
    expect(await code(settled(world, dev.writeRange(0, [new Uint8Array(100)])))).toBe('bad-argument');
  });

  it('write pieces as fast as there is room, and take the next one only then', async () => {
    const { world, back, dev } = connected();
    let taken = 0;
    const pieces = function* (): Iterable<Uint8Array> {
      for (let i = 0; i < 20; i++) {
        taken++;
        yield new Uint8Array(4096).fill(i + 1);
      }
    };
    back.hold = true;
    const written = dev.writeRange(100, pieces(), { depth: 4 });
    for (let i = 0; i < 20; i++) await Promise.resolve();
    world.time.settle();
    expect(taken).toBeLessThanOrEqual(5);
    back.hold = false;
    back.release();
    expect(await settled(world, written)).toBe(20 * 4096);
    expect([...Array(20).keys()].every((i) => back.disk[(100 + i * 8) * 512] === i + 1)).toBe(true);
  });

  it('stop an iteration at the first error', async () => {
    const { world, back, dev } = connected();
    back.fail = (seen) => seen.sector >= 512;
    let pieces = 0;
    const walk = async (): Promise<void> => {
      for await (const piece of dev.readRange(0, 2048, { chunkBytes: 65536 })) pieces += piece.bytes.length / 65536;
    };
    expect(await code(settled(world, walk()))).toBe('io');
    expect(pieces).toBe(4);
  });

  it('tell of completions only while someone listens', async () => {
    const { world, dev } = connected({}, { flush: true });
    const seen: object[] = [];
    const subscription = dev.completions.subscribe((completion) => seen.push(completion));
    await settled(world, dev.read(8, 1024));
    await settled(world, dev.flush());
    subscription.unsubscribe();
    await settled(world, dev.read(8, 1024));
    expect(seen).toEqual([
      { queue: 0, op: OP.READ, sector: 8, sectors: 2, status: 0 },
      { queue: 0, op: OP.FLUSH, sector: 0, sectors: 0, status: 0 },
    ]);
  });

  it('move data of pinned buffers without a copy, and under persistent grants without a new grant', async () => {
    for (const persistent of [false, true]) {
      const { world, back, dev } = connected({ persistent }, { persistent });
      const buffer = dev.allocBuffer(3);
      const data = pattern(3 * 4096, 4);
      buffer.write(data);
      await settled(world, dev.write(16, buffer));
      expect(back.disk.subarray(16 * 512, 16 * 512 + data.length)).toEqual(data);
      const permits = world.grants.permits;
      for (let i = 0; i < 5; i++) await settled(world, dev.write(16, buffer));
      expect(world.grants.permits - permits).toBe(persistent ? 0 : 15);
      buffer.write(new Uint8Array(data.length));
      expect(await settled(world, dev.read(16, buffer))).toBe(buffer);
      const out = new Uint8Array(data.length);
      buffer.read(out);
      expect(out).toEqual(data);
      expect(dev.device.figures[0]!.bounced).toBe(0);
      expect(() => buffer.read(out, 1)).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ code: 'bad-argument' }) }));
      // Freed while the backend still maps it: the page follows when that lets go.
      buffer.free();
      await settled(world, dev.close());
      world.time.run(5000);
      expect(world.leaks()).toEqual(noLeaks);
    }
  });
});

describe('requests of every kind', () => {
  it('become one indirect request above eleven segments, which answers with the inner operation', async () => {
    const { world, back, dev } = connected({ maxSegments: 256, persistent: false }, { indirect: 256 });
    await settled(world, dev.write(0, pattern(11 * 4096, 1)));
    await settled(world, dev.write(0, pattern(12 * 4096, 1)));
    await settled(world, dev.write(0, pattern(256 * 4096, 1)));
    expect(back.seen.map(({ operation, inner, nrSegments }) => [operation, inner, nrSegments])).toEqual([
      [1, 1, 11],
      [6, 1, 12],
      [6, 1, 256],
    ]);
    expect(back.seen[2]!.indirectGrefs.length).toBe(1);
    expect(back.seen[2]!.handle).toBe(51712);
  });

  it('are durable by a barrier, by a flush that follows, or as they are', async () => {
    const cases = [
      [{ barrier: true, flush: true }, [BLKIF_OP.WRITE_BARRIER]],
      [{ flush: true }, [BLKIF_OP.WRITE, BLKIF_OP.FLUSH_DISKCACHE]],
      [{ barrier: true }, [BLKIF_OP.WRITE_BARRIER]],
      [{}, [BLKIF_OP.WRITE]],
    ] as const;
    for (const [offered, wire] of cases) {
      const { world, back, dev } = connected({}, offered);
      await settled(world, dev.write(0, pattern(4096, 1), { fua: true }));
      expect(back.seen.map(({ operation }) => operation)).toEqual(wire);
    }
    // Too long for one barrier: the flush comes after the last part.
    const { world, back, dev } = connected({}, { barrier: true, flush: true });
    await settled(world, dev.write(0, pattern(12 * 4096, 1), { fua: true }));
    expect(back.seen.map(({ operation }) => operation).at(-1)).not.toBe(BLKIF_OP.WRITE);
    // The backend takes its barrier back: written again, and flushed.
    const other = connected({}, { barrier: true, flush: true });
    other.back.unsupported.add(BLKIF_OP.WRITE_BARRIER);
    await settled(other.world, other.dev.write(0, pattern(4096, 1), { fua: true }));
    expect(other.back.seen.map(({ operation }) => operation)).toEqual([2, 1, 3]);
  });

  it('discard whole granules only, secure ones exactly or not at all', async () => {
    const { world, back, dev } = connected({}, { discard: true, discardGranularity: 4096, discardAlignment: 1024, secure: true });
    await settled(world, dev.discard(0, 100));
    expect(back.seen.at(-1)).toMatchObject({ operation: BLKIF_OP.DISCARD, sector: 2, nrSectors: 96, flag: 0 });
    await settled(world, dev.discard(3, 6));
    expect(back.seen.length).toBe(1);
    await settled(world, dev.discard(2040, 8));
    expect(back.seen.at(-1)).toMatchObject({ sector: 2042, nrSectors: 6 });
    expect(await code(dev.discard(3, 8, { secure: true }))).toBe('bad-argument');
    await settled(world, dev.discard(10, 8, { secure: true }));
    expect(back.seen.at(-1)).toMatchObject({ sector: 10, nrSectors: 8, flag: 1 });
    back.unsupported.add(BLKIF_OP.DISCARD);
    expect(await code(settled(world, dev.discard(10, 8)))).toBe('unsupported');
    expect(dev.info).toMatchObject({ discard: false });
    expect(await code(dev.discard(10, 8))).toBe('unsupported');
  });

  it('write zeroes by one page granted read-only, or by discarding where that is allowed to mean zeroes', async () => {
    const { world, back, dev } = connected({ persistent: false, maxSegments: 32 }, { indirect: 32, discard: true });
    back.disk.fill(9);
    await settled(world, dev.writeZeroes(0, 1024));
    expect(back.disk.subarray(0, 1024 * 512).every((byte) => byte === 0)).toBe(true);
    expect(back.disk[1024 * 512]).toBe(9);
    expect(back.seen.every(({ inner }) => inner === BLKIF_OP.WRITE)).toBe(true);
    expect(dev.device.figures[0]!.bounced).toBe(0);
    const other = connected({ discardZeroes: true }, { discard: true });
    other.back.disk.fill(9);
    await settled(other.world, other.dev.writeZeroes(8, 1024));
    expect(other.back.seen.map(({ operation }) => operation)).toEqual([BLKIF_OP.DISCARD]);
    other.back.unsupported.add(BLKIF_OP.DISCARD);
    await settled(other.world, other.dev.writeZeroes(0, 8));
    expect(other.back.seen.slice(1).map(({ operation }) => operation)).toEqual([BLKIF_OP.DISCARD, BLKIF_OP.WRITE]);
    expect(other.back.disk[0]).toBe(0);
  });

  it('are refused on a read-only disk before anything is asked', async () => {
    const { back, dev, world } = connected({}, { info: 4, discard: true });
    expect(await code(dev.write(0, new Uint8Array(512)))).toBe('read-only');
    expect(await code(dev.discard(0, 8))).toBe('read-only');
    expect(await code(dev.writeZeroes(0, 8))).toBe('read-only');
    expect(dev.device.submit(OP.WRITE, 0, [world.page()], 0, 8, 1)).toBe(ERRNO.EROFS);
    expect(back.seen.length).toBe(0);
  });

  it('get on when references or pages run out, and fail by name only when nobody can give one back', async () => {
    const { world, dev } = connected({ persistent: false, poolRefs: 0 }, {}, { grants: 128 });
    const giveBack = world.grants.exhaust(0);
    const read = dev.read(0, 4096);
    world.time.run(3000);
    expect(dev.device.poolFigures()).toMatchObject({ live: 0 });
    giveBack();
    expect((await settled(world, read))[0]).toBe(0);
    // One reference is enough for a request of any length.
    const rest = world.grants.exhaust(1);
    expect((await settled(world, dev.read(0, 20 * 4096))).length).toBe(20 * 4096);
    rest();
    const pages: number[] = [];
    for (let gfn = world.pages.alloc(); gfn !== undefined; gfn = world.pages.alloc()) pages.push(gfn);
    await settled(world, dev.read(0, 512));
    const starved = connected({ persistent: false }, {}, { pages: 8 });
    while (starved.world.pages.alloc() !== undefined);
    expect(await code(settled(starved.world, starved.dev.read(0, 4096)))).toBe('exhausted');
  });

  it('give idle persistent grants back once the backend no longer maps them', async () => {
    const { world, back, dev } = connected({ purgeTicks: 1000 }, { persistent: true });
    await settled(world, Promise.all([dev.read(0, 8 * 4096), dev.read(64, 4096)]));
    world.time.settle();
    const live = dev.device.poolFigures()!.live;
    expect(live).toBeGreaterThanOrEqual(9);
    world.time.run(3000);
    expect(dev.device.poolFigures()!.live).toBe(live);
    back.letGo();
    world.time.run(3000);
    expect(dev.device.poolFigures()!.live).toBe(0);
    await settled(world, dev.read(0, 4096));
  });
});

describe('the plugin', () => {
  it('attaches without touching anything, tells the bus what happens, and gives back everything when it is taken off', async () => {
    const world = new World();
    const back = new Loopback(world).start();
    const bus = createEventBus<BlkfrontEvents>();
    const facts: string[] = [];
    for (const type of ['blkfront:state', 'xenbus:state', 'blkfront:requested', 'blkfront:completed', 'blkfront:resized'] as const) {
      bus
        .on(type)
        .subscribe((fact) => facts.push(`${type.split(':')[1]} ${'state' in fact ? fact.state : 'op' in fact ? fact.op : fact.sectors}`));
    }
    const before = world.store.log.length;
    const attached = blkfront({ device: 51712 }).attach({ ...world.surroundings, bus });
    expect(world.store.log.length).toBe(before);
    await settled(world, attached.api.connect());
    await settled(world, attached.api.read(0, 512));
    back.resize(4096);
    world.time.settle();
    attached.detach();
    expect(facts).toEqual([
      'state initialising',
      'state 3',
      'state initialised',
      'state 4',
      'state connected',
      'requested 0',
      'completed 0',
      'resized 4096',
      'state closing',
      'state 5',
      'state 6',
      'state closed',
    ]);
    expect(world.leaks()).toEqual(noLeaks);
    expect(blkfront({ device: 0 }).requires).toEqual(['pages', 'grants', 'events', 'store', 'scheduler']);
  });

  it('is taken off at once where the host cannot block, and what the backend still maps follows', () => {
    const world = new World();
    const back = new Loopback(world, { persistent: true }).start();
    const { waitFor: _, ...surroundings } = world.surroundings;
    const attached = blkfront({ device: 51712 }).attach(surroundings);
    attached.api.device.start();
    world.time.settle();
    attached.api.device.submitTo(0, OP.READ, 0, null, new Uint8Array(4096), 0, 8, 1, () => undefined);
    world.time.settle();
    expect(() => attached.api.closeSync()).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ code: 'wrong-state' }) }));
    attached.detach();
    expect(attached.api.state).toBe('closed');
    world.time.run(2000);
    expect(back.errors).toEqual([]);
    expect(world.leaks()).toEqual(noLeaks);
  });

  const wrong: [string, object][] = [
    ['device', { device: -1 }],
    ['device', { device: 2 ** 32 }],
    ['queues', { device: 0, queues: 0 }],
    ['ringPages', { device: 0, ringPages: 3 }],
    ['ringPages', { device: 0, ringPages: 32 }],
    ['maxSegments', { device: 0, maxSegments: 10 }],
    ['maxSegments', { device: 0, maxSegments: 257 }],
    ['protocol', { device: 0, protocol: 'sparc-abi' }],
    ['poolRefs', { device: 0, poolRefs: -1 }],
    ['poolOrder', { device: 0, poolOrder: 'random' }],
    ['poolRefs', { device: 0, poolRefs: 'all' }],
    ['persistent', { device: 0, persistent: 'no' }],
    ['persistent', { device: 0, persistent: 0 }],
    ['discardZeroes', { device: 0, discardZeroes: 'yes' }],
    ['discardZeroes', { device: 0, discardZeroes: null }],
    ['closeTicks', { device: 0, closeTicks: 0 }],
    ['purgeTicks', { device: 0, purgeTicks: 0 }],
    ['purgeTicks', { device: 0, purgeTicks: Number.NaN }],
    ['reconnectTicks', { device: 0, reconnectTicks: -1 }],
    ['reconnectTicks', { device: 0, reconnectTicks: Infinity }],
    ['quarantineTicks', { device: 0, quarantineTicks: 0 }],
    ['quarantineTicks', { device: 0, quarantineTicks: '10' }],
    ['stormTicks', { device: 0, stormTicks: 0 }],
    ['stormTicks', { device: 0, stormTicks: 1.5 }],
    ['stormUpcalls', { device: 0, stormUpcalls: 0 }],
  ];
  for (const [argument, options] of wrong) {
    it(`names ${argument} in ${JSON.stringify(options)} as what is wrong`, () => {
      const refusal = expect.objectContaining({ code: 'bad-argument', argument });
      expect(() => blkfront(options as never)).toThrow(expect.objectContaining({ refusal }));
      expect(() => new BlockDevice(options as never, new World().surroundings)).toThrow(expect.objectContaining({ refusal }));
    });
  }
});
