import { BLKIF_OP } from '@paravirt/xen-abi';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { connected, settled } from './fixture.ts';

const SECTORS = 1024;
const runs = process.env['PARAVIRT_FULL'] === undefined ? 80 : 1500;

const disk = fc.record({ sectorBytes: fc.constantFrom(512, 4096), granule: fc.integer({ min: 1, max: 40 }), shift: fc.nat(39) });
const range = fc.record({ from: fc.nat(SECTORS - 1), count: fc.integer({ min: 1, max: 400 }) });

/**
 * Goal: zeroes may be written by discarding, but the range reads as zeroes afterwards and nothing else is touched.
 * Method: a backend that discards whole granules only, as a real one may, and any granule, shift and range; it may take its discard
 * back at any time.
 */
describe('zeroes written by discarding', () => {
  it(`are where they were asked for and nowhere else, whatever the granules of the disk: ${runs} ranges`, async () => {
    await fc.assert(
      fc.asyncProperty(disk, range, fc.boolean(), fc.nat(3), async (geometry, asked, persistent, discards) => {
        const unit = geometry.sectorBytes / 512;
        const granule = geometry.granule * unit;
        const shift = (geometry.shift % geometry.granule) * unit;
        const { world, back, dev } = connected(
          { discardZeroes: true, persistent, maxSegments: 11 },
          {
            sectors: SECTORS,
            sectorBytes: geometry.sectorBytes,
            persistent,
            discard: true,
            discardGranularity: granule * 512,
            discardAlignment: shift * 512,
          },
        );
        const carryOut = back.carryOut.bind(back);
        let left = discards;
        back.carryOut = (seen) => {
          if (seen.inner !== BLKIF_OP.DISCARD) return carryOut(seen);
          if (left-- === 0) return -2;
          const first = Math.ceil((seen.sector - shift) / granule) * granule + shift;
          const end = Math.floor((seen.sector + seen.nrSectors - shift) / granule) * granule + shift;
          if (end > first) back.disk.fill(0, first * 512, end * 512);
          return 0;
        };
        const from = asked.from - (asked.from % unit);
        const count = Math.min(Math.ceil(asked.count / unit) * unit, SECTORS - from);
        for (let again = 0; again < 2; again++) {
          back.disk.fill(9);
          await settled(world, dev.writeZeroes(from, count));
          const expected = new Uint8Array(SECTORS * 512).fill(9).fill(0, from * 512, (from + count) * 512);
          expect(Buffer.compare(back.disk, expected)).toBe(0);
        }
        const whole = Math.floor((from + count - shift) / granule) - Math.ceil((from - shift) / granule);
        if (whole > 0 && from >= shift) expect(back.seen.some(({ inner }) => inner === BLKIF_OP.DISCARD)).toBe(true);
        expect(back.errors).toEqual([]);
      }),
      { numRuns: runs },
    );
  });
});
