import { describe, expect, it } from 'vitest';
import { ReplayError, replay, subsystems } from '../src/replay.ts';
import { linesOf, recordings, sha256 } from './recordings.ts';

describe('the recordings', () => {
  it('are all there', () => {
    expect(recordings).toHaveLength(15);
    expect(subsystems).toEqual(['gnttab']);
  });

  it.each(recordings)('%s is reproduced line by line', (name) => {
    const lines = linesOf(name);
    expect(replay(lines, { sha256 })).toEqual({ operations: lines.length - 1, difference: null });
  });

  it('differ where a value is changed, and the first difference is told', () => {
    const lines = linesOf('01-small-lists.jsonl.gz');
    lines[2] = lines[2]!.replace('"head":8', '"head":9');
    const { operations, difference } = replay(lines, { sha256 });
    expect(operations).toBe(2);
    expect(difference?.line).toBe(3);
    expect(difference?.expected).toContain('"head":9');
    expect(difference?.actual).toContain('"head":8');
  });

  it('differ where a checkpoint has another hash', () => {
    const lines = linesOf('01-small-lists.jsonl.gz');
    lines[1] = lines[1]!.replace('9fec52c5', '9fec52c6');
    expect(replay(lines, { sha256 }).difference?.line).toBe(2);
  });

  it('differ where they make a call that is refused', () => {
    const [head, checkpoint] = linesOf('01-small-lists.jsonl.gz');
    const line = '{"op":"freeGrantReference","args":{"ref":9},"ret":null,"free":505}';
    expect(replay([head!, checkpoint!, line], { sha256 }).difference).toMatchObject({
      line: 3,
      actual: '{"refused":"gref is 9, which is free; allowed is a claimed reference"}',
    });
  });
});

describe('a recording that cannot be used', () => {
  const head = linesOf('01-small-lists.jsonl.gz')[0]!;
  const unusable: [string, string[], string][] = [
    ['is empty', [], 'empty'],
    ['has no JSON in front', ['nonsense'], 'no JSON object'],
    ['is of another format', [head.replace('hv-trace/1', 'hv-trace/2')], 'format is hv-trace/2'],
    ['is of another subsystem', [head.replace('"gnttab"', '"vmap"')], 'subsystem is vmap'],
    [
      'has frames of another size',
      [head.replace('"grefsPerFrame":512', '"grefsPerFrame":500')],
      'config.grefsPerFrame is 500; allowed is 512',
    ],
    ['has a version nobody has', [head.replace('"version":1', '"version":3')], 'config.version is 3'],
    ['has a line that is no JSON', [head, '{"op":'], 'no JSON object'],
    ['has a line without an operation', [head, '{"ret":0}'], 'op is missing'],
    ['has an unknown operation', [head, '{"op":"fly","args":{},"ret":0,"free":0}'], 'op is fly'],
    [
      'has an argument of the wrong kind',
      [head, '{"op":"allocGrantReferences","args":{"list":0,"count":"x"},"ret":0,"free":0}'],
      'args.count is x',
    ],
    ['names a list that does not exist', [head, '{"op":"claimGrantReference","args":{"list":4},"ret":0,"free":0}'], 'args.list is 4'],
  ];

  it.each(unusable)('is refused with a typed error when it %s', (_title, lines, reason) => {
    expect(() => replay(lines, { sha256 })).toThrow(ReplayError);
    expect(() => replay(lines, { sha256 })).toThrow(reason);
  });
});
