import { blkfrontSuite, type Combination, combinations, coveringCombinations, optionsFor, type SuiteRig } from '@paravirt/blkfront/testing';
import { describe, expect, it } from 'vitest';
import { Stack } from './blkfront-stack.ts';

function rig(c: Combination): SuiteRig {
  const stack = new Stack({
    front: optionsFor(c),
    blkback: { queuesMax: 4, ringPageOrderMax: 4, indirectSegmentsMax: c.indirect, persistent: c.persistent },
    attach: { trusted: c.trusted },
    sectorBytes: c.sectorBytes,
    guestPages: 6144,
    abi: c.protocol === 'x86_32-abi' ? 'x86_32' : 'x86_64',
  });
  stack.dev.connectSync();
  return {
    dev: stack.dev,
    settled: (promise) => stack.settled(promise),
    run: () => stack.run(),
    pass: (ticks) => stack.run(ticks),
    disk: (offset, bytes) => stack.diskBytes(offset, bytes),
    page: () => stack.page(),
    bytes: (gfn) => stack.bytes(gfn),
    freePages: () => stack.freePages(),
    resize: (sectors) => stack.disk.resize(sectors * 512),
    detach: () => stack.detach(),
    hold: () => {
      stack.disk.held = true;
    },
    answer: () => stack.disk.release(),
    leftovers: () => stack.leftovers(),
  };
}

describe('the interface suite over the backend of the simulated hypervisor', () => {
  const chosen = process.env['PARAVIRT_FULL'] === undefined ? coveringCombinations() : combinations();
  it(`covers ${chosen.length} of 128 combinations`, () => expect(chosen.length).toBeGreaterThanOrEqual(16));
  for (const c of chosen) blkfrontSuite({ describe, it, expect: expect as never }, c, rig);
});
