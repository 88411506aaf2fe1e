import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { expect, it, vi } from 'vitest';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');

it("runs the README's example as it is printed", async () => {
  const code = /## Use[\s\S]*?```ts\n([\s\S]*?)```/.exec(readme)?.[1];
  const file = new URL('./readme.example.generated.ts', import.meta.url);
  writeFileSync(file, code ?? 'throw new Error("the README has no example")');
  const log = vi.spyOn(console, 'log').mockImplementation(() => undefined);
  try {
    await import(file.href);
    expect(log.mock.calls.map((args) => args.join(' '))).toEqual(['flushed 8 sectors', 'rung', '999 rings merged']);
  } finally {
    log.mockRestore();
    rmSync(file);
  }
});

it('describes every public name in the README', async () => {
  const modules = [
    await import('@paravirt/event-bus'),
    await import('@paravirt/event-bus/contract'),
    await import('@paravirt/event-bus/testing'),
  ];
  const brands = new Set(['domId', 'gfn', 'mfn', 'vfn', 'gref', 'port', 'slotId']);
  for (const name of modules.flatMap((module) => Object.keys(module))) {
    if (!brands.has(name)) expect(readme, name).toContain(name);
  }
});
