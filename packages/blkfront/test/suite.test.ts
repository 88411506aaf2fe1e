import { describe, expect, it } from 'vitest';
import { BlockDevice } from '../src/index.ts';
import {
  blkfrontSuite,
  type Combination,
  combinations,
  coveringCombinations,
  Loopback,
  optionsFor,
  type SuiteRig,
  World,
} from '../src/testing.ts';
import { settled } from './fixture.ts';

function rig(c: Combination): SuiteRig {
  const world = new World({ pages: c.ringPages * c.queues > 4 ? 4096 : 1024, grants: 8192 });
  const back = new Loopback(world, {
    sectors: 8192,
    sectorBytes: c.sectorBytes,
    maxQueues: 4,
    maxRingOrder: 4,
    indirect: c.indirect,
    persistent: c.persistent,
    trusted: c.trusted,
    flush: true,
    barrier: true,
    discard: true,
  }).start();
  back.disk.fill(0);
  const dev = new BlockDevice(optionsFor(c), world.surroundings);
  dev.connectSync();
  const mine: number[] = [];
  return {
    dev,
    settled: (promise) => settled(world, promise),
    run: () => world.time.run(100),
    pass: (ticks) => world.time.run(ticks),
    disk: (offset, bytes) => back.disk.slice(offset, offset + bytes),
    page: () => {
      const gfn = world.page();
      mine.push(gfn);
      return gfn;
    },
    bytes: (gfn) => world.bytes(gfn),
    freePages: () => {
      for (const gfn of mine.splice(0)) world.pages.free(gfn as never);
    },
    resize: (sectors) => back.resize(sectors),
    detach: () => back.detach(),
    hold: () => {
      back.hold = true;
    },
    answer: () => {
      back.hold = false;
      back.release();
    },
    leftovers: () => [
      ...Object.entries(world.leaks())
        .filter(([, count]) => count !== 0)
        .map(([what, count]) => `${count} ${what}`),
      ...back.errors,
    ],
  };
}

describe('the interface suite over the loopback backend', () => {
  const chosen = process.env['PARAVIRT_FULL'] === undefined ? coveringCombinations() : combinations();
  it(`covers ${chosen.length} of 128 combinations`, () => expect(chosen.length).toBeGreaterThanOrEqual(16));
  for (const c of chosen) blkfrontSuite({ describe, it, expect: expect as never }, c, rig);
});
