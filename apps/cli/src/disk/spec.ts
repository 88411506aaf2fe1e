import { CliError, exitCodes } from '../errors.ts';
import { parseSize, parseTimeUs } from '../fio/units.ts';

/** What `--disk` says. */
export type DiskSpec =
  | { readonly kind: 'mem' | 'null'; readonly bytes: number }
  | { readonly kind: 'file' | 'sparse' | 'cow'; readonly path: string; readonly bytes: number | undefined };

/** What one `--filter` says. Probabilities lie in 0..1, times are milliseconds. */
export type FilterSpec =
  | { readonly kind: 'delay'; readonly readMs: number; readonly writeMs: number; readonly flushMs: number; readonly discardMs: number }
  | { readonly kind: 'error' | 'corrupt' | 'torn'; readonly on: 'read' | 'write' | 'flush' | 'discard' | 'any'; readonly rate: number }
  | { readonly kind: 'stats' | 'readonly' | 'volatile-cache' };

const usage = (message: string): CliError => new CliError(message, exitCodes.usage);

function size(spec: string, text: string): number {
  let bytes: number;
  try {
    bytes = parseSize('size', text);
  } catch {
    throw usage(`--disk ${spec}: ${JSON.stringify(text)} is not a size; write it as 64M or 1G`);
  }
  if (bytes < 512 || bytes % 512 !== 0) throw usage(`--disk ${spec}: ${bytes} bytes; allowed is a multiple of 512 from 512 on`);
  return bytes;
}

/** `mem:1G`, `null:1G`, `file:PATH`, `sparse:PATH[,SIZE]`, `cow:PATH`. */
export function parseDisk(spec: string): DiskSpec {
  const at = spec.indexOf(':');
  const kind = at < 0 ? spec : spec.slice(0, at);
  const rest = at < 0 ? '' : spec.slice(at + 1);
  switch (kind) {
    case 'mem':
    case 'null':
      return { kind, bytes: size(spec, rest) };
    case 'file':
    case 'sparse':
    case 'cow': {
      const comma = /,([0-9][0-9.]*[kmgtKMGT]?(?:i?[bB])?)$/.exec(rest);
      const path = comma ? rest.slice(0, comma.index) : rest;
      if (path === '') throw usage(`--disk ${spec}: a path is missing; write ${kind}:PATH`);
      return { kind, path, bytes: comma ? size(spec, comma[1] as string) : undefined };
    }
    default:
      throw usage(`--disk ${spec}: known are mem:SIZE, null:SIZE, file:PATH, sparse:PATH[,SIZE], cow:PATH`);
  }
}

function rate(spec: string, text: string): number {
  const match = /^(\d+(?:\.\d+)?)(%?)$/.exec(text);
  const value = match ? Number(match[1]) / (match[2] === '%' ? 100 : 1) : Number.NaN;
  if (!(value >= 0 && value <= 1)) throw usage(`--filter ${spec}: ${JSON.stringify(text)} is not a share; write it as 1% or 0.01`);
  return value;
}

function milliseconds(spec: string, text: string): number {
  try {
    return parseTimeUs('delay', text, 1e3) / 1e3;
  } catch {
    throw usage(`--filter ${spec}: ${JSON.stringify(text)} is not a time; write it as 2ms or 500us`);
  }
}

/** `delay=2ms`, `delay=read:2ms,write:5ms`, `error=read:1%`, `corrupt=write:0.1%`, `torn`, `stats`, `readonly`, `volatile-cache`. */
export function parseFilter(spec: string): FilterSpec {
  const at = spec.indexOf('=');
  const kind = at < 0 ? spec : spec.slice(0, at);
  const value = at < 0 ? undefined : spec.slice(at + 1);
  switch (kind) {
    case 'delay': {
      if (value === undefined) throw usage('--filter delay: a time is missing; write delay=2ms or delay=read:2ms,write:5ms');
      const times = { read: 0, write: 0, flush: 0, discard: 0 };
      for (const part of value.split(',')) {
        const [on, time] = part.includes(':') ? (part.split(':') as [string, string]) : ['any', part];
        if (on === 'any') times.read = times.write = times.flush = times.discard = milliseconds(spec, time);
        else if (Object.hasOwn(times, on)) times[on as keyof typeof times] = milliseconds(spec, time);
        else throw usage(`--filter ${spec}: ${JSON.stringify(on)} is no operation; known are ${Object.keys(times).join(', ')}`);
      }
      return { kind, readMs: times.read, writeMs: times.write, flushMs: times.flush, discardMs: times.discard };
    }
    case 'error':
    case 'corrupt':
    case 'torn': {
      const defaultOn = kind === 'error' ? 'any' : kind === 'torn' ? 'write' : 'read';
      if (value === undefined) return { kind, on: defaultOn, rate: kind === 'torn' ? 0.01 : 1 };
      const [on, share] = value.includes(':') ? (value.split(':') as [string, string]) : [defaultOn, value];
      const allowed = kind === 'error' ? ['read', 'write', 'flush', 'discard', 'any'] : kind === 'torn' ? ['write'] : ['read', 'write'];
      if (!allowed.includes(on)) throw usage(`--filter ${spec}: ${JSON.stringify(on)} is no operation; known are ${allowed.join(', ')}`);
      return { kind, on: on as 'read', rate: rate(spec, share) };
    }
    case 'stats':
    case 'readonly':
    case 'volatile-cache':
      if (value !== undefined) throw usage(`--filter ${spec}: ${kind} takes no value`);
      return { kind };
    default:
      throw usage(
        `--filter ${spec}: known are delay=TIME, error=OP:SHARE, corrupt=OP:SHARE, torn[=SHARE], stats, readonly, volatile-cache`,
      );
  }
}
