import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * @typedef {object} Manifest
 * @property {string} name
 * @property {string} version
 * @property {boolean} [private]
 * @property {string} [license]
 * @property {unknown} [repository]
 * @property {Record<string, string>} [engines]
 * @property {unknown} [sideEffects]
 * @property {readonly string[]} [files]
 * @property {string | Record<string, string>} [bin]
 * @property {Record<string, string | Record<string, string>>} [exports]
 * @property {{ access?: string, exports?: Record<string, string | Record<string, string>> }} [publishConfig]
 * @property {Record<string, string>} [scripts]
 * @property {Record<string, string>} [dependencies]
 * @property {Record<string, string>} [devDependencies]
 * @property {Record<string, string>} [peerDependencies]
 * @property {Record<string, { optional?: boolean }>} [peerDependenciesMeta]
 *
 * @typedef {{ name: string, folder: string, manifest: Manifest }} Package folder: relative to the checkout
 */

/** @param {string} path @returns {Manifest} */
export const readManifest = (path) => JSON.parse(readFileSync(path, 'utf8'));

/**
 * The packages that are published, in order of their folders.
 * @param {string} root a checkout
 * @returns {Package[]}
 */
export function publishedPackages(root) {
  /** @type {Package[]} */
  const found = [];
  for (const group of ['apps', 'packages']) {
    if (!existsSync(join(root, group))) continue;
    for (const entry of readdirSync(join(root, group)).sort()) {
      const folder = `${group}/${entry}`;
      const path = join(root, folder, 'package.json');
      if (!existsSync(path)) continue;
      const manifest = readManifest(path);
      if (manifest.private !== true) found.push({ name: manifest.name, folder, manifest });
    }
  }
  return found;
}
