import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { BlockDevice, OP } from '@paravirt/blkfront';
import { createGrantTable } from '@paravirt/gnttab';
import {
  type AttachedDisk,
  attachDisk,
  createMachine,
  type Domain,
  detachDisk,
  type Machine,
  memoryDisk,
  type ServingHost,
  serveDisks,
} from '@paravirt/hv-sim';
import { describe, expect, it } from 'vitest';

setFlagsFromString('--expose_gc');
const gc = runInNewContext('gc') as () => void;
const COUNT = 1000;

/** A domain with a block device, which writes a page of its own and reads it back. */
function useDisk(host: ServingHost, guest: Domain, done: () => void): AttachedDisk {
  const attached = attachDisk(host, { frontend: guest.id, disk: memoryDisk({ sizeBytes: 8192 }) });
  const { hypercalls, scheduler, pageUse, pages, events, store } = guest;
  const grants = createGrantTable({ owner: guest.id }, { hypercalls, scheduler, pages: pageUse });
  const waitFor = (condition: () => boolean) => guest.waitFor(condition);
  const dev = new BlockDevice({ device: 51712, queues: 1, ringPages: 1 }, { pages, grants, events, store, scheduler, waitFor });
  dev.device.onState((state) => {
    if (state !== 'connected') return;
    const gfn = pages.alloc()!;
    const frame = pages.frame(gfn);
    frame.views.u32[frame.offset >>> 2] = guest.id;
    dev.device.onDone = (cookie, status) => {
      expect(status).toBe(0);
      if (cookie === 1) {
        frame.views.u32[frame.offset >>> 2] = 0;
        dev.device.submit(OP.READ, 8, [gfn], 0, 8, 2);
        return;
      }
      expect(frame.views.u32[frame.offset >>> 2]).toBe(guest.id);
      done();
    };
    // The state is told before the queues are open.
    guest.post(() => expect(dev.device.submit(OP.WRITE, 8, [gfn], 0, 8, 1)).toBe(0));
  });
  dev.device.start();
  return attached;
}

function wave(machine: Machine, host: ServingHost): void {
  const guests: Domain[] = [];
  const disks: AttachedDisk[] = [];
  let done = 0;
  for (let i = 0; i < COUNT; i++) {
    const guest = machine.createDomain({ pages: 24, grantFramesMax: 1, windowPages: 16, handlesMax: 16 });
    guests.push(guest);
    disks.push(useDisk(host, guest, () => done++));
  }
  machine.runUntil(() => done === COUNT, { stepsMax: Number.MAX_SAFE_INTEGER });
  expect(done).toBe(COUNT);
  expect(host.blkback.devices()).toHaveLength(COUNT);
  for (const guest of guests) machine.destroyDomain(guest);
  // What a toolstack does once its guests are dead.
  for (const disk of disks) detachDisk(host, disk).force();
  machine.run({ untilTicks: machine.now + 60_000 });
  expect(guests.every((guest) => guest.state === 'gone')).toBe(true);
}

describe('a thousand domains', () => {
  it('connect a block device each, write and read a page and die, with memory back to where it was', () => {
    const machine = createMachine({ seed: 1, ramBytes: 192 * 2 ** 20, order: 'random' });
    const dom0 = machine.createDomain({ id: 0, pages: 64, handlesMax: 1 << 16 });
    const host = serveDisks(dom0);
    machine.run({ untilTicks: machine.now });
    // The first wave grows what grows once: tables, and the address book of domain 0.
    wave(machine, host);
    const free = machine.freeFrames;
    gc();
    const before = process.memoryUsage().heapUsed;
    wave(machine, host);
    expect(machine.freeFrames).toBe(free);
    gc();
    expect((process.memoryUsage().heapUsed - before) / 2 ** 20).toBeLessThan(16);
    const { errors, domains } = machine.ledger();
    expect([errors, domains.map(({ domid }) => domid)]).toEqual([[], [0]]);
    expect(domains[0]!.handles).toEqual([]);
    expect(domains[0]!.ports).toEqual([]);
    expect(host.blkback.devices()).toEqual([]);
  }, 180_000);
});
