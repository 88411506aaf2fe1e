import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { alignedTarget, createNbdServer, type NbdTarget, simpleTarget } from '../src/index.ts';
import { Client, memoryTarget, request } from './client.ts';

const READ = 0;
const WRITE = 1;
const FLUSH = 3;
const TRIM = 4;
const ZERO = 6;
const STATUS = 7;
const clientOf = (target: NbdTarget, options: { structured?: boolean; allocation?: boolean } = {}, limits = {}): Client =>
  new Client({ exports: [{ name: '', target }], limits }).go(options);

describe('requests', () => {
  it('write, and read back what was written', () => {
    const each = clientOf(memoryTarget(1 << 16));
    each.send(request({ type: WRITE, offset: 512, length: 3, handle: 0xfedcba9876543210n }), [1, 2, 3]);
    expect(each.takeSimple()).toEqual({ error: 0, handle: 0xfedcba9876543210n });
    each.send(request({ type: READ, offset: 511, length: 5, handle: 2 }));
    expect(each.takeSimple()).toEqual({ error: 0, handle: 2n });
    expect([...new Uint8Array(each.take(5).buffer)]).toEqual([0, 1, 2, 3, 0]);
  });

  it('that come together are answered in one write', () => {
    const each = clientOf(memoryTarget(1 << 20));
    const before = each.writes;
    const batch = Array.from({ length: 32 }, (_, handle) => [
      ...request({ type: READ, offset: handle * 4096, length: 4096, handle }),
    ]).flat();
    each.send(batch);
    expect(each.writes - before).toBe(1);
    expect(each.received.length).toBe(32 * (16 + 4096));
  });

  it.each([[false], [true]])('that write and flush together are answered in one write too (structured: %s)', (structured) => {
    const each = clientOf(memoryTarget(1 << 20), { structured });
    const before = each.writes;
    const write = (handle: number): number[] => [
      ...request({ type: WRITE, offset: handle * 4096, length: 4096, handle }),
      ...new Uint8Array(4096).fill(handle),
    ];
    each.send([...Array.from({ length: 16 }, (_, handle) => write(handle)).flat(), ...request({ type: FLUSH, handle: 16 })]);
    expect(each.writes - before).toBe(1);
    for (let handle = 0; handle <= 16; handle += 1) expect(each.takeSimple()).toEqual({ error: 0, handle: BigInt(handle) });
  });

  it('in pieces of any size are the same requests', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 60 }), (cuts) => {
        const bytes = Uint8Array.from([
          ...request({ type: WRITE, offset: 100, length: 5000, handle: 1 }),
          ...new Uint8Array(5000).fill(7),
          ...request({ type: READ, offset: 99, length: 3, handle: 2 }),
          ...request({ type: FLUSH, handle: 3 }),
        ]);
        const each = clientOf(memoryTarget(1 << 16));
        let at = 0;
        for (const cut of [...cuts, bytes.length]) {
          each.send(bytes.slice(at, at + cut));
          at += cut;
        }
        expect(each.takeSimple()).toEqual({ error: 0, handle: 1n });
        expect(each.takeSimple()).toEqual({ error: 0, handle: 2n });
        expect([...new Uint8Array(each.take(3).buffer)]).toEqual([0, 7, 7]);
        expect(each.takeSimple()).toEqual({ error: 0, handle: 3n });
      }),
      { numRuns: 50 },
    );
  });

  it.each([
    ['a read past the end', { type: READ, offset: 65536 - 10, length: 11 }, 22],
    ['a read beyond 2^53', { type: READ, offset: 0xffffffffffffffffn, length: 1 }, 22],
    ['a read of nothing', { type: READ, offset: 0, length: 0 }, 22],
    ['a read longer than the limit', { type: READ, offset: 0, length: 40000 }, 22],
    ['a trim past the end', { type: TRIM, offset: 65536, length: 1 }, 22],
    ['zeroes past the end', { type: ZERO, offset: 65536, length: 1 }, 28],
    ['an unknown command', { type: 99 }, 22],
    ['an unknown flag', { type: READ, length: 1, flags: 0x8000 }, 22],
    ['a status without its context', { type: STATUS, length: 1 }, 22],
    ['a read that asks for one piece without structured replies', { type: READ, length: 1, flags: 4 }, 22],
  ])('refuses %s, and the connection lives', (_, fields, error) => {
    const each = clientOf(memoryTarget(65536), {}, { requestBytes: 32768 });
    each.send(request({ ...fields, handle: 5 }));
    expect(each.takeSimple()).toEqual({ error, handle: 5n });
    each.send(request({ type: READ, length: 1, handle: 6 }));
    expect(each.takeSimple()).toEqual({ error: 0, handle: 6n });
  });

  it('refuses a write past the end or over the limit, and passes over its payload', () => {
    const each = clientOf(memoryTarget(65536), {}, { requestBytes: 32768 });
    each.send(request({ type: WRITE, offset: 65530, length: 10 }), new Uint8Array(10).fill(0x25));
    expect(each.takeSimple().error).toBe(28);
    each.send(request({ type: WRITE, offset: 0, length: 60000 }), new Uint8Array(30000), new Uint8Array(30000));
    expect(each.takeSimple().error).toBe(22);
    each.send(request({ type: FLUSH, handle: 9 }));
    expect(each.takeSimple()).toEqual({ error: 0, handle: 9n });
  });

  it('refuses changes of a read-only export', () => {
    const each = clientOf({ ...memoryTarget(4096), readonly: true });
    each.send(request({ type: WRITE, length: 1 }), [1]);
    expect(each.takeSimple().error).toBe(1);
    each.send(request({ type: TRIM, length: 1 }), request({ type: ZERO, length: 1 }));
    expect([each.takeSimple().error, each.takeSimple().error]).toEqual([1, 1]);
  });

  it('ends a connection that lost its place in the stream', () => {
    const each = clientOf(memoryTarget(4096)).send(request({ type: READ, length: 1, magic: 0x12345678 }));
    expect(each.destroyed).toBe(true);
  });

  it('tells EIO for an errno that the wire does not know', () => {
    const each = clientOf({ sizeBytes: 4096, read: (_offset, _target, done) => done(-30) });
    each.send(request({ type: READ, length: 1 }));
    expect(each.takeSimple().error).toBe(5);
  });

  it('are answered in the order in which they end', () => {
    const target = memoryTarget(1 << 16, { later: true });
    const each = clientOf(target);
    for (const handle of [1, 2, 3]) each.send(request({ type: READ, offset: handle, length: 1, handle }));
    target.settle([2, 0]);
    target.settle();
    return Promise.resolve().then(() => {
      const handles = [1, 2, 3].map(() => {
        const { handle } = each.takeSimple();
        each.take(1);
        return handle;
      });
      expect(new Set(handles)).toEqual(new Set([1n, 2n, 3n]));
    });
  });

  it('are all answered before a disconnect closes the stream', async () => {
    const target = memoryTarget(1 << 16, { later: true });
    const each = clientOf(target).send(request({ type: WRITE, length: 1 }), [9], request({ type: 2 }));
    expect(each.ended).toBe(false);
    target.settle();
    await Promise.resolve();
    expect(each.takeSimple().error).toBe(0);
    expect(each.ended).toBe(true);
    expect(target.bytes[0]).toBe(9);
  });
});

describe('structured replies', () => {
  it('carry data with its offset, and one piece where the client asks for one', () => {
    const target = memoryTarget(1 << 16);
    target.bytes.fill(5);
    const each = clientOf(target, { structured: true });
    each.send(request({ type: READ, offset: 4096, length: 8192, flags: 4, handle: 3 }));
    const chunk = each.takeChunk();
    expect(chunk).toMatchObject({ flags: 1, type: 1, handle: 3n });
    expect(chunk.payload.getBigUint64(0)).toBe(4096n);
    expect(chunk.payload.byteLength).toBe(8 + 8192);
  });

  it('tell holes instead of sending zeroes', () => {
    const target = memoryTarget(1 << 16);
    const each = clientOf(target, { structured: true });
    each.send(request({ type: WRITE, offset: 8192, length: 4096 }), new Uint8Array(4096).fill(1));
    each.takeSimple();
    each.send(request({ type: READ, offset: 0, length: 20480, handle: 4 }));
    const chunks = [each.takeChunk(), each.takeChunk(), each.takeChunk()];
    expect(chunks.map(({ type, flags }) => [type, flags])).toEqual([
      [2, 0],
      [1, 0],
      [2, 1],
    ]);
    expect(chunks[0]?.payload.getUint32(8)).toBe(8192);
    expect(chunks[2]?.payload.getUint32(8)).toBe(8192);
  });

  it('carry errors of reads in a chunk and of writes in a simple reply', () => {
    const each = clientOf(memoryTarget(4096), { structured: true });
    each.send(request({ type: READ, offset: 4096, length: 1 }));
    const chunk = each.takeChunk();
    expect(chunk).toMatchObject({ flags: 1, type: 0x8001 });
    expect(chunk.payload.getUint32(0)).toBe(22);
    each.send(request({ type: WRITE, offset: 4096, length: 1 }), [0]);
    expect(each.takeSimple().error).toBe(28);
  });

  it('describe allocation, one extent where the client asks for one', () => {
    const each = clientOf(memoryTarget(1 << 16), { structured: true, allocation: true });
    each.send(request({ type: WRITE, offset: 4096, length: 4096 }), new Uint8Array(4096).fill(1));
    each.takeSimple();
    each.send(request({ type: STATUS, offset: 0, length: 16384 }), request({ type: STATUS, offset: 0, length: 16384, flags: 8 }));
    const words = (payload: DataView): number[] =>
      Array.from({ length: payload.byteLength / 4 }, (_, index) => payload.getUint32(4 * index));
    expect(words(each.takeChunk().payload)).toEqual([1, 4096, 3, 4096, 0, 8192, 3]);
    expect(words(each.takeChunk().payload)).toEqual([1, 4096, 3]);
  });
});

describe('bounds', () => {
  it('stops reading from a client that does not read, and goes on when it does', () => {
    const each = clientOf(memoryTarget(1 << 20), {}, { connectionBytes: 1 << 20 });
    each.stopReading();
    const before = each.received.length;
    for (let count = 0; count < 50 && !each.paused; count += 1) each.send(request({ type: READ, length: 1 << 18 }));
    expect(each.paused).toBe(true);
    expect(each.received.length - before).toBeLessThanOrEqual(2 << 20);
    each.readAgain();
    expect(each.paused).toBe(false);
  });

  it('holds back a chunk that asks for more than the bound, request by request', async () => {
    const target = memoryTarget(1 << 20, { later: true });
    let open = 0;
    let most = 0;
    const counted: NbdTarget = {
      ...target,
      read(offset, bytes, done) {
        open += 1;
        most = Math.max(most, open);
        target.read(offset, bytes, (errno) => {
          open -= 1;
          done(errno);
        });
      },
    };
    const each = clientOf(counted, {}, { connectionRequests: 4 });
    each.send(Array.from({ length: 64 }, (_, handle) => [...request({ type: READ, length: 512, handle })]).flat());
    for (let round = 0; round < 64; round += 1) {
      target.settle();
      await Promise.resolve();
    }
    expect(most).toBe(4);
    expect(each.received.length).toBe(64 * 528);
  });

  it('lets go of everything when a client vanishes, and drops the answers that still come', async () => {
    const target = memoryTarget(1 << 20, { later: true });
    const server = createNbdServer({ exports: [{ name: '', target }] });
    const each = new Client(server).go();
    for (let handle = 0; handle < 64; handle += 1) each.send(request({ type: READ, length: 4096, handle }));
    each.send(request({ type: WRITE, length: 100_000 }), new Uint8Array(10));
    const before = each.received.length;
    each.connection.closed();
    target.settle();
    await Promise.resolve();
    expect(each.received.length).toBe(before);
    expect(server.counters.connectionsOpen).toBe(0);
  });
});

/** Goal: no throw and no hang on any bytes. Method: random bytes, and valid requests with a byte changed. */
describe('hostile bytes', () => {
  it('never throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(), fc.nat({ max: 255 }), (noise, place, value) => {
        new Client({ exports: [{ name: '', target: memoryTarget(4096) }] }).send(noise);
        const each = clientOf(memoryTarget(4096), { structured: true });
        const good = request({ type: READ, offset: 10, length: 20 });
        good[place % good.length] = value;
        each.send(good, noise);
      }),
      { numRuns: 300 },
    );
  });
});

/** Goal: any byte range works over a disk of sectors. Method: random ranges against plain bytes, answers at once or later. */
describe('an aligned target', () => {
  it('reads and writes any range of a disk that knows only whole sectors', async () => {
    const range = fc.record({
      kind: fc.constantFrom('read', 'write', 'zero', 'trim'),
      offset: fc.nat(8191),
      length: fc.integer({ min: 1, max: 1500 }),
      value: fc.nat(255),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(range, { maxLength: 40 }), fc.boolean(), async (operations, later) => {
        const disk = memoryTarget(8192, { later });
        const sectors: NbdTarget = {
          ...disk,
          read(offset, target, done) {
            expect([offset % 512, target.length % 512]).toEqual([0, 0]);
            disk.read(offset, target, done);
          },
          write(offset, source, fua, done) {
            expect([offset % 512, source.length % 512]).toEqual([0, 0]);
            disk.write?.(offset, source, fua, done);
          },
        };
        const model = new Uint8Array(8192);
        const target = alignedTarget(sectors, 512);
        let open = 0;
        const done = (errno: number): void => {
          expect(errno).toBe(0);
          open -= 1;
        };
        for (const { kind, offset, length, value } of operations) {
          const bytes = Math.min(length, 8192 - offset);
          open += 1;
          if (kind === 'write') {
            target.write?.(offset, new Uint8Array(bytes).fill(value), false, done);
            model.fill(value, offset, offset + bytes);
          } else if (kind === 'zero') {
            target.writeZeroes?.(offset, bytes, { fua: false, noHole: false, fast: false }, done);
            model.fill(0, offset, offset + bytes);
          } else if (kind === 'trim') {
            target.trim?.(offset, bytes, false, done);
            const from = Math.ceil(offset / 512) * 512;
            const to = Math.floor((offset + bytes) / 512) * 512;
            if (to > from) model.fill(0, from, to);
          } else target.read(offset, new Uint8Array(bytes), done);
          if (later && value % 3 === 0) disk.settle();
        }
        for (let round = 0; round < 500 && open > 0; round += 1) disk.settle();
        expect(open).toBe(0);
        const all = new Uint8Array(8192);
        target.read(0, all, () => {});
        disk.settle();
        expect(all).toEqual(model);
      }),
      { numRuns: 200 },
    );
  });

  it('describes the extents of a ragged range', () => {
    const disk = memoryTarget(16384);
    const found: number[] = [];
    alignedTarget(disk, 512).extents?.(100, 5000, (bytes) => {
      found.push(bytes);
      return true;
    });
    expect(found[0]).toBe(3996);
    expect(found.reduce((sum, bytes) => sum + bytes, 0)).toBeGreaterThanOrEqual(5000);
  });
});

describe('a simple disk', () => {
  it('answers at once, by promise, or with the error it threw', async () => {
    const bytes = new Uint8Array(4096).fill(3);
    const target = simpleTarget({
      sizeBytes: 4096,
      read(offset, out) {
        if (offset === 1) throw Object.assign(new Error('no space'), { errno: 28 });
        if (offset === 2) return Promise.reject(new Error('broken'));
        out.set(bytes.subarray(offset, offset + out.length));
        return offset === 3 ? Promise.resolve() : undefined;
      },
      write: () => {},
      flush: () => {
        throw new Error('no flush today');
      },
    });
    const answers: number[] = [];
    for (const offset of [0, 1, 2, 3]) target.read(offset, new Uint8Array(1), (errno) => answers.push(errno));
    await new Promise<void>((resolve) =>
      target.write?.(0, new Uint8Array(1), true, (errno) => {
        answers.push(errno);
        resolve();
      }),
    );
    await Promise.resolve();
    expect(answers.slice().sort((a, b) => a - b)).toEqual([0, 0, 5, 5, 28]);
  });
});
