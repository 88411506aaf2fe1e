import { describe, expect, it } from 'vitest';
import { alignedTarget, type NbdTarget } from '../src/index.ts';
import { Client, memoryTarget, request } from './client.ts';

const KIB = 1024;

/** A memory disk that lends buffers, and a list of those that are out. */
function lender(options: { later?: boolean; buffers?: number } = {}) {
  const memory = memoryTarget(1 << 20, options);
  const out = new Set<Uint8Array>();
  const seen: { readonly kind: string; readonly offsetInBuffer: number }[] = [];
  let left = options.buffers ?? 4;
  const at = (kind: string, bytes: Uint8Array): void => {
    const lent = [...out].find(({ buffer }) => buffer === bytes.buffer);
    seen.push({ kind, offsetInBuffer: lent ? bytes.byteOffset - lent.byteOffset : -1 });
  };
  const target: NbdTarget = {
    ...memory,
    read(offset, into, done) {
      at('read', into);
      memory.read(offset, into, done);
    },
    write(offset, from, fua, done) {
      at('write', from);
      memory.write?.(offset, from, fua, done);
    },
    takeBuffer(bytes) {
      if (left === 0) return undefined;
      left -= 1;
      const buffer = new Uint8Array(bytes);
      out.add(buffer);
      return buffer;
    },
    giveBuffer(buffer) {
      expect(out.delete(buffer), 'a buffer is given back once').toBe(true);
      left += 1;
    },
  };
  return { memory, target, out, seen };
}

describe('memory that a target lends', () => {
  it.each([[false], [true]])(
    'is where long reads land, on a page of it, and goes back when the answer left (structured: %s)',
    (structured) => {
      const { memory, target, out, seen } = lender();
      memory.bytes.fill(9);
      memory.write?.(0, new Uint8Array(1 << 20).fill(5), false, () => {});
      const each = new Client({ exports: [{ name: '', target }] }).go({ structured });
      each.send(request({ type: 0, offset: 4096, length: 128 * KIB, handle: 3 }));
      if (structured) expect(each.takeChunk().payload.byteLength).toBe(8 + 128 * KIB);
      else {
        expect(each.takeSimple()).toEqual({ error: 0, handle: 3n });
        expect(new Uint8Array(each.take(128 * KIB).buffer).every((byte) => byte === 5)).toBe(true);
      }
      expect(each.received.length).toBe(0);
      expect(seen).toEqual([{ kind: 'read', offsetInBuffer: 4096 }]);
      expect(out.size).toBe(0);
    },
  );

  it('is where the payload of a long write is put together', () => {
    const { memory, target, out, seen } = lender();
    const each = new Client({ exports: [{ name: '', target: alignedTarget(target, 512) }] }).go();
    const payload = new Uint8Array(256 * KIB).map((_, at) => at & 0xff);
    each.send(request({ type: 1, offset: 512, length: payload.length }), payload.subarray(0, 100_000), payload.subarray(100_000));
    expect(each.takeSimple().error).toBe(0);
    expect(seen).toEqual([{ kind: 'write', offsetInBuffer: 0 }]);
    expect(memory.bytes.subarray(512, 512 + payload.length)).toEqual(payload);
    expect(out.size).toBe(0);
  });

  it('may run out: then the server takes its own', () => {
    const { target, out, seen } = lender({ later: true, buffers: 1 });
    const each = new Client({ exports: [{ name: '', target }] }).go();
    each.send(request({ type: 0, length: 64 * KIB }), request({ type: 0, length: 64 * KIB }));
    expect(seen.map(({ offsetInBuffer }) => offsetInBuffer)).toEqual([4096, -1]);
    expect(out.size).toBe(1);
  });

  it('goes back after a client vanished: at once what nobody writes into, the rest when the target is done', async () => {
    const { memory, target, out } = lender({ later: true });
    const each = new Client({ exports: [{ name: '', target }] }).go();
    each.stopReading();
    each.send(request({ type: 0, length: 64 * KIB }));
    memory.settle();
    // Answers from a later event leave at its end.
    await Promise.resolve();
    expect(out.size).toBe(1);
    each.readAgain();
    expect(out.size).toBe(0);
    each.stopReading();
    each.send(request({ type: 0, length: 64 * KIB }), request({ type: 0, length: 64 * KIB }));
    memory.settle([0]);
    each.send(request({ type: 1, length: 64 * KIB }), new Uint8Array(1000));
    each.connection.closed();
    expect(out.size).toBe(1);
    memory.settle();
    expect(out.size).toBe(0);
  });
});

describe('holes', () => {
  it('are told after the whole range was read, so that whatever stands before the disk saw the request', () => {
    const { memory, target, seen } = lender();
    memory.write?.(64 * KIB, new Uint8Array(4096).fill(7), false, () => {});
    memory.write?.(128 * KIB, new Uint8Array(8192).fill(8), false, () => {});
    const each = new Client({ exports: [{ name: '', target }] }).go({ structured: true });
    each.send(request({ type: 0, offset: 60 * KIB, length: 100 * KIB }));
    expect(seen).toHaveLength(1);
    const image = new Uint8Array(1 << 20).fill(1);
    let last = false;
    const types: number[] = [];
    while (!last) {
      const { flags, type, payload } = each.takeChunk();
      last = (flags & 1) !== 0;
      types.push(type);
      const offset = Number(payload.getBigUint64(0));
      if (type === 2) image.fill(0, offset, offset + payload.getUint32(8));
      else image.set(new Uint8Array(payload.buffer, 8), offset);
    }
    expect(types).toEqual([2, 1, 2, 1, 2]);
    expect(image.subarray(60 * KIB, 160 * KIB)).toEqual(memory.bytes.subarray(60 * KIB, 160 * KIB));
  });

  it('are not told where the read failed', () => {
    const { memory } = lender();
    const each = new Client({ exports: [{ name: '', target: { ...memory, read: (_offset, _into, done) => done(5) } }] }).go({
      structured: true,
    });
    each.send(request({ type: 0, length: 64 * KIB }));
    const { type, flags, payload } = each.takeChunk();
    expect([type, flags, payload.getUint32(0)]).toEqual([0x8001, 1, 5]);
    expect(each.received.length).toBe(0);
  });
});
