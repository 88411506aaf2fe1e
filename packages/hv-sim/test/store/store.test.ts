import { domId } from '@paravirt/event-bus/contract';
import { describe, expect, it } from 'vitest';
import { StoreError } from '../../src/store/errors.ts';
import { createStore } from '../../src/store/store.ts';
import type { StoreLimits } from '../../src/store/types.ts';

const DOM0 = domId(0);
const DOM1 = domId(1);

function fixture(limits: Partial<StoreLimits> = {}) {
  const work: (() => void)[] = [];
  const store = createStore({ enqueue: (item) => work.push(item), limits });
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
  return { store, tools, work, run, guest };
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
});
