import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Client, memoryTarget, request } from './client.ts';

const RUNS = process.env['PARAVIRT_FULL'] === undefined ? 200 : 5000;
const WRITE = 1;
const BYTES = 600;

/** The target answers what it has; the server's replies leave in a turn of their own. */
async function settled(target: { settle(): void }): Promise<void> {
  target.settle();
  await Promise.resolve();
}

describe('memory that a client was received in', () => {
  it('is needed while a write of an earlier piece is under way, also when the server had asked for a pause', async () => {
    const target = memoryTarget(1 << 16, { later: true });
    const client = new Client({ exports: [{ name: '', target }], limits: { connectionRequests: 1 } }).go();
    const second = [...request({ type: WRITE, offset: 512, length: 512, handle: 2 }), ...new Uint8Array(512).fill(2)];
    const first = Uint8Array.from([
      ...request({ type: WRITE, offset: 0, length: 512, handle: 1 }),
      ...new Uint8Array(512).fill(1),
      ...second.slice(0, 100),
    ]);
    expect(client.connection.data(first)).toBe(true);
    expect(client.paused).toBe(true);
    expect(client.connection.data(Uint8Array.from(second.slice(100)))).toBe(true);
    await settled(target);
    expect(client.takeSimple()).toEqual({ error: 0, handle: 1n });
  });

  it(`may be used for anything as soon as the server says so, in ${RUNS} divisions of a stream of writes`, async () => {
    const step = fc.record({ length: fc.integer({ min: 1, max: 1500 }), settle: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.array(step, { minLength: 1, maxLength: 40 }),
        async (connectionRequests, steps) => {
          const target = memoryTarget(1 << 16, { later: true });
          const client = new Client({ exports: [{ name: '', target }], limits: { connectionRequests } }).go();
          const writes = 20;
          const stream = Uint8Array.from(
            Array.from({ length: writes }, (_, at) => [
              ...request({ type: WRITE, offset: at * BYTES, length: BYTES, handle: at }),
              ...new Uint8Array(BYTES).fill(at + 1),
            ]).flat(),
          );
          const given: Uint8Array[] = [];
          let from = 0;
          for (const { length, settle } of [...steps, { length: stream.length, settle: true }]) {
            const chunk = stream.slice(from, from + length);
            from += chunk.length;
            if (chunk.length === 0) break;
            given.push(chunk);
            if (!client.connection.data(chunk)) for (const old of given.splice(0)) old.fill(0xff);
            if (settle) await settled(target);
          }
          for (let round = 0; round < writes; round += 1) await settled(target);
          for (let at = 0; at < writes; at += 1) {
            expect(new Set(target.bytes.subarray(at * BYTES, (at + 1) * BYTES))).toEqual(new Set([at + 1]));
          }
        },
      ),
      { numRuns: RUNS },
    );
  });
});
