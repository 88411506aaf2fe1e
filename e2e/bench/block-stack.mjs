import { BlockDevice } from '@paravirt/blkfront';
import { createEventBus } from '@paravirt/event-bus';
import { createGrantTable } from '@paravirt/gnttab';
import { attachDisk, createMachine, memoryDisk, serveDisks } from '@paravirt/hv-sim';

/** A machine with a backend and `devices` frontends over memory disks, connected. */
export function blockStack({
  front = {},
  blkback = {},
  devices = 1,
  diskBytes = 4 << 20,
  guestPages = 4096,
  grantFramesMax = 64,
  prepare,
} = {}) {
  const bus = createEventBus();
  const machine = createMachine({
    seed: 1,
    bus,
    ramBytes: (devices * guestPages + 8192 + devices * 64) * 4096,
    stepsMax: Number.MAX_SAFE_INTEGER,
  });
  const dom0 = machine.createDomain({ id: 0, pages: 1024, handlesMax: 1 << 20 });
  const host = serveDisks(dom0, { bus, blkback: { queuesMax: 64, ...blkback } });
  const list = [];
  for (let i = 0; i < devices; i++) {
    const guest = machine.createDomain({ pages: guestPages, grantFramesMax });
    const disk = memoryDisk({ sizeBytes: diskBytes });
    attachDisk(host, { frontend: guest.id, disk });
    const { hypercalls, scheduler, pageUse, pages, events, store } = guest;
    const grants = createGrantTable({ owner: guest.id }, { hypercalls, scheduler, pages: pageUse, bus });
    prepare?.(grants);
    const dev = new BlockDevice(
      { device: 51712, poolRefs: 'full', ...front },
      { pages, grants, events, store, scheduler, bus, waitFor: (condition) => guest.waitFor(condition) },
    );
    dev.connectSync();
    list.push({ guest, dev, disk, grants });
  }
  return { machine, dom0, host, devices: list, ...list[0] };
}

/** Whatever else the machine does only adds to a time, so the least of the rounds is taken, for all alike. */
export const least = (times) => Math.min(...times);

const WARM_MS = 1500;
/** A machine shared with others has slow stretches of a second and fast ones of a few milliseconds. */
const LOOK_MS = 1000;

const after = (ms) => {
  const end = process.hrtime.bigint() + BigInt(ms) * 1_000_000n;
  return () => process.hrtime.bigint() >= end;
};

/**
 * Nanoseconds per operation of `round`, which does `count` of them: the least of `rounds` rounds or of all that fit into a second,
 * after warming up for as many and for a second and a half at least, so that the compiler is done however busy the machine is.
 */
export function nanoseconds(round, count, rounds = 15) {
  const warm = after(WARM_MS);
  for (let i = 0; i < rounds || !warm(); i++) round();
  const times = [];
  const looked = after(LOOK_MS);
  for (let i = 0; i < rounds || !looked(); i++) {
    const start = process.hrtime.bigint();
    round();
    times.push(Number(process.hrtime.bigint() - start) / count);
  }
  return least(times);
}
