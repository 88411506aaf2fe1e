import type { Protocol } from '@paravirt/blkfront';
import type { FlagParametersForType } from '@stricli/core';
import type { DeviceChoice } from '../compose.ts';
import type { CliContext } from '../context.ts';
import { CliError, exitCodes } from '../errors.ts';
import { whole } from './numbers.ts';

/** Flags of every command that makes a device. */
export interface DeviceFlags {
  readonly queues?: number;
  readonly ringPages?: number;
  readonly indirect?: number;
  readonly persistent?: boolean;
  readonly pool?: number | 'full';
  readonly abi?: Protocol;
  readonly untrusted: boolean;
}

function ringPages(text: string): number {
  if (!/^(1|2|4|8|16)$/.test(text))
    throw new CliError(`--ring-pages is ${JSON.stringify(text)}; allowed is 1, 2, 4, 8 or 16`, exitCodes.usage);
  return Number(text);
}

/** As Xen names its architectures; both ARMs have one layout. */
const abis: Readonly<Record<string, Protocol>> = { x86_64: 'x86_64-abi', x86_32: 'x86_32-abi', arm: 'arm-abi', arm64: 'arm-abi' };

function abi(text: string): Protocol {
  const protocol = abis[text];
  if (protocol === undefined)
    throw new CliError(`--abi is ${JSON.stringify(text)}; allowed is ${Object.keys(abis).join(', ')}`, exitCodes.usage);
  return protocol;
}

export const deviceFlags: FlagParametersForType<DeviceFlags, CliContext> = {
  queues: { kind: 'parsed', parse: whole('queues', 1, 64), optional: true, brief: 'Rings of the device, 1 to 64' },
  ringPages: { kind: 'parsed', parse: ringPages, optional: true, brief: 'Pages of each ring: 1, 2, 4, 8 or 16' },
  indirect: { kind: 'parsed', parse: whole('indirect', 11, 256), optional: true, brief: 'Segments of a request, 11 (direct) to 256' },
  persistent: { kind: 'boolean', optional: true, brief: 'Keep grants mapped between requests' },
  pool: {
    kind: 'parsed',
    parse: (text: string) => (text === 'full' ? 'full' : whole('pool', 0, 1 << 20, 'a whole number from 0 to 1048576, or full')(text)),
    optional: true,
    brief: 'Grant references kept for each ring, or "full"',
  },
  abi: { kind: 'parsed', parse: abi, optional: true, brief: 'Layout on the ring: x86_64, x86_32, arm or arm64' },
  untrusted: { kind: 'boolean', default: false, brief: 'The guest shares no page with other data in it' },
};

/** The flags as the composer takes them. */
export function deviceChoice(flags: DeviceFlags): DeviceChoice {
  return {
    ...(flags.queues !== undefined && { queues: flags.queues }),
    ...(flags.ringPages !== undefined && { ringPages: flags.ringPages }),
    ...(flags.indirect !== undefined && { segments: flags.indirect }),
    ...(flags.persistent !== undefined && { persistent: flags.persistent }),
    ...(flags.pool !== undefined && { pool: flags.pool }),
    ...(flags.abi !== undefined && { protocol: flags.abi }),
    ...(flags.untrusted && { trusted: false }),
  };
}
