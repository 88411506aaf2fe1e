import { buildCommand, type Command } from '@stricli/core';
import type { CliContext } from '../context.ts';

export interface ConformFlags {
  readonly json: boolean;
}

export const conformCommand: Command<CliContext> = buildCommand<ConformFlags, string[], CliContext>({
  loader: async () => (await import('./conform-run.ts')).conform,
  parameters: {
    flags: { json: { kind: 'boolean', brief: 'Print one JSON object instead of lines', default: false } },
    positional: {
      kind: 'array',
      minimum: 1,
      parameter: { brief: 'A recording (.jsonl, .jsonl.gz) or a folder of them', parse: String, placeholder: 'path' },
    },
  },
  docs: {
    brief: 'Replay recordings of the original C code through the packages and compare every line',
    fullDescription: [
      'Replays recordings (a file or a folder, .jsonl or .jsonl.gz; the subsystem is taken from the header line) and prints a',
      'line a file: name, operations, and the first difference with its line number. The last line is "N passed, N failed".',
      '',
      'EXAMPLES',
      '  hvsim conform packages/gnttab/test/recordings',
      '  hvsim conform --json my-recording.jsonl | jq .files[0].difference',
      '',
      'EXIT CODES  0 no difference; 1 a difference; 2 an unreadable file, or a subsystem without a replayer.',
    ].join('\n'),
  },
});
