import { describe, expect, it } from 'vitest';
import { createMachine, type FaultRequest, HvError } from '../src/index.ts';
import { HOST, pair, SELF } from './support/pair.ts';

const machineOf = (faults: readonly FaultRequest[]) => createMachine({ seed: 3, ramBytes: 2 ** 20, faults });
const hv = { createMachine };

describe('faults', () => {
  it('happen at an exact opportunity, and are counted as requested, reached and fired', () => {
    const machine = machineOf([
      { kind: 'page-alloc', atReach: 2 },
      { kind: 'frame-alloc', name: 'no frame', times: 2 },
    ]);
    const domain = machine.createDomain({ pages: 8 });
    expect(domain.pages.alloc()).toBe(0);
    expect(domain.pages.alloc()).toBeUndefined();
    expect(domain.pages.alloc()).toBe(1);
    expect([domain.heap.alloc(), domain.memory.populate(99), domain.heap.alloc()]).toEqual([-1, false, -1]);
    expect(domain.heap.alloc()).toBeGreaterThan(0);
    expect(machine.faults.report()).toEqual([
      { name: 'page-alloc#0', kind: 'page-alloc', requested: 1, reached: 3, fired: 1 },
      { name: 'no frame', kind: 'frame-alloc', requested: 2, reached: 3, fired: 2 },
    ]);
  });

  it('fail the run when they never fired', () => {
    const machine = machineOf([{ kind: 'map-fail', atReach: 100 }]);
    machine.createDomain({ pages: 8 });
    expect(() => machine.close()).toThrow(/map-fail#0 \(reached 0\)/);
  });

  it('cannot be asked of a machine without filters, nor with numbers that make no sense', () => {
    const machine = createMachine({ seed: 1, ramBytes: 2 ** 20 });
    expect(() => machine.faults.request({ kind: 'map-fail' })).toThrow(HvError);
    const armed = machineOf([]);
    expect(() => armed.faults.request({ kind: 'map-fail', probability: 2 })).toThrow(/probability is 2/);
    expect(() => armed.faults.request({ kind: 'map-fail', atReach: 0 })).toThrow(/atReach is 0/);
    expect(() => armed.faults.request({ kind: 'map-fail', times: 0 })).toThrow(/times is 0/);
    armed.faults.request({ kind: 'page-alloc' });
    expect(armed.createDomain({ pages: 2 }).pages.alloc()).toBeUndefined();
  });

  it('fail single elements of a map batch, or say eagain, and carry out the others', () => {
    const { machine, granter, mapper, grant } = pair(hv, {
      faults: [
        { kind: 'map-fail', atReach: 2 },
        { kind: 'map-eagain', atReach: 4 },
        { kind: 'copy-fail', atReach: 2 },
      ],
    });
    for (const ref of [8, 9, 10, 11]) grant(ref, 5);
    const ops = [8, 9, 10, 11].map((ref, i) => ({ vfn: 100 + i, flags: HOST, ref, domid: granter.id, status: 77, handle: -1, mfn: -1 }));
    expect(mapper.hypercalls.map(ops, 4)).toBe(0);
    expect(ops.map((op) => op.status)).toEqual([0, -1, 0, -12]);
    const copies = [0, 1, 2].map((offset) => ({
      source: { isRef: false, frameOrRef: 1, domid: SELF, offset },
      dest: { isRef: false, frameOrRef: 2, domid: SELF, offset },
      bytes: 4,
      status: 77,
    }));
    mapper.hypercalls.copy(copies, 3);
    expect(copies.map((op) => op.status)).toEqual([0, -1, 0]);
    expect(machine.ledger().errors).toEqual([]);
  });

  it('keep a grant table from growing', () => {
    const machine = machineOf([{ kind: 'ref-alloc', atReach: 2 }]);
    const domain = machine.createDomain({ pages: 8 });
    expect(domain.hypercalls.setupTable(3, [])).toBe(-1);
    expect(machine.ledger().errors).toEqual([]);
    expect(domain.hypercalls.setupTable(3, [])).toBe(0);
  });

  it('lose, delay, double and invent doorbells', () => {
    const run = (request: FaultRequest, rings: number): { rung: number[]; machine: ReturnType<typeof machineOf> } => {
      const machine = machineOf([request]);
      const a = machine.createDomain({ pages: 8 });
      const b = machine.createDomain({ pages: 8 });
      const port = a.events.allocUnbound(b.id);
      const far = b.events.bindInterdomain(a.id, port);
      b.events.clearPending(far);
      const rung: number[] = [];
      a.events.onUpcall(port, () => rung.push(machine.now));
      for (let i = 0; i < rings; i++) {
        b.scheduler.schedule(() => b.events.send(far), i * 10);
      }
      machine.run();
      return { rung, machine };
    };
    expect(run({ kind: 'doorbell-lost', atReach: 2 }, 3).rung).toEqual([0, 20]);
    expect(run({ kind: 'doorbell-late', atReach: 2, ticks: 3 }, 3).rung).toEqual([0, 13, 20]);
    expect(run({ kind: 'doorbell-doubled', atReach: 2, ticks: 3 }, 3).rung).toEqual([0, 10, 13, 20]);
    // Three ports are open: the store's, the console's and this one.
    const spurious = run({ kind: 'doorbell-spurious', domid: 1, probability: 0.9, times: 30 }, 3);
    expect(spurious.rung.length).toBeGreaterThan(3);
    expect(spurious.machine.faults.report()[0]!.fired).toBeGreaterThan(2);
  });

  it('refuse a store transaction with EAGAIN', () => {
    const machine = machineOf([{ kind: 'store-conflict', times: 2 }]);
    const domain = machine.createDomain({ pages: 8 });
    const attempt = (): boolean => {
      const transaction = domain.store.begin();
      domain.store.write('data/x', '1', transaction);
      return domain.store.commit(transaction);
    };
    expect([attempt(), attempt(), attempt()]).toEqual([false, false, true]);
  });

  it('hold a mapped page for a while', () => {
    const machine = machineOf([{ kind: 'page-held', ticks: 10 }]);
    const domain = machine.createDomain({ pages: 8 });
    expect(domain.pageUse.inUse(5)).toBe(true);
    expect(domain.pageUse.inUse(6)).toBe(false);
    machine.scheduler.schedule(() => {}, 9);
    machine.run();
    expect(domain.pageUse.inUse(5)).toBe(true);
    machine.scheduler.schedule(() => {}, 1);
    machine.run();
    expect(domain.pageUse.inUse(5)).toBe(false);
  });

  it('pause a domain for a while, and kill one', () => {
    const machine = machineOf([
      { kind: 'domain-paused', domid: 1, atStep: 3, ticks: 100 },
      { kind: 'domain-killed', domid: 2, atStep: 6 },
    ]);
    const beats: string[] = [];
    for (let i = 0; i < 2; i++) {
      const domain = machine.createDomain({ pages: 8 });
      const beat = (): void => {
        beats.push(`${domain.id}@${machine.now}`);
        if (beats.length < 40) domain.scheduler.schedule(beat, 1);
      };
      domain.scheduler.schedule(beat, 1);
    }
    machine.run();
    const first = beats.filter((beat) => beat.startsWith('1@')).map((beat) => Number(beat.slice(2)));
    const gap = Math.max(...first.slice(1).map((at, i) => at - first[i]!));
    expect(gap).toBeGreaterThanOrEqual(99);
    expect(machine.domains().map((domain) => domain.id)).toEqual([1]);
    machine.faults.expectAllFired();
  });

  it('fire the same way for the same seed, and another way for another', () => {
    const run = (seed: number): string => {
      const machine = createMachine({ seed, ramBytes: 2 ** 20, faults: [{ kind: 'page-alloc', probability: 0.5 }] });
      const domain = machine.createDomain({ pages: 64 });
      return Array.from({ length: 32 }, () => (domain.pages.alloc() === undefined ? 'x' : '.')).join('');
    };
    expect(run(1)).toBe(run(1));
    expect(run(1)).not.toBe(run(2));
    expect(run(1)).toMatch(/x/);
  });
});
