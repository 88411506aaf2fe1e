import { describe, expect, it } from 'vitest';
import { OP } from '../src/index.ts';
import { connected, noLeaks, pair, settled } from './fixture.ts';

/** Frames that the backend has mapped now, those of the ring left out. */
function mapped({ world, back }: ReturnType<typeof connected>): number[] {
  const { words, entries } = world.grants;
  const rings = new Set(back.queues.flatMap(({ refs }) => refs));
  const frames: number[] = [];
  for (let gref = 8; gref < entries; gref++) {
    if (!rings.has(gref) && (words[gref * 2]! & 0x18) !== 0) frames.push(words[gref * 2 + 1]!);
  }
  return frames;
}

/** Takes every page that the guest has, as it would for something else. */
function takeAll({ world }: ReturnType<typeof connected>): Set<number> {
  const taken = new Set<number>();
  for (let gfn = world.pages.alloc(); gfn !== undefined; gfn = world.pages.alloc()) taken.add(gfn);
  return taken;
}

describe('the page of zeroes', () => {
  it('stays the driver’s while the backend holds on to it after the connection, and goes back when it lets go', async () => {
    const fixture = connected({ persistent: false, closeTicks: 50 });
    const { world, back, dev } = fixture;
    back.clings = true;
    await settled(world, dev.writeZeroes(0, 20));
    dev.device.stop();
    world.time.run(5000);
    expect(dev.state).toBe('closed');
    const held = mapped(fixture);
    expect(new Set(held).size).toBeGreaterThan(0);
    const taken = takeAll(fixture);
    expect(held.filter((gfn) => taken.has(gfn))).toEqual([]);
    for (const gfn of taken) world.pages.free(gfn as never);
    back.letGo();
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('stays the driver’s when the device is destroyed under a request', () => {
    const fixture = connected({ persistent: false }, { hold: true });
    const { world, back, dev } = fixture;
    dev.writeZeroes(0, 20).catch(() => undefined);
    world.time.settle();
    const [first, second] = back.held[0]!.segments.map(({ gref }) => gref);
    for (const gref of [first!, second!]) world.grants.map(gref, 0, false);
    dev.device.destroy();
    back.die();
    const held = mapped(fixture);
    expect(held.length).toBe(2);
    world.grants.unmap(first!, false);
    expect(takeAll(fixture).has(held[0]!)).toBe(false);
    world.grants.unmap(second!, false);
    expect(world.pages.alloc()).toBe(held[0]);
  });
});

describe('isHeld', () => {
  it('stays true of a finished page after its connection, until the backend lets go', () => {
    for (const end of ['close', 'lose', 'suspend', 'destroy'] as const) {
      const { world, back, dev } = connected({ persistent: false, closeTicks: 50 });
      back.clings = true;
      const gfn = world.page();
      dev.device.submit(OP.READ, 0, [gfn], 0, 8, 1);
      world.time.settle();
      expect(dev.device.isHeld(gfn), end).toBe(true);
      if (end === 'close') dev.device.stop();
      else if (end === 'lose') back.die();
      else if (end === 'destroy') dev.device.destroy();
      else {
        dev.device.suspend();
        dev.device.resume();
      }
      world.time.run(3000);
      expect(dev.device.isHeld(gfn), end).toBe(true);
      back.letGo();
      world.time.run(3000);
      expect(dev.device.isHeld(gfn), end).toBe(false);
    }
  });

  it('counts every reference: a page that two requests left behind is held until both are let go', () => {
    const { world, back, dev } = connected({ persistent: false, closeTicks: 50 }, { hold: true });
    const gfn = world.page();
    dev.device.submit(OP.READ, 0, [gfn], 0, 8, 1);
    dev.device.submit(OP.WRITE, 8, [gfn], 0, 8, 2);
    world.time.settle();
    const grefs = back.held.map(({ segments }) => segments[0]!.gref);
    for (const gref of grefs) world.grants.map(gref, 0, false);
    back.release();
    world.time.settle();
    world.grants.unmap(grefs[0]!, false);
    world.time.run(100);
    expect(dev.device.poolFigures()).toMatchObject({ quarantined: 1 });
    expect(dev.device.isHeld(gfn)).toBe(true);
    dev.device.stop();
    world.time.run(3000);
    expect(dev.device.isHeld(gfn)).toBe(true);
    world.grants.unmap(grefs[1]!, false);
    expect(dev.device.isHeld(gfn)).toBe(false);
  });

  it('is true inside the callback of a request that failed because the device broke, where the backend has its page mapped', () => {
    const { world, back, dev } = connected({ persistent: false }, { hold: true });
    const [mine, other] = [world.page(), world.page()];
    const seen: [number, number, boolean][] = [];
    dev.device.onDone = (cookie, status) => seen.push([cookie, status, dev.device.isHeld(cookie === 1 ? mine : other)]);
    dev.device.submit(OP.READ, 0, [mine], 0, 8, 1);
    dev.device.submit(OP.READ, 8, [other], 0, 8, 2);
    world.time.settle();
    world.grants.map(back.held[0]!.segments[0]!.gref, 0, true);
    back.answer(back.held[1]!, 0, { operation: 1 });
    back.pushAll();
    world.time.settle();
    expect(dev.state).toBe('broken');
    expect(seen).toEqual([
      [1, -5, true],
      [2, -5, false],
    ]);
  });

  it('is true of the pages of a buffer while they stay granted, and as long as the backend maps them after that', async () => {
    const { world, back, dev } = connected({ closeTicks: 50 }, { persistent: true });
    const buffer = dev.allocBuffer(2);
    await settled(world, dev.write(0, buffer));
    const held = (): boolean[] => buffer.gfns.map((gfn) => dev.device.isHeld(gfn));
    expect(held()).toEqual([true, true]);
    back.clings = true;
    dev.device.stop();
    world.time.run(3000);
    expect(dev.state).toBe('closed');
    expect(held()).toEqual([true, true]);
    back.letGo();
    expect(held()).toEqual([false, false]);
  });
});

describe('a buffer that is freed', () => {
  it('keeps the pages that the backend has mapped, whatever the grants are and whatever became of the connection', async () => {
    for (const persistent of [false, true]) {
      for (const end of ['connected', 'closed', 'lost', 'connected again'] as const) {
        const name = `${persistent ? 'persistent' : 'not persistent'}, ${end}`;
        const fixture = connected({ persistent, closeTicks: 50 }, { persistent });
        const { world, back, dev } = fixture;
        const buffer = dev.allocBuffer(2);
        back.clings = true;
        await settled(world, dev.write(0, buffer));
        if (end === 'closed') dev.device.stop();
        else if (end !== 'connected') back.die();
        world.time.run(1000);
        if (end === 'connected again') {
          back.revive();
          world.time.settle();
        }
        expect(dev.state, name).toBe(end === 'connected again' ? 'connected' : end);
        const gfns = [...buffer.gfns];
        const held = mapped(fixture).filter((gfn) => gfns.includes(gfn as never));
        expect(new Set(held), name).toEqual(new Set(gfns));
        buffer.free();
        const taken = takeAll(fixture);
        expect(
          gfns.filter((gfn) => taken.has(gfn)),
          name,
        ).toEqual([]);
        for (const gfn of taken) world.pages.free(gfn as never);
        back.letGo();
        world.time.run(3000);
        const after = takeAll(fixture);
        expect(
          gfns.filter((gfn) => !after.has(gfn) || dev.device.isHeld(gfn)),
          name,
        ).toEqual([]);
      }
    }
  });

  it('keeps its pages until the requests that use it are over', async () => {
    for (const persistent of [false, true]) {
      for (const trusted of [false, true]) {
        for (const bytes of [4096, 8192]) {
          const name = `${persistent} ${trusted} ${bytes}`;
          const fixture = connected({ persistent }, { persistent, trusted, hold: true });
          const { world, back, dev } = fixture;
          const buffer = dev.allocBuffer(2);
          const gfns = [...buffer.gfns];
          buffer.write(new Uint8Array(8192).fill(9));
          const done: number[] = [];
          dev.device.onDone = (_cookie, status) => done.push(status);
          expect(dev.device.submit(OP.WRITE, 32, buffer.gfns, 0, bytes / 512, 2)).toBe(0);
          // Also by frames of the caller's own array.
          expect(dev.device.submit(OP.READ, 1, gfns, 0, bytes / 512, 1)).toBe(0);
          world.time.settle();
          buffer.free();
          buffer.free();
          const taken = takeAll(fixture);
          expect(
            gfns.filter((gfn) => taken.has(gfn)),
            name,
          ).toEqual([]);
          for (const gfn of taken) world.bytes(gfn).fill(0x5a);
          expect(buffer.gfns, name).toEqual(gfns);
          back.hold = false;
          back.release();
          world.time.settle();
          expect(done, name).toEqual([0, 0]);
          expect(
            back.disk.subarray(32 * 512, 32 * 512 + bytes).every((byte) => byte === 9),
            name,
          ).toBe(true);
          expect(
            [...taken].every((gfn) => world.bytes(gfn).every((byte) => byte === 0x5a)),
            name,
          ).toBe(true);
          expect(buffer.gfns, name).toEqual([]);
          back.letGo();
          world.time.run(100_000);
          const after = takeAll(fixture);
          expect(
            gfns.every((gfn) => after.has(gfn)),
            name,
          ).toBe(true);
        }
      }
    }
  });

  it('goes back when a request over it ends with the device, also one that waits for the next connection', () => {
    for (const end of ['destroy', 'lose', 'answer in suspend'] as const) {
      const fixture = connected({ persistent: false, reconnectTicks: 100 }, { hold: true });
      const { world, back, dev } = fixture;
      const buffer = dev.allocBuffer(1);
      const gfn = buffer.gfns[0]!;
      dev.device.onDone = () => undefined;
      dev.device.submit(OP.READ, 0, buffer.gfns, 0, 8, 1);
      world.time.settle();
      if (end === 'lose') back.die();
      world.time.settle();
      buffer.free();
      expect(buffer.gfns.length, end).toBe(1);
      if (end === 'destroy') dev.device.destroy();
      else if (end === 'lose') world.time.run(1000);
      else {
        back.release();
        dev.device.suspend();
      }
      expect(buffer.gfns, end).toEqual([]);
      expect(takeAll(fixture).has(gfn), end).toBe(true);
    }
  });

  it('is refused by whoever names it after that', async () => {
    const { world, dev } = connected();
    const buffer = dev.allocBuffer(1);
    buffer.free();
    expect(dev.device.submit(OP.WRITE, 0, buffer.gfns, 0, 8, 1)).toBe(-22);
    await expect(settled(world, dev.write(0, buffer))).rejects.toThrow();
    expect(() => buffer.write(new Uint8Array(1))).toThrow(/given back/);
    expect(() => buffer.read(new Uint8Array(1))).toThrow(/given back/);
  });
});

it('keeps a ring page that the backend mapped before the connection was whole, and gives it back when it lets go', () => {
  const fixture = pair({ ringPages: 2 }, { maxRingOrder: 1 });
  const { world, dev } = fixture;
  const grefs: number[] = [];
  world.events.guest.allocUnbound = () => {
    for (let gref = 8; gref < world.grants.entries; gref++) if (world.grants.map(gref, 0, true) !== -1) grefs.push(gref);
    throw new Error('no port');
  };
  dev.device.start();
  world.time.run(100);
  expect(dev.state).toBe('closed');
  expect(grefs.length).toBe(2);
  const held = mapped(fixture);
  const taken = takeAll(fixture);
  expect(held.filter((gfn) => taken.has(gfn))).toEqual([]);
  for (const gref of grefs) world.grants.unmap(gref, true);
  expect(takeAll(fixture)).toEqual(new Set(held));
});

describe('a promise whose buffer is freed while it waits for its turn', () => {
  it.each([true, false])('is refused as such, and the requests before it go on, persistent grants %s', async (persistent) => {
    const { world, back, dev } = connected({ persistent }, { persistent, hold: true });
    const slots = dev.info!.slots;
    const before = Array.from({ length: slots }, () => dev.read(0, 512));
    const buffer = dev.allocBuffer(1);
    const writes = [dev.write(8, buffer), dev.read(16, buffer)].map((promise) => promise.catch((error: unknown) => error));
    buffer.free();
    world.time.settle();
    back.hold = false;
    back.release();
    await settled(world, Promise.all(before));
    for (const [i, promise] of writes.entries()) {
      const error = await settled(world, promise);
      expect(error).toMatchObject({ refusal: { code: 'freed', sector: 8 + i * 8, sectors: 8, errno: -22 } });
      expect((error as Error).message).toContain('was freed');
    }
    expect(await settled(world, dev.read(0, 512))).toHaveLength(512);
    await expect(settled(world, dev.write(8, buffer))).rejects.toMatchObject({ refusal: { code: 'freed' } });
  });
});
