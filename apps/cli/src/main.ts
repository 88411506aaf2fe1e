import { run } from '@stricli/core';
import { app } from './app.ts';
import type { CliContext } from './context.ts';
import { exitCodes } from './errors.ts';

// A closed pipe (`hvsim ... | head`) ends the output, not with a trace.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(exitCodes.ok);
  throw error;
});

const context: CliContext = { process: { stdout: process.stdout, stderr: process.stderr, env: process.env, exitCode: null } };
await run(app, process.argv.slice(2), context);
const code = Number(context.process.exitCode ?? process.exitCode ?? 0);
// Stricli numbers its own refusals (unknown command, wrong flag) below zero.
process.exitCode = code < 0 ? exitCodes.usage : code;
