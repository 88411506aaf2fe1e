import type { DomId } from '@paravirt/event-bus/contract';
import { gnttab } from '@paravirt/gnttab';
import { GTF } from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import { createMachine, expectNoLeaks, HvError } from '../src/index.ts';
import { DEVICE, HOST, pair, RO } from './support/pair.ts';

const machineOf = (options = {}) => createMachine({ seed: 1, ramBytes: 4 * 2 ** 20, ...options });

describe('a domain’s life', () => {
  it('holds its pages until the last mapping of them goes, and its number as long', () => {
    const { machine, granter, mapper, grant, map, unmap } = pair({ createMachine });
    const told: string[] = [];
    for (const type of ['hv:destroyed', 'hv:gone'] as const) machine.bus.on(type).subscribe(({ domid }) => told.push(`${type} ${domid}`));
    granter.memory.write(5 * 4096, new Uint8Array([55]));
    grant(8, 5);
    grant(9, 5);
    const first = map(8, HOST, 100);
    const second = map(9, DEVICE | RO, 0);
    const free = machine.freeFrames;
    machine.destroyDomain(granter);
    expect([granter.state, machine.freeFrames - free]).toEqual(['dying', 32 + 4 - 1]);
    const byte = new Uint8Array(1);
    mapper.addressSpace.read(100 * 4096, byte);
    expect(byte[0]).toBe(55);
    // Its references that nobody has mapped lead nowhere now.
    expect(map(0, HOST | RO, 101).status).toBe(-1);
    expect(() => machine.createDomain({ id: granter.id })).toThrow(/domid-taken/);
    expect(unmap(first.handle, 100)).toBe(0);
    expect(granter.state).toBe('dying');
    expect(unmap(second.handle, 0, second.mfn)).toBe(0);
    expect(granter.state).toBe('gone');
    expect(told).toEqual([`hv:destroyed ${granter.id}`, `hv:gone ${granter.id}`]);
    expect(map(8, HOST, 101).status).toBe(-2);
    expect(machine.createDomain({ id: granter.id, pages: 4 }).id).toBe(granter.id);
    expect(machine.ledger().errors).toEqual([]);
  });

  it('lets go of others’ pages when it dies, wherever it had them', () => {
    const { machine, mapper, grant, map, inUse } = pair({ createMachine });
    for (const ref of [8, 9, 10]) grant(ref, 5);
    map(8, HOST, 100);
    map(9, HOST | DEVICE | RO, 2 ** 30);
    map(10, DEVICE, 0);
    machine.destroyDomain(mapper);
    expect(mapper.state).toBe('gone');
    expect([inUse(8), inUse(9), inUse(10)]).toEqual([0, 0, 0]);
    expect(machine.ledger().errors).toEqual([]);
  });

  it('can be destroyed while two map each other’s pages', () => {
    const machine = machineOf();
    const free = machine.freeFrames;
    const domains = [1, 2].map(() => machine.createDomain({ pages: 8 }));
    for (const [at, domain] of domains.entries()) {
      const other = domains[1 - at]!;
      const table: { views: { u8: Uint8Array; u16: Uint16Array; u32: Uint32Array }; offset: number }[] = [];
      domain.hypercalls.setupTable(1, table);
      table[0]!.views.u32.set([(other.id << 16) | GTF.permit_access, 3], table[0]!.offset / 4 + 16);
    }
    for (const [at, domain] of domains.entries()) {
      const op = { vfn: 50, flags: HOST, ref: 8, domid: domains[1 - at]!.id, status: 77, handle: -1, mfn: -1 };
      domain.hypercalls.map([op], 1);
      expect(op.status).toBe(0);
    }
    machine.destroyDomain(domains[0]!);
    expect(domains[0]!.state).toBe('dying');
    machine.destroyDomain(domains[1]!);
    expect(domains.map((domain) => domain.state)).toEqual(['gone', 'gone']);
    expect(machine.freeFrames).toBe(free);
  });

  it('ends its timers, its posted work and its ports with it, and refuses everything afterwards', () => {
    const machine = machineOf();
    const dom0 = machine.createDomain({ id: 0, pages: 8 });
    const guest = machine.createDomain({ pages: 8 });
    const ran: string[] = [];
    guest.scheduler.schedule(() => ran.push('timer'), 10);
    guest.post(() => ran.push('work'));
    const port = guest.events.allocUnbound(dom0.id);
    const far = dom0.events.bindInterdomain(guest.id, port);
    guest.store.watch('data', () => ran.push('watch'));
    machine.destroyDomain(guest);
    machine.run();
    expect(ran).toEqual([]);
    expect(dom0.events.status(far)).toEqual({ status: 'unbound', remote: guest.id });
    const dead = expect.objectContaining({ refusal: expect.objectContaining({ code: 'dead-domain', domid: guest.id }) });
    expect(() => guest.post(() => {})).toThrow(dead);
    expect(() => guest.waitFor(() => true)).toThrow(dead);
    expect(() => guest.hypercall(20, 0)).toThrow(dead);
    expect(guest.hypercalls.map([], 0)).toBe(-3);
    expect(guest.hypercalls.setVersion(2)).toBe(-3);
    expect(() => guest.events.send(port)).toThrow(/./);
    expect(() => guest.store.read('name')).toThrow(/./);
    expect(guest.scheduler.schedule(() => ran.push('late')).closed).toBe(true);
    machine.destroyDomain(guest);
    expect(machine.store.export()).not.toContain(`/local/domain/${guest.id}`);
  });

  it('can be destroyed from inside its own handler, and by another’s', () => {
    const machine = machineOf();
    const dom0 = machine.createDomain({ id: 0, pages: 8 });
    const guests = [1, 2].map(() => machine.createDomain({ pages: 8 }));
    const ran: number[] = [];
    for (const guest of guests) {
      const port = guest.events.allocUnbound(dom0.id);
      const second = guest.events.allocUnbound(dom0.id);
      const [far, other] = [port, second].map((near) => dom0.events.bindInterdomain(guest.id, near));
      guest.events.onUpcall(port, () => {
        ran.push(guest.id);
        for (const victim of guests) machine.destroyDomain(victim);
      });
      guest.events.onUpcall(second, () => ran.push(-guest.id));
      dom0.events.send(far!);
      dom0.events.send(other!);
    }
    machine.run();
    expect(ran).toEqual([1]);
    expect(guests.map((guest) => guest.state)).toEqual(['gone', 'gone']);
    expect(machine.ledger().errors).toEqual([]);
  });

  it('costs nobody but itself when it lies in its rings', () => {
    const machine = machineOf();
    const said: string[] = [];
    machine.bus.on('hv:console').subscribe(({ text }) => said.push(text));
    const liar = machine.createDomain({ pages: 8 });
    const honest = machine.createDomain({ pages: 8 });
    const frame = liar.memory.frame(liar.memory.specialGfn + 3);
    frame.views.u32[(frame.offset + 3084) / 4] = 0x8000_0000;
    liar.events.send(liar.consolePort as never);
    const store = liar.memory.frame(liar.memory.specialGfn + 2);
    store.views.u32[(store.offset + 2052) / 4] = 0x7fff_ffff;
    liar.events.send(liar.storePort as never);
    machine.run();
    expect(said).toEqual([]);
    expect(honest.store.read('name')).toBe(honest.name);
    // Nor when it takes its boot pages out of its memory.
    for (const slot of [0, 1, 2, 3]) if (liar.memory.slots.slot(slot) !== null) liar.memory.slots.deleteSlot(slot);
    liar.events.send(liar.consolePort as never);
    expect(liar.hypercall(18, 0, 4, 0)).toBe(-14);
    expect(liar.hypercalls.setupTable(3, [])).toBe(0);
    liar.memory.slots.createSlot({ id: 9, baseGfn: 0, pages: 2 ** 20, userspaceAddr: 0 });
    expect(() => liar.memory.frame(2 ** 19)).toThrow(/bad-gfn/);
    machine.run();
    liar.events.close(liar.storePort as never);
    machine.destroyDomain(liar);
    machine.run();
    expect(machine.ledger().errors).toEqual([]);
  });

  it('does nothing while it is paused, and everything in order afterwards', () => {
    const machine = machineOf();
    const guest = machine.createDomain({ pages: 8 });
    const ran: string[] = [];
    guest.post(() => ran.push('first'));
    machine.pause(guest);
    machine.pause(guest);
    guest.scheduler.schedule(() => ran.push('timer'), 5);
    guest.post(() => ran.push('second'));
    machine.run();
    expect([ran, guest.state, machine.now]).toEqual([[], 'paused', 5]);
    machine.unpause(guest);
    machine.run();
    expect(ran).toEqual([]);
    machine.unpause(guest);
    machine.run();
    expect([ran, guest.state]).toEqual([['first', 'second', 'timer'], 'running']);
    expect(() => machine.unpause(guest)).toThrow(/bad-state/);
  });

  it('finds its home in the store, with its rings’ ports', () => {
    const machine = machineOf();
    const guest = machine.createDomain({ pages: 8, name: 'web' });
    expect(guest.store.read('name')).toBe('web');
    expect(Number(guest.store.read('store/port'))).toBe(guest.storePort);
    guest.store.write('data/mine', '1');
    expect(() => guest.store.write('name', 'other')).toThrow(/EACCES/);
    expect(guest.events.status(guest.storePort as never).status).toBe('interdomain');
  });
});

describe('a capability', () => {
  it('leads to nothing of another domain’s', () => {
    const machine = machineOf();
    const secret = machine.createDomain({ pages: 8 });
    const domain = machine.createDomain({ pages: 8 });
    secret.memory.write(0, new Uint8Array([42]));
    const mfn = secret.memory.mfnOf(0, false);
    expect(domain.addressSpace.map(10, mfn, 1, { writable: false, executable: false })).toBe(false);
    expect(() => domain.heap.free(mfn)).toThrow(HvError);
    const op = {
      source: { isRef: false, frameOrRef: 0, domid: secret.id, offset: 0 },
      dest: { isRef: false, frameOrRef: 0, domid: domain.id, offset: 0 },
      bytes: 1,
      status: 77,
    };
    domain.hypercalls.copy([op], 1);
    expect(op.status).toBe(-8);
    const port = secret.events.allocUnbound(secret.id);
    expect(() => domain.events.bindInterdomain(secret.id, port)).toThrow(/EINVAL/);
    expect(() => domain.store.write(`/local/domain/${secret.id}/data/x`, '1')).toThrow(/EACCES/);
    // No method of what it is handed takes a frame of anybody's, and no field leads to the machine.
    const reach = (value: unknown, depth: number, names: Set<string>): Set<string> => {
      if (depth === 0 || value === null || (typeof value !== 'object' && typeof value !== 'function') || ArrayBuffer.isView(value))
        return names;
      for (let at: object | null = value as object; at !== null && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
        for (const key of Object.getOwnPropertyNames(at)) names.add(key);
      }
      for (const inner of Object.values(value as object)) reach(inner, depth - 1, names);
      return names;
    };
    const names = reach({ memory: domain.memory, space: domain.addressSpace, calls: domain.hypercalls, pages: domain.pages }, 4, new Set());
    for (const name of ['place', 'mapGrant', 'unmapGrant', 'destroy', 'world', 'parties', 'frames_'])
      expect(names.has(name), name).toBe(false);
  });
});

describe('plugins', () => {
  const simple = (name: string, log: string[], requires: readonly string[] = []) => ({
    name,
    requires: requires as never[],
    attach: () => {
      log.push(`+${name}`);
      return { api: { name }, detach: () => log.push(`-${name}`) };
    },
  });

  it('are told apart by what they lack, before anything is attached', () => {
    const machine = machineOf();
    const log: string[] = [];
    expect(() => machine.use(simple('needy', log, ['bus', 'grants', 'pages']) as never, { bus: {} } as never)).toThrow(
      /plugin needy lacks grants, pages/,
    );
    expect(log).toEqual([]);
  });

  it('are detached in reverse order, a domain’s own when it is shut down, and not at all when it crashes', () => {
    const machine = machineOf();
    const log: string[] = [];
    const a = machine.createDomain({ pages: 8 });
    const b = machine.createDomain({ pages: 8 });
    machine.use(simple('one', log), {});
    const two = machine.use(simple('two', log), {});
    a.use(simple('a1', log), {});
    a.use(simple('a2', log), {});
    b.use(simple('b1', log), {});
    machine.use(simple('three', log), {});
    expect(machine.release(two)).toBe(true);
    expect(machine.release(two)).toBe(false);
    machine.shutdown(a);
    machine.destroyDomain(b);
    machine.close();
    expect(log).toEqual(['+one', '+two', '+a1', '+a2', '+b1', '+three', '-two', '-a2', '-a1', '-three', '-one']);
  });

  it('are all taken off although one of them throws', () => {
    const machine = machineOf();
    const log: string[] = [];
    machine.use(simple('one', log), {});
    machine.use(
      {
        name: 'bad',
        requires: [],
        attach: () => ({
          api: {},
          detach: () => {
            throw new Error('stuck');
          },
        }),
      },
      {},
    );
    const guest = machine.createDomain({ pages: 8 });
    expect(() => machine.close()).toThrow('stuck');
    expect(guest.state).toBe('gone');
    expect(log).toEqual(['+one', '-one']);
  });
});

describe('the ledger', () => {
  it('names what is left over, by owner', () => {
    const machine = machineOf();
    const dom0 = machine.createDomain({ id: 0, pages: 64 });
    const guest = machine.createDomain({ pages: 64 });
    expectNoLeaks(machine);
    const grants = guest.use(gnttab(), { hypercalls: guest.hypercalls, scheduler: guest.scheduler });
    const gfn = guest.pages.alloc()!;
    const gref = grants.grantForeignAccess({ peer: 0 as DomId, gfn, readonly: false });
    const vfn = dom0.addresses.alloc(1);
    const op = { vfn, flags: HOST, ref: gref, domid: guest.id, status: 77, handle: -1, mfn: -1 };
    dom0.hypercalls.map([op], 1);
    const port = guest.events.allocUnbound(dom0.id);
    const watch = guest.store.watch('data', () => {});
    const timer = guest.scheduler.schedule(() => {}, 1000);
    const transaction = guest.store.begin();
    const mfn = dom0.heap.alloc();
    dom0.pageUse.use(vfn);
    machine.run({ untilTicks: 1 });
    let leaks: readonly string[] = [];
    try {
      machine.expectNoLeaks();
    } catch (error) {
      leaks = (error as HvError).refusal.code === 'leak' ? ((error as HvError).refusal as { leaks: readonly string[] }).leaks : [];
    }
    expect(leaks).toEqual([
      `domain 0 (running): 1 handles held: ${op.handle} (reference ${gref} of domain 1 at page ${vfn})`,
      'domain 0 (running): 1 frames of its heap',
      `domain 0 (running): 1 pages in use: ${vfn}`,
      `domain 1 (running): 1 references granted: ${gref}`,
      `domain 1 (running): 1 references pinned by others: ${gref}`,
      `domain 1 (running): 1 pages lent out: ${gfn}`,
      `domain 1 (running): 1 ports open: ${port}`,
      'domain 1 (running): 1 watches',
      'domain 1 (running): 1 store transactions open',
      'domain 1 (running): 1 timers set',
      'domain 1 (running): plugins attached: gnttab',
    ]);
    dom0.pageUse.unuse(vfn);
    dom0.heap.free(mfn);
    dom0.hypercalls.unmap([{ vfn, handle: op.handle, status: 77 }], 1);
    dom0.addresses.free(vfn);
    grants.endForeignAccess(gref);
    guest.pages.free(gfn);
    guest.events.close(port);
    watch.unsubscribe();
    timer.unsubscribe();
    guest.store.abort(transaction);
    guest.detachAll();
    expectNoLeaks(machine);
  });

  it('counts a page that a grant still holds as lent until the grant has ended', () => {
    const machine = machineOf();
    const guest = machine.createDomain({ pages: 4 });
    const gfn = guest.pages.alloc()!;
    guest.pageUse.hold(gfn);
    guest.pages.free(gfn);
    const others = [guest.pages.alloc(), guest.pages.alloc(), guest.pages.alloc(), guest.pages.alloc()];
    expect(others).not.toContain(gfn);
    expect(others[3]).toBeUndefined();
    guest.pageUse.release(gfn);
    expect(guest.pages.alloc()).toBe(gfn);
    // A grant that ends with its page gives the page back, as the one who took it would.
    guest.pageUse.release(gfn);
    expect(() => guest.pages.free(gfn)).toThrow(/a page that alloc gave/);
    expect(guest.pages.alloc()).toBe(gfn);
    expect(() => guest.pages.free(99 as never)).toThrow(/gfn is 99/);
  });
});
