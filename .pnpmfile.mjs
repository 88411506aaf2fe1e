// What pnpm does to a manifest before it is packed. The address of the repository stands in the root's package.json, in its short form;
// a published manifest needs it whole, because provenance is compared with it, and needs none of what only this checkout can use.
import { readFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';

const root = import.meta.dirname;

export const hooks = {
  beforePacking(manifest, folder) {
    const { repository } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    const short = /^github:([\w.-]+\/[\w.-]+)$/.exec(repository)?.[1];
    if (short === undefined) throw new Error(`package.json: repository is ${JSON.stringify(repository)}, not github:owner/name`);
    const { devDependencies: _, scripts: __, ...packed } = manifest;
    packed.repository = { type: 'git', url: `git+https://github.com/${short}.git`, directory: relative(root, folder).split(sep).join('/') };
    packed.bugs = `https://github.com/${short}/issues`;
    return packed;
  },
};
