import type FastCheck from 'fast-check';

/** What a step of a schedule does; a schedule's runner decides what it applies to. */
export const TABLE_STEPS = [
  'alloc',
  'allocList',
  'claim',
  'release',
  'free',
  'freeList',
  'allocSeq',
  'freeSeq',
  'grant',
  'publish',
  'tryEnd',
  'tryEndForeignAccess',
  'endForeignAccess',
  'peerMaps',
  'peerUnmaps',
  'peerFlips',
  'growthFails',
  'recordFails',
  'requestCallback',
  'cancelCallback',
  'advance',
] as const;

/** One step: `pick` chooses among what there is, `count` is how many. */
export interface TableStep {
  readonly kind: (typeof TABLE_STEPS)[number];
  readonly pick: number;
  readonly count: number;
}

/**
 * Random schedules of a grant table of exactly `steps` steps.
 * @param fc fast-check itself, handed in so that nothing here needs it at run time.
 */
export function tableSchedules(fc: typeof FastCheck, steps: number, countMax: number = 40): FastCheck.Arbitrary<TableStep[]> {
  const step: FastCheck.Arbitrary<TableStep> = fc.record({
    kind: fc.constantFrom(...TABLE_STEPS),
    pick: fc.nat({ max: 0x7fff_ffff }),
    count: fc.integer({ min: 1, max: countMax }),
  });
  return fc.array(step, { minLength: steps, maxLength: steps });
}
