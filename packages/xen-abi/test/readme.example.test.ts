import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');

describe("the README's example", () => {
  it('runs as it is printed', async () => {
    const code = /## Use[\s\S]*?```ts\n([\s\S]*?)```/.exec(readme)![1]!;
    const file = new URL('./readme.example.generated.ts', import.meta.url);
    writeFileSync(file, code.replace("'@paravirt/xen-abi'", "'../src/index.ts'"));
    const log = vi.spyOn(console, 'log').mockImplementation(() => {});
    try {
      await import(file.href);
      expect(log.mock.calls.flat()).toEqual([
        'notify the backend',
        'request 7: sector 2048, reference 8',
        'notify the frontend',
        'response 7: status 0, 64 of 64 slots free',
      ]);
    } finally {
      log.mockRestore();
      rmSync(file);
    }
  });

  it('names everything the package exports', async () => {
    const surface = Object.keys(await import('../src/index.ts'));
    const missing = surface.filter((name) => !readme.includes(name) && !/^(BLKIF|GRANT_ENTRY|GNTTAB|EVTCHN)_/.test(name));
    expect(missing).toEqual([]);
  });
});
