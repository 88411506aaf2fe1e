import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { XenAbiError } from '../src/index.ts';
import { replay, subsystems } from '../src/replay.ts';

const folder = new URL('./recordings/', import.meta.url);
const needs = { sha256: (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex') };
const read = (name: string): string[] =>
  gunzipSync(readFileSync(new URL(name, folder)))
    .toString('utf8')
    .split('\n');

const RING = '{"format":"hv-trace/1","subsystem":"ring","config":{"abi":"x86_32","pages":1,"fill":0}}';
const REQUEST =
  '{"kind":"rw","operation":0,"nr_segments":1,"handle":1,"id":"0x0000000000000007","sector_number":"0x0000000000000000","seg":[]}';

describe('recordings of the ring and of structure encodings', () => {
  const names = readdirSync(folder).filter((name) => name.endsWith('.jsonl.gz'));

  it('are all there', () => {
    expect(names).toHaveLength(10);
    expect(subsystems).toEqual(['ring', 'abi']);
  });

  it.each(names)('%s replays without a difference', (name) => {
    const lines = read(name);
    const { operations, difference } = replay(lines, needs);
    expect(difference).toBeNull();
    expect(operations).toBe(lines.filter((line) => line !== '').length - 1);
  });

  it.each(names)('%s, with one result changed, is caught at that line', (name) => {
    const lines = read(name);
    const index = lines.findLastIndex((line) => line.includes('"bytes"'));
    const changed = lines.with(
      index,
      lines[index]!.replace(/("bytes": ?")(.)/, (_all, key: string, digit: string) => key + (digit === '0' ? '1' : '0')),
    );
    expect(replay(changed, needs).difference).toMatchObject({ line: index + 1 });
  });

  it.each([
    ['no lines', [], /recording is empty/],
    ['a header that is no JSON', ['{'], /line 1 is \{/],
    ['a header that is no object', ['7'], /line 1/],
    ['another format', ['{"format":"x"}'], /format, line 1 is "x"/],
    ['another subsystem', ['{"format":"hv-trace/1","subsystem":"gnttab"}'], /subsystem, line 1 is "gnttab"; allowed: "ring" or "abi"/],
    ['a ring without a configuration', ['{"format":"hv-trace/1","subsystem":"ring"}'], /config is missing/],
    ['seventeen pages', ['{"format":"hv-trace/1","subsystem":"ring","config":{"abi":"x86_64","pages":17,"fill":0}}'], /pages is 17/],
    [
      'a request whose segments are none',
      [RING, `{"op":"front.putRequest","req":${REQUEST.replace('[]', '[7]')}}`],
      /line 2: segment 0 is 7; allowed: a list/,
    ],
    [
      'an id of fifteen digits',
      [RING, `{"op":"front.putRequest","req":${REQUEST.replace('0x0', '0x')}}`],
      /line 2: id is 0x000000000000007;/,
    ],
    ['an unknown operation', ['{"format":"hv-trace/1","subsystem":"abi"}', '{"op":"decode"}'], /line 2: op is "decode"/],
    [
      'an unknown structure',
      ['{"format":"hv-trace/1","subsystem":"abi"}', '{"op":"encode","abi":"x86_64","struct":"x"}'],
      /line 2: struct is x/,
    ],
    [
      'a value out of range',
      ['{"format":"hv-trace/1","subsystem":"abi"}', '{"op":"encode","abi":"x86_64","struct":"evtchn_reset","fields":{"dom":65536}}'],
      /line 2: evtchn_reset.dom is 65536; allowed: a whole number from 0 to 65535/,
    ],
  ])('%s is refused by name', (_what, lines, message) => {
    expect(() => replay(lines, needs)).toThrow(XenAbiError);
    expect(() => replay(lines, needs)).toThrow(message);
  });
});
