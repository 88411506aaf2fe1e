import { object, refuse, whole } from './arguments.ts';
import type { BlkfrontOptions, Protocol } from './types.ts';

/** Options with every default filled in. */
export type CheckedOptions = Required<BlkfrontOptions>;

const PROTOCOLS: readonly Protocol[] = ['x86_64-abi', 'x86_32-abi', 'arm-abi'];

/** @throws {BlkfrontError} `bad-argument`, naming the option. */
export function checkOptions(options: BlkfrontOptions): CheckedOptions {
  const {
    device,
    protocol = 'x86_64-abi',
    queues = 1,
    ringPages = 1,
    maxSegments = 32,
    persistent = true,
    poolRefs = 11,
    poolOrder = 'lifo',
    purgeTicks = 10_000,
    closeTicks = 30_000,
    reconnectTicks = 60_000,
    quarantineTicks = 10,
    stormUpcalls = 64,
    stormTicks = 10,
    discardZeroes = false,
  } = object('options', options);
  whole('device', device, 0, 0xffff_ffff);
  if (!PROTOCOLS.includes(protocol)) refuse('protocol', protocol, PROTOCOLS.join(', '));
  whole('queues', queues, 1, 64);
  if (whole('ringPages', ringPages, 1, 16) && (ringPages & (ringPages - 1)) !== 0) refuse('ringPages', ringPages, '1, 2, 4, 8, 16');
  whole('maxSegments', maxSegments, 11, 256);
  for (const [name, flag] of Object.entries({ persistent, discardZeroes })) {
    if (typeof flag !== 'boolean') refuse(name, flag, 'true, false');
  }
  if (poolRefs !== 'full' && (!Number.isInteger(poolRefs) || poolRefs < 0 || poolRefs > 1 << 20)) {
    refuse('poolRefs', poolRefs, `0 to ${1 << 20}, full`);
  }
  if (poolOrder !== 'lifo' && poolOrder !== 'fifo') refuse('poolOrder', poolOrder, 'lifo, fifo');
  for (const [name, ticks] of Object.entries({ purgeTicks, closeTicks, quarantineTicks, stormTicks })) whole(name, ticks, 1, 2 ** 31 - 1);
  whole('reconnectTicks', reconnectTicks, 0, 2 ** 31 - 1);
  whole('stormUpcalls', stormUpcalls, 1, 2 ** 31 - 1);
  return {
    device,
    protocol,
    queues,
    ringPages,
    maxSegments,
    persistent,
    poolRefs,
    poolOrder,
    purgeTicks,
    closeTicks,
    reconnectTicks,
    quarantineTicks,
    stormUpcalls,
    stormTicks,
    discardZeroes,
  };
}
