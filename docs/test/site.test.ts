import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const docs = fileURLToPath(new URL('..', import.meta.url));

it('builds with no warning: every link resolves and every public name is documented', { timeout: 180_000 }, () => {
  const out = mkdtempSync(join(tmpdir(), 'docs-'));
  try {
    const typedoc = join(docs, 'node_modules', '.bin', 'typedoc');
    const { status, stdout, stderr } = spawnSync(typedoc, ['--out', out], {
      cwd: docs,
      encoding: 'utf8',
      timeout: 170_000,
      env: { ...process.env, NO_COLOR: '1' },
    });
    const warnings = `${stdout}${stderr}`.split('\n').filter((line) => /\[(warning|error)\]/.test(line));
    expect(warnings).toEqual([]);
    expect(status).toBe(0);
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
});
