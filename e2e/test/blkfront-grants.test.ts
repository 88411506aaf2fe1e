import { ERRNO, OP } from '@paravirt/blkfront';
import type { MapOp, UnmapOp } from '@paravirt/gnttab';
import { GNTMAP } from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import { Stack, type StackOptions } from './blkfront-stack.ts';

const connected = (options: StackOptions = {}): Stack => {
  const stack = new Stack(options);
  stack.dev.connectSync();
  return stack;
};

/** The backend's domain maps a reference on its own account, and keeps it. */
function cling(stack: Stack, gref: number, write: boolean): () => void {
  const vfn = stack.dom0.addresses.alloc(1);
  const op: MapOp = {
    vfn,
    flags: GNTMAP.host_map | (write ? 0 : GNTMAP.readonly),
    ref: gref,
    domid: stack.guest.id,
    status: 1,
    handle: 0,
    mfn: 0,
  };
  stack.dom0.hypercalls.map([op], 1);
  expect(op.status).toBe(0);
  return () => {
    const unmap: UnmapOp = { vfn, handle: op.handle, status: 1 };
    stack.dom0.hypercalls.unmap([unmap], 1);
    expect(unmap.status).toBe(0);
  };
}

describe.each([1, 2] as const)('references of a table of version %i', (grantVersion) => {
  it('are set aside while the backend keeps a finished page mapped, and come back when it lets go', () => {
    const stack = connected({ grantVersion, front: { persistent: false } });
    const { device } = stack.dev;
    const done: number[] = [];
    device.onDone = (_cookie, status) => done.push(status);
    const facts: string[] = [];
    stack.bus.on('blkfront:quarantined').subscribe(({ gfn }) => facts.push(`held ${gfn}`));
    stack.bus.on('blkfront:returned').subscribe(({ gfn }) => facts.push(`back ${gfn}`));
    const gfn = stack.page();
    stack.disk.held = true;
    device.submit(OP.READ, 0, [gfn], 0, 8, 1);
    stack.run();
    const live = [...stack.grants.liveEntries()].find((entry) => entry.gfn === gfn)!;
    const letGo = cling(stack, live.gref, true);
    stack.disk.release();
    stack.run();
    expect(done).toEqual([0]);
    expect(device.poolFigures()).toMatchObject({ quarantined: 1, free: 10 });
    expect(device.isHeld(gfn)).toBe(true);
    // Another hundred requests never get that reference.
    for (let i = 0; i < 100; i++) {
      device.submit(OP.READ, 0, [stack.page()], 0, 8, 2);
      stack.run();
    }
    expect(done.length).toBe(101);
    expect(device.poolFigures()).toMatchObject({ quarantined: 1 });
    letGo();
    stack.run(5000);
    expect(device.poolFigures()).toMatchObject({ quarantined: 0, free: 11 });
    expect(facts).toEqual([`held ${gfn}`, `back ${gfn}`]);
    stack.dev.closeSync();
    stack.freePages();
    expect(stack.leftovers()).toEqual([]);
  });

  it('are waited for when the table is full, and a request goes on the moment one is free', () => {
    const stack = connected({ grantVersion, front: { persistent: false, poolRefs: 0 } });
    const { device } = stack.dev;
    const taken = [];
    try {
      for (;;) taken.push(stack.grants.allocGrantReference());
    } catch (error) {
      expect(error).toMatchObject({ refusal: { code: 'exhausted' } });
    }
    let room = 0;
    device.onRoom(() => room++);
    const done: number[] = [];
    device.onDone = (cookie, status) => done.push(cookie, status);
    const gfns = Array.from({ length: 11 }, () => stack.page());
    expect(device.submit(OP.WRITE, 0, gfns, 0, 88, 1)).toBe(ERRNO.EBUSY);
    stack.run();
    expect(room).toBe(0);
    stack.grants.freeGrantReference(taken.pop()!);
    stack.run();
    expect(room).toBe(1);
    // One reference carries eleven pages, one after the other.
    expect(device.submit(OP.WRITE, 0, gfns, 0, 88, 2)).toBe(0);
    stack.run(100);
    expect(done).toEqual([2, 0]);
    for (const gref of taken) stack.grants.freeGrantReference(gref);
    stack.dev.closeSync();
    stack.freePages();
    expect(stack.leftovers()).toEqual([]);
  });

  it('do not keep a close from ending when the backend clings to them, and their pages are not given back before', () => {
    const stack = connected({ grantVersion, front: { persistent: false, closeTicks: 50 } });
    const ringRef = Number(stack.front('ring-ref'));
    const letGo = cling(stack, ringRef, true);
    stack.dev.closeSync();
    expect(stack.dev.state).toBe('closed');
    expect(stack.leftovers()).toContain('1 pages lent to the guest');
    letGo();
    stack.run(5000);
    expect(stack.leftovers()).toEqual([]);
  });
});

it('a guest whose device is switched off loses nothing else', () => {
  const stack = connected({ front: { persistent: false } });
  const other = stack.page(0x77);
  const gref = stack.grants.grantForeignAccess({ peer: 0 as never, gfn: other, readonly: true });
  const done: number[] = [];
  stack.dev.device.onDone = (_cookie, status) => done.push(status);
  stack.disk.held = true;
  stack.dev.device.submit(OP.READ, 0, [stack.page()], 0, 8, 1);
  stack.run();
  // The ring's page is the backend's to write: a response producer index far ahead.
  const ring = [...stack.grants.liveEntries()].find((entry) => entry.gref === Number(stack.front('ring-ref')))!;
  const { views, offset } = stack.guest.memory.frame(ring.gfn!);
  views.u32[(offset >>> 2) + 2] = 0x1000;
  stack.dev.device.poll();
  expect(stack.dev.state).toBe('broken');
  expect(done).toEqual([ERRNO.EIO]);
  stack.disk.release();
  stack.run(5000);
  expect(stack.front('state')).toBe('6');
  expect(stack.bytes(other)[100]).toBe(0x77);
  expect(stack.grants.tryEndForeignAccess(gref)).toBe(true);
  stack.freePages();
  expect(stack.leftovers()).toEqual([]);
});
