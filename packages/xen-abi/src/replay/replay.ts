import { XenAbiError } from '../errors.ts';
import { createAbiReplayer } from './abi.ts';
import { canonical, type Json, type JsonObject, type Replayer, type ReplayNeeds, readLine } from './line.ts';
import { createRingReplayer } from './ring.ts';

export type { ReplayNeeds } from './line.ts';

/** What a replay found. */
export interface ReplayResult {
  /** Lines replayed and compared, the header not counted. */
  operations: number;
  /** The first line whose result differs, counted from 1, with both results as JSON; null when there is none. */
  difference: { line: number; expected: string; actual: string } | null;
}

/** The subsystems (of a recording's header) that `replay` knows. */
export const subsystems: readonly string[] = ['ring', 'abi'];

function replayerOf(header: JsonObject, needs: ReplayNeeds): Replayer {
  if (header.format !== 'hv-trace/1') {
    throw new XenAbiError({ code: 'bad-recording', what: 'format, line 1', value: canonical(header.format), allowed: '"hv-trace/1"' });
  }
  const subsystem = header.subsystem;
  if (subsystem === 'ring') return createRingReplayer(header, needs);
  if (subsystem === 'abi') return createAbiReplayer();
  throw new XenAbiError({
    code: 'bad-recording',
    what: 'subsystem, line 1',
    value: canonical(subsystem),
    allowed: subsystems.map((name) => JSON.stringify(name)).join(' or '),
  });
}

/**
 * Replays a recording through this package's public surface and compares every result; stops at the first that differs.
 * @param lines the recording's lines, the header first; empty lines are passed over.
 * @throws {XenAbiError} `bad-recording`: a header or a line that cannot be used, with its number.
 */
export function replay(lines: Iterable<string>, needs: ReplayNeeds): ReplayResult {
  let replayer: Replayer | null = null;
  let number = 0;
  let operations = 0;
  for (const line of lines) {
    number++;
    if (line.trim() === '') continue;
    const operation = readLine(line, number);
    if (replayer === null) {
      replayer = replayerOf(operation, needs);
      continue;
    }
    const actual = canonical(resultOf(replayer, operation, number));
    const expected = canonical(operation.ret);
    operations++;
    if (actual !== expected) return { operations, difference: { line: number, expected, actual } };
  }
  if (replayer === null) {
    throw new XenAbiError({ code: 'bad-recording', what: 'recording', value: 'empty', allowed: 'a header line and operations' });
  }
  return { operations, difference: null };
}

/** A line's arguments are the recording's: what they are refused for is a fault of that line. */
function resultOf(replayer: Replayer, operation: JsonObject, number: number): Json | undefined {
  try {
    return replayer(operation);
  } catch (cause) {
    if (!(cause instanceof XenAbiError)) throw cause;
    const { what, value, allowed } = cause.refusal;
    throw new XenAbiError({ code: 'bad-recording', what: `line ${number}: ${what}`, value: String(value), allowed }, { cause });
  }
}
