import { buildCommand, type Command } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { type DeviceFlags, deviceFlags } from './device-flags.ts';
import { seed } from './numbers.ts';

export interface ServeFlags extends DeviceFlags {
  readonly disk: string;
  readonly filter?: readonly string[];
  readonly plugin?: readonly string[];
  readonly driver?: string;
  readonly export?: readonly string[];
  readonly socket?: string;
  readonly listen?: string;
  readonly allowRemote: boolean;
  readonly control?: string;
  readonly writeIolog?: string;
  readonly poll: boolean;
  readonly seed: number;
  readonly json: boolean;
}

export const serveCommand: Command<CliContext> = buildCommand<ServeFlags, [], CliContext>({
  loader: async () => (await import('./serve-run.ts')).serve,
  parameters: {
    flags: {
      disk: { kind: 'parsed', parse: String, default: 'mem:1G', brief: 'mem:SIZE, file:PATH, sparse:PATH[,SIZE], cow:PATH, null:SIZE' },
      filter: {
        kind: 'parsed',
        parse: String,
        variadic: true,
        optional: true,
        brief: 'delay=2ms, error=read:1%, corrupt=write:0.1%, torn, stats, readonly, volatile-cache',
      },
      export: {
        kind: 'parsed',
        parse: String,
        variadic: true,
        optional: true,
        brief: 'One more export, NAME=DISK; the one of --disk has the empty name',
      },
      socket: { kind: 'parsed', parse: String, optional: true, brief: 'Unix socket to listen on' },
      listen: { kind: 'parsed', parse: String, optional: true, brief: 'Loopback address to listen on, 127.0.0.1:PORT' },
      allowRemote: { kind: 'boolean', default: false, brief: 'Let --listen name an address that others can reach' },
      control: { kind: 'parsed', parse: String, optional: true, brief: 'Unix socket for hvsim ctl' },
      writeIolog: { kind: 'parsed', parse: String, optional: true, brief: "Record every request in fio's format" },
      poll: { kind: 'boolean', default: true, brief: 'Wait for the next request without sleep, 0.2 ms at most, where that is quicker' },
      plugin: {
        kind: 'parsed',
        parse: String,
        variadic: true,
        optional: true,
        brief: 'A module with disks, filters or drivers of your own',
      },
      driver: { kind: 'parsed', parse: String, optional: true, brief: 'A driver of a plugin, instead of blkfront' },
      seed: { kind: 'parsed', parse: seed, default: '1', brief: 'Decides what filters do' },
      ...deviceFlags,
      json: { kind: 'boolean', default: false, brief: 'Print JSON: a line when ready, a line at the end' },
    },
  },
  docs: {
    brief: 'Serve the simulated disk to fio, qemu-img, nbdcopy and whatever speaks NBD',
    fullDescription: [
      'Every byte goes through blkfront, ring, grants and blkback. It listens on a Unix socket or on loopback.',
      'SIGTERM and Ctrl-C end it in order: requests under way are answered, the disk is flushed.',
      '',
      'EXAMPLES',
      '  hvsim serve --disk mem:1G --socket disk.sock',
      "  fio --name=v --ioengine=nbd --uri='nbd+unix:///?socket=disk.sock' --rw=randwrite --bs=4k --size=32m --verify=crc32c",
      '  hvsim serve --disk file:disk.img --filter volatile-cache --socket disk.sock --control disk.ctl',
      '  hvsim serve --disk mem:64M --export scratch=mem:16M --listen 127.0.0.1:10809',
      '',
      'EXIT CODES  0 ended by a signal; 1 it failed; 2 a wrong argument, or a socket that is in use.',
    ].join('\n'),
  },
});
