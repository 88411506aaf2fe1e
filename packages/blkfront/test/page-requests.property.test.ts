import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OP } from '../src/index.ts';
import { connected, noLeaks, settled } from './fixture.ts';

const runs = process.env['PARAVIRT_FULL'] === undefined ? 200 : 5000;

/**
 * Goal: a request of one page ends once, whatever its caller does when another one ends.
 * Method: reads and writes of a page or of two, some of which the backend fails; a completer that submits, throws, suspends and
 * resumes, begins to watch or stops it, and a backend that answers in any order and dies; every cookie is counted.
 */
describe('requests of one page and completers that do as they like', () => {
  it(`end once each: ${runs} schedules`, async () => {
    const act = fc.constantFrom('nothing', 'nothing', 'nothing', 'submit', 'submit', 'throw', 'suspend', 'watch', 'unwatch');
    const step = fc.record({
      kind: fc.constantFrom('submit', 'submit', 'submit', 'settle', 'settle', 'hold', 'release', 'die'),
      pages: fc.nat(7),
      write: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(act, { minLength: 20, maxLength: 80 }),
        fc.array(step, { minLength: 20, maxLength: 80 }),
        fc.boolean(),
        fc.nat(9),
        async (acts, steps, persistent, every) => {
          const { world, back, dev } = connected({ persistent }, { persistent }, { pages: 512, grants: 600 });
          const buffers = Array.from({ length: 4 }, () => dev.allocBuffer(2));
          const open = new Set<number>();
          let last = 0;
          let served = 0;
          let listening: { unsubscribe(): void } | undefined;
          let told = 0;
          back.fail = () => every > 1 && ++served % every === 0;
          const submit = (pages: number, write: boolean): void => {
            const cookie = ++last;
            const count = pages === 0 ? 16 : 1 + (pages % 8);
            open.add(cookie);
            if (dev.device.submit(write ? OP.WRITE : OP.READ, (pages * 16) % 64, buffers[pages % 4]!.gfns, 0, count, cookie) !== 0)
              open.delete(cookie);
          };
          dev.device.onDone = (cookie, status) => {
            expect(open.delete(cookie)).toBe(true);
            expect([0, -5]).toContain(status);
            const what = acts.pop();
            if (what === 'submit') submit(cookie % 8, cookie % 2 === 0);
            else if (what === 'suspend' && dev.state === 'connected') {
              dev.device.suspend();
              dev.device.resume(cookie % 2 === 0);
            } else if (what === 'watch') listening ??= dev.device.onCompletion(() => told++);
            else if (what === 'unwatch') {
              listening?.unsubscribe();
              listening = undefined;
            } else if (what === 'throw') throw new Error('the completer throws');
          };
          const calm = (work: () => void): void => {
            for (let i = 0; i < 100; i++) {
              try {
                work();
                return;
              } catch (error) {
                expect((error as Error).message).toContain('the completer throws');
              }
            }
          };
          for (const { kind, pages, write } of steps) {
            if (kind === 'submit') calm(() => submit(pages, write));
            else if (kind === 'hold') back.hold = true;
            else if (kind === 'release') calm(() => back.release());
            else if (kind === 'die' && dev.state === 'connected') {
              calm(() => back.die());
              calm(() => world.time.settle());
              calm(() => back.revive());
            } else calm(() => world.time.settle());
          }
          back.hold = false;
          acts.length = 0;
          calm(() => back.release());
          calm(() => world.time.settle());
          calm(() => world.time.run(3000));
          expect([...open]).toEqual([]);
          listening?.unsubscribe();
          for (const buffer of buffers) buffer.free();
          await settled(world, dev.close());
          world.time.run(5000);
          expect(back.errors).toEqual([]);
          expect(world.leaks()).toEqual(noLeaks);
        },
      ),
      { numRuns: runs },
    );
  }, 600_000);
});
