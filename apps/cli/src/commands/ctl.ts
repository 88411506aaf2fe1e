import { buildCommand, type Command } from '@stricli/core';
import type { CliContext } from '../context.ts';

export interface CtlFlags {
  readonly control: string;
  readonly export: string;
}

export const ctlCommand: Command<CliContext> = buildCommand<CtlFlags, string[], CliContext>({
  loader: async () => (await import('./ctl-run.ts')).ctl,
  parameters: {
    flags: {
      control: { kind: 'parsed', parse: String, brief: 'The control socket of hvsim serve' },
      export: { kind: 'parsed', parse: String, default: '', brief: 'Which export' },
    },
    positional: { kind: 'array', minimum: 1, parameter: { brief: 'What to do', parse: String, placeholder: 'command' } },
  },
  docs: {
    brief: 'Turn filters on and off, pause, cut power and read counters while a client is attached',
    fullDescription: [
      'COMMANDS',
      '  filter on|off NAME     a filter by its name, such as error or delay',
      '  pause, resume          requests are taken, and nothing moves',
      '  power-cut [SURVIVORS]  what was not flushed survives at random, or none, or all of it; needs --filter volatile-cache',
      '  stats                  counters of the device, the backend, the filters and the server, as JSON',
      '',
      'EXAMPLES',
      '  hvsim ctl --control disk.ctl stats | jq .figures',
      '  hvsim ctl --control disk.ctl filter off error',
      '',
      'EXIT CODES  0 done; 1 refused; 2 no server at the control socket.',
    ].join('\n'),
  },
});
