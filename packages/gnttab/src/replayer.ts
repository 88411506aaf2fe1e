import { entriesPerFrame } from './entries.ts';
import { GrantError } from './errors.ts';
import { ReplayError } from './replay-error.ts';
import { type Config, ReplayMachine } from './replay-machine.ts';

/** What the replayer takes from its user; other packages' recordings need the hash. */
export interface ReplayNeeds {
  /** The hash in hexadecimal. */
  sha256(bytes: Uint8Array): string;
}

/** How a recording was replayed. */
export interface ReplayResult {
  /** Lines checked after the header, the differing one included. */
  readonly operations: number;
  /** The first line whose outcome differs, or null. `line` counts from 1; both sides are JSON with sorted keys. */
  readonly difference: { readonly line: number; readonly expected: string; readonly actual: string } | null;
}

/** A recording, line by line; the first is the header. */
export type Recording = Iterable<string>;

/** The recordings this package replays. */
export const subsystems: readonly string[] = ['gnttab'];

/**
 * Replays a recording of the original's grant table on this one and compares every line by value, up to the first difference.
 * @throws {ReplayError} for a header or a line that cannot be used.
 */
export function replay(lines: Recording, _needs: ReplayNeeds): ReplayResult {
  let machine: ReplayMachine | undefined;
  let line = 0;
  let operations = 0;
  for (const text of lines) {
    line++;
    if (machine === undefined) {
      machine = new ReplayMachine(header(text));
      continue;
    }
    if (text.trim() === '') continue;
    const { op, args, ...expected } = operation(text, line);
    operations++;
    let actual: object;
    try {
      actual = machine.run(op, args);
    } catch (error) {
      if (error instanceof ReplayError) throw new ReplayError({ code: 'bad-line', line, reason: error.fault.reason }, { cause: error });
      // A call the recording makes and the table refuses is a difference like any other.
      if (!(error instanceof GrantError)) throw error;
      actual = { refused: error.message };
    }
    const want = canonical(expected);
    const got = canonical(actual);
    if (want !== got) return { operations, difference: { line, expected: want, actual: got } };
  }
  if (machine === undefined) throw new ReplayError({ code: 'bad-header', line: 1, reason: 'the recording is empty' });
  return { operations, difference: null };
}

function header(text: string): Config {
  const fail = (reason: string): never => {
    throw new ReplayError({ code: 'bad-header', line: 1, reason });
  };
  const head = parse(text, () => fail('the header is no JSON object'));
  if (head['format'] !== 'hv-trace/1') fail(`format is ${String(head['format'])}; allowed is hv-trace/1`);
  if (head['subsystem'] !== 'gnttab') fail(`subsystem is ${String(head['subsystem'])}; allowed is gnttab`);
  const given = head['config'];
  if (typeof given !== 'object' || given === null) fail('config is missing');
  const config = given as Record<string, unknown>;
  const whole = (key: string, min: number, otherwise?: number): number => {
    const value = config[key] ?? otherwise;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min) {
      return fail(`config.${key} is ${String(value)}; allowed is a whole number from ${min}`);
    }
    return value;
  };
  const version = whole('version', 1, 1);
  if (version !== 1 && version !== 2) return fail(`config.version is ${version}; allowed is 1 or 2`);
  const perFrame = whole('grefsPerFrame', 1, entriesPerFrame(version));
  if (perFrame !== entriesPerFrame(version)) fail(`config.grefsPerFrame is ${perFrame}; allowed is ${entriesPerFrame(version)}`);
  const maxFrames = whole('maxFrames', 1);
  const initialFrames = whole('initialFrames', 1, 1);
  if (initialFrames > maxFrames) fail(`config.initialFrames is ${initialFrames}; allowed is 1 to ${maxFrames}`);
  return {
    version,
    maxFrames,
    initialFrames,
    reservedEntries: whole('reservedEntries', 0, 8),
    hz: whole('hz', 1, 1000),
    pages: whole('pages', 0, 0),
    freePerIteration: whole('freePerIteration', 0, 10),
  };
}

function operation(text: string, line: number): { op: string; args: Record<string, unknown>; [key: string]: unknown } {
  const fail = (reason: string): never => {
    throw new ReplayError({ code: 'bad-line', line, reason });
  };
  const { op, args = {}, ...rest } = parse(text, () => fail('the line is no JSON object'));
  if (typeof op !== 'string') return fail('op is missing');
  if (typeof args !== 'object' || args === null) return fail('args is no object');
  return { op, args: args as Record<string, unknown>, ...rest };
}

function parse(text: string, fail: () => never): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return fail();
  }
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : fail();
}

/** JSON with sorted keys, so that equal values are equal strings. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
