import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tableSchedules } from '../src/generators.ts';
import { ScheduleModel } from './schedule-model.ts';

const FULL = process.env['PARAVIRT_FULL'] !== undefined;
const RUNS = FULL ? 1000 : 40;
const STEPS = 2000;

/**
 * Goal: no reference is in two places, counts agree, and neither a reference nor a page comes back while a peer maps it.
 * Method: random calls and a peer that maps, unmaps and scribbles between any two of them, against a map of what is where.
 */
describe(`random schedules (${RUNS} of ${STEPS} steps)`, () => {
  it('keep every reference in one place while a hostile peer maps and flips bits', { timeout: 600_000 }, () => {
    const table = fc.record({
      version: fc.constantFrom(1 as const, 2 as const),
      shared: fc.boolean(),
      initialFrames: fc.integer({ min: 1, max: 64 }),
      maxFrames: fc.integer({ min: 1, max: 64 }),
    });
    let ran = 0;
    const seen = new Set<string>();
    fc.assert(
      fc.property(table, tableSchedules(fc, STEPS), ({ version, shared, initialFrames, maxFrames }, steps) => {
        const frames = Math.max(maxFrames, initialFrames);
        // Half of the tables are small, so that they run full.
        const small = frames % 2 === 0;
        const model = new ScheduleModel({
          version,
          shared,
          initialFrames: small ? 1 : initialFrames,
          maxFrames: small ? 1 + (frames >> 4) : frames,
        });
        for (const step of steps) model.run(step);
        model.compareAll();
        for (const what of model.seen) seen.add(what);
        ran++;
      }),
      { numRuns: RUNS, endOnFailure: true },
    );
    expect(ran).toBe(RUNS);
    const reached = [
      'busy',
      'called',
      'claimed',
      'deferred',
      'ended',
      'exhausted',
      'freed later',
      'granted',
      'grown',
      'leaked',
      'listed',
      'no frame',
    ];
    expect([...seen].sort()).toEqual(reached);
  });
});
