import { type ChildProcess, type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it, type TestContext } from 'vitest';

/** The command as it is published. The root's test command builds it first. */
export const bin: string = fileURLToPath(new URL('../bin/hvsim.mjs', import.meta.url));

/** No program of a test takes longer: one that hangs is a failure of its test, not of the run. */
const PROGRAM_MS = 90_000;

const env = { ...process.env, PATH: `${process.env['PATH']}${delimiter}/usr/sbin${delimiter}/sbin`, NO_COLOR: '1' };

/** Runs `hvsim` to its end. */
export function hvsim(args: readonly string[], options: { cwd?: string; env?: Record<string, string> } = {}): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [bin, ...args], {
    encoding: 'utf8',
    env: { ...env, ...options.env },
    cwd: options.cwd,
    maxBuffer: 2 ** 28,
    timeout: PROGRAM_MS,
    killSignal: 'SIGKILL',
  });
}

/** Starts `hvsim` and leaves it running. */
export function startHvsim(args: readonly string[], cwd: string) {
  return spawn(process.execPath, [bin, ...args], { env, cwd, stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Runs another program; its failure is the test's. */
export function program(name: string, args: readonly string[], options: { cwd?: string; fails?: boolean } = {}): string {
  const { status, stdout, stderr, error } = spawnSync(name, args, {
    encoding: 'utf8',
    env,
    cwd: options.cwd,
    maxBuffer: 2 ** 28,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: PROGRAM_MS,
    killSignal: 'SIGKILL',
  });
  if (error) throw new Error(`${name} ${args.join(' ')}: ${error.message}`, { cause: error });
  if (options.fails !== true) expect(status, `${name} ${args.join(' ')}\n${stdout}\n${stderr}`).toBe(0);
  return stdout + stderr;
}

/** The same for a program that this process has to serve meanwhile. */
export async function programAsync(name: string, args: readonly string[], options: { cwd?: string } = {}): Promise<string> {
  const child = spawn(name, args, { env, cwd: options.cwd, stdio: ['ignore', 'pipe', 'pipe'], timeout: PROGRAM_MS, killSignal: 'SIGKILL' });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
  }
  const [status] = (await once(child, 'close')) as [number | null];
  expect(status, `${name} ${args.join(' ')}\n${text}`).toBe(0);
  return text;
}

/** Starts a program that runs beside the test. It holds none of the test's pipes; whoever starts it ends it. */
export function background(name: string, args: readonly string[], cwd: string): ChildProcess {
  return spawn(name, args, { env, cwd, stdio: 'ignore' });
}

/** A folder of a test file's own, gone at its end. */
export function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), 'hvsim-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const found = (name: string): boolean =>
  (env.PATH ?? '').split(delimiter).some((folder) => folder !== '' && existsSync(join(folder, name)));

/** A test that needs other programs: skipped where one is missing, and its title says which; in CI a missing one is a failure. */
export function itNeeds(
  programs: readonly string[],
  title: string,
  run: (context: TestContext) => void | Promise<void>,
  timeout = 120_000,
): void {
  const missing = programs.filter((name) => !found(name));
  if (missing.length === 0) it(title, run, timeout);
  else if ((process.env['CI'] ?? '') === '') it.skip(`${title} (needs ${missing.join(', ')})`, run);
  else it(title, () => expect(missing, 'programs that are missing').toEqual([]));
}

/** No control codes, no carriage returns. */
export function plain(text: string): boolean {
  return [...text].every((character) => character === '\n' || character === '\t' || character >= ' ');
}
