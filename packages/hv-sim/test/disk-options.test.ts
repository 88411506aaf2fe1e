import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  attachDisk,
  blkback,
  corruptFilter,
  cowDisk,
  createMachine,
  createRandom,
  delayFilter,
  errorFilter,
  memoryDisk,
  nullDisk,
  serveDisks,
  tornFilter,
  volatileCacheFilter,
} from '../src/index.ts';
import { fileDisk, sparseDisk } from '../src/node.ts';

const sizeBytes = 1 << 20;
const inner = memoryDisk({ sizeBytes });
const random = createRandom(1);
const machine = createMachine({ seed: 1 });
const { scheduler } = machine;
/** Stands for what a caller without types may hand over. */
const wrong = (value: unknown): never => value as never;
const refusal = (code: string, more: object) => expect.objectContaining({ refusal: expect.objectContaining({ code, ...more }) });
const path = join(tmpdir(), 'hv-sim-never-made');

describe('an option that is none of those allowed', () => {
  const cases: [string, string, unknown, (value: never) => unknown][] = [
    ['memory disk', 'readonly', 'yes', (readonly) => memoryDisk({ sizeBytes, readonly })],
    ['memory disk', 'sectorBytes', '512', (sectorBytes) => memoryDisk({ sizeBytes, sectorBytes })],
    ['null disk', 'sizeBytes', '1048576', (bytes) => nullDisk({ sizeBytes: bytes })],
    ['cow disk', 'keepBase', 'yes', (keepBase) => cowDisk({ base: inner, keepBase })],
    ['file disk', 'create', 1, (create) => fileDisk({ path, sizeBytes, create })],
    ['file disk', 'readonly', 'no', (readonly) => fileDisk({ path, readonly })],
    ['sparse disk', 'direct', 0, (direct) => sparseDisk({ path, direct })],
    ['torn', 'pattern', 'foo', (pattern) => tornFilter(inner, { random, pattern })],
    ['torn', 'answer', 'maybe', (answer) => tornFilter(inner, { random, answer })],
    ['corrupt', 'bits', '2', (bits) => corruptFilter(inner, { rules: [], random, bits })],
    ['delay', 'ticks', '5', (ticks) => delayFilter(inner, { scheduler, ticks })],
    ['delay', 'readTicks', '5', (readTicks) => delayFilter(inner, { scheduler, readTicks })],
    ['volatile cache', 'cacheBytes', '4096', (cacheBytes) => volatileCacheFilter(inner, { random, cacheBytes })],
    ['volatile cache', 'survivors', 'some', (survivors) => volatileCacheFilter(inner, { random }).powerCut(survivors)],
  ];
  for (const [disk, option, value, make] of cases) {
    it(`is refused by name: ${option} ${JSON.stringify(value)} of a ${disk}`, () => {
      expect(() => make(wrong(value))).toThrow(refusal('bad-option', { disk, option, value: String(value) }));
    });
  }

  it('is refused in a rule', () => {
    for (const rule of [{ probability: '0.5' }, { atReach: '1' }, { times: '2' }, { offset: '0' }, { bytes: '512' }, { errno: '5' }]) {
      const allowed = expect.any(String);
      const name = Object.entries(rule)[0]!.join(' ');
      expect(() => errorFilter(inner, { rules: [wrong(rule)], random })).toThrow(refusal('bad-rule', { rule: name, allowed }));
    }
  });

  it('is refused by the backend', () => {
    for (const option of ['persistent', 'adopt', 'flush', 'barrier', 'discard']) {
      const expected = { option, value: 'no', allowed: 'true or false' };
      expect(() => blkback(wrong({ [option]: 'no' }))).toThrow(refusal('bad-option', expected));
    }
    expect(() => blkback(wrong({ protocolDefault: 'arm' }))).toThrow(refusal('bad-option', { option: 'protocolDefault' }));
  });

  it('is refused where a disk is attached, and nothing is written', () => {
    const host = serveDisks(machine.createDomain({ id: 0, pages: 64 }));
    const frontend = machine.createDomain({ pages: 64 }).id;
    for (const option of ['mode', 'deviceType', 'hotplug', 'removable', 'bootable', 'trusted', 'discard']) {
      const bad = wrong({ frontend, disk: inner, [option]: 'no' });
      expect(() => attachDisk(host, bad)).toThrow(refusal('bad-option', { option, value: 'no' }));
    }
    expect(host.store.list(`/local/domain/${frontend}/device`)).toEqual([]);
  });
});
