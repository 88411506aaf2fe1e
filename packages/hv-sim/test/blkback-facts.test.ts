import { createEventBus } from '@paravirt/event-bus';
import { createGrantTable } from '@paravirt/gnttab';
import { BLKIF_OP } from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import {
  attachDisk,
  type Blkback,
  type BlkbackDeps,
  type BlkbackEvents,
  blkback,
  expectNoLeaks,
  HvError,
  memoryDisk,
} from '../src/index.ts';
import { machinePluginSuite } from '../src/testing.ts';
import { type Fixture, fixture, RawFront } from './blkback-fixture.ts';

const now = (f: Fixture): void => {
  f.machine.run({ untilTicks: f.machine.now });
};

describe('the facts of a backend', () => {
  it('tell the life of a device and of each request, in order', () => {
    const f = fixture({ disk: memoryDisk({ sizeBytes: 1 << 20 }) });
    const facts: unknown[] = [];
    const kinds = [
      'blkback:state',
      'blkback:connected',
      'blkback:requested',
      'blkback:completed',
      'blkback:refused',
      'blkback:disconnected',
    ] as const;
    for (const kind of kinds) f.bus.on(kind).subscribe((fact) => facts.push([kind.slice(8), fact]));
    const front = f.connect({ queues: 2, persistent: true });
    const id = { frontend: f.guest.id, device: 51712 };
    front.put(BLKIF_OP.WRITE, 8, [[front.grant(front.page()), 0, 7]], () => {}, 1);
    front.put(BLKIF_OP.READ, 1 << 20, [[front.grant(front.page()), 0, 7]], () => {}, 1);
    front.ring(1);
    now(f);
    front.setState(6);
    now(f);
    const request = { ...id, queue: 1, idLo: 1, idHi: 0, operation: BLKIF_OP.WRITE };
    expect(facts).toEqual([
      ['state', { ...id, state: 2, before: 1 }],
      ['connected', { ...id, queues: 2, ringPages: 1, protocol: 'x86_64', persistent: true }],
      ['state', { ...id, state: 4, before: 2 }],
      ['requested', { ...request, sector: 8, sectors: 8, segments: 1 }],
      ['completed', { ...request, status: 0, reason: '' }],
      ['completed', { ...id, queue: 1, idLo: 2, idHi: 0, operation: BLKIF_OP.READ, status: -1, reason: 'beyond the end' }],
      ['disconnected', id],
      ['state', { ...id, state: 6, before: 4 }],
    ]);
  });

  it('cost nothing to leave out: nobody listens, nothing is emitted', () => {
    const bus = createEventBus<BlkbackEvents>();
    let emitted = 0;
    const counting = new Proxy(bus, {
      get(target, key) {
        if (key === 'emit') emitted++;
        const value = Reflect.get(target, key);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const f = fixture({ noAttach: true });
    f.dom0.detachAll();
    const { store, events, addresses, addressSpace: memory, scheduler } = f.dom0;
    const grants = f.host.grants;
    const api = f.dom0.use(blkback(), { bus: counting, store, events, grants, addresses, memory, scheduler });
    now(f);
    expect(api.devices()).toEqual([]);
    expect(emitted).toBe(0);
  });

  it('stand in the counters, of a device and of all that ever were', () => {
    const f = fixture();
    const front = f.connect();
    const gref = front.grant(front.page());
    for (let i = 0; i < 4; i++) front.put(BLKIF_OP.WRITE, i * 8, [[gref, 0, 7]]);
    front.put(99, 0);
    front.put(BLKIF_OP.READ, 0, []);
    front.ring();
    now(f);
    const expected = {
      requests: 6,
      writes: 4,
      segments: 4,
      bytesWritten: 16384,
      maps: 4,
      unmaps: 4,
      errors: 1,
      unsupported: 1,
      doorbellsIn: 2,
    };
    expect(f.device.counters).toMatchObject(expected);
    f.dom0.store.write(`${f.attached!.backendPath}/online`, '0');
    front.setState(6);
    now(f);
    expect(f.host.blkback.devices()).toEqual([]);
    expect(f.host.blkback.counters).toMatchObject(expected);
  });
});

describe('the plugin', () => {
  it('says what it lacks before it is attached', () => {
    const f = fixture({ noAttach: true });
    expect(() => f.dom0.use(blkback(), { bus: f.bus } as never)).toThrow(HvError);
    try {
      f.dom0.use(blkback(), { bus: f.bus } as never);
    } catch (error) {
      expect(error).toMatchObject({
        refusal: { code: 'missing-dependency', missing: ['store', 'events', 'grants', 'addresses', 'memory', 'scheduler'] },
      });
    }
  });

  it('detached, holds nothing, whatever was connected', () => {
    const f = fixture();
    const front = f.connect({ persistent: true, queues: 4, ringPages: 4 });
    front.put(BLKIF_OP.WRITE, 0, [[front.grant(front.page()), 0, 7]]);
    front.ring();
    now(f);
    f.dom0.detachAll();
    const dom0 = f.machine.ledger().domains.find(({ domid }) => domid === 0)!;
    expect([dom0.handles.length, dom0.ports.length, dom0.watches, dom0.transactions, dom0.timers]).toEqual([0, 0, 0, 0, 0]);
    front.release();
  });
});

machinePluginSuite<BlkbackDeps, Blkback>({ describe, it }, 'blkback', () => {
  return {
    plugin: blkback(),
    deps: (machine, dom0, guest) => {
      const { store, events, addresses, addressSpace: memory, scheduler, hypercalls } = dom0;
      const grants = createGrantTable({}, { hypercalls, scheduler });
      use = (used) => {
        attachDisk({ store, blkback: used }, { frontend: guest.id, disk: memoryDisk({ sizeBytes: 1 << 20 }), device: devices++ });
        machine.run({ untilTicks: machine.now });
      };
      return { bus: createEventBus<BlkbackEvents>(), store, events, addresses, memory, scheduler, grants };
    },
    use: (used) => use(used),
  };
});
let devices = 0;
let use: (api: Blkback) => void = () => {};

describe('connections made and unmade', () => {
  const seeds = process.env['PARAVIRT_FULL'] === undefined ? 25 : 500;
  it(`under ${seeds} schedules, with doorbells late, store conflicts and pages held, end where they should`, () => {
    for (let seed = 0; seed < seeds; seed++) {
      const f = fixture({
        machine: {
          seed,
          order: 'random',
          faults: [
            { kind: 'store-conflict', probability: 0.1 },
            { kind: 'doorbell-late', probability: 0.2, ticks: 3 },
            { kind: 'doorbell-doubled', probability: 0.1 },
            { kind: 'page-held', probability: 0.05, domid: 0 },
          ],
        },
      });
      f.machine.run({ untilTicks: f.machine.now + 20 });
      const random = f.machine.random('toggling');
      for (let round = 0; round < 4; round++) {
        const front = new RawFront(f.guest, f.attached!.frontendPath, { persistent: random.chance(0.5) });
        f.guest.store.write(`${front.path}/state`, '1');
        f.machine.run({ untilTicks: f.machine.now + random.below(30) });
        front.publish();
        f.machine.run({ untilTicks: f.machine.now + random.below(30) });
        if (f.device.state === 4) {
          front.put(BLKIF_OP.WRITE, 0, [[front.grant(front.page()), 0, 7]]);
          front.ring();
          f.machine.run({ untilTicks: f.machine.now + random.below(20) });
        }
        front.setState(6);
        f.machine.run();
        expect([2, 6]).toContain(f.device.state);
        expect(f.host.grants.usage().mapped).toBe(0);
        front.release();
        front.grants.close();
      }
      f.machine.destroyDomain(f.guest);
      f.machine.run();
      expect(f.host.blkback.devices()).toEqual([]);
      f.dom0.detachAll();
      f.machine.destroyDomain(f.dom0);
      expectNoLeaks(f.machine);
    }
  });
});
