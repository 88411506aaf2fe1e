import { describe, expect, it } from 'vitest';
import {
  checkDeterminism,
  createMachine,
  explore,
  type FailedRun,
  formatSchedule,
  HvError,
  parseSchedule,
  replay,
  type Scenario,
} from '../src/index.ts';

/** Three domains that each write twice to a shared list: the order decides. */
const race: Scenario = (run) => {
  const machine = run.machine({ ramBytes: 2 ** 20 });
  const log: string[] = [];
  for (const name of ['a', 'b', 'c']) {
    const domain = machine.createDomain({ pages: 4, name });
    domain.post(() => {
      log.push(`${name}1`);
      domain.post(() => log.push(`${name}2`));
    });
  }
  machine.run();
  // Wrong in some orders only: somebody is overtaken between its two writes by both others.
  const c = log.indexOf('c2');
  if (log.indexOf('a2') > c && log.indexOf('b2') > c && log[0] === 'b1') throw new Error(`overtaken: ${log.join(' ')}`);
};

describe('run orders', () => {
  const order = (options: Parameters<typeof createMachine>[0]): string => {
    const machine = createMachine({ ramBytes: 2 ** 20, ...options });
    const log: number[] = [];
    for (let i = 0; i < 3; i++) {
      const domain = machine.createDomain({ pages: 4 });
      for (let k = 0; k < 3; k++) domain.post(() => log.push(domain.id));
    }
    machine.run();
    return log.join('');
  };

  it('takes domains in turn', () => {
    expect(order({ seed: 1 })).toBe('123123123');
  });

  it('draws them from the seed', () => {
    const drawn = order({ seed: 1, order: 'random' });
    expect(order({ seed: 1, order: 'random' })).toBe(drawn);
    const others = new Set([2, 3, 4, 5, 6].map((seed) => order({ seed, order: 'random' })));
    expect(others.size).toBeGreaterThan(2);
    expect([...drawn].sort().join('')).toBe('111222333');
  });

  it('follows a list, and goes on after its end in turn or drawn', () => {
    expect(order({ seed: 1, order: { schedule: [3, 3, 1, 2] } })).toBe(
      '331212312'.slice(0, 4) + order({ seed: 1, order: { schedule: [3, 3, 1, 2] } }).slice(4),
    );
    expect(order({ seed: 1, order: { schedule: [3, 3, 1, 2] } }).slice(4)).toBe('12312');
    const drawn = order({ seed: 1, order: { schedule: [3, 3], afterwards: 'random' } });
    expect(drawn.startsWith('33')).toBe(true);
    expect([...drawn].sort().join('')).toBe('111222333');
  });

  it('refuses a list that names a domain with nothing to do', () => {
    expect(() => order({ seed: 1, order: { schedule: [3, 3, 3, 3] } })).toThrow(/schedule-diverged/);
  });

  it('lets domains wait for each other from inside their own calls', () => {
    const machine = createMachine({ seed: 1, ramBytes: 2 ** 20 });
    const a = machine.createDomain({ pages: 4 });
    const b = machine.createDomain({ pages: 4 });
    const log: string[] = [];
    let ready = false;
    a.post(() => {
      log.push('a waits');
      expect(a.waitFor(() => ready)).toBe(true);
      log.push('a goes on');
    });
    b.post(() => {
      log.push('b works');
      b.scheduler.schedule(() => {
        ready = true;
      }, 30);
    });
    machine.run();
    expect(log).toEqual(['a waits', 'b works', 'a goes on']);
    expect(machine.now).toBe(30);
  });

  it('ends a wait when the domain that waits is destroyed', () => {
    const machine = createMachine({ seed: 1, ramBytes: 2 ** 20 });
    const a = machine.createDomain({ pages: 4 });
    machine.post(() => machine.destroyDomain(a));
    expect(() => a.waitFor(() => false)).toThrow(/dead-domain/);
  });
});

describe('exploration', () => {
  it('finds a race, and repeats it from seed and schedule', () => {
    const { runs, failure } = explore(race, { seeds: 200 });
    expect(failure).toBeDefined();
    expect(runs).toBeGreaterThan(1);
    const { seed, schedule, error } = failure as FailedRun;
    expect(() => replay(race, { seed, schedule })).toThrow((error as Error).message);
    expect(() => replay(race, { seed, schedule: formatSchedule(schedule) })).toThrow((error as Error).message);
  });

  it('says how many runs went well', () => {
    expect(explore(() => {}, { seeds: ['x', 'y'] })).toEqual({ runs: 2, failure: undefined });
  });

  it('writes a schedule as one line and reads it back', () => {
    const schedule = [0, 0, 0, 1, -1, 2, 2, 0];
    expect(formatSchedule(schedule)).toBe('0x3 1 -1 2x2 0');
    expect(parseSchedule(formatSchedule(schedule))).toEqual(schedule);
    expect(() => parseSchedule('0 a')).toThrow(HvError);
  });
});

describe('determinism', () => {
  it('holds for a scenario that follows from its seed', () => {
    let seed = 0;
    for (; seed < 50; seed++) {
      const { failure } = explore(race, { seeds: [seed] });
      if (failure === undefined) break;
    }
    const record = checkDeterminism(race, seed);
    expect(record.steps).toBe(6);
    expect(record.schedule).toHaveLength(6);
  });

  it('names the first step at which two runs differ', () => {
    let calls = 0;
    const fickle: Scenario = (run) => {
      const machine = run.machine({ ramBytes: 2 ** 20 });
      const domain = machine.createDomain({ pages: 4 });
      for (let i = 0; i < 5; i++) {
        domain.post(() => {
          if (i === 3) machine.observe(calls++);
        });
      }
      machine.run();
    };
    expect(() => checkDeterminism(fickle, 1)).toThrow(
      expect.objectContaining({ refusal: expect.objectContaining({ code: 'nondeterminism', step: 3 }) }),
    );
  });

  it('has the same hash whether or not anybody watches', () => {
    const run = (watched: boolean): [number, number] => {
      const machine = createMachine({ seed: 5, ramBytes: 2 ** 20, order: 'random' });
      if (watched) {
        for (const type of ['hv:stepped', 'hv:mapped', 'evtchn:sent', 'store:changed', 'evtchn:delivered', 'memslots:changed'] as const) {
          machine.bus.on(type).subscribe();
        }
      }
      const a = machine.createDomain({ id: 0, pages: 8 });
      const b = machine.createDomain({ pages: 8 });
      const port = b.events.allocUnbound(a.id);
      const far = a.events.bindInterdomain(b.id, port);
      b.events.onUpcall(port, () => b.store.write('data/rung', String(machine.steps)));
      for (let i = 0; i < 5; i++) a.scheduler.schedule(() => a.events.send(far), i);
      machine.run();
      return [machine.hash, machine.stateHash()];
    };
    expect(run(true)).toEqual(run(false));
  });
});

describe('what makes no search or no repetition', () => {
  const nothing: Scenario = () => undefined;

  it.each([-1, 0, 1.5, Number.NaN, 'x', [], undefined, null])('is refused: seeds %j', (seeds) => {
    let failure: unknown;
    try {
      explore(nothing, { seeds: seeds as number });
    } catch (error) {
      failure = error;
    }
    expect(failure).toBeInstanceOf(HvError);
    expect((failure as HvError).refusal).toMatchObject({
      code: 'bad-argument',
      argument: 'seeds',
      allowed: expect.stringContaining('from 1 on'),
    });
  });

  it('is a replay without a schedule: the refusal says how one seed is run again', () => {
    const options = { seed: 7 } as unknown as Parameters<typeof replay>[1];
    expect(() => replay(nothing, options)).toThrow('explore with `seeds: [seed]`');
  });

  it('is a scenario that is not over when it returns: its own error is nowhere lost either', async () => {
    const late = (async () => {
      throw new Error('late');
    }) as unknown as Scenario;
    const { failure } = explore(late, { seeds: 3 });
    expect(failure).toMatchObject({ seed: 0 });
    expect(String(failure!.error)).toContain('one that returns a promise');
    await null;
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, undefined, null, {}])('is a machine of seed %s', (seed) => {
    expect(() => createMachine({ seed: seed as number, ramBytes: 2 ** 20 })).toThrow('seed');
  });

  it('is none of these: one seed, which finds what it found before', () => {
    const { failure } = explore(race, { seeds: 200 });
    expect(explore(race, { seeds: [failure!.seed] }).failure).toMatchObject({ seed: failure!.seed, hash: failure!.hash });
  });
});
