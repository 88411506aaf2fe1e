import { describe, expect, it } from 'vitest';
import { BlockDevice } from '../src/index.ts';
import { Loopback, type LoopbackOptions, World } from '../src/testing.ts';
import { connected, noLeaks, pair, settled } from './fixture.ts';

/** What the frontend wrote, transaction by transaction. */
function written(world: World): string[][] {
  const groups = new Map<number, string[]>();
  for (const { by, path, value, transaction } of world.store.log) {
    if (by !== world.guestId) continue;
    const key = path.replace('/local/domain/6/device/vbd/51712/', '');
    groups.set(transaction, [...(groups.get(transaction) ?? []), `${key}=${value ?? '-'}`]);
  }
  return [...groups.values()];
}

describe('the handshake', () => {
  it('writes what a real guest writes, in the same transactions, when it attaches and when it is detached', () => {
    // A live Linux 6.1 guest on Xen 4.17, traced in the store: no 2 and no 5 on the frontend side, each state in its own transaction.
    const { world, back } = connected({}, { maxQueues: 1, maxRingOrder: 4, indirect: 256, persistent: true, flush: true });
    back.detach();
    world.time.settle();
    const writes = written(world);
    const port = writes[0]![1];
    expect(writes.slice(0, 4)).toEqual([
      ['ring-ref=8', port, 'protocol=x86_64-abi', 'feature-persistent=1'],
      ['state=3'],
      ['state=4'],
      ['state=6'],
    ]);
    expect(port).toMatch(/^event-channel=\d+$/);
  });

  it('names every ring page and every queue, and nothing at the top, when there are several', () => {
    const { world, dev } = connected(
      { queues: 2, ringPages: 2, persistent: false, protocol: 'x86_32-abi' },
      { maxQueues: 4, maxRingOrder: 4 },
    );
    expect(dev.info).toMatchObject({ queues: 2, ringPages: 2, slots: 64 });
    expect(written(world)[0]!.map((line) => line.replace(/=\d+$/, '=N'))).toEqual([
      'ring-page-order=N',
      'multi-queue-num-queues=N',
      'queue-0/ring-ref0=N',
      'queue-0/ring-ref1=N',
      'queue-0/event-channel=N',
      'queue-1/ring-ref0=N',
      'queue-1/ring-ref1=N',
      'queue-1/event-channel=N',
      'protocol=x86_32-abi',
      'feature-persistent=N',
    ]);
  });

  it('begins again when another changed what its transaction touched', () => {
    const { world, dev, run } = pair();
    world.store.conflicts = 7;
    dev.device.start();
    run();
    expect(dev.state).toBe('connected');
    expect(world.store.openTransactions).toBe(0);
  });

  it('gives up, with everything given back, on a store that never commits', async () => {
    const { world, dev } = pair();
    world.store.conflicts = Number.POSITIVE_INFINITY;
    await expect(settled(world, dev.connect())).rejects.toMatchObject({ refusal: { code: 'gone' } });
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('waits for a backend that learns of its disk seconds later', () => {
    const world = new World();
    const dev = new BlockDevice({ device: 51712 }, world.surroundings);
    const back = new Loopback(world);
    dev.device.start();
    world.time.settle();
    expect(dev.state).toBe('initialising');
    world.time.schedule(() => void back.start(), 7000);
    world.time.run();
    expect(dev.state).toBe('connected');
  });

  it('takes a backend that goes to Initialised without waiting', () => {
    const world = new World();
    const dev = new BlockDevice({ device: 51712 }, world.surroundings);
    const back = new Loopback(world).start();
    world.time.settle();
    back.say(3);
    dev.device.start();
    world.time.settle();
    expect(dev.state).toBe('initialised');
  });

  it('makes a backend that still serves an older connection let go first', () => {
    const { world, back, dev } = connected();
    // The frontend's domain starts anew without a word: the store still says Connected on both sides.
    const reborn = new BlockDevice({ device: 51712 }, world.surroundings);
    dev.device.destroy();
    back.say(4);
    reborn.device.start();
    world.time.settle();
    expect(reborn.state).toBe('connected');
    expect(back.queues.length).toBe(1);
  });

  it('refuses a folder that names no backend, and changes nothing', async () => {
    const { world, dev } = pair();
    const before = world.store.log.length;
    world.store.nodes.set('/local/domain/6/device/vbd/51712/backend-id', '99999');
    expect(() => dev.device.start()).toThrow(expect.objectContaining({ refusal: expect.objectContaining({ code: 'bad-store' }) }));
    world.store.nodes.set('/local/domain/6/device/vbd/51712/backend-id', '0');
    world.store.nodes.delete('/local/domain/6/device/vbd/51712/backend');
    await expect(dev.connect()).rejects.toMatchObject({ refusal: { code: 'bad-store' } });
    expect(dev.state).toBe('closed');
    expect(world.store.log.length).toBe(before);
  });

  it('refuses a backend path that no store can hold, by name, and is as it was', () => {
    for (const backend of ['', '/', 'relative', '/local/domain/0/back end', '/a//b', '/a/', `/${'a'.repeat(2048)}`, '/a\n']) {
      const { world, back, dev } = pair();
      const written = world.store.log.length;
      const path = 'device/vbd/51712/backend';
      world.store.nodes.set(`/local/domain/6/${path}`, backend);
      const refusal = { code: 'bad-store', path, value: backend, allowed: expect.stringContaining('store path') };
      expect(() => dev.device.start()).toThrow(expect.objectContaining({ refusal }));
      expect([dev.state, world.store.log.length]).toEqual(['closed', written]);
      expect(world.leaks()).toEqual(noLeaks);
      world.store.nodes.set(`/local/domain/6/${path}`, back.path);
      dev.connectSync();
      expect(dev.state).toBe('connected');
    }
  });

  const lies: [string, Record<string, string>, string][] = [
    ['no sectors', { sectors: '' }, 'broken'],
    ['sectors that are no number', { sectors: 'many' }, 'broken'],
    ['negative sectors', { sectors: '-1' }, 'broken'],
    ['sectors beyond 2^53', { sectors: '99999999999999999999' }, 'broken'],
    ['a sector size of 0', { 'sector-size': '0' }, 'broken'],
    ['a sector size of 513', { 'sector-size': '513' }, 'broken'],
    ['a sector size of a megabyte', { 'sector-size': '1048576' }, 'broken'],
  ];
  for (const [what, keys, state] of lies) {
    it(`switches the device off for ${what}`, () => {
      const { world, back, dev, run } = pair();
      const set = back.set.bind(back);
      back.set = (key, value) => set(key, keys[key] ?? value);
      dev.device.start();
      run();
      expect(dev.state).toBe(state);
      expect(world.store.nodes.get('/local/domain/6/error/device/vbd/51712/error')).toContain(Object.keys(keys)[0]);
      expect(world.leaks()).toEqual(noLeaks);
    });
  }

  it('takes optional keys that no honest backend writes for absent', () => {
    const { back, dev, run } = pair({ queues: 4, ringPages: 16, maxSegments: 256 }, { maxQueues: 4, discard: true, flush: true });
    const lie: Record<string, string> = {
      'feature-flush-cache': 'yes',
      'feature-persistent': '0x1',
      'discard-granularity': '77',
      'discard-alignment': '-5',
      info: 'banana',
    };
    const set = back.set.bind(back);
    back.set = (key, value) => set(key, lie[key] ?? value);
    back.set('max-ring-page-order', '4000000000');
    back.set('multi-queue-max-queues', '0');
    back.set('feature-max-indirect-segments', '1e9');
    back.set('feature-persistent', 1);
    dev.device.start();
    run();
    expect(dev.info).toMatchObject({
      ringPages: 16,
      queues: 1,
      maxSegments: 11,
      persistent: false,
      flush: 'none',
      readonly: false,
      discard: true,
      discardGranularity: 512,
      discardAlignment: 0,
    });
  });

  it('bounces for a backend whose trust is in doubt', () => {
    for (const [value, trusted] of [
      ['0', false],
      ['1', true],
      ['maybe', false],
      [undefined, true],
    ] as const) {
      const { world, dev, run } = pair();
      const path = '/local/domain/6/device/vbd/51712/trusted';
      if (value === undefined) world.store.nodes.delete(path);
      else world.store.nodes.set(path, value);
      dev.device.start();
      run();
      expect(dev.info?.trusted).toBe(trusted);
    }
  });

  const kinds: [string, LoopbackOptions, object][] = [
    ['read-only', { info: 4 }, { readonly: true, removable: false, cdrom: false }],
    ['a CD-ROM', { info: 1 | 2 | 4 }, { readonly: true, removable: true, cdrom: true }],
    ['with large sectors', { sectorBytes: 4096, sectors: 2051 }, { sectorBytes: 4096, physicalSectorBytes: 4096, sectors: 2048 }],
  ];
  for (const [what, options, info] of kinds) {
    it(`knows a disk that is ${what}`, () => expect(connected({}, options).dev.info).toMatchObject(info));
  }

  it('tells of states on the bus and as a stream, once each', async () => {
    const { world, dev } = pair();
    const seen: string[] = [];
    dev.states.subscribe((state) => seen.push(state));
    await settled(world, dev.connect());
    await settled(world, dev.close());
    expect(seen).toEqual(['closed', 'initialising', 'initialised', 'connected', 'closing', 'closed']);
  });
});
