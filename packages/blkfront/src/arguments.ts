import { BlkfrontError } from './errors.ts';

/** @throws {BlkfrontError} `bad-argument`. */
export function refuse(argument: string, value: unknown, allowed: string): never {
  throw new BlkfrontError({ code: 'bad-argument', argument, value, allowed });
}

/** @throws {BlkfrontError} `bad-argument`: not a whole number from `least` to `most`. */
export function whole(argument: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) refuse(argument, value, `${least} to ${most}`);
  return value;
}

/** @throws {BlkfrontError} `bad-argument`: cannot be called. */
export function callable<T>(argument: string, value: T): T {
  if (typeof value !== 'function') refuse(argument, value, 'a function');
  return value;
}

/** @throws {BlkfrontError} `bad-argument`: there, and no boolean. */
export function flag(argument: string, value: unknown): boolean {
  if (value !== undefined && typeof value !== 'boolean') refuse(argument, value, 'true, false');
  return value === true;
}

/** @throws {BlkfrontError} `bad-argument`: no object. */
export function object<T>(argument: string, value: T): T {
  if (typeof value !== 'object' || value === null) refuse(argument, value, 'an object');
  return value;
}

/** The signal of a wait's options. @throws {BlkfrontError} `bad-argument`: no options, or no signal. */
export function signalOf<T extends { addEventListener: unknown }>(options: { readonly signal?: T } | undefined): T | undefined {
  if (options === undefined) return undefined;
  const { signal } = object('options', options);
  if (signal === undefined) return undefined;
  if (typeof signal !== 'object' || signal === null || typeof signal.addEventListener !== 'function') {
    refuse('signal', signal, 'an AbortSignal');
  }
  return signal;
}
