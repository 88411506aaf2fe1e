import { interval, observeOn, of, type Subscription, take, timer, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { createMachine, createRandom, type TimeSource } from '../src/index.ts';

const machineOf = (options = {}) => createMachine({ seed: 7, ramBytes: 2 ** 20, ...options });

describe('the virtual clock', () => {
  it('runs work in order of due time, then of setting, and moves only when nobody can run', () => {
    const machine = machineOf();
    const ran: string[] = [];
    const at = (name: string, delay: number) => machine.scheduler.schedule(() => ran.push(`${name}@${machine.now}`), delay);
    at('c', 10);
    at('a', 5);
    at('d', 10);
    at('b', 5.5);
    machine.post(() => ran.push(`first@${machine.now}`));
    machine.run();
    expect(ran).toEqual(['first@0', 'a@5', 'b@5.5', 'c@10', 'd@10']);
    expect(machine.idle).toBe(true);
  });

  it('serves RxJS as a scheduler: intervals, timers, observeOn, and work that reschedules itself', () => {
    const machine = machineOf();
    const seen: unknown[] = [];
    interval(100, machine.scheduler)
      .pipe(take(3), toArray())
      .subscribe((values) => seen.push(values, machine.now));
    timer(50, machine.scheduler).subscribe(() => seen.push('timer', machine.now));
    of(1, 2)
      .pipe(observeOn(machine.scheduler))
      .subscribe((value) => seen.push(value));
    machine.scheduler.schedule<number>(
      function (left) {
        if (left! > 0) this.schedule(left! - 1, 1000);
        else seen.push('done', machine.now);
      },
      0,
      2,
    );
    machine.run();
    expect(seen).toEqual([1, 2, 'timer', 50, [0, 1, 2], 300, 'done', 2000]);
  });

  it('takes work back that was cancelled, also when it is due already', () => {
    const machine = machineOf();
    let ran = 0;
    const late = machine.scheduler.schedule(() => ran++, 10);
    late.unsubscribe();
    let other: Subscription | undefined;
    machine.scheduler.schedule(() => other!.unsubscribe(), 5);
    other = machine.scheduler.schedule(() => ran++, 5);
    machine.run();
    expect(ran).toBe(0);
    expect(machine.ledger().timers).toBe(0);
  });

  it('agrees with a sorted list over random sets and cancels', () => {
    for (let seed = 0; seed < 50; seed++) {
      const random = createRandom(seed);
      const machine = machineOf();
      const ran: number[] = [];
      const model: { id: number; due: number }[] = [];
      const subscriptions: Subscription[] = [];
      for (let id = 0; id < 200; id++) {
        const due = random.below(40);
        subscriptions.push(machine.scheduler.schedule(() => ran.push(id), due));
        model.push({ id, due });
        if (random.chance(0.3)) {
          const victim = random.below(subscriptions.length);
          subscriptions[victim]!.unsubscribe();
          const at = model.findIndex((entry) => entry.id === victim);
          if (at >= 0) model.splice(at, 1);
        }
      }
      machine.run();
      expect(ran).toEqual([...model].sort((a, b) => a.due - b.due || a.id - b.id).map((entry) => entry.id));
    }
  });

  it('lets each step take time when it is told to', () => {
    const machine = machineOf({ stepTicks: 0.5 });
    let beats = 0;
    const beat = (): void => {
      if (++beats < 100) machine.post(beat);
    };
    machine.post(beat);
    let at = -1;
    machine.scheduler.schedule(() => {
      at = machine.now;
    }, 10);
    machine.run();
    // A timer is not starved by work that never ends.
    expect(at).toBeLessThan(12);
  });

  it('stops a run at a time, and says when a run takes too many steps', () => {
    const machine = machineOf();
    let beats = 0;
    const ticking = interval(10, machine.scheduler).subscribe(() => beats++);
    machine.run({ untilTicks: 95 });
    expect([beats, machine.now]).toEqual([9, 95]);
    expect(() => machine.run({ stepsMax: 5 })).toThrow(/too-many-steps/);
    ticking.unsubscribe();
    expect(machine.run()).toBe(0);
  });
});

/** Real time that a test moves by hand. */
class HandClock implements TimeSource {
  at = 1000;
  #wakes: { due: number; wake: () => void }[] = [];
  now(): number {
    return this.at;
  }
  wakeIn(delay: number, wake: () => void): () => void {
    const entry = { due: this.at + delay, wake };
    this.#wakes.push(entry);
    return () => {
      this.#wakes = this.#wakes.filter((other) => other !== entry);
    };
  }
  pass(time: number): void {
    const end = this.at + time;
    for (;;) {
      const next = this.#wakes.filter((entry) => entry.due <= end).sort((a, b) => a.due - b.due)[0];
      if (next === undefined) break;
      this.at = Math.max(this.at, next.due);
      this.#wakes = this.#wakes.filter((entry) => entry !== next);
      next.wake();
    }
    this.at = Math.max(this.at, end);
  }
  get waiting(): number {
    return this.#wakes.length;
  }
}

describe('the same machine in real time', () => {
  it('runs what is due when its source says so, and sleeps in between', () => {
    const machine = machineOf();
    const clock = new HandClock();
    const ran: string[] = [];
    machine.scheduler.schedule(() => ran.push(`early@${machine.now}`), 20);
    const drive = machine.drive(clock);
    machine.scheduler.schedule(() => ran.push(`late@${machine.now}`), 50);
    clock.pass(10);
    expect(ran).toEqual([]);
    clock.pass(15);
    expect(ran).toEqual(['early@20']);
    // Work that comes from outside wakes the machine at once.
    machine.post(() => ran.push(`now@${machine.now}`));
    clock.pass(0);
    expect(ran).toEqual(['early@20', 'now@25']);
    clock.pass(100);
    expect(ran).toEqual(['early@20', 'now@25', 'late@50']);
    drive.stop();
    expect(clock.waiting).toBe(0);
    expect(machine.run()).toBe(0);
  });

  it('lets its source have a turn while work follows work, and can be stopped there', () => {
    const machine = machineOf();
    const clock = new HandClock();
    let rounds = 0;
    const again = (): void => {
      rounds++;
      clock.at += 1;
      if (rounds < 1000) machine.post(again);
    };
    const drive = machine.drive(clock);
    machine.post(again);
    clock.pass(0);
    expect(rounds).toBeLessThan(100);
    expect(clock.waiting).toBe(1);
    clock.pass(200);
    const before = rounds;
    expect(before).toBeGreaterThan(100);
    expect(before).toBeLessThan(1000);
    machine.post(() => drive.stop());
    clock.pass(2000);
    expect(rounds - before).toBeLessThanOrEqual(1);
    expect(clock.waiting).toBe(0);
  });

  it('stops and keeps the error when a step throws', () => {
    const machine = machineOf();
    const clock = new HandClock();
    const drive = machine.drive(clock);
    machine.post(() => {
      throw new Error('broken');
    });
    clock.pass(1);
    expect(drive.failure).toEqual(new Error('broken'));
  });
});

describe('work outside the run queue', () => {
  it('cannot be waited for, and is refused by name', () => {
    const machine = machineOf();
    const disk = machine.external('disk xvda');
    let done = false;
    expect(() => machine.runUntil(() => done)).toThrow(/disk xvda/);
    disk.done(() => {
      done = true;
    });
    expect(machine.runUntil(() => done)).toBe(true);
    expect(machine.runUntil(() => false)).toBe(false);
    machine.external('socket').cancel();
    expect(machine.runUntil(() => false)).toBe(false);
  });
});

describe('random numbers', () => {
  it('depend on the seed and the purpose alone', () => {
    const draw = (seed: number | string, purpose: string) => {
      const random = createRandom(seed).split(purpose);
      return [random.next(), random.next(), random.next()];
    };
    expect(draw(1, 'a')).toEqual(draw(1, 'a'));
    expect(draw(1, 'a')).not.toEqual(draw(1, 'b'));
    expect(draw(1, 'a')).not.toEqual(draw(2, 'a'));
    expect(draw(1, 'a')).not.toEqual(draw('1', 'a'));
    const parent = createRandom(1);
    const before = parent.split('x').next();
    parent.next();
    expect(parent.split('x').next()).toBe(before);
  });

  it('do not move for one purpose when another draws more', () => {
    const run = (draws: number): number[] => {
      const machine = machineOf();
      const faults = machine.random('faults');
      for (let i = 0; i < draws; i++) faults.next();
      const workload = machine.random('workload');
      return [workload.next(), workload.next()];
    };
    expect(run(0)).toEqual(run(1000));
  });

  it('are as likely one as the other', () => {
    const random = createRandom('fair');
    const counts = new Array<number>(7).fill(0);
    for (let i = 0; i < 70_000; i++) counts[random.below(7)]!++;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
    let heads = 0;
    for (let i = 0; i < 10_000; i++) if (random.chance(0.25)) heads++;
    expect(Math.abs(heads - 2500)).toBeLessThan(200);
    expect(() => random.below(0)).toThrow(/bound is 0/);
  });

  it('are the same on every platform', () => {
    const random = createRandom(42).split('golden');
    expect([random.next(), random.next(), random.next(), random.below(1000)]).toMatchInlineSnapshot(`
      [
        1912932101,
        231461888,
        2716537567,
        630,
      ]
    `);
  });
});
