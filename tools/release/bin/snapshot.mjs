#!/usr/bin/env node
// Versions, builds and publishes what this checkout would release, as a snapshot that names its branch: pnpm snapshot BRANCH
import { spawnSync } from 'node:child_process';
import { pendingChangesets } from '../lib/changesets.mjs';
import { SNAPSHOT_TAG, snapshotTag } from '../lib/snapshot.mjs';

const branch = process.argv[2];
if (branch === undefined) {
  console.error('pnpm snapshot BRANCH');
  process.exit(2);
}
if (pendingChangesets('.').size === 0) {
  console.log('no changeset is pending: there is nothing to publish');
  process.exit(0);
}
for (const [command, ...args] of [
  ['changeset', 'version', '--snapshot', snapshotTag(branch)],
  ['turbo', 'run', 'build'],
  ['changeset', 'publish', '--no-git-tag', '--tag', SNAPSHOT_TAG],
]) {
  const { status } = spawnSync(/** @type {string} */ (command), args, { stdio: 'inherit', timeout: 20 * 60_000 });
  if (status !== 0) process.exit(status ?? 1);
}
