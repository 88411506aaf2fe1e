import { buildCommand, type Command } from '@stricli/core';
import type { CliContext } from '../context.ts';

export interface DoctorFlags {
  readonly json: boolean;
}

export const doctorCommand: Command<CliContext> = buildCommand<DoctorFlags, [], CliContext>({
  loader: async () => (await import('./doctor-run.ts')).doctor,
  parameters: { flags: { json: { kind: 'boolean', default: false, brief: 'Print JSON' } } },
  docs: {
    brief: 'Say what this machine lacks',
    fullDescription: [
      'Looks for the versions and programs that hvsim and its tests can use, and says what each is for and which Debian package has it.',
      '',
      'EXAMPLES',
      '  hvsim doctor',
      '',
      'EXIT CODES  0 everything hvsim itself needs is there; 1 it is not.',
    ].join('\n'),
  },
});
