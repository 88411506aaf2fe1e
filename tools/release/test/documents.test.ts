import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { root } from './fixture.ts';

const text = (path: string) => readFileSync(join(root, path), 'utf8');
const decisions = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', 'docs/decisions'], {
  cwd: root,
  encoding: 'utf8',
  timeout: 30_000,
})
  .split('\n')
  .filter((path) => path.endsWith('.md'));
const scripts = (JSON.parse(text('package.json')) as { scripts: Record<string, string> }).scripts;

describe.each(['README.md', 'CONTRIBUTING.md', 'ARCHITECTURE.md', 'SECURITY.md', ...decisions])('%s', (path) => {
  it('links only to what is there', () => {
    for (const [, target] of text(path).matchAll(/\]\((?!https?:|#)([^)#\s]+)/g))
      expect(existsSync(join(root, dirname(path), target as string)), target).toBe(true);
  });

  it('names only files and commands that exist', () => {
    for (const [, name] of text(path).matchAll(
      /`((?:packages|apps|tools|scripts|examples|docs|e2e)\/[\w./-]+|\.(?:github|ci|changeset)\/[\w./-]+)`/g,
    ))
      expect(existsSync(join(root, name as string)), name).toBe(true);
    for (const [, name] of text(path).matchAll(/(?:^|`)(?:npm run|pnpm) ([a-z]+(?::[a-z]+)*)\b/gm))
      if (!['pack', 'install', 'publish', 'exec'].includes(name as string)) expect(Object.keys(scripts), path).toContain(name);
  });
});

it('every decision is listed, and numbered once', () => {
  const notes = decisions.filter((path) => !path.endsWith('README.md')).map((path) => path.split('/').at(-1) as string);
  for (const note of notes) expect(text('docs/decisions/README.md')).toContain(`(${note})`);
  expect(notes.map((note) => Number(note.slice(0, 4)))).toEqual(notes.map((_, index) => index + 1));
});

it.each(['ci', 'release', 'snapshot'])('the workflow %s runs only commands that exist, and names no registry', (name) => {
  const workflow = text(`.github/workflows/${name}.yml`);
  for (const [, script] of workflow.matchAll(/\b(?:npm run|pnpm) ([a-z-]+(?::[a-z]+)*)\b/g)) expect(Object.keys(scripts)).toContain(script);
  for (const [, file] of workflow.matchAll(/run: (\.[\w./-]+)/g)) expect(existsSync(join(root, file as string)), file).toBe(true);
  expect(workflow).not.toMatch(/https?:\/\//);
});

it('the architecture shows every part', () => {
  for (const [, part] of text('ARCHITECTURE.md').matchAll(/^\| `((?:packages|apps)\/[\w-]+)`/gm))
    expect(existsSync(join(root, part as string, 'package.json')), part).toBe(true);
  for (const manifest of execFileSync('git', ['ls-files', 'packages/*/package.json', 'apps/*/package.json'], {
    cwd: root,
    encoding: 'utf8',
    timeout: 30_000,
  })
    .trim()
    .split('\n'))
    expect(text('ARCHITECTURE.md')).toContain(`\`${dirname(manifest)}\``);
});
