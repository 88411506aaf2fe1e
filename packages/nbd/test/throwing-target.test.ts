import { describe, expect, it } from 'vitest';
import { alignedTarget, createNbdServer, type NbdTarget } from '../src/index.ts';
import { Client, memoryTarget, request } from './client.ts';

const READ = 0;
const WRITE = 1;
const FLUSH = 3;
const TRIM = 4;
const ZERO = 6;
const STATUS = 7;
const EIO = 5;

/** A target that throws at the calls named, and a client of it. */
function broken(names: readonly (keyof NbdTarget)[], options: { structured?: boolean; allocation?: boolean } = {}) {
  const target: NbdTarget = memoryTarget(1 << 16);
  const failing = new Set<string>(names);
  const errors: unknown[] = [];
  const guarded = new Proxy(target, {
    get(of, name) {
      if (!failing.has(String(name))) return Reflect.get(of, name) as unknown;
      return () => {
        throw new Error(`${String(name)} is broken`);
      };
    },
  });
  const server = createNbdServer({
    exports: [
      { name: '', target: guarded },
      { name: 'aligned', target: alignedTarget(guarded, 512) },
    ],
    onError: (error) => errors.push((error as Error).message),
  });
  const client = (name = ''): Client => new Client(server).go({ ...options, name });
  return { client, errors, failing };
}

describe('a target that throws', () => {
  it.each([
    ['read', READ, 0],
    ['write', WRITE, 4],
    ['flush', FLUSH, 0],
    ['trim', TRIM, 0],
    ['writeZeroes', ZERO, 0],
  ] as const)('fails the request with EIO, its owner is told, and the connection goes on: %s', (name, type, payload) => {
    const { client, errors } = broken([name]);
    const each = client();
    const length = type === FLUSH ? 0 : 4;
    const bad = [...request({ type, length, handle: 1 }), ...new Uint8Array(payload)];
    const good = type === FLUSH ? request({ type: TRIM, length: 512, handle: 3 }) : request({ type: FLUSH, handle: 3 });
    each.send([...bad, ...bad, ...good]);
    expect([each.takeSimple(), each.takeSimple(), each.takeSimple()]).toEqual([
      { error: EIO, handle: 1n },
      { error: EIO, handle: 1n },
      { error: 0, handle: 3n },
    ]);
    expect(errors).toEqual([`${name} is broken`, `${name} is broken`]);
    expect(each.destroyed).toBe(false);
  });

  it('about its holes answers a question with EIO and a read with data', () => {
    const { client, errors } = broken(['extents'], { structured: true, allocation: true });
    const each = client();
    each.send(request({ type: STATUS, length: 4096, handle: 1 }), request({ type: READ, length: 8192, handle: 2 }));
    expect(each.takeChunk().payload.getUint32(0)).toBe(EIO);
    const { handle, payload } = each.takeChunk();
    expect([handle, payload.byteLength]).toEqual([2n, 8 + 8192]);
    expect(errors).toEqual(['extents is broken', 'extents is broken']);
  });

  it('when it is told to begin does not hold back the answers', () => {
    const { client, errors } = broken(['kick']);
    const each = client();
    each.send(request({ type: FLUSH, handle: 1 }));
    expect(each.takeSimple()).toEqual({ error: 0, handle: 1n });
    expect(errors).toEqual(['kick is broken']);
  });

  it('behind ragged requests lets those after them have their turn', () => {
    const { client, errors, failing } = broken(['write']);
    const each = client('aligned');
    const write = (offset: number, handle: number): number[] => [...request({ type: WRITE, offset, length: 2, handle }), 7, 7];
    each.send(write(1, 1), write(3, 2));
    failing.clear();
    each.send(write(5, 3), request({ type: READ, offset: 0, length: 8, handle: 4 }));
    expect([each.takeSimple(), each.takeSimple(), each.takeSimple()].map(({ error }) => error)).toEqual([EIO, EIO, 0]);
    expect(each.takeSimple()).toEqual({ error: 0, handle: 4n });
    expect([...new Uint8Array(each.take(8).buffer)]).toEqual([0, 0, 0, 0, 0, 7, 7, 0]);
    expect(errors).toHaveLength(2);
  });

  it('and tells the end all the same has answered once', () => {
    const dones: ((errno: number) => void)[] = [];
    const target: NbdTarget = {
      sizeBytes: 4096,
      read(_offset, _into, done) {
        dones.push(done);
        if (dones.length === 1) throw new Error('broken');
      },
    };
    const each = new Client({ exports: [{ name: '', target }], onError: () => {} }).go();
    each.send(request({ type: READ, length: 4, handle: 1 }), request({ type: READ, length: 4, handle: 2 }));
    dones[0]!(0);
    dones[0]!(0);
    expect(each.takeSimple()).toEqual({ error: EIO, handle: 1n });
    expect(each.received.length).toBe(0);
  });
});

describe('a target that answers what is no errno', () => {
  it('has failed', () => {
    for (const answer of [undefined, Number.NaN, null, '0', -1e9, 1.5]) {
      const target: NbdTarget = { sizeBytes: 4096, read: (_offset, _into, done) => done(answer as never) };
      const each = new Client({ exports: [{ name: '', target }] }).go();
      each.send(request({ type: READ, length: 4, handle: 1 }), request({ type: READ, length: 4, handle: 2 }));
      expect([each.takeSimple(), each.takeSimple()].map(({ error }) => error)).toEqual([EIO, EIO]);
    }
  });
});
