import type { MapOp } from '@paravirt/gnttab';
import { GNTST, GTF, writeGrantV1 } from '@paravirt/xen-abi';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createMachine, type Domain, type Machine } from '../src/index.ts';
import { pair } from './support/pair.ts';

const RUNS = process.env['PARAVIRT_FULL'] === undefined ? 150 : 5000;
const HOST = 2;
const DEVICE = 1;
const READONLY = 4;
const PAGES = 32;
const REFS = 12;
/** Frames that they name. */
const GRANTED = 4;
/** The second granter's references on the second frame of its table. */
const FAR = 512;

const wish = fc.record({
  granter: fc.constantFrom(0, 0, 0, 1, 2, 3, 4),
  ref: fc.oneof(
    { weight: 8, arbitrary: fc.nat(REFS - 1) },
    fc.constantFrom(FAR, FAR + 1, 5000, 1.5, -1, 2 ** 32 + 1, 0xffff_ffff, Number.NaN),
  ),
  flags: fc.constantFrom(HOST, HOST, HOST, HOST | READONLY, HOST | READONLY, HOST | DEVICE, DEVICE, 0, HOST | 16, HOST | 8),
  vfn: fc.oneof({ weight: 10, arbitrary: fc.integer({ min: 1, max: 60 }) }, fc.constantFrom(0, -1, 300, 1.5, 2 ** 21, 2 ** 40, Number.NaN)),
});
const end = fc.record({ which: fc.nat(40), vfn: fc.constantFrom(0, 0, 0, 0, 1, 2), mfn: fc.constantFrom(-1, -1, 0, 1) });
const action = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('map' as const), ops: fc.array(wish, { minLength: 1, maxLength: 20 }) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('unmap' as const), ops: fc.array(end, { minLength: 1, maxLength: 20 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'decrease' as const,
        'populate' as const,
        'log' as const,
        'unlog' as const,
        'readonly' as const,
        'forget' as const,
        'look' as const,
        'entry' as const,
        'version' as const,
        'kill' as const,
      ),
      who: fc.nat(2),
      at: fc.nat(GRANTED - 1),
    }),
  },
);

/** A machine of three granters and a mapper. `told`: somebody listens to mappings, and each goes its own long way. */
class World {
  readonly machine: Machine;
  readonly granters: Domain[];
  readonly mapper: Domain;
  readonly live: { handle: number; vfn: number; mfn: number }[] = [];
  readonly seen: unknown[] = [];

  constructor(told: boolean, handlesMax: number, isolated: boolean) {
    this.machine = createMachine({ seed: 1, ramBytes: 2 ** 20 });
    this.mapper = this.machine.createDomain({ pages: PAGES, grantFramesMax: 4, handlesMax, windowPages: 512 });
    this.granters = Array.from({ length: 3 }, (_, i) =>
      this.machine.createDomain({ pages: PAGES, grantFramesMax: 4, isolated: isolated && i === 2 }),
    );
    for (const [i, granter] of this.granters.entries()) {
      granter.hypercalls.setupTable(i + 1, []);
      for (let ref = 0; ref < REFS; ref++) this.entry(granter, ref, ref % 5 === 4 ? GTF.permit_access | GTF.readonly : GTF.permit_access);
      if (i > 0) for (let k = 0; k < 2; k++) this.entry(granter, FAR + k, GTF.permit_access);
    }
    if (told) {
      this.machine.bus.on('hv:mapped').subscribe(() => undefined);
      this.machine.bus.on('hv:unmapped').subscribe(() => undefined);
    }
  }

  entry(granter: Domain, ref: number, flags: number): void {
    const { views, offset } = granter.memory.frame(granter.memory.grantGfn + (ref >>> 9));
    writeGrantV1(views, offset + (ref & 511) * 8, flags, this.mapper.id, ref % GRANTED);
  }

  map(ops: readonly { granter: number; ref: number; flags: number; vfn: number }[]): void {
    const domids = [...this.granters.map(({ id }) => id), 77, this.mapper.id];
    const all: MapOp[] = ops.map(({ granter, ref, flags, vfn }) => ({
      vfn,
      flags,
      ref,
      domid: domids[granter]!,
      status: 77,
      handle: -1,
      mfn: -1,
    }));
    this.mapper.hypercalls.map(all, all.length);
    for (const { status, handle, vfn, mfn } of all) {
      this.seen.push([status, status === 0 ? handle : -1, status === 0 ? mfn : -1]);
      if (status === 0) this.live.push({ handle, vfn, mfn });
    }
  }

  unmap(ops: readonly { which: number; vfn: number; mfn: number }[]): void {
    const all = ops.map(({ which, vfn, mfn }) => {
      const it = this.live[which % Math.max(1, this.live.length)] ?? { handle: which - 20, vfn: 5, mfn: 5 };
      return { handle: it.handle, vfn: it.vfn + vfn, status: 77, ...(mfn < 0 ? {} : { mfn: mfn === 0 ? 0 : it.mfn }) };
    });
    this.mapper.hypercalls.unmap(all as never, all.length);
    for (const { status } of all) this.seen.push(status);
  }

  change(what: string, who: number, at: number): void {
    const granter = this.granters[who]!;
    const { memory } = granter;
    const ram = { id: 0, baseGfn: 0, pages: PAGES, userspaceAddr: 0 };
    if (granter.state !== 'running') return;
    if (what === 'kill') {
      // Rarely, so that most of a history has everybody alive.
      if (at === 3) this.machine.destroyDomain(granter);
    } else if (what === 'version') this.seen.push(granter.hypercalls.setVersion(at === 0 ? 1 : 2));
    else if (what === 'decrease') this.seen.push(memory.decrease(at));
    else if (what === 'populate') this.seen.push(memory.populate(at));
    else if (what === 'look') this.seen.push(memory.mfnOf(at, true));
    else if (what === 'entry') this.entry(granter, at, at % 2 === 0 ? 0 : GTF.permit_access);
    else if (what === 'log' || what === 'unlog') this.slots(() => memory.slots.setFlags(0, what === 'log' ? 1 : 0));
    else if (what === 'forget') this.slots(() => memory.slots.deleteSlot(0));
    else this.slots(() => memory.slots.createSlot({ ...ram, flags: at % 2 === 0 ? 2 : 0 }));
  }

  private slots(work: () => unknown): void {
    try {
      work();
      this.seen.push('changed');
    } catch (error) {
      this.seen.push(String((error as Error).message).slice(0, 60));
    }
  }

  end(): unknown[] {
    const { machine, granters, mapper } = this;
    const dirty = granters.map(({ memory }) => {
      try {
        return memory.slots.getDirtyLog(0).runs;
      } catch {
        return 'none';
      }
    });
    return [
      ...this.seen,
      machine.hash,
      machine.stateHash(),
      machine.dumpGrants(),
      granters.map(({ state }) => state),
      mapper.addressSpace.pages,
      machine.freeFrames,
      dirty,
    ];
  }
}

/**
 * Goal: what is mapped and ended many at a time is what would have been, had each operation been a call of its own.
 * Method: two machines with the same history, right and wrong, of which one is watched, so that nothing goes the short way there.
 */
describe(`mappings in runs and one by one (${RUNS} runs)`, () => {
  it('are the same: statuses, handles, hashes, tables and memory', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(
        fc.array(action, { minLength: 1, maxLength: 30 }),
        fc.constantFrom(3, 40, 262_144),
        fc.boolean(),
        (actions, handlesMax, isolated) => {
          const worlds = [new World(false, handlesMax, isolated), new World(true, handlesMax, isolated)];
          for (const each of actions) {
            for (const world of worlds) {
              if (each.do === 'map') world.map(each.ops);
              else if (each.do === 'unmap') world.unmap(each.ops);
              else world.change(each.do, each.who, each.at);
            }
            expect(worlds[0]!.seen).toEqual(worlds[1]!.seen);
          }
          expect(worlds[0]!.end()).toEqual(worlds[1]!.end());
          // Whatever is left ends in one call, before its mapper does.
          for (const world of worlds) world.unmap(world.live.map((_, which) => ({ which, vfn: 0, mfn: -1 })));
          expect(worlds[0]!.end()).toEqual(worlds[1]!.end());
          for (const { machine, mapper } of worlds) machine.destroyDomain(mapper);
          expect(worlds[0]!.end()).toEqual(worlds[1]!.end());
        },
      ),
      { numRuns: RUNS },
    );
  });
});

describe('the short way of a mapping', () => {
  it('forgets a translation when its slot goes or may only be read', () => {
    const p = pair({ createMachine });
    p.grant(8, 3);
    const again = (flags: number): number => {
      const { status, handle } = p.map(8, flags, 20);
      return status === 0 ? p.unmap(handle, 20) : status;
    };
    expect([again(HOST), again(HOST)]).toEqual([0, 0]);
    p.granter.memory.slots.deleteSlot(0);
    expect([again(HOST), again(HOST | READONLY)]).toEqual([GNTST.bad_page, GNTST.bad_page]);
    p.granter.memory.slots.createSlot({ id: 0, baseGfn: 0, pages: PAGES, userspaceAddr: 0, flags: 2 });
    expect([again(HOST | READONLY), again(HOST | READONLY), again(HOST)]).toEqual([0, 0, GNTST.bad_page]);
  });

  it('leaves the last reference to a frame to the long way, which frees it', () => {
    const p = pair({ createMachine });
    const ops = [8, 9, 10].map((ref, i) => {
      p.grant(ref, i);
      const { handle, vfn } = p.map(ref, HOST, 20 + i);
      return { handle, vfn, mfn: 0, status: 77 };
    });
    expect(p.granter.memory.decrease(1)).toBe(true);
    const free = p.machine.freeFrames;
    p.mapper.hypercalls.unmap(ops, ops.length);
    expect(ops.map(({ status }) => status)).toEqual([0, 0, 0]);
    expect(p.machine.freeFrames).toBe(free + 1);
  });
});
