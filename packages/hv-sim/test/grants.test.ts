import type { MemoryFrame } from '@paravirt/gnttab';
import { GTF, writeGrantV1, writeGrantV2SubPage, writeGrantV2Transitive } from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import { createMachine } from '../src/index.ts';
import { DEVICE, HOST, type Pair, pair, RO, SELF } from './support/pair.ts';

const hv = { createMachine };

describe('mapping', () => {
  it('answers each kind of wrong argument with its own status, and changes nothing', () => {
    const { machine, granter, mapper, grant, map, inUse } = pair(hv);
    grant(8, 5);
    const before = [machine.ledger(), machine.stateHash()];
    const op = { vfn: 100, flags: HOST, ref: 8, domid: granter.id, status: 77, handle: -1, mfn: -1 };
    const answers = (
      [
        [{ flags: 0 }, -3],
        [{ flags: RO }, -3],
        [{ flags: HOST | 8 }, -1],
        [{ flags: HOST | 16 }, -1],
        [{ domid: 77 }, -2],
        [{ domid: SELF }, -2],
        [{ vfn: 0 }, -5],
        [{ vfn: 0.5 }, -5],
        [{ vfn: 2 ** 53 }, -5],
        [{ ref: 512 }, -3],
        [{ ref: 9 }, -1],
        [{ ref: 4_000_000_000 }, -3],
      ] as const
    ).map(([wrong, status]) => {
      const bad = { ...op, ...wrong };
      mapper.hypercalls.map([bad], 1);
      return [JSON.stringify(wrong), bad.status, status];
    });
    for (const [what, status, expected] of answers) expect([what, status]).toEqual([what, expected]);
    expect([machine.ledger().domains, inUse(8)]).toEqual([(before[0] as ReturnType<typeof machine.ledger>).domains, 0]);
    expect(map(8, HOST, 100).status).toBe(0);
    expect(map(8, HOST, 100).status).toBe(-5);
  });

  it('lets a second mapper in by no means while one has the page', () => {
    const { machine, granter, mapper, grant, map } = pair(hv);
    const third = machine.createDomain({ pages: 8 });
    grant(8, 5);
    map(8, HOST, 100);
    grant(8, 5, GTF.permit_access, third.id);
    const op = { vfn: 100, flags: HOST, ref: 8, domid: granter.id, status: 77, handle: -1, mfn: -1 };
    third.hypercalls.map([op], 1);
    expect(op.status).toBe(-1);
    expect(mapper.id).toBe(2);
  });

  it('gives back every handle of a batch that held them all', () => {
    const machine = createMachine({ seed: 1, ramBytes: 2 ** 20 });
    const granter = machine.createDomain({ pages: 32 });
    const mapper = machine.createDomain({ pages: 8, handlesMax: 16 });
    const table: MemoryFrame[] = [];
    granter.hypercalls.setupTable(1, table);
    const { views, offset } = table[0]!;
    for (let ref = 8; ref < 25; ref++) writeGrantV1(views, offset + ref * 8, GTF.permit_access, mapper.id, ref);
    const ops = Array.from({ length: 17 }, (_, i) => ({
      vfn: 100 + i,
      flags: HOST,
      ref: 8 + i,
      domid: granter.id,
      status: 77,
      handle: -1,
      mfn: -1,
    }));
    for (let round = 0; round < 3; round++) {
      mapper.hypercalls.map(ops, 17);
      // The last one finds no handle left.
      expect(ops.map(({ status }) => status)).toEqual([...new Array<number>(16).fill(0), -13]);
      expect(new Set(ops.slice(0, 16).map(({ handle }) => handle)).size).toBe(16);
      mapper.hypercalls.unmap(ops, 16);
      expect(ops.slice(0, 16).map(({ status }) => status)).toEqual(new Array<number>(16).fill(0));
      expect(machine.ledger().errors).toEqual([]);
    }
  });

  it('stops at 128 mappings of one kind, with the count unharmed', () => {
    const { machine, grant, map, unmap } = pair(hv);
    grant(8, 5);
    const ops = Array.from({ length: 129 }, (_, i) => map(8, HOST | RO, 100 + i));
    expect(ops.map((op) => op.status)).toEqual([...new Array<number>(128).fill(0), -1]);
    expect(machine.ledger().errors).toEqual([]);
    for (const op of ops.slice(0, 128)) expect(unmap(op.handle, op.vfn)).toBe(0);
    expect(machine.ledger().errors).toEqual([]);
  });

  it('says when a domain has as many mappings as it may, and gives a handle again only after the others', () => {
    const machine = createMachine({ seed: 1, ramBytes: 2 ** 20 });
    const granter = machine.createDomain({ pages: 8 });
    const mapper = machine.createDomain({ pages: 8, handlesMax: 4 });
    const table: { views: { u8: Uint8Array; u16: Uint16Array; u32: Uint32Array }; offset: number }[] = [];
    granter.hypercalls.setupTable(1, table);
    table[0]!.views.u32.set([(mapper.id << 16) | 1, 5], table[0]!.offset / 4 + 16);
    const map = (vfn: number) => {
      const op = { vfn, flags: HOST, ref: 8, domid: granter.id, status: 77, handle: -1, mfn: -1 };
      mapper.hypercalls.map([op], 1);
      return op;
    };
    const ops = [1, 2, 3, 4, 5].map((i) => map(100 + i));
    expect(ops.map((op) => op.status)).toEqual([0, 0, 0, 0, -13]);
    expect(ops.slice(0, 4).map((op) => op.handle)).toEqual([0, 1, 2, 3]);
    for (const i of [2, 0, 1]) mapper.hypercalls.unmap([{ vfn: ops[i]!.vfn, handle: ops[i]!.handle, status: 77 }], 1);
    expect([106, 107, 108].map((vfn) => map(vfn).handle)).toEqual([2, 0, 1]);
  });

  it('keeps host and device mappings of one handle apart, and checks the frame that is named', () => {
    const { machine, mapper, grant, map, unmap, inUse } = pair(hv);
    grant(8, 5);
    const op = map(8, HOST | DEVICE, 100);
    expect(unmap(op.handle, 0, op.mfn + 1)).toBe(-6);
    expect(unmap(op.handle, 101)).toBe(-1);
    expect(unmap(op.handle, 100)).toBe(0);
    expect(inUse(8)).toBe(0x18);
    expect(mapper.addressSpace.translate(100)).toBe(-1);
    // Nothing of it is left to unmap there, which is no error and changes nothing.
    expect(unmap(op.handle, 100)).toBe(0);
    expect(inUse(8)).toBe(0x18);
    expect(unmap(op.handle, 0, op.mfn)).toBe(0);
    expect(inUse(8)).toBe(0);
    expect(unmap(op.handle, 0, op.mfn)).toBe(-4);
    expect(machine.ledger().errors).toEqual([]);
  });

  it('turns a reading pin into a writing one only when the entry allows it', () => {
    const { grant, map, inUse } = pair(hv);
    grant(8, 5);
    expect(map(8, HOST | RO, 100).status).toBe(0);
    grant(8, 5, GTF.permit_access | GTF.readonly | GTF.reading);
    expect(map(8, HOST, 101).status).toBe(-1);
    expect(inUse(8)).toBe(GTF.reading);
  });

  it('honours what the administrator forbids', () => {
    const { map, copy, grant, granter } = pair(hv, { policy: { mayMap: () => false, mayCopy: () => false } });
    grant(8, 5);
    expect(map(8, HOST, 100).status).toBe(-8);
    const own = { isRef: false, frameOrRef: 1, domid: SELF, offset: 0 };
    expect(copy({ isRef: true, frameOrRef: 8, domid: granter.id, offset: 0 }, own, 8)).toBe(-8);
  });

  it('gives every mapper of a shared buffer the same answers by compare-and-swap', () => {
    const machine = createMachine({ seed: 1, memory: [{ buffer: new SharedArrayBuffer(2 ** 20) }] });
    const granter = machine.createDomain({ pages: 8 });
    const mapper = machine.createDomain({ pages: 8 });
    const table: { views: { u8: Uint8Array; u16: Uint16Array; u32: Uint32Array }; offset: number }[] = [];
    granter.hypercalls.setupTable(1, table);
    const at = table[0]!.offset / 4 + 16;
    const { u32 } = table[0]!.views;
    u32.set([(mapper.id << 16) | 1, 5], at);
    const op = { vfn: 100, flags: HOST, ref: 8, domid: granter.id, status: 77, handle: -1, mfn: -1 };
    mapper.hypercalls.map([op], 1);
    expect([op.status, u32[at]! & 0xffff]).toEqual([0, 0x19]);
    mapper.hypercalls.unmap([{ vfn: 100, handle: op.handle, status: 77 }], 1);
    expect(u32[at]! & 0xffff).toBe(1);
  });
});

describe('unmap and replace', () => {
  it('puts the page of another address in place, in one step', () => {
    const { machine, mapper, grant, map } = pair(hv);
    grant(8, 5);
    const op = map(8, HOST, 100);
    const own = mapper.memory.mfnOf(3, false);
    mapper.addressSpace.map(200, own, 1, { writable: true, executable: false });
    const replace = { vfn: 100, newVfn: 201, handle: op.handle, status: 77 };
    mapper.hypercalls.unmapAndReplace([replace], 1);
    // Nothing is mapped there: the grant stays.
    expect([replace.status, mapper.addressSpace.translate(100)]).toEqual([-1, op.mfn]);
    replace.newVfn = 200;
    mapper.hypercalls.unmapAndReplace([replace], 1);
    expect([replace.status, mapper.addressSpace.translate(100), mapper.addressSpace.translate(200)]).toEqual([0, own, -1]);
    expect(() => mapper.addressSpace.resolve(200, false)).toThrow(/\(replace\)/);
    expect(machine.ledger().errors).toEqual([]);
  });
});

describe('copying', () => {
  const own = (gfn: number, offset = 0) => ({ isRef: false, frameOrRef: gfn, domid: SELF, offset });

  it('moves bytes between any two of own frame and reference, within a page each', () => {
    const { machine, granter, mapper, grant, copy, inUse } = pair(hv);
    const ref = (number: number, offset = 0) => ({ isRef: true, frameOrRef: number, domid: granter.id, offset });
    grant(8, 5);
    grant(9, 6);
    mapper.memory.write(
      3 * 4096,
      Uint8Array.from({ length: 4096 }, (_, i) => i & 0xff),
    );
    expect(copy(own(3), ref(8), 4096)).toBe(0);
    expect(copy(ref(8, 16), ref(9, 100), 50)).toBe(0);
    expect(copy(ref(9, 100), own(4, 4000), 50)).toBe(0);
    expect(copy(own(4, 4000), own(4, 4010), 50)).toBe(0);
    const bytes = new Uint8Array(60);
    mapper.memory.read(4 * 4096 + 4000, bytes);
    const expected = Array.from({ length: 60 }, (_, i) => (i < 10 ? 16 + i : 6 + i));
    expect([...bytes]).toEqual(expected);
    expect([inUse(8), inUse(9)]).toEqual([0, 0]);
    expect(machine.ledger().errors).toEqual([]);
  });

  it('answers each kind of wrong argument with its own status', () => {
    const { machine, granter, grant, copy } = pair(hv);
    grant(8, 5);
    grant(9, 6, GTF.permit_access | GTF.readonly);
    grant(10, 5000);
    const ref = (number: number, offset = 0, domid: number = granter.id) => ({ isRef: true, frameOrRef: number, domid, offset });
    expect(copy(ref(8), own(1), 4096)).toBe(0);
    expect(copy(ref(8, 1), own(1), 4096)).toBe(-10);
    expect(copy(ref(8), own(1, 4090), 7)).toBe(-10);
    expect(copy(own(1), ref(9), 8)).toBe(-1);
    expect(copy(ref(9), own(1), 8)).toBe(0);
    expect(copy(ref(10), own(1), 8)).toBe(-9);
    expect(copy(ref(11), own(1), 8)).toBe(-1);
    expect(copy(ref(600), own(1), 8)).toBe(-3);
    expect(copy(ref(8, 0, 99), own(1), 8)).toBe(-2);
    expect(copy(own(5000), own(1), 8)).toBe(-9);
    expect(copy({ isRef: false, frameOrRef: 5, domid: granter.id, offset: 0 }, own(1), 8)).toBe(-8);
    // Nothing to copy: nothing is looked at.
    expect(copy(ref(600), own(5000), 0)).toBe(0);
    expect(machine.ledger().errors).toEqual([]);
  });

  it('keeps to the part of the page that a sub-page grant names, and will not map it', () => {
    const { granter, mapper, setVersion, table, copy, map } = pair(hv);
    setVersion(2);
    writeGrantV2SubPage(table[0]!.views, table[0]!.offset + 8 * 16, GTF.permit_access | GTF.sub_page, mapper.id, 5, 100, 50);
    const ref = (offset: number) => ({ isRef: true, frameOrRef: 8, domid: granter.id, offset });
    expect(copy(ref(100), own(1), 50)).toBe(0);
    expect(copy(ref(99), own(1), 50)).toBe(-1);
    expect(copy(ref(101), own(1), 50)).toBe(-1);
    expect(map(8, HOST, 100).status).toBe(-1);
  });

  it('follows a transitive grant to the one who owns the page', () => {
    const { machine, granter, mapper, setVersion, table, copy, map, status, grant } = pair(hv);
    const owner = machine.createDomain({ pages: 8 });
    const owned: { views: { u8: Uint8Array; u16: Uint16Array; u32: Uint32Array }; offset: number }[] = [];
    owner.hypercalls.setupTable(1, owned);
    owned[0]!.views.u32.set([(granter.id << 16) | GTF.permit_access | GTF.readonly, 3], owned[0]!.offset / 4 + 16);
    owner.memory.write(3 * 4096 + 7, new Uint8Array([99]));
    setVersion(2);
    const transitive = (gref: number, flags: number, domid: number, target: number): void =>
      writeGrantV2Transitive(table[0]!.views, table[0]!.offset + gref * 16, flags, mapper.id, domid, target);
    transitive(8, GTF.transitive, owner.id, 8);
    transitive(9, GTF.transitive, granter.id, 8);
    transitive(10, GTF.transitive, 99, 8);
    transitive(11, GTF.transitive, owner.id, 600);
    const ref = (number: number) => ({ isRef: true, frameOrRef: number, domid: granter.id, offset: 7 });
    expect(copy(ref(8), own(1), 1)).toBe(0);
    const byte = new Uint8Array(1);
    mapper.memory.read(4096, byte);
    expect(byte[0]).toBe(99);
    expect(copy(own(1), ref(8), 1)).toBe(-1);
    expect([9, 10, 11].map((number) => copy(ref(number), own(1), 1))).toEqual([-1, -1, -3]);
    expect(map(8, HOST, 100).status).toBe(-1);
    expect(status[0]!.views.u16[status[0]!.offset / 2 + 8]).toBe(0);
    expect(owned[0]!.views.u32[owned[0]!.offset / 4 + 16]! & 0x18).toBe(0);
    grant(12, 5);
    expect(machine.ledger().errors).toEqual([]);
  });
});

describe('tables', () => {
  it('grow to their limit and keep what they hold', () => {
    const { granter, machine, grant, map } = pair(hv);
    grant(8, 5);
    const op = map(8, HOST, 100);
    const frames: unknown[] = [];
    const free = machine.freeFrames;
    expect(granter.hypercalls.setupTable(3, frames as never)).toBe(0);
    expect([frames.length, machine.freeFrames]).toEqual([3, free - 2]);
    expect(granter.hypercalls.setupTable(5, frames as never)).toBe(-1);
    expect(granter.hypercalls.setupTable(-1, frames as never)).toBe(-1);
    const size = { frames: 0, maxFrames: 0 };
    granter.hypercalls.querySize(size);
    expect(size).toEqual({ frames: 3, maxFrames: 4 });
    expect(op.status).toBe(0);
    expect(machine.ledger().errors).toEqual([]);
  });

  it('do not grow halfway when the machine runs out of frames', () => {
    const machine = createMachine({ seed: 1, ramBytes: 64 * 4096 });
    const domain = machine.createDomain({ pages: 56, grantFramesMax: 8 });
    expect(machine.freeFrames).toBe(2);
    expect(domain.hypercalls.setVersion(2)).toBe(0);
    expect(machine.freeFrames).toBe(1);
    expect(domain.hypercalls.setupTable(4, [])).toBe(-1);
    const size = { frames: 0, maxFrames: 0 };
    domain.hypercalls.querySize(size);
    expect([size.frames, machine.freeFrames]).toEqual([1, 1]);
    expect(machine.ledger().errors).toEqual([]);
    expect(domain.hypercalls.setupTable(2, [])).toBe(0);
    machine.close();
    expect(machine.freeFrames).toBe(63);
  });

  it('switch version: entries past the reserved ones go, those stay in the other layout', () => {
    const { granter, table, grant, map, setVersion, inUse, unmap, status } = pair(hv);
    grant(3, 7, GTF.permit_access | GTF.readonly);
    grant(8, 5);
    const reserved = map(3, HOST | RO, 100);
    expect(granter.hypercalls.getStatusFrames(1, [])).toBe(-1);
    expect(setVersion(2)).toBe(0);
    expect(granter.hypercalls.getVersion(SELF)).toBe(2);
    // In use stands in the status word now.
    expect(inUse(3)).toBe(GTF.reading);
    expect(table[0]!.views.u32[table[0]!.offset / 4 + 3 * 4]! & 0xffff).toBe(GTF.permit_access | GTF.readonly);
    expect(map(8, HOST, 101).status).toBe(-1);
    expect(status).toHaveLength(1);
    grant(8, 5);
    const op = map(8, HOST, 101);
    expect(setVersion(1)).toBe(-16);
    unmap(op.handle, 101);
    expect(setVersion(1)).toBe(0);
    expect(inUse(3)).toBe(GTF.reading);
    expect(unmap(reserved.handle, 100)).toBe(0);
    expect(inUse(3)).toBe(0);
    expect(granter.hypercalls.setVersion(3 as never)).toBe(-22);
    setVersion(2);
    writeGrantV2Transitive(table[0]!.views, table[0]!.offset + 2 * 16, GTF.transitive, 2, 9, 9);
    expect(setVersion(1)).toBe(-34);
  });

  it('exchange two references that nobody has pinned', () => {
    const swap = ({ granter }: Pair, refA: number, refB: number): number => {
      const op = { refA, refB, status: 77 };
      granter.hypercalls.swapRefs([op], 1);
      return op.status;
    };
    for (const version of [1, 2] as const) {
      const both = pair(hv);
      both.setVersion(version);
      both.grant(8, 5);
      both.grant(9, 6);
      expect(swap(both, 8, 9)).toBe(0);
      const op = both.map(9, HOST, 100);
      expect(op.mfn).toBe(both.granter.memory.mfnOf(5, false));
      expect(swap(both, 8, 9)).toBe(-12);
      expect(swap(both, 8, 8)).toBe(0);
      expect(swap(both, 8, 5000)).toBe(-3);
    }
  });

  it('let a privileged domain ask for another’s, and no other', () => {
    const machine = createMachine({ seed: 1, ramBytes: 2 ** 20 });
    const dom0 = machine.createDomain({ id: 0, pages: 8 });
    const guest = machine.createDomain({ pages: 8 });
    const gfns: number[] = [];
    expect(dom0.hypercalls.setupTableOf(guest.id, 2, gfns)).toBe(0);
    expect(gfns).toEqual([guest.memory.grantGfn, guest.memory.grantGfn + 1]);
    expect(guest.hypercalls.setupTableOf(0, 2, gfns)).toBe(-8);
    expect(guest.hypercalls.setupTableOf(9, 2, gfns)).toBe(-2);
    expect([dom0.hypercalls.getVersion(guest.id), guest.hypercalls.getVersion(0), guest.hypercalls.getVersion(9)]).toEqual([1, -1, -3]);
  });

  it('take cache flushes as the original checks them', () => {
    const { granter, mapper, grant, map } = pair(hv);
    grant(8, 5);
    const op = map(8, HOST, 100);
    const flush = (mfn: number, offset: number, bytes: number, what: number): number =>
      mapper.hypercalls.cacheFlush(mfn, offset, bytes, what);
    expect([flush(op.mfn, 0, 64, 1), flush(mapper.memory.mfnOf(1, false), 0, 4096, 3), flush(op.mfn, 0, 0, 1)]).toEqual([0, 0, 0]);
    expect([flush(op.mfn, 4096, 1, 1), flush(op.mfn, 1, 4096, 1), flush(op.mfn, 0, 1, 4), flush(1e9, 0, 1, 1)]).toEqual([
      -22, -22, -22, -22,
    ]);
    expect(flush(granter.memory.mfnOf(6, false), 0, 1, 1)).toBe(-1);
    // Frame 0 is the hypervisor's: nobody's table is followed there.
    expect(flush(0, 0, 1, 1)).toBe(-1);
  });

  it('print as the hypervisor’s debug key prints them', () => {
    const { machine, grant, map } = pair(hv);
    grant(8, 5);
    map(8, HOST | RO, 100);
    const lines = machine.dumpGrants().split('\n');
    expect(lines.some((line) => /^\(XEN\) \[0x008\] {6}2 0x[0-9a-f]{5} 0x00000100 {10}2 0x000005 0x09$/.test(line))).toBe(true);
    expect(lines).toContain('(XEN) grant-table for remote d1 (v1)');
    expect(lines).toContain('(XEN) no active grant table entries');
  });
});
