import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { replay } from '../src/replay.ts';

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
