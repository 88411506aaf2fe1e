import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ERRNO, OP } from '../src/index.ts';
import { connected, noLeaks } from './fixture.ts';

const runs = process.env['PARAVIRT_FULL'] === undefined ? 100 : 3000;
type Fixture = ReturnType<typeof connected>;

/** Counts completions by cookie, and does `react` in each. */
function counting({ dev }: Fixture, react: (nth: number) => void = () => undefined): [number, number][] {
  const done: [number, number][] = [];
  dev.device.onDone = (cookie, status) => {
    done.push([cookie, status]);
    react(done.length);
  };
  return done;
}

/** Does what a throwing completer may end. */
function quietly(run: () => void): void {
  try {
    run();
  } catch (error) {
    if ((error as Error).message !== 'completer') throw error;
  }
}

/** Runs on, whatever completers throw. @returns what they threw. */
function runAll({ world }: Fixture, ticks: number): unknown[] {
  const thrown: unknown[] = [];
  for (let over = false; !over; ) {
    try {
      world.time.run(ticks);
      over = true;
    } catch (error) {
      thrown.push(error);
    }
  }
  return thrown;
}

/** Resumes with no page left to issue requests again with. @returns what gives the pages back. */
function starve(fixture: Fixture): () => void {
  const { world, dev } = fixture;
  const taken: number[] = [];
  const watch = dev.device.onState((state) => {
    if (state !== 'initialised') return;
    for (let gfn = world.pages.alloc(); gfn !== undefined; gfn = world.pages.alloc()) taken.push(gfn);
  });
  quietly(() => {
    dev.device.suspend();
    if (dev.state === 'suspended') dev.device.resume();
  });
  runAll(fixture, 0);
  watch.unsubscribe();
  return () => {
    for (const gfn of taken) world.pages.free(gfn as never);
  };
}

describe('a request that fails for want of pages', () => {
  it('is completed once where the completer of another ends the device', () => {
    for (const end of ['destroy', 'stop'] as const) {
      const fixture = connected({ closeTicks: 50 }, { persistent: true, hold: true });
      const { world, dev } = fixture;
      const done = counting(fixture, (nth) => nth === 1 && dev.device[end]());
      for (let i = 0; i < 3; i++) dev.device.submit(OP.READ, i * 8, [world.page()], 0, 8, i);
      world.time.settle();
      const giveBack = starve(fixture);
      world.time.run(100_000);
      const rest = end === 'destroy' ? ERRNO.ENODEV : ERRNO.ENOMEM;
      expect(done, end).toEqual([
        [0, ERRNO.ENOMEM],
        [1, rest],
        [2, rest],
      ]);
      giveBack();
    }
  });

  it('is completed where the completer of another throws, whose error is thrown on', () => {
    const fixture = connected({}, { persistent: true, hold: true });
    const { world, dev } = fixture;
    const done = counting(fixture, (nth) => {
      throw new Error(`completer ${nth}`);
    });
    for (let i = 0; i < 3; i++) dev.device.submit(OP.READ, i * 8, [world.page()], 0, 8, i);
    world.time.settle();
    const giveBack = starve(fixture);
    expect(runAll(fixture, 100_000)).toEqual([new Error('completer 1')]);
    expect(done.map(([cookie]) => cookie)).toEqual([0, 1, 2]);
    giveBack();
  });
});

describe('a request of a former connection', () => {
  it('is completed where the completer of another throws as the device ends', () => {
    const fixture = connected({ reconnectTicks: 100 }, { hold: true });
    const { world, back, dev } = fixture;
    const done = counting(fixture, (nth) => {
      throw new Error(`completer ${nth}`);
    });
    for (let i = 0; i < 3; i++) dev.device.submit(OP.READ, i * 8, [world.page()], 0, 8, i);
    world.time.settle();
    back.die();
    expect(runAll(fixture, 1000)).toEqual([new Error('completer 1')]);
    expect(done.map(([cookie]) => cookie)).toEqual([0, 1, 2]);
    expect(dev.device.busy).toBe(0);
  });

  it('costs neither the device nor the others where its completer throws as it is issued again', () => {
    const fixture = connected({ persistent: false }, { hold: true });
    const { world, back, dev } = fixture;
    const done = counting(fixture, (nth) => {
      if (nth === 1) throw new Error('completer');
    });
    dev.device.submit(OP.READ, 2040, [world.page()], 0, 8, 1);
    dev.device.submit(OP.READ, 0, [world.page()], 0, 8, 2);
    world.time.settle();
    dev.device.suspend();
    back.hold = false;
    back.resize(1000);
    dev.device.resume();
    expect(runAll(fixture, 1000)).toEqual([new Error('completer')]);
    expect(dev.state).toBe('connected');
    expect(done).toEqual([
      [1, ERRNO.EINVAL],
      [2, 0],
    ]);
    expect(dev.device.submit(OP.READ, 0, [world.page()], 0, 8, 3)).toBe(0);
    world.time.run(1000);
    expect(done.at(-1)).toEqual([3, 0]);
  });
});

describe('a ring that ends while requests are put on it', () => {
  it('writes nothing more to its pages, which are the guest’s again', () => {
    const fixture = connected({ persistent: false }, { hold: true });
    const { world, back, dev } = fixture;
    const pages: number[] = [];
    const done = counting(fixture, () => {
      if (pages.length > 0) return;
      dev.device.destroy();
      back.die();
      for (let gfn = world.pages.alloc(); gfn !== undefined; gfn = world.pages.alloc()) pages.push(gfn);
      for (const gfn of pages) world.bytes(gfn).fill(0xaa);
    });
    dev.device.submit(OP.READ, 0, [world.page()], 0, 8, 1);
    dev.device.submit(OP.READ, 2040, [world.page()], 0, 8, 2);
    world.time.settle();
    dev.device.suspend();
    back.resize(1000);
    dev.device.resume();
    world.time.run(1000);
    expect(done.map(([cookie]) => cookie).sort()).toEqual([1, 2]);
    expect(pages.filter((gfn) => world.bytes(gfn).some((byte) => byte !== 0xaa))).toEqual([]);
  });
});

describe('whatever a completer does', () => {
  it('each request is completed once, and nothing is left at the end', () => {
    const reaction = fc.constantFrom('destroy', 'stop', 'cancel', 'resume', 'throw', 'submit', 'poll', 'none', 'none');
    const event = fc.constantFrom('submit', 'submit', 'die', 'resume', 'cancel', 'starve', 'shrink', 'release', 'tick', 'long');
    fc.assert(
      fc.property(
        fc.array(reaction, { minLength: 1, maxLength: 8 }),
        fc.array(event, { maxLength: 8 }),
        fc.boolean(),
        (reactions, events, persistent) => {
          const fixture = connected({ persistent, closeTicks: 50, reconnectTicks: 200 }, { persistent, hold: true });
          const { world, back, dev } = fixture;
          const gfns = [world.page()];
          const { device } = dev;
          let taken = 0;
          const submit = (): void => {
            if (device.submit(OP.READ, (taken % 2) * 2040, gfns, 0, 8, taken) === 0) taken++;
          };
          const cycle = (cancelled: boolean): void => {
            if (device.state !== 'connected' && device.state !== 'initialising') return;
            device.suspend();
            if ((device.state as string) === 'suspended') device.resume(cancelled);
          };
          const done = counting(fixture, (nth) => {
            const what = reactions[nth - 1];
            if (what === 'destroy') device.destroy();
            else if (what === 'stop') device.stop();
            else if (what === 'submit') submit();
            else if (what === 'poll') device.poll();
            else if (what === 'throw') throw new Error('completer');
            else if (what === 'cancel' || what === 'resume') cycle(what === 'cancel');
          });
          let giveBack = (): void => undefined;
          for (const what of ['submit', 'submit', 'submit', 'tick', ...events, 'long']) {
            if (what === 'submit') submit();
            else if (what === 'die') {
              back.die();
              quietly(() => world.time.settle());
              back.revive();
            } else if (what === 'resume' || what === 'cancel') quietly(() => cycle(what === 'cancel'));
            else if (what === 'starve') {
              giveBack();
              giveBack = () => undefined;
              if (device.state === 'connected') giveBack = starve(fixture);
            } else if (what === 'shrink') back.resize(back.sectors === 1000 ? 2048 : 1000);
            else if (what === 'release') back.release();
            else runAll(fixture, what === 'tick' ? 1 : 20_000);
          }
          back.hold = false;
          back.release();
          runAll(fixture, 1000);
          giveBack();
          quietly(() => device.destroy());
          runAll(fixture, 5000);
          expect(done.map(([cookie]) => cookie).sort((a, b) => a - b)).toEqual(Array.from({ length: taken }, (_, i) => i));
          world.pages.free(gfns[0]!);
          back.die();
          runAll(fixture, 5000);
          expect(world.leaks()).toEqual(noLeaks);
        },
      ),
      { numRuns: runs },
    );
  });
});
