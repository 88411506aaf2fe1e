import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it, vi } from 'vitest';

const folder = dirname(fileURLToPath(import.meta.url));

it('runs the example of the README', async () => {
  const code = /## Use\n[\s\S]*?```ts\n([\s\S]*?)```/.exec(readFileSync(join(folder, '../README.md'), 'utf8'))![1]!;
  const lines: string[] = [];
  const log = vi.spyOn(console, 'log').mockImplementation((line: string) => void lines.push(line));
  const scratch = mkdtempSync(join(folder, '.readme-'));
  try {
    const path = join(scratch, 'example.ts');
    writeFileSync(path, code);
    await import(path);
  } finally {
    log.mockRestore();
    rmSync(scratch, { recursive: true });
  }
  expect(lines).toEqual(['2048 sectors of 512 bytes, 32 requests at once', 'Dear disk', 'request 7 ended with 0']);
});
