import { BlkbackError } from './errors.ts';
import type { BlkbackOptions } from './types.ts';

/** Options with every default filled in and every value checked. */
export type BlkbackSettings = Required<BlkbackOptions>;

const DEFAULTS: BlkbackSettings = {
  queuesMax: 4,
  ringPageOrderMax: 4,
  indirectSegmentsMax: 256,
  persistent: true,
  persistentMax: 1056,
  persistentIdleTicks: 60_000,
  mappedPagesMax: 1024,
  turnCost: 128,
  protocolDefault: 'x86_32',
  adopt: true,
  flush: true,
  barrier: true,
  discard: true,
};

function whole(option: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new BlkbackError({ code: 'bad-option', option, value: String(value), allowed: `a whole number from ${min} to ${max}` });
  }
}

/** @throws {BlkbackError} `bad-option` unless `value` is true or false. */
export function checkFlag(option: string, value: boolean): void {
  if (typeof value === 'boolean') return;
  throw new BlkbackError({ code: 'bad-option', option, value: String(value), allowed: 'true or false' });
}

/** @throws {BlkbackError} `bad-option` unless `value` is one of the two. */
export function checkEither<T extends string>(option: string, value: T, one: T, other: T): void {
  if (value === one || value === other) return;
  throw new BlkbackError({ code: 'bad-option', option, value: String(value), allowed: `${one} or ${other}` });
}

/** @throws {BlkbackError} `bad-option`. */
export function blkbackSettings(options: BlkbackOptions): BlkbackSettings {
  const settings: BlkbackSettings = { ...DEFAULTS, ...options };
  whole('queuesMax', settings.queuesMax, 1, 64);
  whole('ringPageOrderMax', settings.ringPageOrderMax, 0, 4);
  if (settings.indirectSegmentsMax !== 0) whole('indirectSegmentsMax', settings.indirectSegmentsMax, 11, 256);
  whole('persistentMax', settings.persistentMax, 1, 1 << 16);
  whole('persistentIdleTicks', settings.persistentIdleTicks, 1, 2 ** 31);
  whole('mappedPagesMax', settings.mappedPagesMax, 264, 1 << 20);
  whole('turnCost', settings.turnCost, 1, 1 << 20);
  checkEither('protocolDefault', settings.protocolDefault, 'x86_32', 'x86_64');
  for (const option of ['persistent', 'adopt', 'flush', 'barrier', 'discard'] as const) checkFlag(option, settings[option]);
  return settings;
}
