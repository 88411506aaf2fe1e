import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { publishedPackages } from './packages.mjs';

/** Files of a package that its users never see: a change of these alone needs no changeset. */
const UNSEEN = /^(?:test|bench|\.turbo)\/|^(?:vitest\.config\.ts|turbo\.json|tsconfig\.json|CHANGELOG\.md|\.gitignore)$|^api\//;

/** A changeset that cannot be read: what it says would be in no changelog. */
export class ChangesetError extends Error {
  /** @override */
  name = 'ChangesetError';
}

/**
 * Names of the packages that a pending changeset speaks of.
 * @param {string} root
 * @returns {Set<string>}
 */
export function pendingChangesets(root) {
  const folder = join(root, '.changeset');
  /** @type {Set<string>} */
  const named = new Set();
  if (!existsSync(folder)) return named;
  for (const file of readdirSync(folder)) {
    if (!file.endsWith('.md') || file === 'README.md') continue;
    const head = /^---\r?\n([\s\S]*?)\r?\n---/.exec(readFileSync(join(folder, file), 'utf8'))?.[1];
    if (head === undefined) throw new ChangesetError(`.changeset/${file} does not begin with its packages between two lines of "---"`);
    for (const match of head.matchAll(/^\s*['"]?(@?[\w./-]+)['"]?\s*:\s*(?:major|minor|patch)\s*$/gm))
      named.add(/** @type {string} */ (match[1]));
  }
  return named;
}

/**
 * Where the package's last release stands: its last tag; or the commit that wrote its version into its changelog, where the tag is yet
 * to come or was not fetched; else the first commit.
 * @param {string} root @param {import('./packages.mjs').Package} pkg @param {import('./git.mjs').Git} git
 */
async function lastRelease(root, { name, folder, manifest }, git) {
  const lines = async (/** @type {string[]} */ ...args) => (await git(root, ...args)).split('\n').filter((line) => line !== '');
  const candidates = [
    ...(await lines('tag', '--list', `${name}@*`, '--merged', 'HEAD', '--sort=-v:refname')).slice(0, 1).map((tag) => `refs/tags/${tag}`),
    ...(await lines('log', '-1', '--format=%H', '-S', `## ${manifest.version}\n`, '--', `${folder}/CHANGELOG.md`)),
  ];
  if (candidates.length === 0) return (await lines('rev-list', '--max-parents=0', 'HEAD')).at(-1) ?? 'HEAD';
  if (candidates.length === 1) return /** @type {string} */ (candidates[0]);
  const [tag, written] = /** @type {[string, string]} */ (candidates);
  const ahead = Number(await git(root, 'rev-list', '--count', `${tag}..${written}`));
  return ahead > 0 ? written : tag;
}

/**
 * Which packages changed, for their users, since their last release, and have no changeset that says so.
 * @param {string} root a checkout with history
 * @param {import('./git.mjs').Git} git
 * @returns {Promise<{ name: string, since: string, files: string[] }[]>}
 */
export async function forgottenChangesets(root, git) {
  const named = pendingChangesets(root);
  const forgotten = [];
  for (const pkg of publishedPackages(root)) {
    if (named.has(pkg.name)) continue;
    const since = await lastRelease(root, pkg, git);
    const changed = await git(root, 'diff', '--name-only', '--no-renames', '--relative', '-z', since, '--', pkg.folder);
    const files = changed
      .split('\0')
      .filter((path) => path !== '')
      .map((path) => path.slice(pkg.folder.length + 1))
      .filter((path) => !UNSEEN.test(path));
    if (files.length > 0) forgotten.push({ name: pkg.name, since, files });
  }
  return forgotten;
}

/** @param {Awaited<ReturnType<typeof forgottenChangesets>>} forgotten */
export function changesetComplaint(forgotten) {
  return forgotten.map(
    ({ name, since, files }) =>
      `${name} changed since ${since.replace('refs/tags/', '').slice(0, 40)} and no changeset names it: ${files.slice(0, 5).join(', ')}${files.length > 5 ? `, and ${files.length - 5} more` : ''}; run "pnpm changeset"`,
  );
}
