import { JobError } from './errors.ts';

const powers: Readonly<Record<string, number>> = { '': 0, k: 1, m: 2, g: 3, t: 4, p: 5 };

/**
 * A size as fio reads it with its default kb_base=1024: `4k`, `4kb` and `4ki` are 4096, `4kib` is 4000 (measured with fio 3.33, whose
 * manual says otherwise of `4ki`). Hexadecimal and plain bytes too.
 */
export function parseSize(key: string, text: string): number {
  const match = /^(0x[0-9a-f]+|\d+(?:\.\d+)?)\s*([kmgtp]?)(ib|i|b)?$/i.exec(text.trim());
  if (!match) throw new JobError(`${key}=${text}: a size is a number with k, m, g, t or p, such as 4k`);
  const [, digits, prefix, suffix] = match as unknown as [string, string, string, string | undefined];
  const base = suffix?.toLowerCase() === 'ib' ? 1000 : 1024;
  const bytes = Number(digits) * base ** (powers[prefix.toLowerCase()] as number);
  if (!Number.isSafeInteger(Math.floor(bytes))) throw new JobError(`${key}=${text}: too large; at most 2^53 bytes`);
  return Math.floor(bytes);
}

const unitsUs: Readonly<Record<string, number>> = {
  us: 1,
  usec: 1,
  ms: 1e3,
  msec: 1e3,
  s: 1e6,
  sec: 1e6,
  m: 6e7,
  min: 6e7,
  h: 3.6e9,
  d: 8.64e10,
};

/** A time in microseconds. Without a unit it counts `defaultUnitUs`: seconds for runtimes, microseconds for think times. */
export function parseTimeUs(key: string, text: string, defaultUnitUs: number): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
  const unit = match?.[2]?.toLowerCase() ?? '';
  const factor = unit === '' ? defaultUnitUs : unitsUs[unit];
  if (!match || factor === undefined) throw new JobError(`${key}=${text}: a time is a number with us, ms, s, m, h or d`);
  return Number(match[1]) * factor;
}

/** A whole number in a range. */
export function parseCount(key: string, text: string, min: number, max: number): number {
  const match = /^(0x[0-9a-f]+|\d+)([kmg]?)$/i.exec(text.trim());
  const value = match ? Number(match[1]) * 1024 ** (powers[(match[2] as string).toLowerCase()] as number) : Number.NaN;
  if (!(value >= min && value <= max)) throw new JobError(`${key}=${text}: allowed is a whole number from ${min} to ${max}`);
  return value;
}

/** `key` alone is true; `key=0` is false. */
export function parseBool(key: string, text: string | true): boolean {
  if (text === true || text === '1' || text === 'true') return true;
  if (text === '0' || text === 'false') return false;
  throw new JobError(`${key}=${text}: allowed is 0 or 1`);
}
