import { describe, expect, it } from 'vitest';
import { type BlkfrontError, BlockDevice, ERRNO, OP } from '../src/index.ts';
import type { Loopback, World } from '../src/testing.ts';
import { connected, noLeaks, pair, pattern, settled } from './fixture.ts';

/** The backend comes up under another path, and the toolstack names it then. */
function comeElsewhere(world: World, back: Loopback): void {
  (back as { path: string }).path = back.path.replace('backend/vbd', 'backend/other');
  back.revive();
  world.time.settle();
  world.surroundings.store.write(`${back.front}/backend`, back.path);
  world.time.settle();
}

describe('a device whose backend comes and goes', () => {
  it('keeps its requests when the backend dies, and issues each once more on the next', async () => {
    const { world, back, dev } = connected({ persistent: false });
    const done = new Map<number, number[]>();
    dev.device.onDone = (cookie, status) => void done.set(cookie, [...(done.get(cookie) ?? []), status]);
    back.hold = true;
    const data = pattern(4096, 5);
    const gfns = Array.from({ length: 10 }, () => world.page());
    for (const [i, gfn] of gfns.entries()) {
      world.bytes(gfn).set(data);
      dev.device.submit(OP.WRITE, i * 8, [gfn], 0, 8, i);
    }
    world.time.settle();
    back.die();
    world.time.settle();
    expect(dev.state).toBe('lost');
    expect(dev.device.busy).toBe(10);
    expect(dev.device.submit(OP.READ, 0, [gfns[0]!], 0, 8, 99)).toBe(ERRNO.EBUSY);
    back.hold = false;
    back.seen.length = 0;
    back.revive();
    world.time.settle();
    expect(dev.state).toBe('connected');
    expect(back.seen.map((seen) => seen.sector)).toEqual(gfns.map((_, i) => i * 8));
    expect([...done.entries()]).toEqual(gfns.map((_, i) => [i, [0]]));
    expect(dev.device.figures[0]!.reissued).toBe(10);
    for (const gfn of gfns) world.pages.free(gfn);
    await settled(world, dev.close());
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('fails what waits when the backend does not come back in time', async () => {
    const { world, back, dev } = connected({ reconnectTicks: 500 });
    back.hold = true;
    const read = dev.read(0, 4096).catch((error: BlkfrontError) => error.refusal.code);
    world.time.settle();
    back.die();
    expect(await settled(world, read)).toBe('gone');
    expect(dev.state).toBe('closed');
    expect(world.time.now()).toBe(500);
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('fails what waits when the backend shows signs of life and does not connect in time', async () => {
    for (const end of ['dies', 'starts anew', 'is another after a resume'] as const) {
      const { world, back, dev } = connected({ reconnectTicks: 500 }, { hold: true });
      const read = dev.read(0, 4096).catch((error: BlkfrontError) => error.refusal.code);
      world.time.settle();
      if (end === 'dies') back.die();
      else if (end === 'starts anew') back.say(1);
      else {
        dev.device.suspend();
        world.time.run(5000);
        back.die();
        dev.device.resume();
      }
      // It never gets as far as to look at the frontend.
      const began = world.time.now();
      for (const state of [1, 1, 'gone', 1, 'gone', 1]) {
        world.time.run(80);
        if (state === 'gone') world.store.connect(0).remove(back.path);
        else back.say(1);
        world.time.settle();
      }
      expect(dev.state).toBe('initialising');
      expect(await settled(world, read)).toBe('gone');
      expect([dev.state, world.time.now() - began]).toEqual(['closed', 500]);
      world.time.run(2000);
      expect(world.leaks()).toMatchObject({ ...noLeaks, mappings: expect.anything() });
    }
  });

  it('is closed, not broken, when the toolstack takes its folder away while it is lost', async () => {
    for (const folderFirst of [true, false]) {
      const { world, back, dev } = connected({}, { hold: true });
      const read = dev.read(0, 512).catch((error: BlkfrontError) => error.refusal);
      world.time.settle();
      if (folderFirst) world.store.connect(0).remove(back.front);
      back.die();
      world.time.settle();
      if (!folderFirst) {
        expect(dev.state).toBe('lost');
        world.store.connect(0).remove(back.front);
        world.time.settle();
      }
      expect([dev.state, dev.device.reason]).toEqual(['closed', 'the device was taken away']);
      expect(await settled(world, read)).toMatchObject({ code: 'gone', state: 'closed' });
      expect(world.time.now()).toBe(0);
      expect(world.leaks()).toEqual(noLeaks);
    }
    // A folder that is there and names no backend is a lie all the same.
    const { world, back, dev } = connected();
    back.die();
    world.time.settle();
    world.store.connect(0).remove(`${back.front}/backend`);
    world.time.settle();
    expect(dev.state).toBe('broken');
  });

  it('may take its time to be lost again once it is connected', async () => {
    const { world, back, dev } = connected({ reconnectTicks: 500 });
    for (let i = 0; i < 3; i++) {
      back.die();
      world.time.run(400);
      back.revive();
      world.time.settle();
      expect(dev.state).toBe('connected');
    }
    world.time.run(1000);
    expect(dev.state).toBe('connected');
    await settled(world, dev.close());
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('follows the toolstack to another backend', async () => {
    const { world, back, dev } = connected();
    back.die();
    world.time.settle();
    const path = back.path.replace('backend/vbd', 'backend/other');
    (back as { path: string }).path = path;
    back.revive();
    world.time.settle();
    expect(dev.state).toBe('lost');
    world.surroundings.store.write('/local/domain/6/device/vbd/51712/backend', path);
    world.time.settle();
    expect(dev.state).toBe('connected');
    await settled(world, dev.read(0, 512));
  });

  it('is lost, and closed in time, when its backend dies before the device has heard of it', async () => {
    const { world, back, dev } = pair({ reconnectTicks: 500 });
    dev.device.start();
    back.die();
    world.time.settle();
    expect([dev.state, dev.device.reason]).toEqual(['lost', 'the backend vanished']);
    world.time.run(500);
    expect(dev.state).toBe('closed');
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('waits for a backend that was never there, and follows the toolstack to the one that comes', async () => {
    const { world, back, dev } = pair({ reconnectTicks: 500 });
    back.die();
    dev.device.start();
    world.time.run(5000);
    expect(dev.state).toBe('initialising');
    comeElsewhere(world, back);
    expect(dev.state).toBe('connected');
    // A connection needs no look at the name.
    expect(world.leaks().watches).toBe(1);
    await settled(world, dev.close());
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('carries its requests to the backend that the toolstack names after a resume', async () => {
    const { world, back, dev } = connected({}, { hold: true });
    const write = dev.write(8, pattern(4096, 3));
    world.time.settle();
    dev.device.suspend();
    back.die();
    dev.device.resume();
    world.time.settle();
    expect(dev.state).toBe('initialising');
    back.hold = false;
    comeElsewhere(world, back);
    await settled(world, write);
    expect(back.disk.subarray(8 * 512, 16 * 512)).toEqual(pattern(4096, 3));
    await settled(world, dev.close());
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('changes nothing when the store refuses a watch as it starts', () => {
    const { world } = pair();
    const { store } = world.surroundings;
    const refused = new Error('E2BIG');
    const watch = (): never => {
      throw refused;
    };
    const dev = new BlockDevice({ device: 51712 }, { ...world.surroundings, store: Object.assign(Object.create(store), { watch }) });
    expect(() => dev.device.start()).toThrow(refused);
    expect(dev.state).toBe('closed');
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('divides a request that the next backend cannot take whole', async () => {
    const { world, back, dev } = connected({ maxSegments: 256, persistent: false }, { indirect: 256 });
    const data = pattern(100 * 4096, 3);
    back.hold = true;
    const write = dev.write(0, data);
    world.time.settle();
    expect(back.seen.at(-1)).toMatchObject({ operation: 6, nrSegments: 100 });
    dev.device.suspend();
    back.hold = false;
    back.set('feature-max-indirect-segments', 0);
    dev.device.resume();
    await settled(world, write);
    expect(dev.info).toMatchObject({ indirect: false });
    expect(back.disk.subarray(0, data.length)).toEqual(data);
  });

  it('closes out of a suspend or a resume that is not over, without a reference lent again under the old ring', async () => {
    for (const resume of [false, true]) {
      const { world, back, dev } = connected({ persistent: false });
      const write = dev.write(0, pattern(512, 1)).catch((error: BlkfrontError) => error.refusal.code);
      dev.device.suspend();
      if (resume) dev.device.resume();
      await settled(world, dev.close());
      expect(world.time.now()).toBe(0);
      expect(await settled(world, write)).toBe('gone');
      expect(back.errors).toEqual([]);
      world.time.run(2000);
      expect(world.leaks()).toEqual(noLeaks);
      await settled(world, dev.connect());
      await settled(world, dev.read(0, 512));
    }
  });

  it('goes on with its rings when a suspend is cancelled', async () => {
    const { world, back, dev } = connected();
    back.hold = true;
    const read = dev.read(8, 4096);
    world.time.settle();
    dev.device.suspend();
    back.hold = false;
    back.release();
    world.time.settle();
    expect(dev.device.busy).toBe(1);
    dev.device.resume(true);
    expect((await settled(world, read))[0]).toBe(8);
    expect(dev.device.figures[0]!.reissued).toBe(0);
  });

  it('does not issue again what was answered before it was suspended', () => {
    const { world, back, dev } = connected({ persistent: false });
    const done: number[] = [];
    dev.device.onDone = (cookie) => done.push(cookie);
    back.hold = true;
    const gfn = [world.page()];
    for (let i = 0; i < 4; i++) dev.device.submit(OP.READ, 0, gfn, 0, 8, i);
    world.time.settle();
    back.answer(back.held[1]!, 0);
    back.answer(back.held[3]!, 0);
    // On the ring, and nobody was told yet.
    for (const { ring } of back.queues) ring.push();
    dev.device.suspend();
    expect(done).toEqual([1, 3]);
    back.hold = false;
    dev.device.resume();
    world.time.settle();
    expect(done).toEqual([1, 3, 0, 2]);
  });

  it('comes back by itself when the host driver restarts under a device that stays online', async () => {
    const { world, back, dev } = connected();
    back.say(5);
    world.time.settle();
    expect(dev.state).toBe('connected');
    await settled(world, dev.read(0, 512));
    expect(back.errors).toEqual([]);
  });

  it('lets requests under way finish when the backend closes, and takes no new ones', async () => {
    const { world, back, dev } = connected();
    back.hold = true;
    const read = dev.read(0, 4096);
    world.time.settle();
    back.detach();
    world.time.settle();
    expect(dev.state).toBe('closing');
    await expect(dev.read(0, 512)).rejects.toMatchObject({ refusal: { code: 'gone' } });
    back.hold = false;
    back.release();
    await settled(world, read);
    world.time.settle();
    expect(dev.state).toBe('closed');
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('refuses life-cycle calls in the wrong state by name', () => {
    const { dev } = connected();
    for (const call of [() => dev.device.start(), () => dev.device.resume()]) {
      expect(call).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ code: 'wrong-state', state: 'connected' }) }));
    }
    dev.device.stop();
    expect(() => dev.device.suspend()).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ code: 'wrong-state' }) }));
  });

  it('grows and shrinks with its disk while it is in use', () => {
    const { world, back, dev } = connected({ persistent: false });
    const done: number[] = [];
    dev.device.onDone = (_cookie, status) => done.push(status);
    const gfn = [world.page()];
    back.hold = true;
    dev.device.submit(OP.READ, 2040, gfn, 0, 8, 1);
    world.time.settle();
    back.resize(1000);
    world.time.settle();
    expect(dev.info?.sectors).toBe(1000);
    expect(dev.device.submit(OP.READ, 1000, gfn, 0, 8, 2)).toBe(ERRNO.EINVAL);
    back.hold = false;
    back.release();
    world.time.settle();
    // The request from before meets the end of the disk: an error, and nothing worse.
    expect(done).toEqual([ERRNO.EIO]);
    back.resize(4096);
    world.time.settle();
    expect(dev.info?.sectors).toBe(4096);
    back.set('sectors', 'nothing');
    back.say(4);
    world.time.settle();
    expect(dev.state).toBe('broken');
  });
});
