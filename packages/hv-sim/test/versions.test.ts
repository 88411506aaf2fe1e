import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

/** Other versions of Node, separated by colons. The runs need a build. */
const nodes = (process.env['PARAVIRT_NODES'] ?? '').split(':').filter((path) => path.length > 0);
const script = fileURLToPath(new URL('../bench/hashes.mjs', import.meta.url));
const built = existsSync(fileURLToPath(new URL('../dist/index.js', import.meta.url)));

describe('seeded runs', () => {
  it.skipIf(nodes.length === 0 || !built)('have the same final hashes on every version of Node (PARAVIRT_NODES)', () => {
    const run = (node: string): string => execFileSync(node, [script], { encoding: 'utf8' });
    const here = run(process.execPath);
    expect(here.split('\n')).toHaveLength(11);
    for (const node of nodes) expect(run(node), node).toBe(here);
  });
});
