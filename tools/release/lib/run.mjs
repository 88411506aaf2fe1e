import { spawn } from 'node:child_process';

/** A command of the pipeline ended badly; the message holds the end of what it printed. */
export class CommandError extends Error {
  /** @override */
  name = 'CommandError';
}

const SHOWN = 4_000;
const shown = (/** @type {string} */ arg) => (arg.includes('\n') ? '...' : arg);

/**
 * Runs a program to its end and answers what it printed. It gets its own process group, so that nothing it started outlives it.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd: string, env?: NodeJS.ProcessEnv, timeoutMs: number, input?: string }} options
 * @returns {Promise<string>} standard output
 */
export function run(command, args, { cwd, env = process.env, timeoutMs, input }) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env, detached: true, stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
    let out = '';
    let both = '';
    let late = false;
    child.stdout?.setEncoding('utf8').on('data', (text) => {
      out += text;
      both += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text) => {
      both += text;
    });
    if (input !== undefined) child.stdin?.end(input);
    const timer = setTimeout(() => {
      late = true;
      stopGroup(child);
    }, timeoutMs);
    child.once('error', (error) => {
      clearTimeout(timer);
      reject(new CommandError(`${command}: ${error.message}`));
    });
    child.once('close', (status, signal) => {
      clearTimeout(timer);
      if (status === 0 && !late) return resolve(out);
      const how = late ? `took more than ${timeoutMs / 1000} s` : signal === null ? `ended with ${status}` : `was ended by ${signal}`;
      reject(new CommandError(`${command} ${args.map(shown).join(' ')} ${how}\n${both.slice(-SHOWN)}`));
    });
  });
}

/** Ends a child that was started with `detached`, and what it started. @param {import('node:child_process').ChildProcess} child */
export function stopGroup(child) {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    child.kill('SIGKILL'); // no group: it has ended, or the system has none
  }
}
