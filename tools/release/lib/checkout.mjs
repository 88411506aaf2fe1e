import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** What no copy needs where git cannot be asked. */
const GENERATED = new Set(['node_modules', 'dist', '.turbo', '.git']);

/**
 * Copies a checkout, as it stands, with its history: what is not yet committed is in the copy's last commit. The checkout is only read.
 * A folder without history (an unpacked archive) becomes one commit.
 * @param {string} root
 * @param {string} copy a folder that does not exist yet
 * @param {import('./git.mjs').Git} git
 */
export async function copyCheckout(root, copy, git) {
  if (existsSync(join(root, '.git'))) {
    // A clone and not a copy of .git: that may be a file (a worktree), and be written to while we read.
    await git(dirname(copy), 'clone', '--quiet', '--no-hardlinks', root, copy);
    await endHistory(copy, git);
    await takeWorkTree(root, copy, git);
  } else {
    mkdirSync(copy);
    for (const entry of readdirSync(root)) {
      if (!GENERATED.has(entry))
        cpSync(join(root, entry), join(copy, entry), {
          recursive: true,
          filter: (path) => !GENERATED.has(path.split(/[\\/]/).at(-1) ?? ''),
        });
    }
    await git(copy, 'init', '--quiet');
  }
  await git(copy, 'add', '--all');
  if ((await git(copy, 'status', '--porcelain')) !== '') await git(copy, 'commit', '--quiet', '-m', 'The work tree as it stands');
}

/**
 * A shallow clone's history goes on where nobody can fetch it from, and changesets would ask for more of it for ever. In the copy it begins
 * where the clone was cut.
 * @param {string} copy @param {import('./git.mjs').Git} git
 */
async function endHistory(copy, git) {
  const cut = join(copy, '.git', 'shallow');
  if (!existsSync(cut)) return;
  const commits = readFileSync(cut, 'utf8').split('\n');
  rmSync(cut);
  for (const commit of commits) if (commit !== '') await git(copy, 'replace', '--graft', commit);
}

/** @param {string} root @param {string} copy @param {import('./git.mjs').Git} git */
async function takeWorkTree(root, copy, git) {
  const list = async (/** @type {string[]} */ ...args) =>
    (await git(root, 'ls-files', '-z', ...args)).split('\0').filter((path) => path !== '');
  for (const path of await list('--cached', '--others', '--exclude-standard')) {
    if (!existsSync(join(root, path))) rmSync(join(copy, path), { recursive: true, force: true });
  }
  // What the checkout's index no longer has, the clone still took from the last commit.
  const kept = new Set(await list('--cached', '--others', '--exclude-standard'));
  for (const path of (await git(copy, 'ls-files', '-z')).split('\0')) {
    if (path !== '' && !kept.has(path)) rmSync(join(copy, path), { force: true });
  }
  const changed = (await git(root, 'diff', '--name-only', '--no-renames', '-z', 'HEAD')).split('\0').filter((path) => path !== '');
  for (const path of [...changed, ...(await list('--others', '--exclude-standard'))]) {
    if (!existsSync(join(root, path))) continue;
    mkdirSync(dirname(join(copy, path)), { recursive: true });
    cpSync(join(root, path), join(copy, path), { recursive: true, verbatimSymlinks: true });
  }
}
