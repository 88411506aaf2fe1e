import { buildCommand, type Command } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { type DeviceFlags, deviceFlags } from './device-flags.ts';
import { seed } from './numbers.ts';

export interface RunFlags extends DeviceFlags {
  readonly disk: string;
  readonly filter?: readonly string[];
  readonly plugin?: readonly string[];
  readonly driver?: string;
  readonly seed: number;
  readonly wall: boolean;
  readonly serviceTime: string;
  readonly outputFormat: 'normal' | 'json' | 'json+' | 'terse';
  readonly output?: string;
  readonly iologVersion: '2' | '3';
  readonly json: boolean;
}

export const runCommand: Command<CliContext> = buildCommand<RunFlags, string[], CliContext>({
  loader: async () => (await import('./run-run.ts')).run,
  parameters: {
    flags: {
      disk: { kind: 'parsed', parse: String, default: 'mem:64M', brief: 'mem:SIZE, file:PATH, sparse:PATH[,SIZE], cow:PATH, null:SIZE' },
      filter: {
        kind: 'parsed',
        parse: String,
        variadic: true,
        optional: true,
        brief: 'delay=2ms, error=read:1%, corrupt=write:0.1%, torn, stats, readonly, volatile-cache',
      },
      plugin: {
        kind: 'parsed',
        parse: String,
        variadic: true,
        optional: true,
        brief: 'A module with disks, filters or drivers of your own',
      },
      driver: { kind: 'parsed', parse: String, optional: true, brief: 'A driver of a plugin, instead of blkfront' },
      seed: { kind: 'parsed', parse: seed, default: '1', brief: 'Decides every step; the same seed gives the same output' },
      wall: { kind: 'boolean', default: false, brief: "Use the host's time instead of the machine's" },
      serviceTime: {
        kind: 'parsed',
        parse: String,
        default: '5us',
        brief: 'What a request costs in virtual time, beside 0.5 ns a byte; 0 for nothing',
      },
      outputFormat: {
        kind: 'enum',
        values: ['normal', 'json', 'json+', 'terse'],
        default: 'normal',
        brief: 'As fio: normal, json, json+ or terse (version 3)',
      },
      output: { kind: 'parsed', parse: String, optional: true, brief: 'Write the report to a file' },
      iologVersion: { kind: 'enum', values: ['2', '3'], default: '3', brief: 'Version of the traces that write_iolog writes' },
      json: { kind: 'boolean', default: false, brief: 'The same as --output-format=json' },
      ...deviceFlags,
    },
    positional: { kind: 'array', minimum: 1, parameter: { brief: 'A fio job file', parse: String, placeholder: 'job.fio' } },
  },
  docs: {
    brief: 'Run fio job files on the simulated disk',
    fullDescription: [
      'Reads job files as fio does, and runs them through blkfront, ring, grants and blkback on any disk: in virtual time, where the same',
      'seed gives the same result to the last digit, or in real time with --wall. Traces are replayed by read_iolog: fio iolog 2 and 3,',
      'blkparse text, blktrace binary, and CSV of MSR Cambridge, Alibaba, Tencent and SPC.',
      '',
      'EXAMPLES',
      '  hvsim run job.fio',
      '  hvsim run job.fio --disk file:disk.img --queues 4 --output-format=json --output report.json',
      '  hvsim run job.fio --disk cow:disk.img --wall',
      '  hvsim run job.fio --filter delay=2ms --filter error=read:1%',
      '',
      'EXIT CODES  0 no job had an error; 1 a job had one, or a job file cannot be run; 2 a wrong argument or unreadable file; 130 interrupted.',
    ].join('\n'),
  },
});
