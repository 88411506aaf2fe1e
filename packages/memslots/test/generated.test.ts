import { describe, expect, it } from 'vitest';
import { replay } from '../src/replay.ts';
import { generateRecording, type RecordingOptions } from '../src/testing.ts';

/** Goal: the package answers as the plain model does, step by step. Method: recordings the model writes from seeds, aimed at borders, limits and wraps. */
const shapes: Record<string, Omit<RecordingOptions, 'seed' | 'operations'>> = {
  'low frames, few ids': { frames: 'low', ids: 12 },
  'the whole 2^52 frames': { frames: 'wide', ids: 80 },
  'the ends of every range': { frames: 'edges', ids: 30 },
  'all frames mixed, all ids': {},
  'a cap on frames': { frames: 'edges', ids: 30, config: { maxGfn: '0xffffffffff' } },
  'logs cleared by hand': { frames: 'low', ids: 8, config: { manualDirtyLogProtect: 1 } },
  'logs that start full': { frames: 'low', ids: 8, config: { manualDirtyLogProtect: 3 } },
  'one address space, small limits': {
    ids: 5,
    config: {
      addressSpaces: 1,
      userMemSlots: 5,
      memSlotsNum: 7,
      maxPagesPerSlot: '0x40',
      userAddrLimit: '0x800000000000',
      maxGfn: '0x1fff',
    },
  },
  'host addresses of 57 bits': { ids: 30, config: { userAddrLimit: '0xfffffffffff000' } },
  'host addresses of all 64 bits': { ids: 30, config: { userAddrLimit: '0xffffffffffffffff', maxGfn: '0xffffffffffffffff' } },
  'three address spaces, many ids': { config: { addressSpaces: 3, userMemSlots: 32764, memSlotsNum: 32767 } },
};
const full = process.env['PARAVIRT_FULL'] !== undefined;
const seeds = full ? 200 : 4;
const operations = full ? 1500 : 600;

describe(`generated recordings: ${seeds} seeds of ${operations} operations for each shape`, () => {
  it.each(Object.entries(shapes))(
    'are answered as the plain model does: %s',
    (_, shape) => {
      for (let seed = 1; seed <= seeds; seed++) {
        const lines = [...generateRecording({ seed, operations, ...shape })];
        expect({ seed, ...replay(lines) }).toEqual({ seed, operations: lines.length - 1, difference: null });
      }
    },
    1_800_000,
  );

  it('are noticed when one answer in them is not what the package says', () => {
    const lines = [...generateRecording({ seed: 1, operations: 200, frames: 'low', ids: 12 })];
    for (const op of ['checkpoint', 'setUserMemoryRegion', 'gfnToHva', 'hvaRange', 'getDirtyLog', 'gfnToMemslot', 'isVisibleGfn']) {
      const at = lines.findIndex((line) => line.includes(`"op":"${op}"`));
      const line = JSON.parse(lines[at]!);
      const spoilt = op === 'checkpoint' ? { ...line, digest: '0x00000000' } : { ...line, ret: 'other' };
      const { difference } = replay(lines.with(at, JSON.stringify(spoilt)));
      expect(difference?.line).toBe(at + 1);
    }
  });
});
