import { mkdirSync } from 'node:fs';
import { createRequire, isBuiltin } from 'node:module';
import { dirname, join, normalize } from 'node:path';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { readManifest } from './packages.mjs';
import { run } from './run.mjs';
import { filesBelow, packageOf, specifiersOf } from './specifiers.mjs';

const MINUTE = 60_000;
const TEST_FILE =
  /(^|\/)(test|tests|__tests__|__snapshots__|bench|fixtures)\/|\.(test|spec|bench)\.|\.tsbuildinfo$|(^|\/)(vitest\.config|tsconfig|turbo)\b/;

/**
 * What is wrong with a packed package, as its users would get it; nothing when it is sound.
 * @param {string} tarball @param {string} folder where to unpack it
 * @returns {Promise<string[]>}
 */
export async function checkTarball(tarball, folder) {
  mkdirSync(folder, { recursive: true });
  await run('tar', ['-xzf', tarball, '-C', folder, '--strip-components=1'], { cwd: folder, timeoutMs: MINUTE });
  const manifest = readManifest(join(folder, 'package.json'));
  const files = filesBelow(folder);
  const [lint, types] = await Promise.all([publintProblems(folder), typesProblems(tarball)]);
  return [
    ...manifestProblems(manifest, files),
    ...exportProblems(manifest, files),
    ...dependencyProblems(manifest, folder, files),
    ...sideEffectProblems(manifest, folder, files),
    ...lint,
    ...types,
  ];
}

/** @param {import('./packages.mjs').Manifest} manifest @param {readonly string[]} files */
function manifestProblems(manifest, files) {
  /** @type {string[]} */
  const problems = [];
  const need = (/** @type {boolean} */ holds, /** @type {string} */ complaint) => void (holds || problems.push(complaint));
  need(manifest.license === 'MIT', `licence is ${JSON.stringify(manifest.license)}, not "MIT"`);
  need(files.includes('LICENSE'), 'has no LICENSE');
  need(files.includes('README.md'), 'has no README.md');
  need(manifest.engines?.['node'] === '>=20.19', `engines.node is ${JSON.stringify(manifest.engines?.['node'])}, not ">=20.19"`);
  const { url, directory } = /** @type {{ url?: string, directory?: string }} */ (manifest.repository ?? {});
  need(
    /^git\+https:\/\/github\.com\/[\w.-]+\/[\w.-]+\.git$/.test(url ?? '') && /^(?:packages|apps)\/[\w-]+$/.test(directory ?? ''),
    `repository is ${JSON.stringify(manifest.repository)}`,
  );
  need(manifest.sideEffects !== undefined, 'does not say whether it has sideEffects');
  need(manifest.publishConfig?.access === 'public', 'publishConfig.access is not "public"');
  need(manifest.exports?.['./package.json'] === './package.json', 'does not export its package.json');
  const tests = files.filter((path) => TEST_FILE.test(path));
  need(tests.length === 0, `packs tests or settings: ${tests.slice(0, 5).join(', ')}`);
  for (const [name, range] of Object.entries({ ...manifest.dependencies, ...manifest.peerDependencies }))
    need(!/^(workspace|catalog|file|link):/.test(range), `packs ${name} as ${range}`);
  return problems;
}

/** @param {import('./packages.mjs').Manifest} manifest @param {readonly string[]} files */
function exportProblems({ exports: entries = {}, bin = {} }, files) {
  const problems = [];
  const targets = [
    ...Object.entries(entries).flatMap(([entry, target]) =>
      Object.values(typeof target === 'string' ? { default: target } : target).map((path) => [entry, path]),
    ),
    ...Object.entries(typeof bin === 'string' ? { bin } : bin),
  ];
  for (const [entry, path] of targets)
    if (!files.includes(normalize(/** @type {string} */ (path)))) problems.push(`${entry} points at ${path}, which is not packed`);
  for (const [entry, target] of Object.entries(entries)) {
    if (typeof target === 'string') continue;
    if (target['types'] === undefined) problems.push(`${entry} has no types`);
    if ('@paravirt/source' in target) problems.push(`${entry} still has the condition @paravirt/source`);
  }
  return problems;
}

/** Both ways: what is imported is declared, what is declared is imported. @param {import('./packages.mjs').Manifest} manifest @param {string} folder @param {readonly string[]} files */
function dependencyProblems(manifest, folder, files) {
  const problems = new Set();
  const declared = new Set([...Object.keys(manifest.dependencies ?? {}), ...Object.keys(manifest.peerDependencies ?? {}), manifest.name]);
  const used = new Set();
  for (const path of files.filter((file) => /^(dist|bin)\/.*\.(js|mjs|d\.ts)$/.test(file))) {
    for (const { specifier } of specifiersOf(join(folder, path))) {
      if (specifier.startsWith('.')) {
        const target = normalize(join(dirname(path), specifier));
        const stands = [target, target.replace(/\.ts$/, '.d.ts'), target.replace(/\.js$/, '.d.ts')];
        if (!stands.some((file) => files.includes(file))) problems.add(`${path} imports ${specifier}, which is not packed`);
      } else if (isBuiltin(specifier)) {
        if (!specifier.startsWith('node:')) problems.add(`${path} imports ${specifier} without node:`);
      } else {
        used.add(packageOf(specifier));
        if (!declared.has(packageOf(specifier))) problems.add(`${path} imports ${specifier}, which is not among its dependencies`);
      }
    }
  }
  // A peer of our own packages is used through them: it must be the user's one rxjs.
  if (Object.keys(manifest.dependencies ?? {}).some((name) => name.startsWith('@paravirt/'))) used.add('rxjs');
  for (const name of Object.keys(manifest.dependencies ?? {}))
    if (!used.has(name)) problems.add(`depends on ${name} and imports it nowhere`);
  for (const name of Object.keys(manifest.peerDependencies ?? {}))
    if (!used.has(name)) problems.add(`wants ${name} beside it and imports it nowhere`);
  return [...problems];
}

/**
 * A file that is imported for its effects must be among the sideEffects, or a bundler drops the import. That importing an entry changes
 * nothing is tried where it is installed.
 * @param {import('./packages.mjs').Manifest} manifest @param {string} folder @param {readonly string[]} files
 */
function sideEffectProblems({ sideEffects }, folder, files) {
  const problems = [];
  const listed = Array.isArray(sideEffects) ? sideEffects.map((path) => normalize(path)) : [];
  for (const path of files.filter((file) => /^(dist|bin)\/.*\.m?js$/.test(file))) {
    for (const { specifier, bare } of specifiersOf(join(folder, path))) {
      if (!bare || !specifier.startsWith('.')) continue;
      const target = normalize(join(dirname(path), specifier));
      if (sideEffects !== true && !listed.includes(target))
        problems.push(`${path} imports ${target} for its side effects, and sideEffects does not list it`);
    }
  }
  for (const path of listed) if (!files.includes(path)) problems.push(`sideEffects lists ${path}, which is not packed`);
  return problems;
}

/** @param {string} folder */
async function publintProblems(folder) {
  const { messages, pkg } = await publint({ pkgDir: folder, pack: false, strict: true, level: 'warning' });
  return messages.map((message) => `publint: ${formatMessage(message, pkg, { color: false }) ?? message.code}`);
}

/** @param {string} tarball */
async function typesProblems(tarball) {
  const attw = join(dirname(createRequire(import.meta.url).resolve('@arethetypeswrong/cli/package.json')), 'dist', 'index.js');
  try {
    await run(
      process.execPath,
      [attw, tarball, '--profile', 'esm-only', '--no-definitely-typed', '--format', 'ascii', '--no-color', '--no-emoji'],
      { cwd: dirname(tarball), timeoutMs: 2 * MINUTE },
    );
    return [];
  } catch (error) {
    return [`are the types wrong: ${error instanceof Error ? error.message : error}`];
  }
}
