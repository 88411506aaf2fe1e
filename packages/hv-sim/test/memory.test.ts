import { GTF, writeGrantV1 } from '@paravirt/xen-abi';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createMachine, HvError, type HvRefusal } from '../src/index.ts';
import { withMachine } from '../src/testing.ts';
import { HOST, pair, RO, SELF } from './support/pair.ts';

/** As much of the host's WebAssembly as a memory needs. */
declare const WebAssembly: {
  Memory: new (pages: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer; grow(pages: number): number };
};

/** The refusal that `act` throws. */
function refusal(act: () => unknown): HvRefusal {
  try {
    act();
  } catch (error) {
    if (error instanceof HvError) return error.refusal;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('machine memory', () => {
  it('takes its frames from several buffers, and accounts for each', () => {
    const buffers = [new ArrayBuffer(64 * 4096), new SharedArrayBuffer(64 * 4096)];
    const machine = createMachine({ seed: 1, memory: buffers.map((buffer) => ({ buffer })) });
    expect(machine.freeFrames).toBe(127);
    const domain = machine.createDomain({ pages: 90, grantFramesMax: 1 });
    const last = domain.memory.frame(89);
    const first = domain.memory.frame(0);
    expect(first.views.u8.buffer).toBe(buffers[1]);
    expect(last.views.u8.buffer).toBe(buffers[0]);
    domain.memory.write(0, new Uint8Array(90 * 4096).fill(7));
    expect(last.views.u8[last.offset]).toBe(7);
    machine.close();
    expect(machine.freeFrames).toBe(127);
  });

  it('refuses a domain that does not fit, and keeps nothing of it', () => {
    const machine = createMachine({ seed: 1, ramBytes: 64 * 4096 });
    const before = machine.freeFrames;
    expect(refusal(() => machine.createDomain({ pages: 64 }))).toEqual({ code: 'out-of-memory', wanted: 69, free: 63 });
    expect(machine.freeFrames).toBe(before);
    machine.createDomain({ pages: 32 });
    expect(refusal(() => machine.createDomain({ id: 1, pages: 1 }))).toEqual({ code: 'domid-taken', domid: 1 });
    const left = machine.freeFrames;
    for (const wrong of [
      { portMax: 1 },
      { handlesMax: 0 },
      { windowPages: 0.5 },
      { reservedPages: -1 },
      { grantFramesMax: 0 },
      { commandLine: 'x'.repeat(1024) },
    ]) {
      expect(refusal(() => machine.createDomain({ pages: 4, ...wrong }))).toMatchObject({
        code: 'bad-argument',
        argument: Object.keys(wrong)[0],
      });
      expect([machine.freeFrames, machine.domains().length]).toEqual([left, 1]);
    }
    expect(refusal(() => machine.createDomain({ pages: 0 }))).toMatchObject({ code: 'bad-argument', argument: 'pages', value: '0' });
    expect(refusal(() => createMachine({ seed: 1, ramBytes: 5000 * 3 }))).toMatchObject({ code: 'bad-argument', argument: 'ramBytes' });
  });

  it('hands an isolated domain views that show its own memory alone', () => {
    const machine = createMachine({ seed: 1, ramBytes: 2 ** 20 });
    const other = machine.createDomain({ pages: 8 });
    const domain = machine.createDomain({ pages: 8, grantFramesMax: 2, isolated: true });
    other.memory.write(0, new Uint8Array([0xaa]));
    const { views } = domain.memory.frame(0);
    expect(views.u8.length).toBe((8 + 4 + 2 + 1 + 8) * 4096);
    const table: { views: unknown }[] = [];
    domain.hypercalls.setupTable(2, table as never);
    // Boot pages and grant frames stand at their own addresses in the same buffer.
    expect(table.map((frame) => frame.views)).toEqual([views, views]);
    for (const gfn of [0, 7, domain.memory.specialGfn, domain.memory.grantGfn + 1])
      expect(domain.memory.frame(gfn).offset).toBe(gfn * 4096);
    const free = machine.freeFrames;
    machine.destroyDomain(domain);
    expect(machine.freeFrames).toBe(free);
  });

  it('follows a WebAssembly.Memory that grows', () => {
    const memory = new WebAssembly.Memory({ initial: 4, maximum: 8 });
    const machine = createMachine({ seed: 1, ramBytes: 2 ** 20 });
    const peer = machine.createDomain({ id: 0, pages: 8 });
    const domain = machine.createDomain({ memory, memoryPagesMax: 128, grantFramesMax: 2 });
    const frame = domain.memory.frame(3);
    new Uint8Array(memory.buffer)[3 * 4096] = 33;
    expect(frame.views.u8[frame.offset]).toBe(33);
    const ram = domain.memory.populated;
    memory.grow(1);
    expect(domain.memory.refresh()).toBe(16);
    // Also without being asked, before anybody runs.
    memory.grow(1);
    peer.post(() => expect(frame.views.u8.length).toBe(6 * 65_536));
    machine.run();
    expect(domain.memory.refresh()).toBe(0);
    expect(domain.memory.populated).toBe(ram + 32);
    // The object that was kept has new views; the new pages are RAM like any.
    expect(frame.views.u8[frame.offset]).toBe(33);
    const grown = 64;
    new Uint8Array(memory.buffer)[grown * 4096] = 44;
    const table: { views: { u16: Uint16Array; u32: Uint32Array; u8: Uint8Array }; offset: number }[] = [];
    domain.hypercalls.setupTable(1, table);
    writeGrantV1(table[0]!.views, table[0]!.offset + 64, GTF.permit_access, 0, grown);
    const op = { vfn: 9, flags: HOST, ref: 8, domid: domain.id, status: 77, handle: -1, mfn: -1 };
    peer.hypercalls.map([op], 1);
    expect(op.status).toBe(0);
    const byte = new Uint8Array(1);
    peer.addressSpace.read(9 * 4096, byte);
    expect(byte[0]).toBe(44);
    machine.destroyDomain(domain);
    expect(domain.state).toBe('dying');
    machine.destroyDomain(peer);
    expect(domain.state).toBe('gone');
    expect(machine.ledger().errors).toEqual([]);
  });
});

describe('ballooning', () => {
  it('gives the frame to others, and never while somebody has it mapped', () => {
    const { machine, granter, mapper, grant, map, unmap } = pair({ createMachine });
    granter.memory.write(5 * 4096, new Uint8Array([55]));
    grant(8, 5);
    const op = map(8, HOST, 100);
    const free = machine.freeFrames;
    expect(granter.memory.decrease(5)).toBe(true);
    expect(granter.memory.decrease(5)).toBe(false);
    expect(machine.freeFrames).toBe(free);
    expect(refusal(() => granter.memory.frame(5))).toEqual({ code: 'bad-gfn', domid: granter.id, gfn: 5 });
    // The mapping shows the old bytes, and a new page of the same number is another.
    expect(granter.memory.populate(5)).toBe(true);
    const byte = new Uint8Array(1);
    granter.memory.read(5 * 4096, byte);
    expect(byte[0]).toBe(0);
    mapper.addressSpace.read(100 * 4096, byte);
    expect(byte[0]).toBe(55);
    expect(unmap(op.handle, 100)).toBe(0);
    expect(machine.freeFrames).toBe(free);
    expect(machine.ledger().errors).toEqual([]);
    // What was ballooned out cannot be granted any more.
    granter.memory.decrease(6);
    grant(9, 6);
    expect(map(9, HOST, 101).status).toBe(-9);
  });

  it('is for RAM: boot pages and grant frames stay', () => {
    const machine = createMachine({ seed: 1, ramBytes: 2 ** 20 });
    const domain = machine.createDomain({ pages: 8 });
    for (const gfn of [domain.memory.specialGfn, domain.memory.grantGfn, 1e6, -1, 0.5]) expect(domain.memory.decrease(gfn)).toBe(false);
    expect(domain.memory.populate(0)).toBe(false);
  });
});

describe('memory slots', () => {
  it('decide what a guest frame is: a slot that goes takes its frames with it, and comes back with them', () => {
    const { granter, grant, map, unmap } = pair({ createMachine });
    grant(8, 5);
    const op = map(8, HOST, 100);
    unmap(op.handle, 100);
    const slot = granter.memory.slots.slot(0)!;
    granter.memory.slots.deleteSlot(0);
    expect(map(8, HOST, 100).status).toBe(-9);
    granter.memory.slots.createSlot({ id: 0, baseGfn: 1000, pages: slot.pages, userspaceAddr: slot.userspaceAddr });
    expect(map(8, HOST, 100).status).toBe(-9);
    grant(8, 1005);
    const moved = map(8, HOST, 100);
    expect([moved.status, moved.mfn]).toEqual([0, op.mfn]);
    // The balloon goes by the slots too.
    expect([granter.memory.decrease(5), granter.memory.decrease(1006), granter.memory.mfnOf(1006, false)]).toEqual([false, true, -1]);
    expect([granter.memory.populate(6), granter.memory.populate(1006)]).toEqual([false, true]);
  });

  it('know no frame below 0, also where others are remembered', () => {
    const { mapper, copy } = pair({ createMachine });
    const { memory } = mapper;
    expect(memory.mfnOf(3, true)).toBeGreaterThan(0);
    const own = (frameOrRef: number) => ({ isRef: false, frameOrRef, domid: SELF, offset: 0 });
    for (const gfn of [-1, -2, -3, -256, -(2 ** 31), 2 ** 31, 2 ** 32 - 1, 0.5, Number.NaN]) {
      expect([memory.mfnOf(gfn, false), memory.mfnOf(gfn, true)], String(gfn)).toEqual([-1, -1]);
      expect([copy(own(gfn), own(4), 16), copy(own(4), own(gfn), 4096)], String(gfn)).toEqual([-9, -9]);
    }
  });

  it('refuse writable mappings of read-only slots, and writes', () => {
    const { granter, grant, map } = pair({ createMachine });
    const slot = granter.memory.slots.slot(0)!;
    granter.memory.slots.deleteSlot(0);
    granter.memory.slots.createSlot({ id: 0, baseGfn: 0, pages: slot.pages, userspaceAddr: slot.userspaceAddr, flags: 2 });
    grant(8, 5);
    expect(map(8, HOST, 100).status).toBe(-9);
    expect(map(8, HOST | RO, 101).status).toBe(0);
    expect(refusal(() => granter.memory.write(5 * 4096, new Uint8Array(1)))).toEqual({ code: 'readonly-gfn', domid: granter.id, gfn: 5 });
  });

  it('log what others write: through a writable mapping that goes, and by copy', () => {
    const { granter, grant, map, unmap, copy } = pair({ createMachine });
    granter.memory.slots.setFlags(0, 1);
    grant(8, 5);
    grant(9, 6);
    unmap(map(8, HOST | RO, 100).handle, 100);
    expect(granter.memory.slots.getDirtyLog(0).runs).toEqual([]);
    unmap(map(8, HOST, 100).handle, 100);
    copy({ isRef: false, frameOrRef: 1, domid: SELF, offset: 0 }, { isRef: true, frameOrRef: 9, domid: granter.id, offset: 0 }, 8);
    expect(granter.memory.slots.getDirtyLog(0).runs).toEqual([[5, 2]]);
  });
});

describe('an address space', () => {
  it('faults on pages that are not there, with who took them away and when', () => {
    const { machine, mapper, grant, map, unmap } = pair({ createMachine });
    const space = mapper.addressSpace;
    expect(refusal(() => space.resolve(100, false))).toEqual({
      code: 'page-fault',
      domid: 2,
      vfn: 100,
      access: 'read',
      cause: 'unmapped',
      mfn: -1,
      unmapped: { by: 0, how: 'never', step: 0 },
    });
    grant(8, 5);
    const op = map(8, HOST | RO, 100);
    expect(refusal(() => space.resolve(100, true))).toMatchObject({ access: 'write', cause: 'readonly', mfn: op.mfn });
    for (let i = 0; i < 3; i++) machine.post(() => {});
    machine.run();
    unmap(op.handle, 100);
    expect(refusal(() => space.resolve(100, false))).toMatchObject({
      cause: 'unmapped',
      mfn: op.mfn,
      unmapped: { by: mapper.id, how: 'grant-unmap', step: 3 },
    });
  });

  it('maps its own frames only, and not by way of a grant’s place', () => {
    const { granter, mapper, grant, map } = pair({ createMachine });
    const plain = { writable: true, executable: false };
    expect(mapper.addressSpace.map(50, granter.memory.mfnOf(3, false), 1, plain)).toBe(false);
    expect(mapper.addressSpace.map(50, 0, 1, plain)).toBe(false);
    expect(mapper.addressSpace.map(50, 1e9, 1, plain)).toBe(false);
    grant(8, 5);
    const op = map(8, HOST, 100);
    const own = mapper.memory.mfnOf(3, false);
    expect(mapper.addressSpace.map(100, own, 1, plain)).toBe(false);
    mapper.addressSpace.unmap(100, 1);
    expect(mapper.addressSpace.translate(100)).toBe(op.mfn);
    expect(mapper.addressSpace.map(99, own, 1, plain)).toBe(true);
    expect(map(8, HOST, 99).status).toBe(-5);
  });

  it('keeps a page that its owner gave up until the last mapping goes', () => {
    withMachine({ seed: 1, ramBytes: 2 ** 20 }, (machine) => {
      const domain = machine.createDomain({ pages: 8 });
      const free = machine.freeFrames;
      const mfn = domain.heap.alloc();
      domain.addressSpace.map(2 ** 40, mfn, 1, { writable: true, executable: false });
      domain.heap.free(mfn);
      expect(machine.freeFrames).toBe(free - 1);
      expect(() => domain.heap.free(mfn)).toThrow(/a frame that this domain allocated/);
      domain.addressSpace.unmap(2 ** 40, 1);
      expect(machine.freeFrames).toBe(free);
    });
  });

  it('has room for mappings far apart, and gives the room of small ones cheaply', () => {
    const machine = createMachine({ seed: 1, ramBytes: 2 ** 20 });
    const domain = machine.createDomain({ pages: 64, windowPages: 16 });
    const flags = { writable: false, executable: false };
    const vfns = [1, 15, 16, 1023, 1024, 2 ** 30, 2 ** 52 - 1];
    for (const [i, vfn] of vfns.entries()) expect(domain.addressSpace.map(vfn, domain.memory.mfnOf(i, false), 1, flags)).toBe(true);
    for (const [i, vfn] of vfns.entries()) expect(domain.addressSpace.translate(vfn)).toBe(domain.memory.mfnOf(i, false));
    expect(domain.addressSpace.pages).toBe(vfns.length);
    expect(machine.ledger().errors).toEqual([]);
  });

  it.each([Number.NaN, -1, 0.5, Number.POSITIVE_INFINITY, 2 ** 53])('maps and unmaps no %d pages', (count) => {
    const domain = createMachine({ seed: 1, ramBytes: 2 ** 20 }).createDomain({ pages: 8 });
    const { addressSpace: space, memory } = domain;
    const flags = { writable: true, executable: false };
    space.map(7, memory.mfnOf(0, false), 1, flags);
    const refused = { code: 'bad-argument', argument: 'count', value: String(count) };
    expect(refusal(() => space.unmap(7, count))).toMatchObject(refused);
    expect(refusal(() => space.map(8, memory.mfnOf(1, false), count, flags))).toMatchObject(refused);
    expect(refusal(() => space.unmap(count, 1))).toMatchObject({ code: 'bad-argument', argument: 'vfn' });
    expect(space.pages).toBe(1);
  });

  it('unmaps what is named and nothing else, however long the range', () => {
    const vfn = fc.oneof(fc.nat(40), fc.integer({ min: 1000, max: 1060 }), fc.constantFrom(2 ** 30, 2 ** 52 - 1));
    const count = fc.oneof(fc.nat(60), fc.constantFrom(1024, 3000, 2 ** 31, 2 ** 51));
    fc.assert(
      fc.property(fc.array(fc.record({ vfn, count, maps: fc.boolean() }), { maxLength: 20 }), (steps) => {
        const { addressSpace: space, memory } = createMachine({ seed: 1, ramBytes: 2 ** 20 }).createDomain({ pages: 8, windowPages: 16 });
        const mfn = memory.mfnOf(0, false);
        const mapped = new Set<number>();
        for (const step of steps) {
          if (step.maps) {
            space.map(step.vfn, mfn, 1, { writable: true, executable: false });
            mapped.add(step.vfn);
            continue;
          }
          const pages = Math.min(step.count, 2 ** 52 - step.vfn);
          space.unmap(step.vfn, pages);
          for (const at of mapped) if (at >= step.vfn && at < step.vfn + pages) mapped.delete(at);
        }
        expect(space.pages).toBe(mapped.size);
        for (const at of mapped) expect(space.translate(at)).toBe(mfn);
      }),
    );
  });
});
