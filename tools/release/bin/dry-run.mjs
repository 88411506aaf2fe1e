#!/usr/bin/env node
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ReleaseError, releaseDryRun } from '../lib/dry-run.mjs';
import { RegistryError } from '../lib/registry.mjs';

const { values } = parseArgs({
  options: {
    root: { type: 'string', default: join(fileURLToPath(import.meta.url), '..', '..', '..', '..') },
    registry: { type: 'string' },
    snapshot: { type: 'string' },
    only: { type: 'string', multiple: true },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(`pnpm release:dry [options]   rehearses a release on a copy of the checkout, against a registry on loopback

  --only NAME      try only this package at the end (may be repeated); all are versioned, built, checked and published
  --registry URL   publish there instead of to a registry of its own; refused unless it is on loopback
  --snapshot NAME  rehearse the snapshot of a branch instead
  --root DIR       the checkout (this one)
  --keep           leave the scratch folder and say where it is`);
  process.exit(0);
}
const { root, registry, snapshot, only, keep } = values;
try {
  const { published } = await releaseDryRun({
    root,
    keep,
    log: (line) => console.log(line),
    ...(registry === undefined ? {} : { registry }),
    ...(snapshot === undefined ? {} : { snapshot }),
    ...(only === undefined ? {} : { only }),
  });
  console.log(published.join('\n'));
} catch (error) {
  if (!(error instanceof ReleaseError || error instanceof RegistryError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
