import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const folder = join(dirname(fileURLToPath(import.meta.url)), '..', 'examples');

interface Manifest {
  readonly private?: boolean;
  readonly dependencies: Record<string, string>;
}

/** A name with its version cut off: `vitest@4` is vitest. */
const nameOf = (word: string): string => word.replace(/(?<=.)@.*$/, '');

describe.each(readdirSync(folder))('examples/%s', (name) => {
  const manifest = JSON.parse(readFileSync(join(folder, name, 'package.json'), 'utf8')) as Manifest;
  const readme = readFileSync(join(folder, name, 'README.md'), 'utf8');

  it('is never published, and depends on the packages of this repository', () => {
    expect(manifest.private).toBe(true);
    for (const [dependency, range] of Object.entries(manifest.dependencies)) {
      if (dependency.startsWith('@paravirt/')) expect(range, dependency).toBe('workspace:^');
    }
  });

  it('tells whoever copies it to install all it depends on', () => {
    const installed = [...readme.matchAll(/^npm install (.*)$/gm)].flatMap(([, words]) => words!.split(' ').map(nameOf));
    expect(installed).toEqual(expect.arrayContaining(Object.keys(manifest.dependencies)));
  });

  it('is listed in the README of the repository', () => {
    expect(readFileSync(join(folder, '..', 'README.md'), 'utf8')).toContain(`(examples/${name})`);
  });
});
