import { buildCommand, type Command } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { type DeviceFlags, deviceFlags } from './device-flags.ts';
import { seed } from './numbers.ts';

export interface DemoFlags extends DeviceFlags {
  readonly json: boolean;
  readonly seed: number;
}

export const demoCommand: Command<CliContext> = buildCommand<DemoFlags, [], CliContext>({
  loader: async () => (await import('./demo-run.ts')).demo,
  parameters: {
    flags: {
      ...deviceFlags,
      json: { kind: 'boolean', brief: 'Print one JSON object', default: false },
      seed: { kind: 'parsed', parse: seed, default: '1', brief: 'Decides every step' },
    },
  },
  docs: {
    brief: 'Run a mixed workload on an embedded disk and show what moved',
    fullDescription: [
      'What `npm start` runs: no flags, no services, no files.',
      '',
      'EXAMPLES',
      '  hvsim demo',
      '  hvsim demo --queues 4 --json',
    ].join('\n'),
  },
});
