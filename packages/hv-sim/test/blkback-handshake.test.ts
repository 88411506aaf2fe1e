import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { createEventBus } from '@paravirt/event-bus';
import { createGrantTable } from '@paravirt/gnttab';
import { BLKIF_OP } from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import {
  attachDisk,
  BlkbackError,
  type BlkbackOptions,
  blkback,
  createMachine,
  detachDisk,
  deviceName,
  expectNoLeaks,
  memoryDisk,
  serveDisks,
} from '../src/index.ts';
import type { StoreConnection } from '../src/store/types.ts';
import { type Facts, type Fixture, fixture, RawFront, statusOf } from './blkback-fixture.ts';

const now = (f: { machine: Fixture['machine'] }): void => {
  f.machine.run({ untilTicks: f.machine.now });
};

interface StoreEvent {
  readonly by: string;
  readonly op: string;
  readonly path: string;
  readonly value?: string;
  readonly perms?: readonly string[];
  readonly inTransaction: boolean;
  readonly part: string;
}

const lines = gunzipSync(readFileSync(new URL('./recordings/vbd-handshake.lines.gz', import.meta.url)))
  .toString()
  .trim()
  .split('\n');
const recorded: StoreEvent[] = lines.slice(1).map((line) => JSON.parse(line));

/** A store connection that notes every write in the order and with the transaction it was made in. */
function noting(store: StoreConnection, by: string, home: string, events: Omit<StoreEvent, 'part'>[]): StoreConnection {
  const absolute = (path: string): string => (path.startsWith('/') ? path : `${home}/${path}`);
  const note = (op: string, path: string, more: object, transaction: unknown): void => {
    if (path.includes('vbd')) events.push({ by, op, path: absolute(path), ...more, inTransaction: transaction !== undefined });
  };
  return new Proxy(store, {
    get(target, key) {
      const value = Reflect.get(target, key);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        const [path, second, third] = args as [string, unknown, unknown];
        if (key === 'write') note('WRITE', path, { value: second }, third);
        if (key === 'mkdir') note('MKDIR', path, {}, second);
        if (key === 'remove') note('RM', path, {}, second);
        if (key === 'setPermissions') {
          const letters = { none: 'n', read: 'r', write: 'w', both: 'b' };
          const perms = (second as { domid: number; access: keyof typeof letters }[]).map(
            ({ domid, access }) => `${letters[access]}${domid}`,
          );
          note('SET_PERMS', path, { perms }, third);
        }
        return value.apply(target, args);
      };
    },
  });
}

describe('the store, compared with a real host', () => {
  it('gets the same keys and values in the same order and transactions, from toolstack, script and backend, at attach and detach', () => {
    const machine = createMachine({ seed: 1 });
    const dom0 = machine.createDomain({ id: 0, pages: 64 });
    const guest = machine.createDomain({ id: 6, pages: 64 });
    const events: Omit<StoreEvent, 'part'>[] = [];
    const home = '/local/domain/0';
    const { addressSpace: memory, addresses, scheduler, hypercalls } = dom0;
    const grants = createGrantTable({}, { hypercalls, scheduler });
    const store = noting(dom0.store, 'backend', home, events);
    const bus = createEventBus<Facts>();
    const api = dom0.use(blkback({ queuesMax: 1 }), { bus, store, events: dom0.events, grants, addresses, memory, scheduler });
    const tools = { store: noting(machine.store.connect(0 as never), 'toolstack', home, events), blkback: api };
    const attached = attachDisk(tools, {
      frontend: 6,
      disk: memoryDisk({ sizeBytes: 16 << 20 }),
      protocol: 'x86_64-abi',
    });
    now({ machine });
    const front = new RawFront(guest, 'device/vbd/51712', { persistent: true });
    front.publish();
    now({ machine });
    front.setState(4);
    now({ machine });
    // Memory has no discard of a fixed granule that a loop device has; everything else is the host's to the letter.
    const ours = (part: string, list: readonly Omit<StoreEvent, 'part'>[]): unknown[] =>
      list
        .filter(({ by }) => by !== 'frontend')
        .map(({ by, op, path, value, perms, inTransaction }) => {
          const masked = path.endsWith('discard-secure') ? 'masked' : value;
          return { part, by: by === 'hotplug-script' ? 'toolstack' : by, op, path, value: masked, perms, inTransaction };
        });
    const theirs = (part: string): unknown[] =>
      ours(
        part,
        recorded.filter((event) => event.part === part),
      );
    expect(ours('boot', events)).toEqual(theirs('boot'));
    events.length = 0;
    let gone = false;
    detachDisk(tools, attached, () => {
      gone = true;
    });
    now({ machine });
    front.setState(6);
    now({ machine });
    expect(gone).toBe(true);
    const upTo = theirs('detach').length;
    expect(ours('detach', events).slice(0, upTo)).toEqual(theirs('detach'));
  });
});

describe('what the backend offers', () => {
  it('stands in the store before it waits, with the limits it was given', () => {
    const f = fixture({ blkback: { queuesMax: 7, ringPageOrderMax: 2, indirectSegmentsMax: 64 } });
    now(f);
    expect(f.device.state).toBe(2);
    expect([
      f.back('state'),
      f.back('multi-queue-max-queues'),
      f.back('max-ring-page-order'),
      f.back('feature-max-indirect-segments'),
    ]).toEqual(['2', '7', '2', '64']);
  });

  it('is refused by name when an option makes no sense', () => {
    const bad: [BlkbackOptions, string][] = [
      [{ queuesMax: 0 }, 'queuesMax'],
      [{ ringPageOrderMax: 5 }, 'ringPageOrderMax'],
      [{ indirectSegmentsMax: 5 }, 'indirectSegmentsMax'],
      [{ persistentMax: 0 }, 'persistentMax'],
      [{ persistentIdleTicks: -1 }, 'persistentIdleTicks'],
      [{ mappedPagesMax: 10 }, 'mappedPagesMax'],
      [{ turnCost: 0 }, 'turnCost'],
      [{ protocolDefault: 'arm' as never }, 'protocolDefault'],
    ];
    for (const [options, option] of bad) {
      expect(() => blkback(options)).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ code: 'bad-option', option }) }));
    }
  });
});

describe('a connection', () => {
  const shapes = [
    { queues: 1, ringPages: 1, abi: 'x86_64' },
    { queues: 4, ringPages: 16, abi: 'x86_64' },
    { queues: 2, ringPages: 2, abi: 'x86_32' },
    { queues: 1, ringPages: 16, abi: 'x86_32' },
  ] as const;
  for (const shape of shapes) {
    it(`of ${shape.queues} queues with ${shape.ringPages} ring pages speaks ${shape.abi}`, () => {
      const f = fixture();
      const front = f.connect(shape);
      expect(f.device).toMatchObject({ state: 4, queues: shape.queues, ringPages: shape.ringPages, protocol: shape.abi });
      const gref = front.grant(front.page(1));
      for (let q = 0; q < shape.queues; q++) {
        const ids = Array.from({ length: front.queues[q]!.ring.entries }, (_, i) =>
          front.put(BLKIF_OP.WRITE, (q * 600 + i) * 8, [[gref, 0, 7]], () => {}, q),
        );
        front.ring(q);
        f.machine.run();
        const answers = front.answers(q);
        expect(ids.every((id) => statusOf(answers, id) === 0)).toBe(true);
      }
    });
  }

  it('takes an absent protocol for x86_32, as Linux does, and for x86_64 where told so', () => {
    const wrong = fixture();
    wrong.connect({ protocol: null, abi: 'x86_32' });
    expect(wrong.device.protocol).toBe('x86_32');
    const right = fixture({ blkback: { protocolDefault: 'x86_64' } });
    right.connect({ protocol: null });
    expect(right.device.protocol).toBe('x86_64');
  });

  it('reads arm-abi as the layout it is', () => {
    const f = fixture();
    f.connect({ protocol: 'arm-abi' });
    expect(f.device.protocol).toBe('x86_64');
  });

  it('is made when the frontend goes straight to Connected', () => {
    const f = fixture();
    now(f);
    const front = new RawFront(f.guest, f.attached!.frontendPath);
    front.publish(4);
    now(f);
    expect(f.device.state).toBe(4);
    front.put(BLKIF_OP.READ, 0, [[front.grant(front.page()), 0, 7]]);
    front.ring();
    now(f);
    expect(front.answers()).toHaveLength(1);
  });

  it('serves requests that were on the ring before it was made', () => {
    const f = fixture();
    now(f);
    const front = new RawFront(f.guest, f.attached!.frontendPath);
    front.publish(1);
    front.put(BLKIF_OP.READ, 0, [[front.grant(front.page()), 0, 7]]);
    front.queues[0]!.ring.push();
    front.setState(4);
    now(f);
    expect(front.answers()).toHaveLength(1);
  });

  it('waits for a disk that is named seconds after the frontend is ready', () => {
    const f = fixture({ attach: { hotplug: 'manual' } });
    now(f);
    const front = new RawFront(f.guest, f.attached!.frontendPath);
    front.publish();
    now(f);
    expect(f.device.state).toBe(2);
    expect(f.device.queues).toBe(1);
    f.machine.scheduler.schedule(() => f.attached!.plug(), 6_000);
    f.machine.run();
    expect(f.device.state).toBe(4);
    expect(f.attached!.plugged).toBe(true);
  });

  it('waits for a disk that its name does not lead to yet', () => {
    const f = fixture({ attach: { hotplug: 'manual' } });
    now(f);
    const front = new RawFront(f.guest, f.attached!.frontendPath);
    front.publish();
    f.dom0.store.write(`${f.attached!.backendPath}/physical-device`, 'fe:3');
    now(f);
    expect(f.device.disk).toBeUndefined();
    f.host.blkback.addDisk('fe:3', memoryDisk({ sizeBytes: 1 << 20 }));
    now(f);
    expect(f.device.state).toBe(4);
    expect(f.back('sectors')).toBe('2048');
  });

  it('says what the disk is: a CD-ROM that can be taken out', () => {
    const f = fixture({ attach: { deviceType: 'cdrom', removable: true, mode: 'r', trusted: false } });
    f.connect();
    expect(f.back('info')).toBe('7');
    expect(f.front('trusted')).toBe('0');
  });
});

describe('a connection is refused, with the reason in the store', () => {
  const cases: [string, (front: RawFront) => void, RegExp][] = [
    ['an unknown protocol', (front) => front.key('protocol', 'z80-abi'), /unknown fe protocol/],
    ['no queues', (front) => front.key('multi-queue-num-queues', '0'), /guest requested 0 queues/],
    ['too many queues', (front) => front.key('multi-queue-num-queues', '5'), /guest requested 5 queues, exceeding the maximum of 4/],
    ['a number of queues that is none', (front) => front.key('multi-queue-num-queues', 'many'), /guest requested many queues/],
    ['too large a ring', (front) => front.key('ring-page-order', '5'), /requested ring page order 5 exceed max:4/],
    ['no event channel', (front) => front.guest.store.remove(`${front.path}/event-channel`), /reading .*event-channel/],
    ['no ring', (front) => front.guest.store.remove(`${front.path}/ring-ref`), /reading .*ring-ref/],
    ['a ring that is text', (front) => front.key('ring-ref', '0x8'), /reading .*ring-ref/],
    ['a ring that is not granted', (front) => front.key('ring-ref', '400'), /mapping ring-ref port/],
    ['a ring number beyond 32 bits', (front) => front.key('ring-ref', '4294967296'), /reading .*ring-ref/],
    ['an event channel that is not there', (front) => front.key('event-channel', '900'), /mapping ring-ref port 900/],
    [
      'a ring whose indices are impossible',
      (front) => {
        front.queues[0]!.ring.shared.reqProd = 100;
      },
      /mapping ring-ref port/,
    ],
    ['a state that no frontend has', (front) => front.setState(7), /saw state 7 at frontend/],
  ];
  for (const [what, spoil, reason] of cases) {
    it(what, () => {
      const f = fixture();
      now(f);
      const front = new RawFront(f.guest, f.attached!.frontendPath);
      front.publish(1);
      spoil(front);
      if (!what.startsWith('a state')) front.setState(3);
      now(f);
      expect(f.dom0.store.read(`error/backend/vbd/${f.guest.id}/51712/error`)).toMatch(reason);
      expect(f.back('state')).toBe('5');
      expect(f.device.queues).toBe(0);
      expect(f.host.grants.usage().mapped).toBe(0);
    });
  }

  it('and may be tried again: what was refused once does not stick', () => {
    const f = fixture();
    now(f);
    const front = new RawFront(f.guest, f.attached!.frontendPath);
    front.publish(1);
    front.key('ring-ref', '400');
    front.setState(3);
    now(f);
    expect(f.device.state).toBe(5);
    front.setState(6);
    now(f);
    expect(f.device.state).toBe(6);
    front.key('ring-ref', front.queues[0]!.grefs[0]!);
    front.setState(1);
    now(f);
    expect(f.device.state).toBe(2);
    front.setState(3);
    now(f);
    expect(f.device.state).toBe(4);
  });
});

describe('closing', () => {
  it('follows a frontend through Closing and Closed, stays while online, and waits for it to come again', () => {
    const f = fixture();
    const front = f.connect();
    front.setState(5);
    now(f);
    expect(f.device.state).toBe(5);
    front.setState(6);
    now(f);
    expect(f.device.state).toBe(6);
    expect(f.device.queues).toBe(0);
    front.release();
    front.setState(1);
    now(f);
    expect(f.device.state).toBe(2);
    front.publish();
    now(f);
    expect(f.device.state).toBe(4);
    const id = front.put(BLKIF_OP.READ, 0, [[front.grant(front.page()), 0, 7]]);
    front.ring();
    now(f);
    expect(statusOf(front.answers(), id)).toBe(0);
  });

  it('answers Closed with Closed at once when it was taken offline, and lets the toolstack take the folders away', () => {
    const f = fixture();
    const front = f.connect();
    let done = false;
    const detaching = detachDisk(f.host, f.attached!, () => {
      done = true;
    });
    now(f);
    expect(f.back('state')).toBe('5');
    expect(done).toBe(false);
    front.setState(6);
    now(f);
    expect(done && detaching.done).toBe(true);
    expect(f.dom0.store.read(`/local/domain/${f.guest.id}/device/vbd/51712`)).toBeUndefined();
    expect(f.dom0.store.read(`/local/domain/0/backend/vbd`)).toBeUndefined();
    expect(f.host.blkback.devices()).toEqual([]);
    front.release();
    expect(f.host.grants.usage().mapped).toBe(0);
  });

  it('can be forced on a frontend that never answers', () => {
    const f = fixture();
    const front = f.connect();
    const detaching = detachDisk(f.host, f.attached!);
    now(f);
    expect(detaching.done).toBe(false);
    detaching.force();
    now(f);
    expect(f.host.blkback.devices()).toEqual([]);
    front.release();
  });

  it('of a domain that dies gives back everything', () => {
    const f = fixture();
    const front = f.connect({ persistent: true, queues: 2 });
    const gref = front.grant(front.page());
    front.put(BLKIF_OP.WRITE, 0, [[gref, 0, 7]]);
    front.ring();
    now(f);
    expect(f.device.persistentGrants).toBe(1);
    const free = f.machine.freeFrames;
    f.machine.destroyDomain(f.guest);
    now(f);
    expect(f.host.blkback.devices()).toEqual([]);
    expect(f.host.grants.usage().mapped).toBe(0);
    expect(f.machine.freeFrames).toBeGreaterThan(free + 1000);
  });

  it('by the plugin coming off closes every device, and the next life of the backend takes them over', () => {
    const f = fixture();
    const front = f.connect();
    f.dom0.detachAll();
    expect(f.back('state')).toBe('6');
    front.release();
    const host = serveDisks(f.dom0, { bus: f.bus });
    host.blkback.addDisk(f.attached!.physicalDevice, f.disk);
    front.setState(1);
    now(f);
    expect(f.back('state')).toBe('2');
    front.publish();
    now(f);
    expect(f.back('state')).toBe('4');
  });

  it('leaves what another life left where it was told not to adopt it', () => {
    const f = fixture();
    f.connect();
    f.dom0.detachAll();
    const host = serveDisks(f.dom0, { bus: f.bus, blkback: { adopt: false } });
    now(f);
    expect(host.blkback.devices()).toEqual([]);
    expect(f.back('state')).toBe('6');
  });
});

describe('a disk that grows', () => {
  it('is told to the frontend by its sectors and its state, in one transaction', () => {
    const disk = memoryDisk({ sizeBytes: 1 << 20 });
    const f = fixture({ disk });
    const front = f.connect();
    const facts: unknown[] = [];
    f.bus.on('blkback:resized').subscribe(({ before, sectors }) => facts.push([before, sectors]));
    let fired = 0;
    f.guest.store.watch(`${f.attached!.backendPath}/state`, () => fired++);
    now(f);
    disk.resize(2 << 20);
    now(f);
    expect(facts).toEqual([[2048, 4096]]);
    expect(f.back('sectors')).toBe('4096');
    expect(fired).toBe(2);
    const id = front.put(BLKIF_OP.READ, 4088, [[front.grant(front.page()), 0, 7]]);
    front.ring();
    now(f);
    expect(statusOf(front.answers(), id)).toBe(0);
    disk.resize(1 << 20);
    const beyond = front.put(BLKIF_OP.READ, 4088, [[front.grant(front.page()), 0, 7]]);
    front.ring();
    now(f);
    expect(statusOf(front.answers(), beyond)).toBe(-1);
  });
});

describe('the toolstack', () => {
  it('names devices as their numbers say', () => {
    expect([51712, 51713, 51728, 51952, 1 << 28, (1 << 28) | (26 << 8) | 3, 768].map(deviceName)).toEqual([
      'xvda',
      'xvda1',
      'xvdb',
      'xvdp',
      'xvda',
      'xvdaa3',
      'd768',
    ]);
  });

  it('refuses a number that is no device, and one that is taken', () => {
    const f = fixture();
    const again = () => attachDisk(f.host, { frontend: f.guest.id, disk: f.disk });
    expect(again).toThrow(expect.objectContaining({ refusal: { code: 'device-exists', frontend: f.guest.id, device: 51712 } }));
    for (const device of [-1, 0.5, 2 ** 29]) {
      expect(() => attachDisk(f.host, { frontend: f.guest.id, disk: f.disk, device })).toThrow(BlkbackError);
    }
    expect(() => f.host.blkback.addDisk('7:0', memoryDisk({ sizeBytes: 512 }))).toThrow(/7:0 has another disk/);
    expect(() => f.host.blkback.addDisk('sda', f.disk)).toThrow(/major:minor/);
  });

  it('serves several disks of several guests, device number 0 too', () => {
    const f = fixture();
    const other = f.machine.createDomain({ pages: 64 });
    const devices = [f.guest, other].flatMap((guest) => {
      const grants = createGrantTable({ owner: guest.id }, { hypercalls: guest.hypercalls, scheduler: guest.scheduler });
      return [0, 51712 + 16].map((device) => {
        const disk = memoryDisk({ sizeBytes: 1 << 20 });
        return { guest, grants, attached: attachDisk(f.host, { frontend: guest.id, disk, device }) };
      });
    });
    now(f);
    for (const { guest, grants, attached } of devices) {
      const front = new RawFront(guest, attached.frontendPath, {}, grants);
      front.publish();
      now(f);
      front.put(BLKIF_OP.WRITE, 0, [[front.grant(front.page(attached.device & 0xff)), 0, 7]]);
      front.ring();
      now(f);
      expect(front.answers()[0]!.status).toBe(0);
    }
    expect(f.host.blkback.devices()).toHaveLength(5);
    expect(f.host.blkback.counters.writes).toBe(4);
    f.machine.close();
    expectNoLeaks(f.machine);
  });
});

describe('in a driver domain', () => {
  it('the backend works with its own rights and its own folder', () => {
    const f = fixture({ noAttach: true });
    const driver = f.machine.createDomain({ pages: 128 });
    const host = serveDisks(driver, { toolstack: f.dom0 });
    f.dom0.store.mkdir(`/local/domain/${driver.id}/backend`);
    f.dom0.store.setPermissions(`/local/domain/${driver.id}/backend`, [{ domid: driver.id, access: 'none' }]);
    const attached = attachDisk(host, { frontend: f.guest.id, disk: memoryDisk({ sizeBytes: 1 << 20 }) });
    now(f);
    expect(host.blkback.device(f.guest.id, 51712)?.state).toBe(2);
    expect(attached.backendPath).toBe(`/local/domain/${driver.id}/backend/vbd/${f.guest.id}/51712`);
  });
});
