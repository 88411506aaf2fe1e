import type { MemoryViews } from '@paravirt/gnttab';
import { describe, expect, it } from 'vitest';
import { type BlkfrontError, BlockDevice, ERRNO, OP } from '../src/index.ts';
import { Loopback, type SeenRequest, World } from '../src/testing.ts';
import { connected, noLeaks, pattern, settled } from './fixture.ts';

/** A small generator with a seed. */
function chance(seed: number): (below: number) => number {
  let x = seed >>> 0 || 1;
  return (below) => {
    x ^= x << 13;
    x >>>= 0;
    x ^= x >>> 17;
    x ^= x << 5;
    x >>>= 0;
    return x % below;
  };
}

describe('a backend that lies', () => {
  it('costs the guest that device only, whatever it answers', () => {
    const rounds = process.env['PARAVIRT_FULL'] === undefined ? 150 : 3000;
    let broken = 0;
    let fine = 0;
    for (let seed = 1; seed <= rounds; seed++) {
      const random = chance(seed * 7919);
      const { world, back, dev } = connected(
        { persistent: seed % 2 === 0, closeTicks: 50, quarantineTicks: 5 },
        { persistent: seed % 2 === 0, flush: true },
      );
      const counts = new Map<number, number>();
      dev.device.onDone = (cookie) => void counts.set(cookie, (counts.get(cookie) ?? 0) + 1);
      back.hold = true;
      const gfns = [world.page(), world.page()];
      let taken = 0;
      const old: SeenRequest[] = [];
      for (let step = 0; step < 60; step++) {
        for (let i = random(4); i > 0; i--) {
          if (dev.device.submit([OP.READ, OP.WRITE, OP.FLUSH][random(3)]!, random(100) * 8, gfns, random(2) * 512, 8, taken) === 0) taken++;
        }
        world.time.settle();
        const held = back.held.splice(0, random(back.held.length + 1));
        for (const seen of held) {
          old.push(seen);
          // Mostly honest, so that a lie meets a device in every state.
          const lie = random(200);
          if (lie === 0) back.answer(seen, 0, { idLo: random(64) });
          else if (lie === 1) back.answer(seen, 0, { idHi: random(9) });
          else if (lie === 2) back.answer(seen, 0, { operation: random(256) });
          else if (lie === 3) back.answer(old[random(old.length)]!, 0);
          else if (lie === 4 && back.queues[0]) back.queues[0].shared.rspProd = random(0xffff_ffff);
          else if (lie < 20) back.answer(seen, random(65536) - 32768);
          else back.answer(seen, back.carryOut(seen));
        }
        back.pushAll();
        if (random(20) === 0) for (let i = 0; i < 100; i++) back.queues[0]?.bell.ring();
        if (random(150) === 0) back.say(random(9));
        if (random(150) === 0) back.set('sectors', ['x', '0', '4096', '18446744073709551616'][random(4)]!);
        world.time.settle();
      }
      if (dev.state === 'broken') broken++;
      else fine++;
      back.hold = false;
      back.release();
      world.time.settle();
      dev.device.stop();
      world.time.run(2000);
      dev.device.destroy();
      back.die();
      world.time.run(2000);
      expect(counts.size, `seed ${seed}`).toBe(taken);
      expect(
        [...counts.values()].every((times) => times === 1),
        `seed ${seed}`,
      ).toBe(true);
      for (const gfn of gfns) world.pages.free(gfn);
      expect(world.leaks(), `seed ${seed}`).toEqual(noLeaks);
    }
    expect(broken).toBeGreaterThan(rounds / 20);
    expect(fine).toBeGreaterThan(rounds / 20);
  }, 900_000);

  it('reaches no byte of the guest but the data of requests, where it is not trusted', async () => {
    for (const persistent of [false, true]) {
      const { world, back, dev } = connected({ persistent, maxSegments: 32 }, { trusted: false, persistent, indirect: 32 });
      back.disk.fill(0);
      // Every byte the guest owns is a secret.
      const secret = 0x5a;
      const mine = Array.from({ length: 40 }, () => world.page(secret));
      for (let i = 0; i < 900; i++) world.pages.free(world.page(secret));
      const leaked = (): number[] => {
        const rings = new Set(back.queues.flatMap(({ refs }) => refs.map((ref) => world.grants.words[ref * 2 + 1]!)));
        return [...world.grants.reachable()].filter((gfn) => !rings.has(gfn) && world.bytes(gfn).includes(secret));
      };
      const looks: number[] = [];
      const carry = back.carryOut.bind(back);
      back.carryOut = (seen) => {
        looks.push(...leaked());
        return carry(seen);
      };
      dev.device.onDone = () => undefined;
      // One sector out of a page full of secrets, at odd places; the sector itself is the backend's to see.
      for (const start of [0, 512, 1111, 4096 * 3 + 3]) {
        const data = new Uint8Array(512).fill(7);
        for (let i = 0; i < 512; i++) world.bytes(mine[(start + i) >>> 12]!)[(start + i) & 4095] = data[i]!;
        expect(dev.device.submit(OP.WRITE, 16, mine, start, 1, 1)).toBe(0);
        world.time.settle();
        expect(back.disk.subarray(16 * 512, 17 * 512)).toEqual(data);
        for (let i = 0; i < 512; i++) world.bytes(mine[(start + i) >>> 12]!)[(start + i) & 4095] = secret;
      }
      expect(dev.device.submit(OP.READ, 0, mine, 100, 20 * 8, 1)).toBe(0);
      world.time.settle();
      await settled(world, dev.write(0, new Uint8Array(512).fill(1)));
      expect(back.seen.length).toBeGreaterThan(5);
      expect(looks).toEqual([]);
      expect(leaked()).toEqual([]);
    }
  });

  it('never sees a page of the guest that no request names, also where it is trusted', () => {
    const { world, back, dev } = connected({ persistent: false });
    const gfn = world.page(1);
    const others = Array.from({ length: 50 }, () => world.page(2));
    const seen = new Set<number>();
    const carry = back.carryOut.bind(back);
    back.carryOut = (request) => {
      for (const frame of world.grants.reachable()) seen.add(frame);
      return carry(request);
    };
    for (let i = 0; i < 20; i++) {
      dev.device.submit(i % 2, i * 8, [gfn], 0, 8, i);
      world.time.settle();
    }
    expect(others.some((other) => seen.has(other))).toBe(false);
    expect(seen.size).toBe(2);
  });

  it('cannot change an answer between the look and the use of it', () => {
    const world = new World();
    const back = new Loopback(world).start();
    // Views that count: every word of the ring's page is read through them.
    const reads = new Map<number, number>();
    let counting = false;
    let ringPage = -1;
    const u32 = new Proxy(world.views.u32, {
      get(target, key) {
        const index = typeof key === 'string' && /^\d+$/.test(key) ? Number(key) : -1;
        if (counting && index >>> 10 === ringPage) reads.set(index & 1023, (reads.get(index & 1023) ?? 0) + 1);
        const value = Reflect.get(target, key, target) as unknown;
        return typeof value === 'function' ? value.bind(target) : value;
      },
      set: (target, key, value) => Reflect.set(target, key, value, target),
    });
    const views: MemoryViews = { u8: world.views.u8, u16: world.views.u16, u32 };
    const frame = (gfn: number): { views: MemoryViews; offset: number } => ({ views, offset: gfn * 4096 });
    const again = new BlockDevice({ device: 51712, persistent: false }, { ...world.surroundings, pages: { ...world.pages, frame } });
    again.device.start();
    world.time.settle();
    expect(again.state).toBe('connected');
    ringPage = world.grants.words[back.queues[0]!.refs[0]! * 2 + 1]!;
    const done: number[] = [];
    again.device.onDone = (_cookie, status) => done.push(status);
    back.hold = true;
    for (let i = 0; i < 8; i++) again.device.submit(OP.READ, i * 8, [world.page()], 0, 8, i);
    world.time.settle();
    back.hold = false;
    for (const seen of back.held.splice(0)) back.answer(seen, back.carryOut(seen));
    back.queues[0]!.ring.push();
    counting = true;
    again.device.poll();
    counting = false;
    expect(done).toEqual(Array(8).fill(0));
    // Words of the slots: three each, each once. Words of the header: the producer index once a look, the requests' never.
    const slots = [...reads].filter(([word]) => word >= 16);
    expect(slots.length).toBe(8 * 3);
    expect(slots.every(([, times]) => times === 1)).toBe(true);
    expect(reads.get(2)).toBeLessThanOrEqual(3);
  });

  it('changes the ring between any two reads of ours, and still completes each request once, for its own caller', () => {
    const rounds = process.env['PARAVIRT_FULL'] === undefined ? 60 : 2000;
    let broken = 0;
    for (let seed = 1; seed <= rounds; seed++) {
      const random = chance(seed * 31337);
      const world = new World({ pages: 128 });
      const back = new Loopback(world, { flush: true }).start();
      let ringPage = -1;
      let armed = false;
      const words = world.views.u32;
      const u32 = new Proxy(words, {
        get(target, key) {
          const index = typeof key === 'string' && /^\d+$/.test(key) ? Number(key) : -1;
          const value = Reflect.get(target, key, target) as unknown;
          if (typeof value === 'function') return value.bind(target);
          // Whatever was just read is something else at the next look; now and then an index that is wildly wrong.
          if (armed && index >>> 10 === ringPage && random(3) === 0) {
            const word = random(4) === 0 ? random(4) : 16 + random(32 * 28);
            words[(ringPage << 10) + word] = random(8) === 0 ? random(0xffff_ffff) : words[(ringPage << 10) + random(1024)]!;
          }
          return value;
        },
        set: (target, key, value) => Reflect.set(target, key, value, target),
      });
      const views: MemoryViews = { u8: world.views.u8, u16: world.views.u16, u32 };
      const frame = (gfn: number): { views: MemoryViews; offset: number } => ({ views, offset: gfn * 4096 });
      const dev = new BlockDevice(
        { device: 51712, persistent: false, closeTicks: 50 },
        { ...world.surroundings, pages: { ...world.pages, frame } },
      );
      dev.device.start();
      world.time.settle();
      ringPage = world.grants.words[back.queues[0]!.refs[0]! * 2 + 1]!;
      const counts = new Map<number, number>();
      dev.device.onDone = (cookie) => void counts.set(cookie, (counts.get(cookie) ?? 0) + 1);
      const gfns = [world.page()];
      back.hold = true;
      let taken = 0;
      for (let step = 0; step < 12; step++) {
        for (let i = 0; i < 4; i++) if (dev.device.submit(i === 3 ? OP.FLUSH : i % 2, i * 8, gfns, 0, 8, taken) === 0) taken++;
        world.time.settle();
        for (const seen of back.held.splice(0)) back.answer(seen, 0);
        back.queues[0]?.ring.push();
        armed = step > 2;
        dev.device.poll();
        armed = false;
      }
      if (dev.state === 'broken') broken++;
      dev.device.destroy();
      back.die();
      world.time.run(5000);
      expect(counts.size, `seed ${seed}`).toBe(taken);
      expect(
        [...counts.values()].every((times) => times === 1),
        `seed ${seed}`,
      ).toBe(true);
      world.pages.free(gfns[0]!);
      expect(world.leaks(), `seed ${seed}`).toEqual(noLeaks);
    }
    expect(broken).toBeGreaterThan(rounds / 4);
  });

  it('rings for nothing without keeping the guest busy', () => {
    const { world, back, dev } = connected({ stormUpcalls: 8, stormTicks: 20 });
    for (let i = 0; i < 1000; i++) {
      back.queues[0]!.bell.ring();
      world.time.settle();
    }
    const { upcalls, spurious } = dev.device.figures[0]!;
    expect(spurious).toBeLessThanOrEqual(9);
    expect(upcalls).toBeLessThan(20);
    // And the device still works afterwards.
    let status = 1;
    dev.device.onDone = (_cookie, result) => {
      status = result;
    };
    dev.device.submit(OP.READ, 0, [world.page()], 0, 8, 1);
    world.time.run(100);
    expect(status).toBe(0);
  });

  it('keeps pages mapped for ever without costing more than its device, and memory stays bounded', () => {
    const { world, back, dev } = connected({ persistent: false, quarantineTicks: 1000 });
    back.clings = true;
    const gfn = world.page();
    let status = 0;
    let requests = 0;
    dev.device.onDone = () => {
      requests++;
    };
    for (let i = 0; i < 2000 && status !== ERRNO.ENODEV; i++) {
      status = dev.device.submit(OP.READ, 0, [gfn], 0, 8, i);
      world.time.settle();
    }
    expect(dev.state).toBe('broken');
    expect(dev.device.reason).toContain('keeps');
    expect(requests).toBeLessThanOrEqual(32 * 11 + 33);
    // The references come back the moment it lets go.
    expect(world.grants.taken).toBeGreaterThan(300);
    back.letGo();
    world.time.run(5000);
    world.pages.free(gfn);
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('flips entry bits while a request is under way and still gets no second use of its reference', () => {
    const { world, back, dev } = connected({ persistent: false });
    back.hold = true;
    const gfn = world.page();
    const done: number[] = [];
    dev.device.onDone = (_cookie, status) => done.push(status);
    dev.device.submit(OP.READ, 0, [gfn], 0, 8, 1);
    world.time.settle();
    const { gref } = back.held[0]!.segments[0]!;
    const seen = back.held.splice(0)[0]!;
    back.answer(seen, back.carryOut(seen));
    // It says that it reads and writes, without having mapped anything any more.
    world.grants.words[gref * 2]! |= 0x18;
    back.pushAll();
    world.time.settle();
    expect(done).toEqual([0]);
    expect(dev.device.poolFigures()).toMatchObject({ quarantined: 1 });
    world.grants.words[gref * 2]! &= ~0x18;
    world.time.run(100);
    expect(dev.device.poolFigures()).toMatchObject({ quarantined: 0, free: 11 });
  });

  it('goes through states in any order and ends where it stays', () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = chance(seed * 104729);
      const world = new World({ pages: 64 });
      const back = new Loopback(world);
      const dev = new BlockDevice({ device: 51712, closeTicks: 40, reconnectTicks: 300 }, world.surroundings);
      dev.device.start();
      for (let i = 0; i < 30; i++) {
        const what = random(12);
        if (what < 9) world.store.connect(0).write(`${back.path}/state`, String(what));
        else if (what === 9) world.store.connect(0).write(`${back.path}/state`, 'banana');
        else if (what === 10) world.store.connect(0).remove(`${back.path}/state`);
        else world.time.run(random(100));
        world.time.settle();
      }
      world.store.connect(0).remove(back.path);
      world.time.run(1000);
      dev.device.stop();
      world.time.run(1000);
      expect(['closed', 'broken'], `seed ${seed}`).toContain(dev.state);
      expect(world.leaks(), `seed ${seed}`).toEqual(noLeaks);
    }
  });

  it('restarts for ever over pages it keeps, and has those of a few connections only', async () => {
    for (const keeps of ['rings', 'data'] as const) {
      const { world, back, dev } = connected({ persistent: false, quarantineTicks: 5 }, { hold: true }, { pages: 512 });
      const read = dev.read(0, 16 * 4096).catch((error: BlkfrontError) => error.refusal.code);
      const kept: number[] = [];
      let most = 0;
      let rounds = 0;
      for (; rounds < 100 && dev.state !== 'broken'; rounds++) {
        world.time.settle();
        const requests = back.held.splice(0).flatMap(({ segments }) => segments.map(({ gref }) => gref));
        const rings = back.queues.flatMap(({ refs }) => refs);
        for (const gref of keeps === 'rings' ? rings : requests) if (world.grants.map(gref, world.backendId, false) !== -1) kept.push(gref);
        for (const state of [1, 2]) {
          back.say(state);
          if (state === 1) for (const { refs } of back.queues.splice(0)) for (const gref of refs) world.grants.unmap(gref, true);
          world.time.settle();
        }
        most = Math.max(most, world.pagesHeld);
      }
      expect([dev.state, dev.device.reason]).toEqual(['broken', 'the backend keeps pages of 5 former connections mapped']);
      expect(await settled(world, read)).toBe('gone');
      expect(most).toBeLessThan(6 * 18);
      // It stays so for as long as the pages are kept, and no longer.
      dev.device.start();
      world.time.settle();
      expect(dev.state).toBe('broken');
      for (const gref of kept) world.grants.unmap(gref, false);
      world.time.run(5000);
      expect(world.leaks()).toEqual(noLeaks);
      back.hold = false;
      await settled(world, dev.connect());
      await settled(world, dev.read(0, 512));
    }
  });

  it('changes keys in a storm, and nothing queues up', () => {
    const { world, back, dev } = connected();
    for (let i = 0; i < 2000; i++) back.resize(2048 + (i % 2) * 8);
    world.time.settle();
    expect(dev.state).toBe('connected');
    expect(dev.info?.sectors).toBe(2056);
    expect(dev.device.busy).toBe(0);
  });

  it('hides its folder, and the device goes like one whose backend went', () => {
    const { world, back, dev } = connected({ reconnectTicks: 0 });
    world.store.hidden.add(`${back.path}/state`);
    back.say(4);
    world.time.settle();
    expect(dev.state).toBe('closed');
    back.letGo();
    for (const { refs } of back.queues.splice(0)) for (const ref of refs) world.grants.unmap(ref, true);
    world.time.run(5000);
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('answers a flush with an error, and that is no success', async () => {
    const { world, back, dev } = connected({}, { flush: true });
    back.fail = () => true;
    await expect(settled(world, dev.flush())).rejects.toMatchObject({ refusal: { code: 'io', errno: ERRNO.EIO } });
    await expect(settled(world, dev.write(0, pattern(512, 1)))).rejects.toMatchObject({ refusal: { code: 'io', what: 'write' } });
  });
});
