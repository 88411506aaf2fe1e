import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { IologWriter, parseIolog } from '../src/fio/iolog.ts';
import type { Step } from '../src/fio/source.ts';
import { detectTrace, parseTrace } from '../src/fio/traces.ts';

const bytesOf = (name: string): Uint8Array => readFileSync(new URL(`workloads/${name}`, import.meta.url));
const counts = (steps: readonly Step[]): Record<string, number> => {
  const found: Record<string, number> = {};
  for (const { kind } of steps) found[kind] = (found[kind] ?? 0) + 1;
  return found;
};
const text = (content: string): Uint8Array => new TextEncoder().encode(content);

describe('traces', () => {
  it('of fio, versions 2 and 3, are the same 27 reads, 21 writes and 4 syncs', () => {
    const [two, three] = ['mixed-xvda.v2.iolog', 'mixed-xvda.v3.iolog'].map((name) => parseTrace(bytesOf(name))) as [
      readonly Step[],
      readonly Step[],
    ];
    expect(counts(two)).toEqual({ read: 27, write: 21, sync: 4 });
    const shape = (steps: readonly Step[]): unknown => steps.map(({ kind, offset, bytes }) => [kind, offset, bytes]);
    expect(shape(three)).toEqual(shape(two));
    expect(three.at(-1)?.notBeforeNs).toBeGreaterThan(0);
  });

  it('of blkparse have the 9 reads, 4 writes, 5 discards and 2 flushes that its summary has', () => {
    expect(counts(parseTrace(bytesOf('xvda.blkparse.txt')))).toEqual({ read: 9, write: 4, trim: 5, sync: 2 });
  });

  it('of blktrace in binary, both processors together, are the same requests as blkparse tells', () => {
    const joined = Buffer.concat([bytesOf('xvda.blktrace.0'), bytesOf('xvda.blktrace.1')]);
    const shape = (steps: readonly Step[]): unknown => steps.map(({ kind, offset, bytes }) => [kind, offset, bytes]).sort();
    expect(shape(parseTrace(joined))).toEqual(shape(parseTrace(bytesOf('xvda.blkparse.txt'))));
  });

  it.each([
    [
      'msr',
      'Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime\n128166372003061629,usr,0,Read,7014609920,24576,41286\n128166372016382155,usr,0,Write,2517110784,4096,54108\n',
    ],
    ['alibaba', '419,W,8792731648,16384,1577808144360767\n725,R,59110326272,4096,1577808144361867\n'],
    ['tencent', '1538323200,12910952,128,0,1063\n1538323201,6160447,8,1,1071\n'],
    ['spc', '0,303567,3584,w,0.000000\n1,1209856,15872,R,0.026214\n'],
  ] as const)('of %s are told from their columns and read in their units', (format, content) => {
    expect(detectTrace(text(content))).toBe(format);
    expect(parseTrace(text(content))).toMatchSnapshot();
  });

  it('that are cut off or no trace at all are refused with their line', () => {
    expect(() => parseTrace(text('fio version 9 iolog\n'))).toThrow('line 1');
    expect(() => parseTrace(text('fio version 3 iolog\n1 f read x 4096\n'))).toThrow('iolog line 2: "x" is not a whole number');
    expect(() => parseTrace(text('hello\n'))).toThrow('no trace that is known');
    expect(() => parseTrace(bytesOf('xvda.blktrace.0').subarray(0, 100))).toThrow('cut off');
    expect(() => parseTrace(text('419,W,1,2,3\n419,Q,1,2,3\n'))).toThrow('Alibaba trace line 2');
  });

  it('written in either version read back as what was written', () => {
    for (const version of [2, 3] as const) {
      let out = '';
      const writer = new IologWriter(version, 'disk', (line) => {
        out += line;
      });
      writer.io('read', 4096, 512, 0);
      writer.io('write', 0, 8192, 1_500_000);
      writer.io('sync', 0, 0, 2_000_000);
      writer.close(3_000_000);
      expect(parseIolog(out)).toEqual([
        { kind: 'read', offset: 4096, bytes: 512, notBeforeNs: 0 },
        { kind: 'write', offset: 0, bytes: 8192, notBeforeNs: 1_500_000 },
        { kind: 'sync', offset: 0, bytes: 0, notBeforeNs: 2_000_000 },
      ]);
    }
  });
});
