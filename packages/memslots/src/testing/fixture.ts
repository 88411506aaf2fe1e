import { createMemslots } from '../memslots.ts';
import type { Memslots, MemslotsOptions, PendingChange, SlotChange } from '../types.ts';

/** A machine whose steps and facts are written down. */
export interface SlotsFixture {
  readonly memslots: Memslots;
  /** Every hook that was called, with what it was told. */
  readonly steps: (readonly [step: string, ...told: unknown[]])[];
  /** Every fact, as `changes()` delivered it. */
  readonly facts: SlotChange[];
  /** What the next preparation steps answer; 0 lets them pass. */
  refuseWith: number;
  /** Called during `flush`, when the slot is invalid. */
  onFlush: (() => void) | undefined;
}

/** Memory slots with 509 user ids unless told otherwise, and everything they tell. */
export function slotsFixture(options: Omit<MemslotsOptions, 'hooks'> = {}): SlotsFixture {
  const steps: [string, ...unknown[]][] = [];
  const kindOf = ({ kind }: PendingChange): string => kind;
  const fixture: { -readonly [Key in keyof SlotsFixture]: SlotsFixture[Key] } = {
    steps,
    facts: [],
    refuseWith: 0,
    onFlush: undefined,
    memslots: createMemslots({
      userMemSlots: 509,
      ...options,
      hooks: {
        install: (asId, generation) => steps.push(['install', asId, generation]),
        generation: (asId, generation) => steps.push(['generation', asId, generation]),
        flush: (asId, slot) => {
          steps.push(['flush', asId, slot.id]);
          fixture.onFlush?.();
        },
        prepare: (change) => {
          steps.push(['prepare', kindOf(change)]);
          return fixture.refuseWith;
        },
        commit: (change) => steps.push(['commit', kindOf(change)]),
      },
    }),
  };
  fixture.memslots.changes().subscribe((change) => fixture.facts.push(change));
  return fixture;
}
