import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkTarball } from '../lib/package-checks.mjs';
import { publishedPackages } from '../lib/packages.mjs';
import { root } from './fixture.ts';

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'paravirt-checks-'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const sound = {
  name: '@paravirt/counter',
  version: '0.1.0',
  license: 'MIT',
  repository: { type: 'git', url: 'git+https://github.com/paravirt/paravirt.git', directory: 'packages/counter' },
  type: 'module',
  sideEffects: false as boolean | string[],
  engines: { node: '>=20.19' },
  files: ['dist'],
  exports: { '.': { types: './dist/index.d.ts', default: './dist/index.js' }, './package.json': './package.json' },
  publishConfig: { access: 'public' },
  dependencies: {} as Record<string, string>,
};
const files: Record<string, string> = {
  LICENSE: 'MIT\n',
  'README.md': '# @paravirt/counter\n',
  'dist/index.js': 'export const first = 0;\n',
  'dist/index.d.ts': 'export declare const first: number;\n',
};

let serial = 0;
async function problems(manifest: object = {}, more: Record<string, string | null> = {}): Promise<string[]> {
  serial += 1;
  const folder = join(scratch, String(serial));
  for (const [path, text] of Object.entries({ ...files, 'package.json': JSON.stringify({ ...sound, ...manifest }), ...more })) {
    if (text === null) continue;
    mkdirSync(dirname(join(folder, 'package', path)), { recursive: true });
    writeFileSync(join(folder, 'package', path), text);
  }
  const tarball = join(folder, 'package.tgz');
  execFileSync('tar', ['-czf', tarball, '-C', folder, 'package'], { timeout: 60_000 });
  return checkTarball(tarball, join(folder, 'unpacked'));
}

describe('a packed package', () => {
  it('has no problem when it is sound', async () => {
    expect(await problems()).toEqual([]);
  });

  it.each([
    ['licence', { license: 'ISC' }, 'licence is "ISC", not "MIT"'],
    ['engines', { engines: {} }, 'engines.node is undefined, not ">=20.19"'],
    ['repository', { repository: 'github:paravirt/paravirt' }, 'repository is "github:paravirt/paravirt"'],
    ['sideEffects', { sideEffects: undefined }, 'does not say whether it has sideEffects'],
    ['access', { publishConfig: {} }, 'publishConfig.access is not "public"'],
    ['workspace range', { dependencies: { rxjs: 'workspace:^' } }, 'packs rxjs as workspace:^'],
    ['unused dependency', { dependencies: { rxjs: '^7.8.0' } }, 'depends on rxjs and imports it nowhere'],
  ])('is refused for its %s', async (_, manifest, problem) => {
    expect(await problems(manifest)).toContain(problem);
  });

  it('is refused without what it exports, without a licence and with its tests', async () => {
    expect(await problems({}, { 'dist/index.d.ts': null, LICENSE: null, 'dist/count.test.js': '' })).toEqual(
      expect.arrayContaining([
        '. points at ./dist/index.d.ts, which is not packed',
        'has no LICENSE',
        'packs tests or settings: dist/count.test.js',
      ]),
    );
  });

  it('is refused for what it imports and does not declare, in code or in types, and not for what a comment shows', async () => {
    const found = await problems(
      {},
      {
        'dist/index.js':
          "// import 'commented';\nimport { of } from 'rxjs';\nimport fs from 'fs';\nimport './gone.js';\nexport const first = [of, fs];\n",
        'dist/index.d.ts':
          "/** `import x from 'shown'` */\nimport type { Observable } from 'rxjs';\nexport declare const first: Observable<number>;\n",
      },
    );
    expect(found).toEqual(
      expect.arrayContaining([
        'dist/index.js imports rxjs, which is not among its dependencies',
        'dist/index.d.ts imports rxjs, which is not among its dependencies',
        'dist/index.js imports fs without node:',
        'dist/index.js imports ./gone.js, which is not packed',
      ]),
    );
    expect(found.join('\n')).not.toMatch(/commented|shown/);
  });

  it('is refused when a bundler would drop what it imports for its effects', async () => {
    const effect = { 'dist/index.js': "import './effect.js';\nexport const first = 0;\n", 'dist/effect.js': 'globalThis.first = 0;\n' };
    expect(await problems({}, effect)).toContain(
      'dist/index.js imports dist/effect.js for its side effects, and sideEffects does not list it',
    );
    expect(await problems({ sideEffects: ['./dist/effect.js'] }, effect)).toEqual([]);
  });

  it('is refused when its types cannot be resolved', async () => {
    expect((await problems({}, { 'dist/index.d.ts': "export { first } from './types.js';\n" })).join('\n')).toMatch(/are the types wrong/);
  });
});

describe('manifests in this checkout', () => {
  const packages = publishedPackages(root);
  const rootManifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

  it('are nine, and name the repository as the root does', () => {
    expect(packages).toHaveLength(9);
    for (const { name, manifest } of packages) expect(manifest.repository, `${name}: run "pnpm manifests"`).toBe(rootManifest.repository);
  });

  it.each(packages)('$name packs its example, its sources and a licence that is the same as ours', ({ folder, manifest }) => {
    expect(manifest.files).toEqual(expect.arrayContaining(['dist', 'src', '!dist/**/*.tsbuildinfo']));
    expect(readFileSync(join(root, folder, 'LICENSE'), 'utf8')).toBe(readFileSync(join(root, 'LICENSE'), 'utf8'));
    if (folder.startsWith('packages/')) {
      expect(manifest.files).toContain('example.mjs');
      expect(manifest.scripts?.['prepack']).toBe('node ../../tools/release/bin/example.mjs');
    }
  });
});
