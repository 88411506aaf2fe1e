import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { ReplayError, replay, subsystems } from '@paravirt/vmap/replay';
import { describe, expect, it } from 'vitest';

const folder = new URL('./recordings/', import.meta.url);
const needs = { sha256: (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex') };
const linesOf = (file: string): string[] =>
  gunzipSync(readFileSync(new URL(file, folder)))
    .toString('utf8')
    .trimEnd()
    .split('\n');

describe('recordings of the original', () => {
  const files = readdirSync(folder).filter((file) => file.endsWith('.jsonl.gz'));

  it('are all there', () => {
    expect(files.length).toBe(15);
    expect(subsystems).toEqual(['vmap']);
  });

  for (const file of files) {
    it(`${file.replace('.jsonl.gz', '')} is repeated line by line`, () => {
      const lines = linesOf(file);
      expect(replay(lines, needs)).toEqual({ operations: lines.length - 1, difference: null });
    });
  }
});

describe('a replay', () => {
  const lines = linesOf('cb-edges.jsonl.gz');
  const changed = (line: number, from: string, to: string): string[] =>
    lines.map((text, i) => (i === line - 1 ? text.replace(from, to) : text));

  it('stops at the first line that differs, and shows both sides', () => {
    const result = replay(changed(4, '"ret":3', '"ret":4'), needs);
    expect(result).toEqual({ operations: 3, difference: { line: 4, expected: '{"ret":4}', actual: '{"ret":3}' } });
  });

  it.each([
    [2, '"set":1', '"set":2'],
    [2, '0x4bb53254', '0x4bb53255'],
    [2, '"heapNext":1', '"heapNext":2'],
    [2, '0x45cb9d15', '0x45cb9d16'],
    [2, '"areaCount":0', '"areaCount":1'],
    [2, '0x811c9dc5', '0x811c9dc6'],
    [2, '"bitmap":[[0,1]]', '"bitmap":[[0,2]]'],
    [3, '"cbCalls":1', '"cbCalls":2'],
    [12, '"mfns":null', '"mfns":[]'],
    [19, '"warn":1', '"warn":2'],
    [19, ',"warn":1', ''],
    [28, '["0x100010",4]', '["0x100010",5]'],
    [28, '[6,32768]', '[7,32768]'],
  ])('sees a change of line %i from %s to %s', (line, from, to) => {
    const text = changed(line, from, to);
    expect(text).not.toEqual(lines);
    expect(replay(text, needs).difference?.line).toBe(line);
  });

  it.each([
    ['no line', []],
    ['a header of another subsystem', [lines[0]!.replace('"vmap"', '"gnttab"')]],
    ['a header without regions', [lines[0]!.replace('"regions"', '"areas"')]],
    ['a line that is not JSON', [lines[0]!, '{']],
    ['an operation that is not known', [lines[0]!, '{"op":"vremap","args":{},"ret":null}']],
    ['an address that is not hexadecimal', [lines[0]!, '{"op":"vmFree","args":{"va":"x"},"ret":null}']],
    ['an operation without arguments', [lines[0]!, '{"op":"vmFree","ret":null}']],
  ])('refuses %s', (_, text) => {
    expect(() => replay(text, needs)).toThrow(ReplayError);
  });
});
