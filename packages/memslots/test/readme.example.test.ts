import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { expect, it, vi } from 'vitest';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');

it('runs the example of the README, which prints what it says', async () => {
  const [, code, output] = /## Use[\s\S]*?```ts\n([\s\S]*?)```\n\nprints\n\n```text\n([\s\S]*?)```/.exec(readme)!;
  const file = new URL('./readme.example.generated.ts', import.meta.url);
  writeFileSync(file, code!);
  const log = vi.spyOn(console, 'log').mockImplementation(() => undefined);
  try {
    await import(file.href);
    expect(`${log.mock.calls.map((args) => args.join(' ')).join('\n')}\n`).toBe(output);
  } finally {
    log.mockRestore();
    rmSync(file);
  }
});

it('describes every public name of every entry', async () => {
  const entries = [
    await import('@paravirt/memslots'),
    await import('@paravirt/memslots/replay'),
    await import('@paravirt/memslots/testing'),
  ];
  const names = entries.flatMap((entry) => Object.keys(entry));
  expect(names.length).toBeGreaterThan(15);
  for (const name of names) expect(readme, name).toContain(name);
});
