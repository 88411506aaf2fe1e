import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';
import { exampleAsJavaScript, readmeExample, readmeStart } from './example.mjs';
import { readManifest } from './packages.mjs';
import { CommandError, run } from './run.mjs';

const MINUTE = 60_000;

/** What npm needs to know of the registry, and nothing of this machine's or this repository's settings. */
export function strangerEnv(/** @type {string} */ folder, /** @type {{ url: string, token: string }} */ { url, token }) {
  const env = { ...process.env };
  for (const name of Object.keys(env))
    if (/^(npm_|pnpm_|NODE_PATH$|NODE_OPTIONS$|INIT_CWD$|VITEST|NODE_ENV$)/i.test(name)) delete env[name];
  const userconfig = join(folder, 'npmrc');
  const bare = url.replace(/^https?:/, '');
  writeFileSync(
    userconfig,
    `registry=${url}\n@paravirt:registry=${url}\n${bare}:_authToken=${token}\nfund=false\naudit=false\nupdate-notifier=false\n`,
  );
  const local = '127.0.0.1,localhost,::1';
  return {
    ...env,
    npm_config_userconfig: userconfig,
    npm_config_registry: url,
    npm_config_cache: join(folder, 'npm-cache'),
    npm_config_yes: 'true',
    no_proxy: [local, process.env['no_proxy'] ?? process.env['NO_PROXY']].filter(Boolean).join(','),
    NO_PROXY: [local, process.env['no_proxy'] ?? process.env['NO_PROXY']].filter(Boolean).join(','),
  };
}

const require = createRequire(import.meta.url);
const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin', 'tsc');
/** Node's types, lent to the example: beside the package they would be found by npm, which looks for an installation in every folder above. */
const typeRoots = [join(dirname(require.resolve('@types/node/package.json')), '..')];

/** By its text, because a file's imports are resolved from where it stands. */
const watchedImport = readFileSync(new URL('./watched-import.mjs', import.meta.url), 'utf8');

const base = {
  target: 'es2023',
  lib: ['es2023'],
  strict: true,
  types: ['node'],
  typeRoots,
  allowJs: true,
  checkJs: true,
  skipLibCheck: false,
};
const projects = {
  nodenext: { ...base, module: 'nodenext', moduleResolution: 'nodenext' },
  bundler: { ...base, module: 'esnext', moduleResolution: 'bundler' },
};

/**
 * Installs one package in an empty folder with plain npm, as somebody does who has only its README, and runs its example in each way of
 * taking a package.
 * @param {{ name: string, folder: string, readme: string, env: NodeJS.ProcessEnv, bin?: string }} options
 *   folder: yet to be made, below folders without packages; readme: the folder of the package's README; bin: its command
 */
export async function tryPackage({ name, folder, readme, env, bin }) {
  mkdirSync(folder);
  const at = { cwd: folder, env };
  const installed = join(folder, 'node_modules', name);
  // What the README says first, as it stands, in an empty folder.
  await run('sh', ['-e', '-c', readmeStart(readme)], { ...at, timeoutMs: 4 * MINUTE });
  if (bin !== undefined) {
    await run('npx', ['--yes', name, '--version'], { ...at, timeoutMs: 3 * MINUTE });
    await run('npm', ['install', name], { ...at, timeoutMs: 3 * MINUTE });
    await run('npx', [bin, '--help'], { ...at, timeoutMs: MINUTE });
  }
  await importEntries(name, installed, at);
  const example = readmeExample(readme);
  if (example.language === 'sh') return;

  writeFileSync(join(folder, 'example.mjs'), await exampleAsJavaScript(example));
  await run(process.execPath, ['example.mjs'], { ...at, timeoutMs: MINUTE });

  for (const [resolution, settings] of Object.entries(projects)) {
    const project = join(folder, resolution);
    mkdirSync(project);
    const file = `example.${example.language === 'ts' ? 'ts' : 'js'}`;
    writeFileSync(join(project, 'package.json'), '{ "type": "module", "private": true }\n');
    // A JavaScript example names no types: its parameters are inferred or any, and all else is checked.
    const compilerOptions = { ...settings, noImplicitAny: example.language === 'ts', outDir: 'out', rootDir: '.' };
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: [file] }));
    writeFileSync(join(project, file), example.code);
    await typeCheck(installed, { cwd: project, env });
    let main = 'out/example.js';
    if (resolution === 'bundler') {
      main = 'out/bundle.mjs';
      await build({
        entryPoints: [join(project, file)],
        outfile: join(project, main),
        bundle: true,
        format: 'esm',
        platform: 'node',
        logLevel: 'silent',
      });
    }
    await run(process.execPath, [main], { cwd: project, env, timeoutMs: MINUTE });
  }
}

/** Compiles a project, with the declarations of what it uses. @param {string} installed @param {{ cwd: string, env: NodeJS.ProcessEnv }} at */
async function typeCheck(installed, at) {
  try {
    await run(process.execPath, [tsc, '-p', 'tsconfig.json', '--pretty', 'false'], { ...at, timeoutMs: MINUTE });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    // Declarations may speak of a peer that is optional, and that this user does without; every other error is one.
    const optional = Object.keys(readManifest(join(installed, 'package.json')).peerDependenciesMeta ?? {});
    const wrong = (/** @type {string} */ line) =>
      /\berror TS/.test(line) && !optional.some((peer) => line.includes(`error TS2307: Cannot find module '${peer}'`));
    if (error.message.split('\n').some(wrong)) throw error;
  }
}

/**
 * Imports every entry that needs nothing but the package and its required peers, and watches what that changes: a package without
 * `sideEffects` must leave the language's own objects, the process and the terminal as they were, and keep nothing running.
 * @param {string} name @param {string} installed @param {{ cwd: string, env: NodeJS.ProcessEnv }} at
 */
async function importEntries(name, installed, at) {
  const { exports: entries = {}, peerDependenciesMeta = {} } = readManifest(join(installed, 'package.json'));
  const specifiers = Object.entries(entries).flatMap(([entry, target]) => (typeof target === 'string' ? [] : [name + entry.slice(1)]));
  const peers = JSON.stringify(Object.keys(peerDependenciesMeta));
  const args = ['--input-type=module', '--eval', watchedImport, peers, ...specifiers];
  const printed = await run(process.execPath, args, { ...at, timeoutMs: MINUTE });
  if (printed !== '') throw new CommandError(`importing the entries of ${name} prints: ${printed.slice(0, 200)}`);
}
