import { GTF } from '@paravirt/xen-abi';
import { afterAll, describe, expect, it } from 'vitest';
import * as real from '../src/index.ts';
import { dropMutants, type HvSim, loadMutant, type Mutation } from './support/mutants.ts';
import { DEVICE, HOST, pair, RO, SELF } from './support/pair.ts';

/** One advisory: a scenario that throws when the flaw is there, and the guard whose absence is the flaw. */
interface Advisory {
  readonly name: string;
  readonly says: string;
  readonly guard: Mutation;
  scenario(hv: HvSim): void;
}

/** The books must agree after every step of a scenario. */
function audit(machine: real.Machine): void {
  const { errors } = machine.ledger();
  if (errors.length > 0) throw new Error(errors.join('; '));
}

const advisories: readonly Advisory[] = [
  {
    name: 'XSA-224',
    says: 'a mapping for host and device that is unmapped by two calls drops one reference each',
    guard: {
      file: 'grants/map.ts',
      edits: [['this.#unpin(granter, ref, mfn, done, readonly !== 0);', 'this.#unpin(granter, ref, mfn, flags & KINDS, readonly !== 0);']],
    },
    scenario(hv) {
      const { machine, grant, map, unmap } = pair(hv);
      grant(8, 5);
      const op = map(8, HOST | DEVICE, 100);
      audit(machine);
      expect(unmap(op.handle, 100)).toBe(0);
      audit(machine);
      expect(unmap(op.handle, 0, op.mfn)).toBe(0);
      audit(machine);
    },
  },
  {
    name: 'XSA-226',
    says: 'a transitive grant leads one step and no further',
    guard: {
      file: 'grants/copy.ts',
      edits: [
        [
          'side, false);\n    if (status !== OKAY) return status;\n    const near',
          'side, true);\n    if (status !== OKAY) return status;\n    const near',
        ],
      ],
    },
    scenario(hv) {
      const machine = hv.createMachine({ seed: 1, ramBytes: 2 ** 20 });
      const [a, b, c, copier] = [1, 2, 3, 4].map(() => machine.createDomain({ pages: 8, grantFramesMax: 1 }));
      const entry = (d: real.Domain, words: readonly number[]): void => {
        expect(d.hypercalls.setVersion(2)).toBe(0);
        const table: { views: { u32: Uint32Array }; offset: number }[] = [];
        d.hypercalls.setupTable(1, table as never);
        table[0]!.views.u32.set(words, table[0]!.offset / 4 + 8 * 4);
      };
      entry(a!, [(b!.id << 16) | GTF.permit_access, 0, 3, 0]);
      entry(b!, [(c!.id << 16) | GTF.transitive, a!.id, 8, 0]);
      entry(c!, [(copier!.id << 16) | GTF.transitive, b!.id, 8, 0]);
      const op = {
        source: { isRef: true, frameOrRef: 8, domid: c!.id, offset: 0 },
        dest: { isRef: false, frameOrRef: 1, domid: SELF, offset: 0 },
        bytes: 16,
        status: 77,
      };
      copier!.hypercalls.copy([op], 1);
      expect(op.status).toBe(-1);
      audit(machine);
    },
  },
  {
    name: 'XSA-230',
    says: 'a copy leaves the in-use flags of a grant that a device still has mapped',
    guard: { file: 'grants/pin.ts', edits: [['  if (pin === 0) {\n    table.lower', '  if ((pin & 0xffff) === 0) {\n    table.lower']] },
    scenario(hv) {
      const { grant, map, copy, granter, inUse } = pair(hv);
      grant(8, 5);
      expect(map(8, DEVICE, 0).status).toBe(0);
      expect(inUse(8)).toBe(GTF.reading | GTF.writing);
      const own = { isRef: false, frameOrRef: 1, domid: SELF, offset: 0 };
      expect(copy({ isRef: true, frameOrRef: 8, domid: granter.id, offset: 0 }, own, 64)).toBe(0);
      expect(inUse(8)).toBe(GTF.reading | GTF.writing);
    },
  },
  {
    name: 'XSA-234',
    says: 'unmapping a read-only mapping leaves the write references of the page',
    guard: {
      file: 'grants/map.ts',
      edits: [
        ['this.#frames.drop(mfn, readonly);', 'this.#frames.drop(mfn, false);'],
        [
          '    if (readonly === 0) counts[counted | WRITERS] = counts[counted | WRITERS]! - 1;',
          '    counts[counted | WRITERS]!--;',
          'grants/runs.ts',
        ],
      ],
    },
    scenario(hv) {
      const { machine, grant, map, unmap } = pair(hv);
      grant(8, 5);
      const writing = map(8, HOST, 100);
      const reading = map(8, HOST | RO, 101);
      expect(unmap(reading.handle, 101)).toBe(0);
      audit(machine);
      expect(unmap(writing.handle, 100)).toBe(0);
      audit(machine);
    },
  },
  {
    name: 'XSA-236',
    says: 'the pins of a reference go before the page does',
    guard: {
      file: 'grants/map.ts',
      edits: [
        ['    table.active[at] = pins;\n    settleInUse(table, ref);\n', ''],
        [
          '    while (drops-- > 0) this.#frames.drop(mfn, readonly);',
          '    while (drops-- > 0) this.#frames.drop(mfn, readonly);\n    table.active[at] = pins;\n    settleInUse(table, ref);',
        ],
      ],
    },
    scenario(hv) {
      const { machine, granter, grant, map, unmap } = pair(hv);
      grant(8, 5);
      const op = map(8, HOST, 100);
      machine.destroyDomain(granter);
      expect(granter.state).toBe('dying');
      expect(unmap(op.handle, 100)).toBe(0);
      // With the last page gone nothing may still count it as pinned: the domain is gone with it.
      expect(granter.state).toBe('gone');
      audit(machine);
    },
  },
  {
    name: 'XSA-255',
    says: 'a status frame that is mapped does not go with a switch of version',
    guard: { file: 'grants/version.ts', edits: [["    if (busy(table, memory)) return -errnoOf('EBUSY');\n", '']] },
    scenario(hv) {
      const { machine, granter, setVersion, table } = pair(hv);
      expect(setVersion(2)).toBe(0);
      const mfn = granter.memory.mfnOf(granter.memory.statusGfn, false);
      expect(granter.addressSpace.map(200, mfn, 1, { writable: true, executable: false })).toBe(true);
      expect(setVersion(1)).toBe(-16);
      audit(machine);
      granter.addressSpace.unmap(200, 1);
      expect(setVersion(1)).toBe(0);
      expect(table.length).toBe(1);
      audit(machine);
    },
  },
  {
    name: 'XSA-316',
    says: 'a map that fails says so with a negative status, never with 1',
    guard: {
      file: 'grants/map.ts',
      edits: [
        [
          'const status = setInUse(table, ref, mapper.id, readonly, true);',
          'const status = Number(setInUse(table, ref, mapper.id, readonly, true) !== OKAY);',
        ],
      ],
    },
    scenario(hv) {
      const { grant, map } = pair(hv);
      grant(8, 5, GTF.permit_access | GTF.readonly);
      const { status } = map(8, HOST, 100);
      expect(status).toBeLessThan(0);
    },
  },
  {
    name: 'XSA-318',
    says: 'every element of a copy batch has its status written',
    guard: {
      file: 'grants/hypercalls.ts',
      edits: [
        [
          '      const status = this.#copies.copy(this.#party, op);\n      op.status = status;',
          '      const status = this.#copies.copy(this.#party, op);\n      if (i === 0) op.status = status;',
        ],
      ],
    },
    scenario(hv) {
      const { grant, granter, mapper } = pair(hv);
      grant(8, 5);
      const ops = Array.from({ length: 5 }, () => ({
        source: { isRef: true, frameOrRef: 8, domid: granter.id, offset: 0 },
        dest: { isRef: false, frameOrRef: 1, domid: SELF, offset: 0 },
        bytes: 16,
        status: 77,
      }));
      ops[3]!.source.frameOrRef = 100_000;
      mapper.hypercalls.copy(ops, 5);
      expect(ops.map((op) => op.status)).toEqual([0, 0, 0, -3, 0]);
    },
  },
  {
    name: 'XSA-394',
    says: 'a partial unmap that is asked for twice counts once',
    guard: { file: 'grants/map.ts', edits: [['    else track.keep(handle, left);\n', '']] },
    scenario(hv) {
      const { machine, grant, map, unmap } = pair(hv);
      grant(8, 5);
      const op = map(8, HOST | DEVICE, 100);
      expect(unmap(op.handle, 0, op.mfn)).toBe(0);
      audit(machine);
      expect(unmap(op.handle, 0, op.mfn)).toBe(0);
      audit(machine);
      expect(unmap(op.handle, 100)).toBe(0);
      audit(machine);
    },
  },
  {
    name: 'XSA-500',
    says: 'a copy from a pinned reference uses the frame that was checked, whatever the entry says by now',
    guard: {
      file: 'grants/copy.ts',
      edits: [
        [
          '    side.mfn = active[at | MFN]!;',
          '    side.mfn = granter.memory.mfnOf(table.viewsOf(ref).u32[table.wordOf(ref) + 1]!, false);',
        ],
      ],
    },
    scenario(hv) {
      const { granter, mapper, grant, map, copy } = pair(hv);
      granter.memory.write(5 * 4096, new Uint8Array([55]));
      granter.memory.write(6 * 4096, new Uint8Array([66]));
      grant(8, 5);
      expect(map(8, HOST, 100).status).toBe(0);
      grant(8, 6, GTF.permit_access | GTF.reading | GTF.writing);
      const own = { isRef: false, frameOrRef: 1, domid: SELF, offset: 0 };
      expect(copy({ isRef: true, frameOrRef: 8, domid: granter.id, offset: 0 }, own, 1)).toBe(0);
      const byte = new Uint8Array(1);
      mapper.memory.read(4096, byte);
      expect(byte[0]).toBe(55);
    },
  },
];

describe('advisories', () => {
  afterAll(dropMutants);

  for (const { name, says, guard, scenario } of advisories) {
    it(`${name}: ${says}`, () => {
      scenario(real);
    });

    it(`${name}: the scenario fails when the guard is removed`, async () => {
      const mutant = await loadMutant(name, guard);
      expect(() => scenario(mutant)).toThrow();
    });
  }
});
