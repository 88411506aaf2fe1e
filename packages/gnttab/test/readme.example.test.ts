import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { expect, it, vi } from 'vitest';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const examples = [...readme.matchAll(/### (.+)\n\n```ts\n([\s\S]*?)```\n\n```text\n([\s\S]*?)```/g)];

it('has an example of each use with what it prints', () => {
  expect(examples.map(([, title]) => title)).toEqual(['Granting a page', 'A pool', 'Consecutive grants', 'A safe unmap']);
});

it.each(examples.map(([, title, code, output], i) => [title!, i, code!, output!] as const))(
  'runs the example "%s" as it stands',
  async (_title, i, code, output) => {
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

it('names every public name', async () => {
  const modules = [await import('@paravirt/gnttab'), await import('@paravirt/gnttab/replay'), await import('@paravirt/gnttab/testing')];
  const names = modules.flatMap((module) => Object.keys(module));
  expect(names.length).toBeGreaterThan(15);
  for (const name of names) expect(readme, name).toContain(name);
});

it('names every call and every fact', () => {
  const api = readFileSync(new URL('../src/api.ts', import.meta.url), 'utf8');
  const table = api.slice(api.indexOf('export interface GrantTable {'));
  const calls = [...table.matchAll(/^ {2}(\w+)\(/gm)].map(([, name]) => name!);
  expect(calls.length).toBeGreaterThan(30);
  const events = readFileSync(new URL('../src/events.ts', import.meta.url), 'utf8');
  const facts = [...events.matchAll(/'(gnttab:[a-z-]+)'/g)].map(([, name]) => name!);
  expect(facts.length).toBeGreaterThan(15);
  for (const name of [...calls, ...facts]) expect(readme, name).toContain(name);
});
