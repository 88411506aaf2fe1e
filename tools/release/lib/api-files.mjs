import { join } from 'node:path';
import { apiReport } from './api-report.mjs';
import { publishedPackages } from './packages.mjs';

/**
 * The reports of every package that is built: where each belongs, and what it should say.
 * @param {string} root
 * @returns {{ path: string, text: string }[]}
 */
export function apiFiles(root) {
  const files = [];
  for (const { name, folder, manifest } of publishedPackages(root)) {
    for (const [entry, target] of Object.entries(manifest.exports ?? {})) {
      if (typeof target === 'string' || target['types'] === undefined) continue;
      const short = entry === '.' ? 'index' : entry.slice(2).replaceAll('/', '-');
      files.push({ path: `${folder}/api/${short}.api.txt`, text: apiReport(name + entry.slice(1), join(root, folder, target['types'])) });
    }
  }
  return files;
}
