import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { expect, it, vi } from 'vitest';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');

const examples = [...readme.matchAll(/```ts\n([\s\S]*?)```\n\n```text\n([\s\S]*?)```/g)].map(([, code, output], index) => ({
  number: index + 1,
  code: code!,
  output: output!,
}));

it('shows no code without what it prints', () => {
  expect(readme.match(/^```ts$/gm)).toHaveLength(examples.length);
  expect(examples.length).toBeGreaterThan(1);
});

it.each(examples)("runs the README's example $number as it is printed", async ({ number, code, output }) => {
  const file = new URL(`./readme.example.generated-${number}.ts`, import.meta.url);
  writeFileSync(file, code);
  const log = vi.spyOn(console, 'log').mockImplementation(() => undefined);
  try {
    await import(file.href);
    expect(`${log.mock.calls.map((args) => args.join(' ')).join('\n')}\n`).toBe(output);
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
