import { domId } from '@paravirt/event-bus/contract';
import type { MapOp, MemoryFrame } from '@paravirt/gnttab';
import { GTF, writeGrantV1 } from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import { createMachine, expectNoLeaks, HvError } from '../src/index.ts';

function fixture() {
  const machine = createMachine({ seed: 1, ramBytes: 8 * 2 ** 20 });
  const dom0 = machine.createDomain({ id: 0, pages: 64 });
  const guest = machine.createDomain({ pages: 64 });
  const table: MemoryFrame[] = [];
  guest.hypercalls.setupTable(1, table);
  const grant = (gref: number, gfn: number, flags: number = GTF.permit_access, domid = 0): void => {
    const frame = table[gref >>> 9]!;
    writeGrantV1(frame.views, frame.offset + (gref & 511) * 8, flags, domid, gfn);
  };
  const flags = (gref: number): number => table[gref >>> 9]!.views.u16[(table[gref >>> 9]!.offset + (gref & 511) * 8) >>> 1]!;
  const op: MapOp = { vfn: 100, flags: 2, ref: 8, domid: guest.id, status: 1, handle: -1, mfn: -1 };
  return { machine, dom0, guest, grant, flags, op };
}

describe('a machine with two domains', () => {
  it('lets one domain read and write a page of the other, exactly as long as the grant is mapped', () => {
    const { machine, dom0, guest, grant, flags, op } = fixture();
    const gfn = guest.pages.alloc()!;
    guest.memory.write(gfn * 4096 + 5, new Uint8Array([1, 2, 3]));
    grant(8, gfn);
    expect(dom0.hypercalls.map([op], 1)).toBe(0);
    expect(op.status).toBe(0);
    expect(flags(8)).toBe(GTF.permit_access | GTF.reading | GTF.writing);
    const bytes = new Uint8Array(3);
    dom0.addressSpace.read(100 * 4096 + 5, bytes);
    expect([...bytes]).toEqual([1, 2, 3]);
    dom0.addressSpace.write(100 * 4096 + 4095, new Uint8Array([9]));
    expect(machine.ledger().errors).toEqual([]);
    const unmap = { vfn: 100, handle: op.handle, status: 1 };
    dom0.hypercalls.unmap([unmap], 1);
    expect(unmap.status).toBe(0);
    expect(flags(8)).toBe(GTF.permit_access);
    expect(() => dom0.addressSpace.resolve(100, false)).toThrow(HvError);
    guest.memory.read(gfn * 4096 + 4095, bytes.subarray(0, 1));
    expect(bytes[0]).toBe(9);
    grant(8, 0, 0);
    guest.pages.free(gfn);
    expectNoLeaks(machine);
    machine.close();
    expect(machine.freeFrames).toBe(2047);
  });

  it('rings the other end of an event channel from the run queue', () => {
    const { machine, dom0, guest } = fixture();
    const port = guest.events.allocUnbound(dom0.id);
    const theirs = dom0.events.bindInterdomain(guest.id, port);
    let rung = 0;
    guest.events.onUpcall(port, () => {
      rung++;
    });
    dom0.events.send(theirs);
    dom0.events.send(theirs);
    expect(rung).toBe(0);
    expect(guest.waitFor(() => rung > 0)).toBe(true);
    machine.run();
    expect(rung).toBe(1);
    expect(domId(0)).toBe(dom0.id);
  });
});
