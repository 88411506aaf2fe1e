import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ReleaseError, releaseDryRun } from '../lib/dry-run.mjs';
import { RegistryError } from '../lib/registry.mjs';
import { Checkout, root } from './fixture.ts';

describe('a rehearsed release of one package', () => {
  let checkout: Checkout;
  beforeEach(() => {
    checkout = new Checkout();
  });
  afterEach(() => checkout.end());

  const rehearse = () => releaseDryRun({ root: checkout.folder });
  async function problems(): Promise<string> {
    const error = await rehearse().then(
      () => null,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(ReleaseError);
    return (error as ReleaseError).message;
  }

  it('bumps, writes a changelog that names the commit, publishes, and passes again, leaving the tree alone', async () => {
    checkout.edit('packages/counter/src/index.ts', (text) => text.replace('from + 1', 'from + 1 - 0'));
    checkout.changeset('minor', 'Counts as before, more slowly.');
    const commit = checkout.commit('Count more slowly');
    checkout.write('packages/counter/src/unfinished.ts', 'export const NOT_COMMITTED: boolean = true;\n');
    const before = checkout.state();
    for (let round = 0; round < 2; round += 1) {
      const { published, changelogs } = await rehearse();
      expect(published).toEqual(['@paravirt/counter@0.2.0']);
      expect(changelogs['@paravirt/counter']).toMatch(
        new RegExp(`## 0\\.2\\.0[\\s\\S]*- ${commit.slice(0, 7)}\\w*: Counts as before, more slowly\\.`),
      );
      expect(checkout.state()).toBe(before);
    }
  });

  it('passes with no tag, no changeset pending and nothing changed', async () => {
    expect((await rehearse()).published).toEqual(['@paravirt/counter@0.1.0']);
  });

  it('publishes the snapshot of a branch under a version and a tag of its own', async () => {
    checkout.edit('packages/counter/src/index.ts', (text) => text.replace('+ 1', '+ 2'));
    checkout.changeset('minor', 'Counts by two.');
    const commit = checkout.commit('Count by two');
    const { published } = await releaseDryRun({ root: checkout.folder, snapshot: 'snapshot/by_two' });
    expect(published).toEqual([`@paravirt/counter@0.2.0-branch-snapshot-by-two-${commit}`]);
  });

  it('fails when the package forgets an export that its README uses', async () => {
    checkout.edit('packages/counter/src/index.ts', (text) =>
      text.replace('export const FIRST', 'const FIRST').replace('+ 1', '+ 1 + FIRST'),
    );
    checkout.changeset('patch', 'Forgets an export.');
    checkout.commit('Forget an export');
    expect(await problems()).toMatch(/@paravirt\/counter, installed alone: [\s\S]*does not provide an export named 'FIRST'/);
  });

  it('fails when an entry of the manifest points at nothing', async () => {
    checkout.edit('packages/counter/package.json', (text) => text.replaceAll('./dist/index.d.ts', './dist/main.d.ts'));
    checkout.changeset('patch', 'Points at nothing.');
    checkout.commit('Point at nothing');
    expect(await problems()).toContain('@paravirt/counter: . points at ./dist/main.d.ts, which is not packed');
  });

  it('fails when the package forgets a dependency', async () => {
    checkout.edit(
      'packages/counter/src/index.ts',
      (text) => `import { identity } from 'rxjs';\n${text.replace('from + 1', 'identity(from) + 1')}`,
    );
    checkout.changeset('patch', 'Forgets a dependency.');
    checkout.commit('Forget a dependency');
    expect(await problems()).toContain('@paravirt/counter: dist/index.js imports rxjs, which is not among its dependencies');
  });

  it('fails when the package forgets a changeset', async () => {
    checkout.edit('packages/counter/src/index.ts', (text) => text.replace('+ 1', '+ 2'));
    checkout.commit('Count by two');
    expect(await problems()).toMatch(
      /^@paravirt\/counter changed since \w{40} and no changeset names it: src\/index\.ts; run "pnpm changeset"$/,
    );
  });

  it('runs in a folder without history, as an archive unpacks', async () => {
    checkout.remove('.git');
    expect((await rehearse()).published).toEqual(['@paravirt/counter@0.1.0']);
  });
});

it('refuses a registry that is not loopback before it does anything', async () => {
  await expect(releaseDryRun({ root: '/nowhere', registry: 'https://registry.example/' })).rejects.toThrow(RegistryError);
});

// Minutes of work that a change of one package does not need at once: CI runs it, and so does `pnpm release:dry`.
it.skipIf(!process.env['CI'] && !process.env['PARAVIRT_FULL'])('the release of this checkout would do', async () => {
  const lines: string[] = [];
  const { published } = await releaseDryRun({ root, log: (line) => lines.push(line) }).catch((error: Error) => {
    throw new Error(`${error.message}\n${lines.join('\n')}`, { cause: error });
  });
  expect(published).toHaveLength(9);
});
