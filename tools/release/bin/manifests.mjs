#!/usr/bin/env node
// Carries the repository's address from the root's package.json, the one place to change, into every package's manifest.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { publishedPackages, readManifest } from '../lib/packages.mjs';

const root = join(fileURLToPath(import.meta.url), '..', '..', '..', '..');
const { repository } = readManifest(join(root, 'package.json'));
for (const { folder, manifest } of publishedPackages(root)) {
  if (manifest.repository === repository) continue;
  writeFileSync(join(root, folder, 'package.json'), `${JSON.stringify({ ...manifest, repository }, null, 2)}\n`);
  console.log(`${folder}/package.json`);
}
