import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { CliContext } from '../context.ts';
import { CliError, exitCodes, fileError, printable, systemReason } from '../errors.ts';
import { palette } from '../ui/palette.ts';
import type { ConformFlags } from './conform.ts';

/** What every package's `./replay` answers. */
interface ReplayResult {
  readonly operations: number;
  readonly difference: { readonly line: number; readonly expected: string; readonly actual: string } | null;
}
interface Replayer {
  readonly replay: (lines: Iterable<string>, needs: { sha256(bytes: Uint8Array): string }) => ReplayResult;
}

const replayers: Readonly<Record<string, () => Promise<Replayer>>> = {
  abi: () => import('@paravirt/xen-abi/replay'),
  ring: () => import('@paravirt/xen-abi/replay'),
  gnttab: () => import('@paravirt/gnttab/replay'),
  memslots: () => import('@paravirt/memslots/replay'),
  vmap: () => import('@paravirt/vmap/replay'),
};

interface FileVerdict extends Partial<ReplayResult> {
  readonly name: string;
  readonly subsystem?: string;
  /** Why the file could not be replayed at all. */
  readonly error?: string;
}

const recording = /\.jsonl(\.gz)?$/;
const needs = { sha256: (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex') };

/** The recordings under `path`, in order of name. A file that is named is taken whatever it is called. */
function recordingsAt(path: string): string[] {
  let folder: boolean;
  try {
    folder = statSync(path).isDirectory();
  } catch (error) {
    throw fileError(path, error, exitCodes.usage);
  }
  if (!folder) return [path];
  let names: string[];
  try {
    names = readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isDirectory() && recording.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
  } catch (error) {
    throw fileError(path, error, exitCodes.usage);
  }
  if (names.length === 0) throw new CliError(`${path}: no recording (.jsonl, .jsonl.gz) in this folder`, exitCodes.usage);
  return names;
}

function linesOf(path: string): string[] {
  let bytes: Uint8Array = readFileSync(path);
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) bytes = gunzipSync(bytes);
  const lines = new TextDecoder('utf-8', { fatal: true }).decode(bytes).split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines;
}

function subsystemOf(header: string | undefined): string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(header ?? '');
  } catch {
    throw new CliError('the first line is not a JSON header');
  }
  const { format, subsystem } = (parsed ?? {}) as { format?: unknown; subsystem?: unknown };
  if (format !== 'hv-trace/1') throw new CliError(`the header's format is ${JSON.stringify(format)}; "hv-trace/1" is read`);
  if (typeof subsystem !== 'string' || !Object.hasOwn(replayers, subsystem)) {
    throw new CliError(`no replayer for subsystem ${JSON.stringify(subsystem)}; there are ${Object.keys(replayers).join(', ')}`);
  }
  return subsystem;
}

async function verdictOf(name: string): Promise<FileVerdict> {
  try {
    const lines = linesOf(name);
    const subsystem = subsystemOf(lines[0]);
    const { replay } = await (replayers[subsystem] as () => Promise<Replayer>)();
    return { name, subsystem, ...replay(lines, needs) };
  } catch (error) {
    return { name, error: printable(systemReason(error).split('\n')[0] as string) };
  }
}

/** Long values are cut in the middle of a line meant for people; `--json` has them whole. */
const clipped = (value: string): string => (value.length > 300 ? `${value.slice(0, 300)}... (${value.length} characters)` : value);

/** `hvsim conform PATH...` */
export async function conform(this: CliContext, flags: ConformFlags, ...paths: string[]): Promise<void> {
  const { stdout, stderr } = this.process;
  const { green, red, dim } = palette(stdout, this.process.env);
  const names = [...new Set(paths.flatMap(recordingsAt))];
  const verdicts: FileVerdict[] = [];
  for (const [index, name] of names.entries()) {
    if (stderr.isTTY === true && !flags.json) stderr.write(`\r\x1b[K${index + 1}/${names.length} ${name}`);
    const verdict = await verdictOf(name);
    verdicts.push(verdict);
    if (stderr.isTTY === true && !flags.json) stderr.write('\r\x1b[K');
    if (flags.json) continue;
    const { operations = 0, difference, error } = verdict;
    if (error !== undefined) stderr.write(`hvsim: ${name}: ${error}\n`);
    else if (difference) {
      const { line, expected, actual } = difference;
      stdout.write(
        `${red('differs')} ${name} ${operations} operations, line ${line}: expected ${clipped(expected)}, actual ${clipped(actual)}\n`,
      );
    } else stdout.write(`${green('same')} ${name} ${dim(`${operations} operations`)}\n`);
  }
  const unreadable = verdicts.filter((verdict) => verdict.error !== undefined).length;
  const failed = unreadable + verdicts.filter((verdict) => verdict.difference).length;
  const passed = verdicts.length - failed;
  if (flags.json) stdout.write(`${JSON.stringify({ passed, failed, files: verdicts }, null, 2)}\n`);
  else stdout.write(`${passed} passed, ${failed} failed\n`);
  this.process.exitCode = unreadable > 0 ? exitCodes.usage : failed > 0 ? exitCodes.failed : exitCodes.ok;
}
