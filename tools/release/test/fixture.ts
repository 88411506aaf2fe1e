import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root: string = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

/** A checkout of its own, in a scratch folder: this repository's settings and one package, `@paravirt/counter`. */
export class Checkout {
  readonly folder: string;
  readonly #scratch: string;

  constructor() {
    this.#scratch = mkdtempSync(join(tmpdir(), 'paravirt-checkout-'));
    this.folder = join(this.#scratch, 'checkout');
    for (const file of ['pnpm-workspace.yaml', '.pnpmfile.mjs', '.changeset/config.json', 'tsconfig.base.json', '.gitignore'])
      cpSync(join(root, file), join(this.folder, file));
    this.writeJson('package.json', {
      name: 'fixture',
      private: true,
      type: 'module',
      repository: 'github:paravirt/paravirt',
      packageManager: JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).packageManager,
      // rxjs stands here as it does in a real checkout: whoever imports it without declaring it still finds it.
      devDependencies: { '@changesets/changelog-git': 'catalog:', '@changesets/cli': 'catalog:', rxjs: 'catalog:', typescript: 'catalog:' },
    });
    this.writeJson('packages/counter/package.json', {
      name: '@paravirt/counter',
      version: '0.1.0',
      description: 'Counts',
      license: 'MIT',
      repository: 'github:paravirt/paravirt',
      type: 'module',
      sideEffects: false,
      engines: { node: '>=20.19' },
      files: ['dist', 'src', 'example.mjs', '!dist/**/*.tsbuildinfo'],
      exports: entries({ '@paravirt/source': './src/index.ts' }),
      publishConfig: { access: 'public', exports: entries({}) },
      scripts: { build: 'tsc -b tsconfig.build.json', prepack: `node ${JSON.stringify(join(root, 'tools/release/bin/example.mjs'))}` },
    });
    this.writeJson('packages/counter/tsconfig.build.json', {
      extends: '../../tsconfig.base.json',
      compilerOptions: { rootDir: 'src', outDir: 'dist', tsBuildInfoFile: 'dist/.tsbuildinfo', composite: true, types: [] },
      include: ['src'],
    });
    cpSync(join(root, 'LICENSE'), join(this.folder, 'packages/counter/LICENSE'));
    this.write(
      'packages/counter/src/index.ts',
      'export function count(from: number): number {\n  return from + 1;\n}\nexport const FIRST: number = 0;\n',
    );
    this.write(
      'packages/counter/README.md',
      "# @paravirt/counter\n\nCounts.\n\n```sh\nnpm install @paravirt/counter && node node_modules/@paravirt/counter/example.mjs\n```\n\n## Use\n\n```ts\nimport { count, FIRST } from '@paravirt/counter';\n\nconst next: number = count(FIRST);\nconsole.log(next);\n```\n",
    );
    this.git('init', '--quiet', '--initial-branch=main');
    this.commit('Lay out a counter');
  }

  write(path: string, text: string): void {
    mkdirSync(dirname(join(this.folder, path)), { recursive: true });
    writeFileSync(join(this.folder, path), text);
  }

  writeJson(path: string, value: unknown): void {
    this.write(path, `${JSON.stringify(value, null, 2)}\n`);
  }

  read(path: string): string {
    return readFileSync(join(this.folder, path), 'utf8');
  }

  edit(path: string, change: (text: string) => string): void {
    this.write(path, change(this.read(path)));
  }

  remove(path: string): void {
    rmSync(join(this.folder, path), { recursive: true });
  }

  git(...args: string[]): string {
    const identity = ['-c', 'user.name=test', '-c', 'user.email=test@localhost', '-c', 'commit.gpgsign=false', '-c', 'tag.gpgsign=false'];
    return execFileSync('git', [...identity, ...args], { cwd: this.folder, encoding: 'utf8', timeout: 60_000, stdio: 'pipe' }).trim();
  }

  commit(message: string): string {
    this.git('add', '--all');
    this.git('commit', '--quiet', '-m', message);
    return this.git('rev-parse', 'HEAD');
  }

  changeset(bump: 'major' | 'minor' | 'patch', text: string): void {
    this.write('.changeset/some-words.md', `---\n'@paravirt/counter': ${bump}\n---\n\n${text}\n`);
  }

  /** Everything that a rehearsal must leave as it was. */
  state(): string {
    return [
      this.git('rev-parse', 'HEAD'),
      this.git('status', '--porcelain', '--ignored'),
      this.git('tag', '--list'),
      this.git('branch', '--list'),
    ].join('\n');
  }

  end(): void {
    rmSync(this.#scratch, { recursive: true, force: true, maxRetries: 5 });
  }
}

function entries(source: Record<string, string>): Record<string, unknown> {
  return { '.': { ...source, types: './dist/index.d.ts', default: './dist/index.js' }, './package.json': './package.json' };
}
