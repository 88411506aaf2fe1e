import { type Fields, frames, type Json, Malformed, Player, packed } from './replay-player.ts';

/** What a replay found. */
export interface ReplayResult {
  /** Lines checked, the header not counted. */
  operations: number;
  /** The first line that differs (1 is the header), or null. */
  difference: { line: number; expected: string; actual: string } | null;
}

/** A recording that cannot be replayed: its header or one of its lines is not what the format says. */
export class ReplayError extends Error {
  override readonly name = 'ReplayError';
  /** Line number; 1 is the header. */
  readonly line: number;
  constructor(line: number, message: string, options?: ErrorOptions) {
    super(`line ${line}: ${message}`, options);
    this.line = line;
  }
}

/** Recordings that this package replays, by `subsystem` of their header. */
export const subsystems: readonly string[] = ['vmap'];

/**
 * Runs a recording of the original, line by line, on an allocator made as its header says, and compares every result, counter and
 * digest. Stops at the first difference.
 * @throws {ReplayError} an unusable header, or a malformed line.
 */
export function replay(lines: Iterable<string>, _needs: { sha256(bytes: Uint8Array): string }): ReplayResult {
  let player: Player | null = null;
  let line = 0;
  let operations = 0;
  for (const text of lines) {
    line++;
    if (text.trim() === '') continue;
    const recorded = parse(text, line);
    let found: Fields = {};
    try {
      if (player === null) {
        player = new Player(recorded);
        continue;
      }
      found = player.run(recorded);
    } catch (cause) {
      if (player === null || cause instanceof Malformed) throw new ReplayError(line, (cause as Error).message, { cause });
      found = { error: String(cause) };
    }
    operations++;
    const expected = comparable(recorded, recorded);
    const actual = comparable(found, recorded);
    if (expected !== actual) return { operations, difference: { line, expected, actual } };
  }
  if (player === null) throw new ReplayError(1, 'there is no header');
  return { operations, difference: null };
}

function parse(text: string, line: number): Fields {
  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch (cause) {
    throw new ReplayError(line, 'not JSON', { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new ReplayError(line, 'not an object');
  return value;
}

/** Counters that a recording leaves out when they are zero. */
const COUNTERS: ReadonlySet<string> = new Set(['warn', 'assert', 'zeroed']);
/** Lists that a recording leaves out when they are long, since a digest stands for them; and the name of an only region. */
const OPTIONAL: ReadonlySet<string> = new Set(['bitmap', 'areas', 'region']);
/** Addresses that there are none of when nothing was allocated. */
const ENDS: ReadonlySet<string> = new Set(['first', 'last']);

/** The outcome of a line with its keys in order, and without what `recorded` need not say. */
function comparable(outcome: Fields, recorded: Fields): string {
  const kept = Object.keys(outcome)
    .filter((key) => key !== 'op' && key !== 'args')
    .filter((key) => !(COUNTERS.has(key) && outcome[key] === 0) && !(ENDS.has(key) && outcome[key] === null))
    .filter((key) => !(OPTIONAL.has(key) && recorded[key] === undefined))
    .sort();
  return JSON.stringify(Object.fromEntries(kept.map((key) => [key, key === 'mfns' ? repacked(outcome[key]!) : outcome[key]])));
}

function repacked(value: Json): Json {
  return value === null ? null : packed(frames(value));
}
