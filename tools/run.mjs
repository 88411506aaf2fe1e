// Runs the repository's commands on a machine that has only Node and npm: brings the pinned pnpm, installs once, builds, runs.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const pin = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).packageManager;
const bin = join(root, 'node_modules', '.bin');
const stamp = join(root, 'node_modules', '.bootstrap');

// npm hands its own settings down as npm_config_*; pnpm would take them for its own. Where packages come from must stay.
const env = { ...process.env, TURBO_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1' };
for (const key of Object.keys(env)) {
  if (/^npm_config_/i.test(key) && !/^npm_config_(registry|cache|userconfig)$/i.test(key)) delete env[key];
}
env.PATH = bin + delimiter + env.PATH;

function run(command, args) {
  const { status, signal, error } = spawnSync(command, args, { cwd: root, env, stdio: 'inherit' });
  if (error) console.error(`${command}: ${error.message}`);
  if (signal) process.kill(process.pid, signal);
  if (status !== 0) process.exit(status ?? 1);
}

function install() {
  const lock = readFileSync(join(root, 'pnpm-lock.yaml'));
  const want = createHash('sha256').update(lock).update(pin).update(process.version).digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === want) return;
  run('npx', ['--yes', pin, 'install', '--frozen-lockfile']);
  linkCli();
  writeFileSync(stamp, want);
}

/**
 * Makes `npx hvsim` work at the root. Not by a dependency: every package depends on the root in turbo's graph, so a root
 * that depends on the CLI gives each package all of them, and no edge could be checked.
 */
function linkCli() {
  const hvsim = join(bin, 'hvsim');
  rmSync(hvsim, { force: true });
  writeFileSync(hvsim, '#!/usr/bin/env node\nimport("../../apps/cli/bin/hvsim.mjs");\n');
  chmodSync(hvsim, 0o755);
}

const build = () => run('turbo', ['run', 'build', '--output-logs=errors-only', '--log-prefix=none']);
const commands = {
  build,
  start: (args) => {
    build();
    run(process.execPath, ['apps/cli/bin/hvsim.mjs', 'demo', ...args]);
  },
  test: (args) => {
    build();
    run('vitest', ['run', ...args]);
  },
  'test:full': (args) => {
    build();
    env.PARAVIRT_FULL = '1';
    run('vitest', ['run', ...args]);
  },
  lint: () => {
    run('biome', ['check']);
    run('oxlint', ['--type-aware', '--quiet', '-A', 'all', '-D', 'typescript/no-floating-promises']);
    run('turbo', ['boundaries']);
    run('turbo', ['run', 'check', '--output-logs=errors-only']);
    run('knip', []);
  },
  'bench:nbd': (args) => {
    build();
    run(process.execPath, ['apps/cli/bench/nbd.mjs', ...args]);
  },
  api: () => {
    build();
    run(process.execPath, ['tools/release/bin/api.mjs']);
  },
  'release:dry': (args) => run(process.execPath, ['tools/release/bin/dry-run.mjs', ...args]),
  bench: (args) => run('turbo', ['run', 'bench', '--concurrency=1', ...args]),
};

const [name = 'start', ...args] = process.argv.slice(2);
const command = commands[name];
if (!command) {
  console.error(`tools/run.mjs: no command "${name}"; there are ${Object.keys(commands).join(', ')}`);
  process.exit(2);
}
install();
command(args);
