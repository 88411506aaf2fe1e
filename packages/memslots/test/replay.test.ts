import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { RecordingError, replay, subsystems } from '../src/replay.ts';

const folder = new URL('./recordings/', import.meta.url);
const names = readdirSync(folder).filter((name) => name.endsWith('.jsonl.gz'));
const needs = { sha256: (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex') };
const linesOf = (name: string) =>
  gunzipSync(readFileSync(new URL(name, folder)))
    .toString()
    .trimEnd()
    .split('\n');

describe('recordings of the original', () => {
  it('are all here', () => {
    expect(names).toHaveLength(17);
  });

  it.each(names)('%s is answered line by line', (name) => {
    const lines = linesOf(name);
    expect(replay(lines, needs)).toEqual({ operations: lines.length - 1, difference: null });
  });
});

describe('a recording that cannot be read', () => {
  const config = {
    ...{ pageSize: 4096, userMemSlots: 4, memSlotsNum: 6, addressSpaces: 2, maxPagesPerSlot: '0x7fffffff' },
    ...{ userAddrLimit: '0x7ffffffff000', maxGfn: null, manualDirtyLogProtect: 0 },
  };
  const header = { format: 'hv-trace/1', subsystem: 'memslots', config };
  const lookup = { op: 'gfnToMemslot', args: { asId: 0, gfn: '0x0' }, ret: null };

  it.each([
    [1, []],
    [1, ['{']],
    [1, ['[]']],
    [1, [{ ...header, format: 'hv-trace/2' }]],
    [1, [{ ...header, subsystem: 'vmap' }]],
    [1, [{ ...header, config: null }]],
    [1, [{ ...header, config: { ...config, pageSize: 65536 } }]],
    [1, [{ ...header, config: { ...config, userMemSlots: 'many' } }]],
    [1, [{ ...header, config: { ...config, memSlotsNum: 3 } }]],
    [2, [header, 'null']],
    [2, [header, { op: 'gfnToPfn', args: {} }]],
    [2, [header, { op: 'toString', args: {} }]],
    [2, [header, { op: 'gfnToMemslot' }]],
    [2, [header, { op: 'gfnToMemslot', args: { asId: 0, gfn: '0x10000000000000000' } }]],
    [2, [header, { op: 'gfnToMemslot', args: { asId: 9, gfn: '0x0' } }]],
    [3, [header, lookup, { op: 'getDirtyLog', args: { slot: 'x', asId: 0 } }]],
    [3, [header, lookup, { op: 'setUserMemoryRegion', args: { slot: 0 } }]],
  ] as const)('is an error that names line %i: %j', (line, lines) => {
    const texts = lines.map((one) => (typeof one === 'string' ? one : JSON.stringify(one)));
    let error: unknown;
    try {
      replay(texts, needs);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(RecordingError);
    expect((error as RecordingError).line).toBe(line);
  });

  it('is told from one that differs, whose first difference is given', () => {
    const texts = [header, lookup, { ...lookup, ret: 3 }, '{'].map((one) => JSON.stringify(one));
    expect(replay(texts, needs)).toEqual({ operations: 2, difference: { line: 3, expected: '{"ret":3}', actual: '{"ret":null}' } });
    expect(subsystems).toEqual(['memslots']);
  });
});
