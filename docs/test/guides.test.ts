import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it, vi } from 'vitest';

const folder = fileURLToPath(new URL('../guides', import.meta.url));
const generated = fileURLToPath(new URL('../.generated', import.meta.url));
const hvsim = fileURLToPath(new URL('../../apps/cli/bin/hvsim.mjs', import.meta.url));

interface Block {
  readonly language: string;
  readonly options: string;
  readonly code: string;
}

/** Every fenced block of a guide, in order. */
function blocksOf(text: string): Block[] {
  return [...text.matchAll(/^```(\w+)([^\n]*)\n([\s\S]*?)^```$/gm)].map(([, language, options, code]) => ({
    language: language as string,
    options: (options as string).trim(),
    code: code as string,
  }));
}

rmSync(generated, { recursive: true, force: true });
mkdirSync(generated, { recursive: true });
afterAll(() => rmSync(generated, { recursive: true, force: true }));

const path = `${process.env['PATH']}${delimiter}/usr/sbin${delimiter}/sbin`;
const missing = (programs: readonly string[]): string[] =>
  programs.filter((name) => name !== '' && !path.split(delimiter).some((place) => existsSync(join(place, name))));

const guides = readdirSync(folder).filter((name) => name.endsWith('.md'));
const withCode = guides.filter((name) => blocksOf(readFileSync(join(folder, name), 'utf8')).length > 0);

describe.each(withCode)('%s', (guide) => {
  const blocks = blocksOf(readFileSync(join(folder, guide), 'utf8'));

  for (const [index, { language, options, code }] of blocks.entries()) {
    const title = `block ${index + 1} (${language})`;
    if (language === 'ts') {
      it(`${title} runs and prints what the guide says`, async () => {
        const file = join(generated, `${guide.replace('.md', '')}-${index}.ts`);
        writeFileSync(file, `${code}\nexport {};\n`);
        const lines: string[] = [];
        const log = vi.spyOn(console, 'log').mockImplementation((...values: unknown[]) => {
          lines.push(values.map(String).join(' '));
        });
        try {
          await import(file);
        } finally {
          log.mockRestore();
        }
        const next = blocks[index + 1];
        if (next?.language === 'text') expect(`${lines.join('\n')}\n`).toBe(next.code);
      });
    } else if (language === 'sh' && !/^(npm install|npx --package)/m.test(code)) {
      const needs = /needs=(\S+)/.exec(options)?.[1]?.split(',') ?? [];
      const lacking = missing(needs);
      const run = (): void => {
        expect(lacking, 'programs that are missing').toEqual([]);
        const scratch = mkdtempSync(join(tmpdir(), 'guide-'));
        try {
          symlinkSync(hvsim, join(scratch, 'hvsim'));
          const { status, stdout, stderr } = spawnSync('bash', ['-e', '-c', code], {
            cwd: scratch,
            encoding: 'utf8',
            timeout: 60_000,
            env: { ...process.env, PATH: `${scratch}${delimiter}${path}` },
          });
          expect(status, `${stdout}\n${stderr}`).toBe(0);
        } finally {
          rmSync(scratch, { recursive: true, force: true });
        }
      };
      if (lacking.length > 0 && (process.env['CI'] ?? '') === '') it.skip(`${title} (needs ${lacking.join(', ')})`, run);
      else it(`${title} runs`, run, 90_000);
    }
  }
});
