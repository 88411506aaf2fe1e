import { memoryDisk } from '@paravirt/hv-sim';
import type { NbdTarget } from '@paravirt/nbd';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { OpenedDisk } from '../src/disk/open.ts';
import { type ServedOptions, serveDisk } from '../src/serve/served-disk.ts';

const BYTES = 2 << 20;
const RUNS = process.env['PARAVIRT_FULL'] ? 400 : 40;

/** A memory disk with sectors of a size of its own, served. */
function served(sectorBytes: number, shape: Partial<ServedOptions> = {}) {
  const base = memoryDisk({ sizeBytes: BYTES, sectorBytes });
  const disk: OpenedDisk = { base, build: () => base, filters: [], faults: () => [], close: () => base.close() };
  const each = serveDisk({ disk, seed: 1, ...shape });
  const now = (begin: (target: NbdTarget, done: (errno: number) => void) => void): number | undefined => {
    let errno: number | undefined;
    begin(each.target, (status) => {
      errno = status;
    });
    each.target.kick?.();
    return errno;
  };
  return { ...each, served: each, now };
}

/** Goal: bytes are where they were put. Method: random writes, zeroes and reads of any alignment, beside an array; some in memory that the disk lends. */
describe.each([512, 4096])('a served disk with sectors of %i bytes', (sectorBytes) => {
  it.each([
    ['as it is', {}],
    ['on two queues without persistent grants', { queues: 2, persistent: false }],
    ['with direct requests alone', { segments: 11, ringPages: 2 }],
  ] as [string, Partial<ServedOptions>][])(`holds what was written, ${RUNS} random runs (%s)`, (_name, shape) => {
    const { now, served: each, target } = served(sectorBytes, shape);
    const model = new Uint8Array(BYTES);
    let fill = 0;
    const range = fc.record({
      offset: fc.nat(BYTES - 1),
      bytes: fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 1, max: 700_000 })),
    });
    const step = fc.tuple(fc.constantFrom('read', 'write', 'zero', 'trim'), range, fc.boolean(), fc.boolean());
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        for (const [kind, { offset, bytes: wanted }, lend, align] of steps) {
          const at = align ? offset - (offset % sectorBytes) : offset;
          let bytes = Math.min(wanted, BYTES - at);
          if (align) bytes = Math.max(sectorBytes, bytes - (bytes % sectorBytes));
          const slot = lend ? target.takeBuffer?.(bytes) : undefined;
          const buffer = slot?.subarray(0, bytes) ?? new Uint8Array(bytes);
          if (kind === 'read') {
            expect(now((to, done) => to.read(at, buffer, done))).toBe(0);
            expect(Buffer.compare(buffer, model.subarray(at, at + bytes))).toBe(0);
          } else if (kind === 'write') {
            fill = (fill % 255) + 1;
            buffer.fill(fill);
            expect(now((to, done) => to.write?.(at, buffer, fill % 5 === 0, done))).toBe(0);
            model.fill(fill, at, at + bytes);
          } else if (kind === 'zero') {
            expect(now((to, done) => to.writeZeroes?.(at, bytes, { fua: false, noHole: false, fast: false }, done))).toBe(0);
            model.fill(0, at, at + bytes);
          } else {
            expect(now((to, done) => to.trim?.(at, bytes, false, done))).toBe(0);
            // What was trimmed reads as zeroes on this disk, in whole sectors.
            const from = Math.ceil(at / sectorBytes) * sectorBytes;
            const to = Math.floor((at + bytes) / sectorBytes) * sectorBytes;
            if (to > from) model.fill(0, from, to);
          }
          if (slot) target.giveBuffer?.(slot);
        }
      }),
      { numRuns: RUNS, seed: 7 },
    );
    expect(each.buffersLent).toBe(0);
    each.close();
  });
});
