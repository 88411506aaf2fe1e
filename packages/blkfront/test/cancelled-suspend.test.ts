import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { connected, noLeaks, settled } from './fixture.ts';

const runs = process.env['PARAVIRT_FULL'] === undefined ? 100 : 2000;

describe('a suspend that is cancelled', () => {
  it('leaves no port masked for good that was masked against a storm', async () => {
    const { world, back, dev } = connected({ stormUpcalls: 4, stormTicks: 10 });
    for (let i = 0; i < 10; i++) {
      back.queues[0]!.bell.ring();
      world.time.settle();
    }
    dev.device.suspend();
    dev.device.resume(true);
    expect((await settled(world, dev.read(8, 512)))[0]).toBe(8);
  });

  it('does not end the purges of idle persistent grants, or the retries of pages set aside', async () => {
    const persistent = connected({ purgeTicks: 1000 }, { persistent: true });
    await settled(persistent.world, persistent.dev.read(0, 4096));
    const plain = connected({ persistent: false });
    plain.back.clings = true;
    await settled(plain.world, plain.dev.read(0, 4096));
    plain.back.clings = false;
    expect(plain.dev.device.poolFigures()).toMatchObject({ quarantined: 1 });
    for (const { world, back, dev } of [persistent, plain]) {
      dev.device.suspend();
      dev.device.resume(true);
      back.letGo();
      world.time.run(60_000);
      expect(dev.device.poolFigures()).toMatchObject({ live: 0, quarantined: 0 });
    }
  });

  it('does not forget who waits for a reference, and wakes nobody while it lasts', async () => {
    const { world, back, dev } = connected({ persistent: false, poolRefs: 0 }, {}, { grants: 64 });
    const giveBack = world.grants.exhaust(0);
    const read = dev.read(8, 512);
    world.time.settle();
    giveBack();
    const again = world.grants.exhaust(0);
    dev.device.suspend();
    again();
    world.time.run(1000);
    expect(back.seen).toEqual([]);
    const third = world.grants.exhaust(0);
    dev.device.resume(true);
    world.time.run(1000);
    third();
    expect((await settled(world, read))[0]).toBe(8);
  });

  it('does not go on with rings that the backend was asked to let go of', async () => {
    const { world, back, dev } = connected();
    back.hold = true;
    const read = dev.read(8, 512);
    world.time.settle();
    dev.device.suspend();
    dev.device.resume();
    dev.device.suspend();
    back.hold = false;
    dev.device.resume(true);
    expect(dev.state).toBe('initialising');
    expect((await settled(world, read))[0]).toBe(8);
    expect(dev.device.figures[0]!.reissued).toBe(1);
  });

  it('costs no request and no reference, whatever waited when it came', async () => {
    const steps = fc.array(fc.constantFrom('read', 'write', 'storm', 'cancel', 'exhaust', 'refs', 'cling', 'letGo', 'settle', 'tick'), {
      maxLength: 40,
    });
    await fc.assert(
      fc.asyncProperty(steps, fc.boolean(), async (kinds, persistent) => {
        const options = { persistent, poolRefs: 0, stormUpcalls: 2, closeTicks: 100, purgeTicks: 100 };
        const { world, back, dev } = connected(options, { persistent }, { grants: 256 });
        const under: Promise<unknown>[] = [];
        let refs: (() => void) | undefined;
        for (const [i, kind] of [...kinds, 'cancel'].entries()) {
          if (kind === 'read') under.push(dev.read(i * 8, 8192));
          else if (kind === 'write') under.push(dev.write(i * 8, new Uint8Array(512)));
          else if (kind === 'storm') back.queues[0]!.bell.ring();
          else if (kind === 'exhaust') refs ??= world.grants.exhaust(0);
          else if (kind === 'refs') {
            refs?.();
            refs = undefined;
          } else if (kind === 'cling') back.clings = true;
          else if (kind === 'letGo') {
            back.clings = false;
            back.letGo();
          } else if (kind === 'settle') world.time.settle();
          else if (kind === 'tick') world.time.run(3);
          else {
            dev.device.suspend();
            dev.device.resume(true);
          }
        }
        refs?.();
        back.clings = false;
        back.letGo();
        await settled(world, Promise.all(under));
        back.letGo();
        world.time.run(10_000);
        expect(dev.device.poolFigures()).toMatchObject({ live: 0, quarantined: 0 });
        expect((await settled(world, dev.read(1025, 512)))[0]).toBe(1);
        await settled(world, dev.close());
        back.letGo();
        world.time.run(10_000);
        expect(world.leaks()).toEqual(noLeaks);
      }),
      { numRuns: runs },
    );
  });
});
