#!/usr/bin/env node
// Fails when a package changed for its users since its last release and no changeset says so.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { changesetComplaint, forgottenChangesets } from '../lib/changesets.mjs';
import { gitIn } from '../lib/git.mjs';

const root = join(fileURLToPath(import.meta.url), '..', '..', '..', '..');
const scratch = mkdtempSync(join(tmpdir(), 'paravirt-changesets-'));
try {
  const complaints = changesetComplaint(await forgottenChangesets(root, gitIn(scratch).git));
  for (const complaint of complaints) console.error(complaint);
  if (complaints.length > 0) process.exitCode = 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
