import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { publishedPackages } from '../lib/packages.mjs';
import { run } from '../lib/run.mjs';
import { root } from './fixture.ts';

/** In bytes of gzip, of the entry with all that its user must add: rxjs and the packages below it. */
it('keeps every package that is imported into a program within its size', async () => {
  const bin = join(dirname(createRequire(import.meta.url).resolve('size-limit')), 'bin.js');
  // It ends with 1 when a limit is passed, and prints the same.
  const printed = await run('sh', ['-c', `"${process.execPath}" "${bin}" --json || [ $? -eq 1 ]`], {
    cwd: join(root, 'tools', 'release'),
    timeoutMs: 120_000,
  });
  const sizes = JSON.parse(printed) as { name: string; passed: boolean; size: number; sizeLimit: number }[];
  for (const { name, passed, size, sizeLimit } of sizes) expect(passed, `${name}: ${size} bytes of at most ${sizeLimit}`).toBe(true);
  const named = sizes.map(({ name }) => name);
  for (const { name, folder } of publishedPackages(root)) if (folder.startsWith('packages/')) expect(named).toContain(name);
});
