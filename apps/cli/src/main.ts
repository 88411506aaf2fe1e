import { run } from '@stricli/core';
import { app } from './app.ts';
import { findConfig } from './config/load.ts';
import type { CliContext } from './context.ts';
import { CliError, describeError, exitCodes, systemReason } from './errors.ts';

// A closed pipe (`hvsim ... | head`) ends the output, not with a trace.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(exitCodes.ok);
  process.stderr.write(`hvsim: the output: ${systemReason(error)}\n`);
  process.exit(exitCodes.failed);
});
// Nobody is left to tell; the exit code says it all the same.
process.stderr.on('error', () => {});

/** The command line, with what the folder's configuration file adds to it. `--config PATH` names another file. */
async function configured(argv: readonly string[]): Promise<readonly string[]> {
  const at = argv.findIndex((arg) => arg === '--config' || arg.startsWith('--config='));
  const named = at < 0 ? undefined : (argv[at] as string).includes('=') ? (argv[at] as string).slice('--config='.length) : argv[at + 1];
  if (at >= 0 && (named === undefined || named === '')) throw new CliError('--config: a path is missing', exitCodes.usage);
  const rest = at < 0 ? argv : [...argv.slice(0, at), ...argv.slice((argv[at] as string).includes('=') ? at + 1 : at + 2)];
  const path = named ?? findConfig('.');
  if (path === undefined || rest.includes('--help') || rest.includes('-h')) return rest;
  const [{ loadConfig }, { applyConfig }] = await Promise.all([import('./config/load.ts'), import('./config/apply.ts')]);
  return applyConfig(rest, await loadConfig(path));
}

const context: CliContext = { process: { stdout: process.stdout, stderr: process.stderr, env: process.env, exitCode: null } };
try {
  await run(app, await configured(process.argv.slice(2)), context);
} catch (error) {
  process.stderr.write(`${describeError(error, (process.env['HVSIM_DEBUG'] ?? '') !== '')}\n`);
  context.process.exitCode = error instanceof CliError ? error.exitCode : exitCodes.failed;
}
const code = Number(context.process.exitCode ?? process.exitCode ?? 0);
// Stricli numbers its own refusals (unknown command, wrong flag) below zero.
process.exitCode = code < 0 ? exitCodes.usage : code;
