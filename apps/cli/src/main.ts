import { run } from '@stricli/core';
import { app, commandNames } from './app.ts';
import { findConfig, isConfigurable } from './config/load.ts';
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
  const end = argv.indexOf('--');
  const flags = argv.slice(0, end < 0 ? undefined : end);
  const at = flags.findIndex((arg) => arg === '--config' || arg.startsWith('--config='));
  const joined = at >= 0 && (flags[at] as string).includes('=');
  const named = at < 0 ? undefined : joined ? (flags[at] as string).slice('--config='.length) : flags[at + 1];
  if (at >= 0 && (named === undefined || named === '')) throw new CliError('--config: a path is missing', exitCodes.usage);
  const rest = at < 0 ? argv : [...argv.slice(0, at), ...argv.slice(joined ? at + 1 : at + 2)];
  // A file that does not load keeps nobody from reading how to go on.
  if (!isConfigurable(rest[0]) || flags.some((flag) => flag === '--help' || flag === '-h')) return rest;
  const path = named ?? findConfig('.');
  if (path === undefined) return rest;
  const [{ loadConfig }, { applyConfig }] = await Promise.all([import('./config/load.ts'), import('./config/apply.ts')]);
  return applyConfig(rest, await loadConfig(path));
}

/** `hvsim help`, and `hvsim help run`, as flags. */
const asked = (argv: readonly string[]): readonly string[] => (argv[0] === 'help' ? [...argv.slice(1), '--help'] : argv);

const context: CliContext = { process: { stdout: process.stdout, stderr: process.stderr, env: process.env, exitCode: null } };
try {
  const argv = await configured(asked(process.argv.slice(2)));
  await run(app, argv, context);
  const [command = ''] = argv;
  if (Number(context.process.exitCode) < 0) {
    process.stderr.write(`hvsim: see "hvsim ${commandNames().includes(command) ? `${command} ` : ''}--help"\n`);
  }
} catch (error) {
  process.stderr.write(`${describeError(error, (process.env['HVSIM_DEBUG'] ?? '') !== '')}\n`);
  context.process.exitCode = error instanceof CliError ? error.exitCode : exitCodes.failed;
}
const code = Number(context.process.exitCode ?? process.exitCode ?? 0);
// Stricli numbers its own refusals (unknown command, wrong flag) below zero.
process.exitCode = code < 0 ? exitCodes.usage : code;
