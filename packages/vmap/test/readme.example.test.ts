import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { expect, it, vi } from 'vitest';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const examples = [...readme.matchAll(/```ts\n([\s\S]*?)```\n\n```text\n([\s\S]*?)```/g)];

it('has three examples with what they print', () => {
  expect(examples).toHaveLength(3);
});

it.each(examples.map(([, code, output], i) => [i + 1, code!, output!] as const))(
  'runs example %i as it stands',
  async (i, code, output) => {
    const file = new URL(`./readme.example${i}.generated.ts`, import.meta.url);
    writeFileSync(file, code);
    const log = vi.spyOn(console, 'log').mockImplementation(() => undefined);
    try {
      await import(file.href);
      expect(`${log.mock.calls.map((args) => args.join(' ')).join('\n')}\n`).toBe(output);
    } finally {
      log.mockRestore();
      rmSync(file);
    }
  },
);

it('describes every public name', async () => {
  const modules = [await import('@paravirt/vmap'), await import('@paravirt/vmap/replay'), await import('@paravirt/vmap/testing')];
  for (const name of modules.flatMap((module) => Object.keys(module))) expect(readme, name).toContain(name);
});
