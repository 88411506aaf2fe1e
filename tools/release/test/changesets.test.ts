import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ChangesetError, changesetComplaint, forgottenChangesets } from '../lib/changesets.mjs';
import { gitIn } from '../lib/git.mjs';
import { Checkout, root } from './fixture.ts';

let checkout: Checkout;
let scratch: string;
beforeEach(() => {
  checkout = new Checkout();
  scratch = mkdtempSync(join(tmpdir(), 'paravirt-changesets-'));
});
afterEach(() => {
  checkout.end();
  rmSync(scratch, { recursive: true });
});

const forgotten = async (folder = checkout.folder) => forgottenChangesets(folder, gitIn(scratch).git);
const change = (to: string) => {
  checkout.edit('packages/counter/src/index.ts', (text) => text.replace(/\+ \d+/, `+ ${to}`));
  return checkout.commit(`Count by ${to}`);
};

it('asks for none where nothing changed since the first commit', async () => {
  expect(await forgotten()).toEqual([]);
});

it('asks for one when the package changed since the first commit, and is content once one names it', async () => {
  change('2');
  expect(await forgotten()).toEqual([{ name: '@paravirt/counter', since: expect.stringMatching(/^\w{40}$/), files: ['src/index.ts'] }]);
  checkout.changeset('patch', 'Counts by two.');
  expect(await forgotten()).toEqual([]);
});

it('counts from the last tag, not from an earlier one', async () => {
  checkout.git('tag', '@paravirt/counter@0.0.9');
  change('2');
  checkout.git('tag', '@paravirt/counter@0.1.0');
  expect(await forgotten()).toEqual([]);
  change('3');
  const [complaint] = changesetComplaint(await forgotten());
  expect(complaint).toBe(
    '@paravirt/counter changed since @paravirt/counter@0.1.0 and no changeset names it: src/index.ts; run "pnpm changeset"',
  );
});

it('counts from the commit that versioned the package while its tag is yet to come', async () => {
  change('2');
  checkout.edit('packages/counter/package.json', (text) => text.replace('0.1.0', '0.2.0'));
  checkout.write('packages/counter/CHANGELOG.md', '# @paravirt/counter\n\n## 0.2.0\n\n### Minor Changes\n\n- Counts by two.\n');
  checkout.commit('Version packages');
  expect(await forgotten()).toEqual([]);
  change('3');
  expect(await forgotten()).toMatchObject([{ files: ['src/index.ts'] }]);
});

it('sees changes that are not yet committed, and passes over those that users never get', async () => {
  checkout.write('packages/counter/test/count.test.ts', 'export {};\n');
  checkout.commit('Test');
  expect(await forgotten()).toEqual([]);
  checkout.edit('packages/counter/README.md', (text) => `${text}\nMore.\n`);
  expect(await forgotten()).toMatchObject([{ files: ['README.md'] }]);
});

it('refuses a changeset whose head cannot be read', async () => {
  checkout.write('.changeset/broken.md', "---\n\n## '@paravirt/counter': minor\n\nText.\n");
  await expect(forgotten()).rejects.toThrow(ChangesetError);
});

it('finds a changeset for every package of this checkout that changed', async () => {
  expect(changesetComplaint(await forgotten(root))).toEqual([]);
});
