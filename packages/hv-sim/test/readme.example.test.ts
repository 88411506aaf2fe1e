import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const examples = [...readme.matchAll(/```ts\n([\s\S]*?)```\n\n```text\n([\s\S]*?)```/g)].map(([, code, output]) => ({
  code: code!,
  output: output!,
}));

describe('the README', () => {
  it('shows no code in TypeScript without what it prints', () => {
    expect(readme.match(/^```ts$/gm)).toHaveLength(examples.length);
    expect(examples.length).toBeGreaterThan(1);
  });

  it.each(examples.map((example, index) => ({ number: index + 1, ...example })))(
    'has example $number that runs as it stands and prints what it says',
    async ({ number, code, output }) => {
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
    },
  );

  it('names every public value', async () => {
    const modules = [await import('@paravirt/hv-sim'), await import('@paravirt/hv-sim/node'), await import('@paravirt/hv-sim/testing')];
    const names = modules.flatMap((module) => Object.keys(module));
    expect(names.length).toBeGreaterThan(30);
    for (const name of names) expect(readme, name).toContain(name);
  });

  it('names every fact and every refusal of the machine', () => {
    const events = readFileSync(new URL('../src/events.ts', import.meta.url), 'utf8');
    const errors = readFileSync(new URL('../src/errors.ts', import.meta.url), 'utf8');
    const names = [...events.matchAll(/'(hv:[a-z-]+)'/g), ...errors.matchAll(/code: '([a-z-]+)'/g)].map(([, name]) => name!);
    expect(names.length).toBeGreaterThan(25);
    for (const name of names) expect(readme, name).toContain(`\`${name}\``);
  });
});
