import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OP } from '../src/index.ts';
import { connected, settled } from './fixture.ts';

describe('a device that is ended by who hears of a request', () => {
  it('completes each request once, whichever it was and wherever the others stood', () => {
    const shape = fc.record({
      requests: fc.integer({ min: 1, max: 12 }),
      at: fc.nat(11),
      end: fc.constantFrom('stop', 'destroy', 'suspend', 'throw'),
      // On the ring, or carried to another connection, whose disk is too small for some.
      where: fc.constantFrom('ring', 'carried'),
    });
    fc.assert(
      fc.property(shape, ({ requests, at, end, where }) => {
        const { world, back, dev } = connected({}, { hold: true });
        const { device } = dev;
        const told = new Map<number, number>();
        let count = 0;
        device.onDone = (cookie) => {
          told.set(cookie, (told.get(cookie) ?? 0) + 1);
          if (count++ !== at) return;
          if (end === 'throw') throw new Error('heard enough');
          if (end === 'stop') device.stop();
          else if (end === 'destroy') device.destroy();
          else if (device.state === 'connected') device.suspend();
        };
        const page = world.page();
        const taken: number[] = [];
        for (let i = 0; i < requests; i++) if (device.submit(OP.READ, i * 8, [page], 0, 8, i) === 0) taken.push(i);
        const attempt = (run: () => void): void => {
          try {
            run();
          } catch (error) {
            expect(String(error)).toContain('heard enough');
          }
        };
        attempt(() => world.time.settle());
        if (where === 'carried') {
          back.die();
          attempt(() => world.time.settle());
          back.resize(40);
          back.revive();
        }
        back.hold = false;
        for (let i = 0; i < 30; i++) {
          attempt(() => back.release());
          attempt(() => world.time.settle());
        }
        if (dev.state === 'suspended') device.resume();
        for (let i = 0; i < 30; i++) attempt(() => world.time.settle());
        device.destroy();
        for (let i = 0; i < 30; i++) attempt(() => world.time.settle());
        expect([...told.entries()].sort((a, b) => a[0] - b[0])).toEqual(taken.map((cookie) => [cookie, 1]));
      }),
      { numRuns: process.env['PARAVIRT_FULL'] === undefined ? 300 : 5000 },
    );
  });

  it('does not go on to be suspended where it was told to stop by an answer that stood there', async () => {
    const { world, back, dev } = connected({}, { hold: true });
    const { device } = dev;
    device.onDone = () => device.stop();
    device.submit(OP.READ, 0, [world.page()], 0, 8, 1);
    world.time.settle();
    back.hold = false;
    device.mask(0);
    back.release();
    device.suspend();
    expect(dev.state).toBe('closing');
    world.time.run();
    expect(dev.state).toBe('closed');
  });
});

describe('a stop', () => {
  it('stands, where it comes while the backend closes to begin anew', async () => {
    const { world, back, dev } = connected({}, { hold: true });
    dev.device.submit(OP.READ, 0, [world.page()], 0, 8, 1);
    world.time.settle();
    back.set('online', 1);
    back.say(5);
    world.time.settle();
    expect(dev.state).toBe('closing');
    const closed = dev.close();
    back.hold = false;
    back.release();
    await settled(world, closed);
    expect(dev.state).toBe('closed');
  });
});

describe('what is plugged', () => {
  it('stays plugged over a new connection, until its unplug', () => {
    const { world, dev } = connected();
    const { device } = dev;
    const done: number[] = [];
    device.onDone = (cookie) => void done.push(cookie);
    const page = world.page();
    device.plug();
    device.submit(OP.READ, 0, [page], 0, 8, 1);
    device.suspend();
    device.resume();
    world.time.settle();
    expect(dev.state).toBe('connected');
    device.submit(OP.READ, 8, [page], 0, 8, 2);
    world.time.settle();
    expect(done).toEqual([]);
    device.unplug();
    world.time.settle();
    expect(done).toEqual([1, 2]);
    device.submit(OP.READ, 8, [page], 0, 8, 3);
    world.time.settle();
    expect(done).toEqual([1, 2, 3]);
  });

  it('is nothing where nothing was plugged: an unplug too many changes nothing', () => {
    const { world, dev } = connected();
    const done: number[] = [];
    dev.device.onDone = (cookie) => void done.push(cookie);
    dev.device.unplug();
    dev.device.submit(OP.READ, 0, [world.page()], 0, 8, 1);
    world.time.settle();
    expect(done).toEqual([1]);
  });
});
