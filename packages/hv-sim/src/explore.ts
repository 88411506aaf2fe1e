import { HvError } from './errors.ts';
import { createMachine } from './machine.ts';
import type { RunOrder } from './time/run-queue.ts';
import type { Machine, MachineOptions } from './types.ts';

/** What a scenario is given: it makes its one machine with `machine`, whose seed and order are the run's. */
export interface ScenarioRun {
  readonly seed: number | string;
  /** Makes the machine of this run. Called once. */
  machine(options?: Omit<MachineOptions, 'seed' | 'order' | 'record'>): Machine;
}

/**
 * A run from beginning to end: makes its machine and domains, lets them run, and throws when something is wrong. Everything it
 * does must follow from its seed, and must be over when it returns: promises are waited for inside, by running the machine.
 */
export type Scenario = (run: ScenarioRun) => void;

/** How one run of a scenario went. */
export interface RunRecord {
  readonly seed: number | string;
  readonly steps: number;
  readonly hash: number;
  /** Who ran at each step: domids, -1 for the machine itself. */
  readonly schedule: readonly number[];
}

/** A run that failed: enough to repeat it. */
export interface FailedRun extends RunRecord {
  readonly error: unknown;
}

function runOnce(
  scenario: Scenario,
  seed: number | string,
  order: RunOrder,
): { record: RunRecord; hashes: readonly number[]; failure: { error: unknown } | undefined } {
  let machine: Machine | undefined;
  let failure: { error: unknown } | undefined;
  try {
    const left: unknown = scenario({
      seed,
      machine(options = {}) {
        if (machine !== undefined) {
          throw new HvError({ code: 'bad-argument', argument: 'machine', value: 'a second one', allowed: 'one machine a run' });
        }
        machine = createMachine({ ...options, seed, order, record: true });
        return machine;
      },
    });
    if (isPromise(left)) {
      left.then(undefined, () => undefined);
      const allowed = 'one that is over when it returns: run the machine until its promises are settled';
      throw new HvError({ code: 'bad-argument', argument: 'scenario', value: 'one that returns a promise', allowed });
    }
  } catch (error) {
    failure = { error };
  }
  const record: RunRecord = {
    seed,
    steps: machine?.steps ?? 0,
    hash: machine?.hash ?? 0,
    schedule: [...(machine?.schedule ?? [])],
  };
  return { record, hashes: machine?.hashes ?? [], failure };
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}

/**
 * Runs a scenario twice with one seed and compares the hash after every step.
 * @throws {HvError} `nondeterminism`: the first step after which the two runs differ, and what each did.
 * @throws what the scenario throws.
 */
export function checkDeterminism(scenario: Scenario, seed: number | string, order: RunOrder = 'random'): RunRecord {
  const first = runOnce(scenario, seed, order);
  const second = runOnce(scenario, seed, order);
  const steps = Math.max(first.hashes.length, second.hashes.length);
  const say = (run: typeof first, step: number): string =>
    step < run.hashes.length ? `domain ${run.record.schedule[step]} ran, hash ${run.hashes[step]!.toString(16)}` : 'nobody ran';
  for (let step = 0; step < steps; step++) {
    if (first.hashes[step] === second.hashes[step]) continue;
    throw new HvError({ code: 'nondeterminism', seed: String(seed), step, first: say(first, step), second: say(second, step) });
  }
  if (first.record.hash !== second.record.hash) {
    const text = (run: typeof first): string => `final hash ${run.record.hash.toString(16)}`;
    throw new HvError({ code: 'nondeterminism', seed: String(seed), step: steps, first: text(first), second: text(second) });
  }
  if (first.failure !== undefined) throw first.failure.error;
  return first.record;
}

/**
 * Runs a scenario with one seed after another, the order of domains drawn from each, and stops at the first failure. One seed again:
 * `seeds: [7]`.
 * @param options.seeds the seeds, or how many (0, 1, 2 ...): one at least, because a search of nothing finds nothing.
 * @throws {HvError} `bad-argument`.
 */
export function explore(
  scenario: Scenario,
  options: { readonly seeds: number | Iterable<number | string>; readonly order?: 'random' | 'round-robin' },
): { readonly runs: number; readonly failure: FailedRun | undefined } {
  let runs = 0;
  for (const seed of seedsOf(options.seeds)) {
    runs++;
    const { record, failure } = runOnce(scenario, seed, options.order ?? 'random');
    if (failure !== undefined) return { runs, failure: { ...record, error: failure.error } };
  }
  return { runs, failure: undefined };
}

function seedsOf(seeds: number | Iterable<number | string>): (number | string)[] {
  let list: (number | string)[] = [];
  if (typeof seeds === 'number') {
    if (Number.isInteger(seeds) && seeds > 0) list = Array.from({ length: seeds }, (_, i) => i);
  } else if (typeof seeds === 'object' && seeds !== null) list = [...seeds];
  if (list.length > 0) return list;
  const allowed = 'how many, from 1 on, or a list of one seed at least';
  throw new HvError({ code: 'bad-argument', argument: 'seeds', value: JSON.stringify(seeds) ?? String(seeds), allowed });
}

/**
 * Repeats a run step by step, and goes on after the schedule's end if the scenario does.
 * @throws what the scenario throws; {HvError} `schedule-diverged`: the scenario is not the one that was recorded; `bad-argument`.
 */
export function replay(
  scenario: Scenario,
  options: {
    readonly seed: number | string;
    readonly schedule: ArrayLike<number> | string;
    readonly afterwards?: 'random' | 'round-robin';
  },
): RunRecord {
  const { schedule: recorded } = options;
  if (typeof recorded !== 'string' && typeof recorded?.length !== 'number') {
    const allowed =
      'the schedule of a run record, or a line of formatSchedule; to run one seed again without one, explore with `seeds: [seed]`';
    throw new HvError({ code: 'bad-argument', argument: 'schedule', value: String(recorded), allowed });
  }
  const schedule = typeof recorded === 'string' ? parseSchedule(recorded) : recorded;
  const { record, failure } = runOnce(scenario, options.seed, { schedule, afterwards: options.afterwards ?? 'random' });
  if (failure !== undefined) throw failure.error;
  return record;
}

/** A schedule as one line: `0x3 1 2 1x2` is 0 0 0 1 2 1 1. */
export function formatSchedule(schedule: ArrayLike<number>): string {
  const parts: string[] = [];
  for (let i = 0; i < schedule.length; ) {
    let end = i + 1;
    while (end < schedule.length && schedule[end] === schedule[i]) end++;
    parts.push(end - i === 1 ? String(schedule[i]) : `${schedule[i]}x${end - i}`);
    i = end;
  }
  return parts.join(' ');
}

/** @throws {HvError} `bad-argument`: not such a line. */
export function parseSchedule(text: string): number[] {
  const schedule: number[] = [];
  for (const part of text.split(' ').filter((piece) => piece.length > 0)) {
    const match = /^(-?\d+)(?:x(\d+))?$/.exec(part);
    if (match === null)
      throw new HvError({ code: 'bad-argument', argument: 'schedule', value: part, allowed: 'domids, each with an optional xCOUNT' });
    const count = Number(match[2] ?? 1);
    for (let i = 0; i < count; i++) schedule.push(Number(match[1]));
  }
  return schedule;
}
