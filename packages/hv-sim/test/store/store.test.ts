import { createEventBus } from '@paravirt/event-bus';
import { domId } from '@paravirt/event-bus/contract';
import { recordBus } from '@paravirt/event-bus/testing';
import type { StoreConnection, StoreEvents, StoreLimits, StoreTransaction } from '@paravirt/hv-sim';
import { createStore, StoreError } from '@paravirt/hv-sim';
import { describe, expect, it } from 'vitest';

const DOM0 = domId(0);
const DOM1 = domId(1);

const DOM2 = domId(2);

function fixture(limits: Partial<StoreLimits> = {}) {
  const work: (() => void)[] = [];
  const bus = createEventBus<StoreEvents>();
  const store = createStore({ enqueue: (item) => work.push(item), limits, bus });
  const tools = store.connect(DOM0);
  const run = (): number => {
    let steps = 0;
    for (let item = work.shift(); item !== undefined; item = work.shift()) {
      item();
      steps += 1;
    }
    return steps;
  };
  const guest = (domid: typeof DOM1) => {
    tools.mkdir(`/local/domain/${domid}`);
    tools.setPermissions(`/local/domain/${domid}`, [{ domid, access: 'none' }]);
    store.introduce(domid);
    return store.connect(domid);
  };
  return { store, tools, work, run, guest, bus };
}

const refusal = (errno: string) => expect.objectContaining({ refusal: expect.objectContaining({ errno }) });

describe('the tree', () => {
  it('makes what is missing above a written node, and lists children in the order of their making', () => {
    const { tools, store } = fixture();
    tools.write('/a/b/c', 'x');
    tools.write('/a/z', '');
    tools.write('/a/y', '');
    expect(tools.read('/a')).toBe('');
    expect(tools.read('/a/b/c')).toBe('x');
    expect(tools.list('/a')).toEqual(['b', 'z', 'y']);
    expect(tools.read('/a/none')).toBeUndefined();
    expect(store.nodeCount).toBe(8);
  });

  it('keeps values byte for byte', () => {
    const { tools } = fixture();
    for (const value of ['', 'plain', 'späß €𝒳', '100%', 'a"b\\c\n', '\u0000\u0001']) {
      tools.write('/v', value);
      expect(tools.read('/v')).toBe(value);
    }
    expect(() => tools.write('/v', '\ud800')).toThrow(refusal('EINVAL'));
  });

  it('resolves relative paths below the domain and refuses what is no path', () => {
    const { guest, tools } = fixture();
    const one = guest(DOM1);
    one.write('data/x', '1');
    expect(tools.read('/local/domain/1/data/x')).toBe('1');
    for (const path of ['/a/', '//', '/a//b', '/a b', '/ä', '@x', '', `/${'a'.repeat(2048)}`, 'x'.repeat(2049)]) {
      expect(() => one.write(path, ''), path).toThrow(StoreError);
    }
    one.write('x'.repeat(1900), '1');
  });

  it('shows the tree as the tools do', () => {
    const { store, tools, guest } = fixture();
    guest(DOM1).write('q', 'a"b\\\n\u0001');
    tools.setPermissions('/local/domain/1/q', [
      { domid: DOM1, access: 'none' },
      { domid: DOM0, access: 'read' },
    ]);
    expect(store.export({ path: '/local', permissions: true })).toBe(
      '/local/domain = ""   (n0)\n/local/domain/1 = ""   (n1)\n/local/domain/1/q = "a"b\\\\\\n\\001"   (n1,r0)\n',
    );
  });
});

describe('permissions', () => {
  it('are inherited, with whoever makes the node as its owner', () => {
    const { tools, guest } = fixture();
    const one = guest(DOM1);
    tools.setPermissions('/local/domain/1', [
      { domid: DOM1, access: 'none' },
      { domid: DOM2, access: 'both' },
    ]);
    one.write('mine', '');
    expect(one.getPermissions('mine')).toEqual([
      { domid: 1, access: 'none' },
      { domid: 2, access: 'both' },
    ]);
    guest(DOM2).write('/local/domain/1/theirs', '');
    expect(tools.getPermissions('/local/domain/1/theirs')).toEqual([
      { domid: 2, access: 'none' },
      { domid: 2, access: 'both' },
    ]);
    // The privileged domain gives what it makes to the owner of the node above.
    tools.write('/local/domain/1/for-you', '');
    expect(one.getPermissions('for-you')[0]).toEqual({ domid: 1, access: 'none' });
  });

  it.each([
    ['none', false, false],
    ['read', true, false],
    ['write', false, true],
    ['both', true, true],
  ] as const)('of %s let a named domain read: %s, write: %s', (access, reads, writes) => {
    const { tools, guest } = fixture();
    const two = guest(DOM2);
    tools.write('/shared', 'x');
    for (const permissions of [
      [
        { domid: DOM0, access: 'none' as const },
        { domid: DOM2, access },
      ],
      [{ domid: DOM0, access }],
    ]) {
      tools.setPermissions('/shared', permissions);
      const attempts: [boolean, () => unknown][] = [
        [reads, () => two.read('/shared')],
        [reads, () => two.list('/shared')],
        [reads, () => two.getPermissions('/shared')],
        [writes, () => two.write('/shared', 'y')],
        [writes, () => two.mkdir('/shared')],
        [writes, () => two.write('/shared/below', '')],
        [false, () => two.setPermissions('/shared', [{ domid: DOM2, access: 'both' }])],
      ];
      for (const [allowed, act] of attempts) {
        if (allowed) act();
        else expect(act).toThrow(refusal('EACCES'));
      }
    }
    if (writes) two.remove('/shared');
    else expect(() => two.remove('/shared')).toThrow(refusal('EACCES'));
  });

  it('hide what is not there from those who may not look', () => {
    const { tools, guest } = fixture();
    const two = guest(DOM2);
    tools.mkdir('/closed');
    expect(() => two.read('/closed/none')).toThrow(refusal('EACCES'));
    expect(() => two.write('/closed/none', '')).toThrow(refusal('EACCES'));
    tools.setPermissions('/closed', [{ domid: DOM0, access: 'read' }]);
    expect(two.read('/closed/none/deeper')).toBeUndefined();
    expect(() => two.write('/closed/none', '')).toThrow(refusal('EACCES'));
    expect(() => two.remove('/closed/none')).toThrow(refusal('EACCES'));
  });

  it('are the owner’s to change, but not to give away', () => {
    const { tools, guest } = fixture();
    const one = guest(DOM1);
    one.write('mine', 'x');
    one.setPermissions('mine', [
      { domid: DOM1, access: 'none' },
      { domid: DOM2, access: 'read' },
    ]);
    expect(guest(DOM2).read('/local/domain/1/mine')).toBe('x');
    expect(() => one.setPermissions('mine', [{ domid: DOM2, access: 'none' }])).toThrow(refusal('EPERM'));
    expect(() => one.setPermissions('mine', [])).toThrow(refusal('EINVAL'));
    expect(() => one.setPermissions('mine', [{ domid: DOM1, access: 'all' as never }])).toThrow(refusal('EINVAL'));
    expect(() => tools.setPermissions('/nowhere', [{ domid: DOM1, access: 'none' }])).toThrow(refusal('ENOENT'));
    tools.setPermissions('/local/domain/1/mine', [{ domid: DOM2, access: 'none' }]);
    expect(() => one.read('mine')).toThrow(refusal('EACCES'));
  });

  it('mean the domain that was there when they were given, not a later one of its number', () => {
    const { store, tools, guest } = fixture();
    const two = guest(DOM2);
    tools.write('/shared', 'secret');
    tools.setPermissions('/shared', [
      { domid: DOM0, access: 'none' },
      { domid: DOM2, access: 'both' },
    ]);
    expect(two.read('/shared')).toBe('secret');
    store.release(DOM2);
    expect(() => guest(DOM2).read('/shared')).toThrow(refusal('EACCES'));
    tools.write('/shared/below', '');
    expect(tools.getPermissions('/shared/below')).toEqual([{ domid: 0, access: 'none' }]);
  });

  it('let a domain act for its target', () => {
    const { store, guest } = fixture();
    const one = guest(DOM1);
    const two = guest(DOM2);
    one.write('mine', 'x');
    expect(() => two.read('/local/domain/1/mine')).toThrow(refusal('EACCES'));
    store.setTarget(DOM2, DOM1);
    expect(two.read('/local/domain/1/mine')).toBe('x');
    store.release(DOM1);
    expect(() => two.write('/local/domain/1/mine', '')).toThrow(refusal('EACCES'));
  });
});

describe('transactions', () => {
  it('show their own changes to themselves only, until they are committed', () => {
    const { tools } = fixture();
    tools.write('/a', '1');
    const transaction = tools.begin();
    tools.write('/a', '2', transaction);
    tools.write('/b/c', '3', transaction);
    tools.remove('/tool', transaction);
    expect([tools.read('/a', transaction), tools.read('/b/c', transaction), tools.list('/', transaction)]).toEqual(['2', '3', ['a', 'b']]);
    expect([tools.read('/a'), tools.read('/b/c'), tools.list('/')]).toEqual(['1', undefined, ['tool', 'a']]);
    expect(tools.commit(transaction)).toBe(true);
    expect([tools.read('/a'), tools.read('/b/c'), tools.list('/')]).toEqual(['2', '3', ['a', 'b']]);
    expect(() => tools.commit(transaction)).toThrow(refusal('ENOENT'));
    expect(() => tools.read('/a', transaction)).toThrow(refusal('ENOENT'));
    expect(() => tools.list('/a', transaction)).toThrow(refusal('ENOENT'));
    expect(() => tools.exists('/a', transaction)).toThrow(refusal('ENOENT'));
    expect(() => tools.write('/a', '', transaction)).toThrow(refusal('ENOENT'));
  });

  it('see the tree as it was when they looked', () => {
    const { tools } = fixture();
    tools.write('/a', '1');
    tools.mkdir('/d/x');
    const transaction = tools.begin();
    expect([tools.read('/a', transaction), tools.list('/d', transaction)]).toEqual(['1', ['x']]);
    tools.write('/a', '2');
    tools.mkdir('/d/y');
    expect([tools.read('/a', transaction), tools.list('/d', transaction)]).toEqual(['1', ['x']]);
    expect(tools.commit(transaction)).toBe(false);
  });

  it.each<[string, (tools: StoreConnection) => void, (tools: StoreConnection, transaction: StoreTransaction) => void, boolean]>([
    ['a value it read was written', (s) => s.write('/a', '2'), (s, t) => s.read('/a', t), false],
    ['a value it read was written with the same value', (s) => s.write('/a', '1'), (s, t) => s.read('/a', t), false],
    ['a value it wrote was written', (s) => s.write('/a', '2'), (s, t) => s.write('/a', '3', t), false],
    ['what it found missing was made', (s) => s.write('/new', ''), (s, t) => s.read('/new', t), false],
    ['what it read was removed', (s) => s.remove('/a'), (s, t) => s.read('/a', t), false],
    ['a child came where it listed', (s) => s.write('/d/new', ''), (s, t) => s.list('/d', t), false],
    ['a child came where it made another', (s) => s.write('/d/new', ''), (s, t) => s.write('/d/other', '', t), false],
    [
      'the permissions of what it read changed',
      (s) => s.setPermissions('/a', [{ domid: DOM0, access: 'read' }]),
      (s, t) => s.read('/a', t),
      false,
    ],
    ['another value was written', (s) => s.write('/d', 'x'), (s, t) => s.read('/a', t), true],
    ['a child changed below what it listed', (s) => s.write('/d/x', 'x'), (s, t) => s.list('/d', t), true],
    [
      'what it found missing came and went, and with it what the node above lists',
      (s) => {
        s.write('/new', '');
        s.remove('/new');
      },
      (s, t) => s.read('/new', t),
      false,
    ],
  ])('commit when %s: only if nothing they touched changed', (_, meanwhile, inside, commits) => {
    const { tools } = fixture();
    tools.write('/a', '1');
    tools.mkdir('/d/x');
    const transaction = tools.begin();
    inside(tools, transaction);
    meanwhile(tools);
    const before = tools.list('/');
    expect(tools.commit(transaction)).toBe(commits);
    expect(tools.list('/')).toEqual(before);
  });

  it('leave no trace when they are aborted', () => {
    const { tools, store, run } = fixture();
    const seen: string[] = [];
    tools.watch('/', (path) => seen.push(path));
    run();
    const before = store.export({ permissions: true });
    const transaction = tools.begin();
    tools.write('/x', '1', transaction);
    tools.abort(transaction);
    run();
    expect(store.export({ permissions: true })).toBe(before);
    expect(seen).toEqual(['/']);
    expect(() => tools.abort(transaction)).toThrow(refusal('ENOENT'));
  });

  it('fire watches at the commit, once a node, in the order in which nodes were touched', () => {
    const { tools, run, guest } = fixture();
    const one = guest(DOM1);
    const seen: string[] = [];
    tools.watch('/local/domain/1', (path) => seen.push(path));
    run();
    seen.length = 0;
    const transaction = one.begin();
    one.read('state', transaction);
    one.write('online', '0', transaction);
    one.write('state', '4', transaction);
    one.write('online', '1', transaction);
    run();
    expect(seen).toEqual([]);
    one.commit(transaction);
    run();
    expect(seen).toEqual(['/local/domain/1/state', '/local/domain/1/online']);
  });

  it('count their nodes against the quota when they commit', () => {
    const { guest, tools } = fixture({ nodes: 5 });
    const one = guest(DOM1);
    const first = one.begin();
    const second = one.begin();
    for (const name of ['a', 'b', 'c']) one.write(`x/${name}`, '', first);
    expect(() => one.write('x/d', '', first)).toThrow(refusal('ENOSPC'));
    expect(one.commit(first)).toBe(true);
    expect(() => one.write('y', '', second)).toThrow(refusal('ENOSPC'));
    one.remove('x', second);
    one.write('y', '', second);
    expect(one.commit(second)).toBe(true);
    expect(tools.list('/local/domain/1')).toEqual(['y']);
  });

  it('can be refused by a fault', () => {
    const store = createStore({ enqueue: () => undefined, conflict: (domid) => domid === DOM0 });
    const tools = store.connect(DOM0);
    const transaction = tools.begin();
    tools.write('/x', '', transaction);
    expect(tools.commit(transaction)).toBe(false);
    expect(tools.exists('/x')).toBe(false);
  });
});

describe('watches', () => {
  it('fire once at registration and then on changes at or below, from the run queue', () => {
    const { tools, run, guest } = fixture();
    const one = guest(DOM1);
    const seen: string[] = [];
    one.watch('device', (path) => seen.push(path));
    expect(seen).toEqual([]);
    run();
    tools.write('/local/domain/1/device/vbd/1/state', '1');
    tools.write('/local/domain/1/devices', '1');
    tools.remove('/local/domain/1/device');
    run();
    expect(seen).toEqual(['device', 'device/vbd/1/state', 'device']);
  });

  it('tell of a removed node with all that was below it, each to those who watch it', () => {
    const { tools, run } = fixture();
    tools.write('/a/b/c', '');
    tools.write('/a/d', '');
    const seen: string[] = [];
    for (const path of ['/a', '/a/b', '/a/b/c', '/a/none', '/']) tools.watch(path, (told) => seen.push(`${path}: ${told}`), path);
    run();
    seen.length = 0;
    tools.remove('/a');
    run();
    expect(seen).toEqual(['/a/b/c: /a/b/c', '/a/b: /a/b', '/a: /a', '/: /a']);
  });

  it('tell only of what the domain may see', () => {
    const { tools, run, guest } = fixture();
    const one = guest(DOM1);
    guest(DOM2);
    const seen: string[] = [];
    one.watch('/', (path) => seen.push(path));
    run();
    tools.write('/local/domain/2/secret', '');
    tools.write('/open', '');
    tools.setPermissions('/open', [{ domid: DOM0, access: 'read' }]);
    tools.setPermissions('/open', [{ domid: DOM0, access: 'none' }]);
    tools.write('/open', 'closed');
    run();
    // Registration; becoming readable; and the change that took the right away is still told.
    expect(seen).toEqual(['/', '/open']);
    tools.write('/local/domain/1/x', '');
    run();
    expect(seen).toEqual(['/', '/open', '/local/domain/1/x']);
  });

  it('are told apart by token, ended one by one, and refused twice', () => {
    const { tools, run } = fixture();
    const seen: string[] = [];
    const first = tools.watch('/a', () => seen.push('first'), 'one');
    tools.watch('/a', () => seen.push('second'), 'two');
    expect(() => tools.watch('/a', () => undefined, 'one')).toThrow(refusal('EEXIST'));
    run();
    first.unsubscribe();
    first.unsubscribe();
    tools.write('/a', '');
    run();
    expect(seen).toEqual(['first', 'second', 'second']);
    tools.watch('/a', () => seen.push('third'), 'one');
    tools.resetWatches();
    run();
    expect(seen).toHaveLength(3);
  });

  it('may change the store and other watches from inside a handler', () => {
    const { tools, run } = fixture();
    const seen: string[] = [];
    const other = tools.watch('/a', () => seen.push('other'), 'other');
    tools.watch('/a', (path) => {
      seen.push(path);
      other.unsubscribe();
      if (seen.length < 4) tools.write('/a', `${seen.length}`);
    });
    run();
    expect(seen).toEqual(['other', '/a', '/a', '/a']);
  });

  it('go on after a handler that throws', () => {
    const { tools, work } = fixture();
    const seen: string[] = [];
    tools.watch('/a', () => {
      throw new Error('boom');
    });
    tools.watch('/b', (path) => seen.push(path));
    expect(() => work.shift()!()).toThrow('boom');
    work.shift()!();
    expect([seen, work.length]).toEqual([['/b'], 0]);
  });

  it('tell of domains that come and go to those who may know', () => {
    const { store, tools, run, guest, bus } = fixture();
    const { facts } = recordBus(bus, ['store:introduced', 'store:released']);
    const one = guest(DOM1);
    const seen: string[] = [];
    for (const path of ['@introduceDomain', '@releaseDomain']) {
      tools.watch(path, (told) => seen.push(`tools ${told}`));
      one.watch(path, (told) => seen.push(`one ${told}`));
    }
    run();
    seen.length = 0;
    guest(DOM2);
    store.introduce(DOM2);
    store.release(DOM2);
    store.release(DOM2);
    run();
    expect(seen).toEqual(['tools @introduceDomain', 'tools @releaseDomain']);
    tools.setPermissions('@releaseDomain', [
      { domid: DOM0, access: 'none' },
      { domid: DOM1, access: 'read' },
    ]);
    guest(DOM2);
    store.release(DOM2);
    run();
    expect(seen.slice(2).sort()).toEqual(['one @releaseDomain', 'tools @introduceDomain', 'tools @releaseDomain']);
    expect(facts.map(({ type, data }) => `${type} ${data.domid}`)).toEqual([
      'store:introduced 1',
      'store:introduced 2',
      'store:released 2',
      'store:introduced 2',
      'store:released 2',
    ]);
  });

  it('do not grow a queue that is not run, however a watched path is written (XSA-349)', () => {
    const { store, tools, run, guest } = fixture({ events: 100 });
    const one = guest(DOM1);
    const seen = new Map<string, number>();
    tools.watch('/local/domain/1/device/vbd/1/state', (path) => seen.set(path, (seen.get(path) ?? 0) + 1));
    run();
    for (let i = 0; i < 100_000; i += 1) one.write('device/vbd/1/state', `${i % 7}`);
    expect(store.usage(DOM0).events).toBe(1);
    expect(run()).toBe(1);
    // Nor does one that is fed with ever new names: from the bound on an event tells of the watched path as a whole.
    tools.watch('/local/domain/1', (path) => seen.set(path, 1));
    run();
    for (let i = 0; i < 5000; i += 1) {
      one.write(`n${i}`, '');
      one.remove(`n${i}`);
    }
    expect(store.usage(DOM0).events).toBeLessThanOrEqual(102);
    seen.clear();
    run();
    expect(seen.has('/local/domain/1')).toBe(true);
    expect(store.usage(DOM0).events).toBe(0);
  });
});

describe('limits', () => {
  it('bound the nodes that a domain owns', () => {
    const { guest, store, tools } = fixture();
    const one = guest(DOM1);
    for (let i = 0; store.usage(DOM1).nodes < 999; i += 1) one.write(i < 40 ? `n${i}` : `n${i % 40}/${i}`, '');
    const count = store.nodeCount;
    expect(() => one.write('a/b', '')).toThrow(refusal('ENOSPC'));
    expect(store.nodeCount).toBe(count);
    one.write('a', '');
    expect(() => one.mkdir('b')).toThrow(refusal('ENOSPC'));
    tools.write('/local/domain/1/b', '');
    one.remove('a');
    one.remove('b');
    one.write('b', '');
    expect(store.usage(DOM1).nodes).toBe(1000);
  });

  it('bound a node with its value, permissions and children', () => {
    const { guest, tools } = fixture();
    const one = guest(DOM1);
    one.write('v', 'v'.repeat(2048 - 24 - 8 - 1));
    expect(() => one.write('v', 'v'.repeat(2048 - 24 - 8))).toThrow(refusal('ENOSPC'));
    expect(() => one.write('w', 'v'.repeat(2048 - 24 - 8))).toThrow(refusal('ENOSPC'));
    expect(() =>
      one.setPermissions('v', [
        { domid: DOM1, access: 'none' },
        { domid: DOM2, access: 'none' },
      ]),
    ).toThrow(refusal('ENOSPC'));
    expect(one.read('v')).toHaveLength(2015);
    tools.write('/local/domain/1/v', 'v'.repeat(4000));
    expect(() => tools.write('/v', 'v'.repeat(4096))).toThrow(refusal('E2BIG'));
    for (let i = 0; i < 15; i += 1) one.write(`c/${String(i).padStart(120, '0')}`, '');
    expect(() => one.write(`c/${'x'.repeat(250)}`, '')).toThrow(refusal('ENOSPC'));
    expect(one.list('c')).toHaveLength(15);
  });

  it('bound permissions, watches, transactions and what one transaction touches', () => {
    const { guest, store, tools } = fixture({ transactionNodes: 20 });
    const one = guest(DOM1);
    one.write('x', '');
    const six = Array.from({ length: 6 }, (_, i) => ({ domid: domId(i + 1), access: 'none' as const }));
    expect(() => one.setPermissions('x', six)).toThrow(refusal('ENOSPC'));
    one.setPermissions('x', six.slice(0, 5));
    for (let i = 0; i < 128; i += 1) one.watch(`w${i}`, () => undefined);
    expect(() => one.watch('more', () => undefined)).toThrow(refusal('E2BIG'));
    expect(() => store.connect(DOM1).watch('more', () => undefined)).toThrow(refusal('E2BIG'));
    const open = Array.from({ length: 10 }, () => one.begin());
    expect(() => one.begin()).toThrow(refusal('ENOSPC'));
    const touch = (): void => {
      for (let i = 0; i < 30; i += 1) one.read(`n${i}`, open[0]);
    };
    expect(touch).toThrow(refusal('ENOSPC'));
    for (let i = 0; i < 200; i += 1) tools.watch(`/w${i}`, () => undefined);
    for (let i = 0; i < 20; i += 1) tools.begin();
  });
});

describe('the end of a domain', () => {
  it('takes its connections, watches, transactions and nodes along', () => {
    const { store, tools, run, guest } = fixture();
    const one = guest(DOM1);
    one.write('x', '');
    tools.write('/given', '');
    tools.setPermissions('/given', [{ domid: DOM1, access: 'none' }]);
    tools.write('/given/below', '');
    one.begin();
    one.watch('x', () => {
      throw new Error('told after its end');
    });
    const seen: string[] = [];
    tools.watch('/', (path) => seen.push(path));
    store.release(DOM1);
    run();
    expect(seen).toContain('/given');
    expect(tools.list('/')).toEqual(['tool', 'local']);
    expect(tools.list('/local/domain')).toEqual([]);
    expect(store.usage(DOM1)).toEqual({ nodes: 0, watches: 0, transactions: 0, connections: 0, events: 0 });
    for (const act of [
      () => one.read('x'),
      () => one.write('x', ''),
      () => one.begin(),
      () => one.watch('x', () => undefined),
      () => one.mkdir('x'),
      () => one.remove('x'),
      () => one.commit({ id: 1 }),
    ]) {
      expect(act).toThrow(refusal('EIO'));
    }
    one.close();
  });

  it('leaves memory as it was, a thousand times', () => {
    const { store, tools, run, guest } = fixture();
    const { nodeCount } = store;
    tools.watch('@releaseDomain', () => undefined);
    for (let domid = 1; domid <= 1000; domid += 1) {
      const own = guest(domId(domid) as typeof DOM1);
      own.write('device/vbd/51712/state', '1');
      own.watch('device', () => undefined);
      tools.watch(`/local/domain/${domid}/device/vbd/51712/state`, () => undefined).unsubscribe();
      run();
      store.release(domId(domid));
    }
    run();
    tools.remove('/local');
    expect(store.nodeCount).toBe(nodeCount);
    expect(store.usage(DOM0)).toMatchObject({ watches: 1, transactions: 0, events: 0 });
  });
});

describe('a toolstack', () => {
  it('introduces and releases domains through its connection; a guest may not', () => {
    const { tools, guest, store } = fixture();
    const one = guest(DOM1);
    expect(tools.getDomainPath(DOM2)).toBe('/local/domain/2');
    tools.introduceDomain(DOM2);
    expect([tools.isDomainIntroduced(DOM2), store.isIntroduced(DOM2)]).toEqual([true, true]);
    tools.releaseDomain(DOM2);
    expect(tools.isDomainIntroduced(DOM2)).toBe(false);
    expect(() => tools.releaseDomain(DOM2)).toThrow(refusal('ENOENT'));
    expect(() => tools.releaseDomain(DOM0)).toThrow(refusal('EINVAL'));
    for (const act of [() => one.introduceDomain(DOM2), () => one.releaseDomain(DOM2), () => one.isDomainIntroduced(DOM2)]) {
      expect(act).toThrow(refusal('EACCES'));
    }
  });
});

describe('facts', () => {
  it('tell of every request that was accepted, in order', () => {
    const { tools, bus } = fixture();
    const { facts } = recordBus(bus, ['store:changed', 'store:ended']);
    tools.write('/a', '1');
    const transaction = tools.begin();
    tools.mkdir('/b', transaction);
    tools.remove('/a', transaction);
    tools.setPermissions('/b', [{ domid: DOM1, access: 'both' }], transaction);
    expect(() => tools.write('bad//path', '')).toThrow(StoreError);
    tools.commit(transaction);
    expect(facts.map(({ data }) => data)).toEqual([
      { domid: 0, change: 'write', path: '/a', value: '1', transaction: 0 },
      { domid: 0, change: 'mkdir', path: '/b', transaction: 1 },
      { domid: 0, change: 'rm', path: '/a', transaction: 1 },
      { domid: 0, change: 'set-perms', path: '/b', value: 'b1', transaction: 1 },
      { domid: 0, transaction: 1, committed: true, conflict: false },
    ]);
  });
});
