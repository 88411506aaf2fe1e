import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { DomId } from '@paravirt/event-bus/contract';
import { gnttab } from '@paravirt/gnttab';
import { describe, expect, it } from 'vitest';
import { createMachine, type Domain, expectNoLeaks, type Machine } from '../src/index.ts';
import { announce, serveLoopback, useLoopback } from './support/loopback.ts';

setFlagsFromString('--expose_gc');
const gc = runInNewContext('gc') as () => void;

function wave(machine: Machine, dom0: Domain, count: number): void {
  const guests: Domain[] = [];
  for (let i = 0; i < count; i++) {
    const guest = machine.createDomain({ pages: 4, grantFramesMax: 1, windowPages: 16, handlesMax: 16 });
    announce(machine, dom0, guest);
    guests.push(guest);
  }
  let done = 0;
  for (const guest of guests) guest.post(() => useLoopback(guest, dom0.id, () => done++));
  machine.run();
  expect(done).toBe(count);
  for (const guest of guests) machine.destroyDomain(guest);
  machine.run();
  expect(guests.every((guest) => guest.state === 'gone')).toBe(true);
}

describe('a thousand domains', () => {
  it('connect a device each, do one request and die, with memory back to where it was', () => {
    const machine = createMachine({ seed: 1, ramBytes: 64 * 2 ** 20, order: 'random' });
    const dom0 = machine.createDomain({ id: 0, pages: 64 });
    serveLoopback(dom0);
    machine.run();
    // The first wave grows what grows once: tables, and the address book of domain 0.
    wave(machine, dom0, 1000);
    const free = machine.freeFrames;
    gc();
    const before = process.memoryUsage().heapUsed;
    wave(machine, dom0, 1000);
    expect(machine.freeFrames).toBe(free);
    gc();
    const grown = process.memoryUsage().heapUsed - before;
    expect(grown / 2 ** 20).toBeLessThan(8);
    const { errors, domains } = machine.ledger();
    expect([errors, domains.map((domain) => domain.domid)]).toEqual([[], [0]]);
    expect(domains[0]!.ports).toEqual([]);
    expect(domains[0]!.handles).toEqual([]);
  }, 120_000);
});

describe('a virtual hour', () => {
  it('of deferred ends and retries takes steps, not time', () => {
    const machine = createMachine({ seed: 1, ramBytes: 8 * 2 ** 20 });
    const dom0 = machine.createDomain({ id: 0, pages: 64 });
    const guest = machine.createDomain({ pages: 256 });
    const grants = guest.use(gnttab({ owner: guest.id }), {
      hypercalls: guest.hypercalls,
      scheduler: guest.scheduler,
      pages: guest.pageUse,
    });
    const vfn = dom0.addresses.alloc(64);
    const ops = Array.from({ length: 64 }, (_, i) => {
      const gfn = guest.pages.alloc()!;
      const gref = grants.grantForeignAccess({ peer: dom0.id as DomId, gfn, readonly: false });
      const op = { vfn: vfn + i, flags: 2, ref: gref, domid: guest.id, status: 77, handle: -1, mfn: -1 };
      dom0.hypercalls.map([op], 1);
      // Given back while domain 0 still has it: the end waits, and is tried again each second.
      // The page goes with the grant.
      grants.endForeignAccess(gref, gfn);
      return op;
    });
    expect(grants.usage().deferred).toBe(64);
    machine.run({ untilTicks: 3_600_000 });
    expect(machine.now).toBe(3_600_000);
    expect(machine.steps).toBeGreaterThan(3_000);
    expect(grants.usage().deferred).toBe(64);
    for (const op of ops) dom0.hypercalls.unmap([{ vfn: op.vfn, handle: op.handle, status: 77 }], 1);
    machine.run();
    expect(grants.usage().deferred).toBe(0);
    dom0.addresses.free(vfn);
    guest.detachAll();
    expectNoLeaks(machine);
  });
});
