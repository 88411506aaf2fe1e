import { buildCommand, type Command } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { type DeviceFlags, deviceFlags } from './device-flags.ts';

export interface CpFlags extends DeviceFlags {
  readonly json: boolean;
}

export const cpCommand: Command<CliContext> = buildCommand<CpFlags, [string, string], CliContext>({
  loader: async () => (await import('./cp-run.ts')).cp,
  parameters: {
    flags: { ...deviceFlags, json: { kind: 'boolean', brief: 'Print the table as one JSON object', default: false } },
    positional: {
      kind: 'tuple',
      parameters: [
        { brief: 'The image to carry', parse: String, placeholder: 'src' },
        { brief: 'Where it goes; replaced only when everything compared equal', parse: String, placeholder: 'dst' },
      ],
    },
  },
  docs: {
    brief: 'Carry an image through the simulated disk and compare it on the way back',
    fullDescription: [
      "A guest writes SRC's bytes to a virtual disk backed by DST: grant entries, shared ring, event channel, mapping, file. It flushes,",
      'reads everything back the same way, and compares. DST appears under its own name only when all of that went well.',
      '',
      'EXAMPLES',
      '  hvsim cp disk.img copy.img',
      '  hvsim cp disk.img copy.img --queues 4 --indirect 256 --json | jq .requests',
      '',
      'EXIT CODES  0 carried and equal; 1 it differed or failed; 2 a wrong argument or a file that cannot be read; 130 interrupted.',
    ].join('\n'),
  },
});
