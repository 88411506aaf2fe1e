import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { copyCheckout } from '../lib/checkout.mjs';
import { gitIn } from '../lib/git.mjs';
import { filesBelow } from '../lib/specifiers.mjs';
import { Checkout } from './fixture.ts';

let checkout: Checkout;
let scratch: string;
beforeEach(() => {
  checkout = new Checkout();
  scratch = mkdtempSync(join(tmpdir(), 'paravirt-copies-'));
});
afterEach(() => {
  checkout.end();
  rmSync(scratch, { recursive: true, force: true });
});

const outside = (...args: string[]) => execFileSync('git', args, { cwd: scratch, encoding: 'utf8', timeout: 60_000, stdio: 'pipe' });
async function copyOf(folder: string) {
  const copy = join(scratch, 'copy');
  const { git } = gitIn(scratch);
  await copyCheckout(folder, copy, git);
  expect(await git(copy, 'status', '--porcelain')).toBe('');
  return {
    copy,
    files: filesBelow(copy).filter((path) => !path.startsWith('.git/')),
    commits: Number(await git(copy, 'rev-list', '--count', 'HEAD')),
  };
}

it('takes what is not committed: changed, added, renamed and deleted, staged or not, and nothing that is ignored', async () => {
  checkout.write('packages/counter/src/old.ts', 'export {};\n');
  checkout.write('packages/counter/src/gone.ts', 'export {};\n');
  checkout.commit('Two more');
  checkout.git('mv', 'packages/counter/src/old.ts', 'packages/counter/src/new.ts');
  checkout.remove('packages/counter/src/gone.ts');
  checkout.write('packages/counter/src/a name with spaces.ts', 'export {};\n');
  checkout.write('packages/counter/dist/index.js', 'ignored\n');
  checkout.edit('packages/counter/README.md', (text) => `${text}\nMore.\n`);
  const before = checkout.state();
  const { copy, files, commits } = await copyOf(checkout.folder);
  expect(files.filter((path) => path.startsWith('packages/counter/src/'))).toEqual(
    ['a name with spaces.ts', 'index.ts', 'new.ts'].map((name) => `packages/counter/src/${name}`),
  );
  expect(files.join('\n')).not.toContain('dist/');
  expect(readFileSync(join(copy, 'packages/counter/README.md'), 'utf8')).toMatch(/More\.\n$/);
  expect(commits).toBe(3);
  expect(checkout.state()).toBe(before);
});

it('takes a checkout without changes as it is, its tags with it', async () => {
  checkout.git('tag', '@paravirt/counter@0.1.0');
  const { copy, commits } = await copyOf(checkout.folder);
  expect(commits).toBe(1);
  expect(await gitIn(scratch).git(copy, 'tag', '--list')).toBe('@paravirt/counter@0.1.0\n');
});

it('takes a shallow clone, a worktree and a detached head', async () => {
  checkout.edit('packages/counter/README.md', (text) => `${text}\nMore.\n`);
  checkout.commit('More');
  const shallow = join(scratch, 'shallow');
  outside('clone', '--quiet', '--depth', '1', `file://${checkout.folder}`, shallow);
  const cut = await copyOf(shallow);
  expect(cut.commits).toBe(1);
  expect(await gitIn(scratch).git(cut.copy, 'rev-parse', '--is-shallow-repository')).toBe('false\n');
  rmSync(join(scratch, 'copy'), { recursive: true });

  checkout.git('worktree', 'add', '--quiet', '--detach', join(scratch, 'worktree'), 'HEAD~1');
  const { copy, commits } = await copyOf(join(scratch, 'worktree'));
  expect(commits).toBe(1);
  expect(readFileSync(join(copy, 'packages/counter/README.md'), 'utf8')).not.toContain('More.');
});
