import { BlockDevice } from '@paravirt/blkfront';
import { createEventBus, type EventBus } from '@paravirt/event-bus';
import { createGrantTable } from '@paravirt/gnttab';
import { type AttachedDisk, attachDisk, createMachine, type Domain, delayFilter, memoryDisk, serveDisks } from '@paravirt/hv-sim';
import { describe, expect, it } from 'vitest';
import type { Facts } from './blkfront-stack.ts';

/** A guest whose disk is served by a driver domain, which can die. */
function driverDomain(persistent: boolean) {
  const bus = createEventBus<Facts>() as EventBus<Facts>;
  const machine = createMachine({ seed: 7, ramBytes: 64 << 20, bus });
  const dom0 = machine.createDomain({ id: 0, pages: 256 });
  const guest = machine.createDomain({ pages: 2048 });
  const inner = memoryDisk({ sizeBytes: 4 << 20 });
  const disk = delayFilter(inner, { scheduler: machine.scheduler, ticks: 5 });
  const serve = (): { driver: Domain; host: ReturnType<typeof serveDisks> } => {
    const driver = machine.createDomain({ pages: 512 });
    // The toolstack makes a domain's folder, and lets it write its own backends.
    dom0.store.mkdir(`/local/domain/${driver.id}/backend`);
    dom0.store.setPermissions(`/local/domain/${driver.id}/backend`, [{ domid: driver.id, access: 'none' }]);
    return { driver, host: serveDisks(driver, { bus, toolstack: dom0 }) };
  };
  const first = serve();
  const attached = attachDisk(first.host, { frontend: guest.id, disk });
  const { hypercalls, scheduler, pageUse, pages, events, store } = guest;
  const grants = createGrantTable({ owner: guest.id }, { hypercalls, scheduler, pages: pageUse, bus });
  const dev = new BlockDevice(
    { device: 51712, persistent },
    { pages, grants, events, store, scheduler, bus, waitFor: (condition) => guest.waitFor(condition) },
  );
  return { machine, dom0, guest, first, attached, serve, inner, disk, grants, dev };
}

/** Points an attached frontend at another backend domain, as a toolstack does that restarts a driver domain. */
function move(
  dom0: Domain,
  attached: AttachedDisk,
  host: ReturnType<typeof serveDisks>,
  driver: Domain,
  disk: Parameters<typeof attachDisk>[1]['disk'],
): void {
  const { store } = dom0;
  const backend = `/local/domain/${driver.id}/backend/vbd/${attached.frontend}/${attached.device}`;
  host.blkback.addDisk('7:0', disk);
  const transaction = store.begin();
  const permissions = [
    { domid: driver.id, access: 'none' as const },
    { domid: attached.frontend as never, access: 'read' as const },
  ];
  store.mkdir(backend, transaction);
  store.setPermissions(backend, permissions, transaction);
  const keys = {
    frontend: attached.frontendPath,
    'frontend-id': attached.frontend,
    online: 1,
    state: 1,
    mode: 'w',
    'physical-device': '7:0',
  };
  for (const [key, value] of Object.entries(keys)) {
    store.write(`${backend}/${key}`, String(value), transaction);
    store.setPermissions(`${backend}/${key}`, permissions, transaction);
  }
  // The new backend's domain may read what the guest says, as the old one could.
  const theirs = [
    { domid: attached.frontend as never, access: 'none' as const },
    { domid: driver.id, access: 'read' as const },
  ];
  store.setPermissions(attached.frontendPath, theirs, transaction);
  for (const key of store.list(attached.frontendPath, transaction)) {
    store.setPermissions(`${attached.frontendPath}/${key}`, theirs, transaction);
  }
  store.write(`${attached.frontendPath}/backend-id`, String(driver.id), transaction);
  store.write(`${attached.frontendPath}/backend`, backend, transaction);
  expect(store.commit(transaction)).toBe(true);
}

describe.each([false, true])('a driver domain that dies, persistent grants %s', (persistent) => {
  it('takes no request with it: its successor gets each of them once, and every page comes back', async () => {
    const { machine, dom0, guest, first, attached, serve, inner, disk, grants, dev } = driverDomain(persistent);
    dev.connectSync();
    const data = Array.from({ length: 20 }, (_, i) => new Uint8Array(8192).fill(i + 1));
    const ended: number[] = [];
    const writes = data.map((bytes, i) => dev.write(i * 16, bytes).then(() => void ended.push(i)));
    machine.run({ untilTicks: machine.now });
    expect(dev.device.busy).toBeGreaterThan(0);
    machine.destroyDomain(first.driver);
    dom0.store.remove(`/local/domain/${first.driver.id}`);
    machine.run({ untilTicks: machine.now + 100 });
    expect(dev.state).toBe('lost');
    expect(ended).toEqual([]);
    const second = serve();
    move(dom0, attached, second.host, second.driver, disk);
    machine.runUntil(() => dev.state === 'connected');
    machine.run({ untilTicks: machine.now + 200 });
    await Promise.all(writes);
    expect(ended.length).toBe(20);
    const views = { u8: new Uint8Array(4 << 20), u16: new Uint16Array(0), u32: new Uint32Array(0) };
    inner.read(views, 0, 0, 4 << 20, { done: () => undefined });
    expect(data.every((bytes, i) => views.u8[i * 8192] === bytes[0] && views.u8[i * 8192 + 8191] === bytes[0])).toBe(true);
    dev.closeSync();
    machine.run({ untilTicks: machine.now + 10_000 });
    expect(guest.pages.lent).toBe(0);
    expect(grants.usage()).toMatchObject({ granted: 0, private: 0, deferred: 0 });
  });
});
