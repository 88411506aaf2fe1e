#!/usr/bin/env node
// Writes the API reports from the built packages: packages/*/api/*.api.txt. A change of the surface then shows in the diff.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { apiFiles } from '../lib/api-files.mjs';

const root = join(fileURLToPath(import.meta.url), '..', '..', '..', '..');
const files = apiFiles(root);
const kept = new Set(files.map(({ path }) => path));
for (const folder of new Set(files.map(({ path }) => dirname(path)))) {
  mkdirSync(join(root, folder), { recursive: true });
  for (const file of readdirSync(join(root, folder))) if (!kept.has(`${folder}/${file}`)) rmSync(join(root, folder, file));
}
for (const { path, text } of files) writeFileSync(join(root, path), text);
console.log(`${files.length} reports`);
