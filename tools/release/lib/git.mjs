import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './run.mjs';

const MINUTE = 60_000;

/**
 * git with settings of its own: whoever owns the checkout, whatever the machine's identity, signing or hooks are.
 * @param {string} scratch a folder for the settings
 */
export function gitIn(scratch) {
  const config = join(scratch, 'gitconfig');
  const hooks = join(scratch, 'no-hooks');
  mkdirSync(hooks, { recursive: true });
  writeFileSync(
    config,
    `[user]\n\tname = release\n\temail = release@localhost\n[safe]\n\tdirectory = *\n[commit]\n\tgpgsign = false\n[core]\n\thooksPath = ${hooks}\n[init]\n\tdefaultBranch = main\n[protocol "file"]\n\tallow = always\n`,
  );
  const env = { ...process.env, GIT_CONFIG_GLOBAL: config, GIT_CONFIG_NOSYSTEM: '1' };
  for (const name of ['GIT_DIR', 'GIT_WORK_TREE', 'GIT_INDEX_FILE', 'GIT_PREFIX']) delete (/** @type {NodeJS.ProcessEnv} */ (env)[name]);
  return {
    env,
    /** @param {string} cwd @param {string[]} args */
    git: (cwd, ...args) => run('git', args, { cwd, env, timeoutMs: 2 * MINUTE }),
  };
}

/** @typedef {ReturnType<typeof gitIn>['git']} Git */
