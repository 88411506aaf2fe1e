import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Who may import whom. Edges go down only; packages of one level never import each other. */
const edges: Record<string, readonly string[]> = {
  'xen-abi': [],
  'event-bus': [],
  nbd: [],
  gnttab: ['event-bus', 'xen-abi'],
  memslots: ['event-bus'],
  vmap: ['event-bus'],
  blkfront: ['event-bus', 'gnttab', 'xen-abi'],
  'hv-sim': ['event-bus', 'gnttab', 'memslots', 'vmap', 'xen-abi'],
};
const published = Object.keys(edges);

/** Entries that may reach Node's own modules; every other entry runs wherever ECMAScript does. */
const nodeEntries = new Set(['packages/hv-sim/src/node.ts', 'packages/nbd/src/node.ts']);

/** Time and chance are passed in: none of these may stand in a package's sources. */
const hostTimeAndChance = /\b(Date\.now|new Date\(\)|Math\.random|setTimeout|setInterval|setImmediate|performance\.now|process\.hrtime)\b/;

const tracked = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root, encoding: 'utf8' })
  .split('\0')
  .filter((path) => path !== '' && existsSync(join(root, path)));
const sources = tracked.filter((path) => /^(packages|apps)\/[^/]+\/src\/.*\.ts$/.test(path));
const text = (path: string): string => readFileSync(join(root, path), 'utf8');
const json = (path: string): Record<string, never> => JSON.parse(text(path)) as Record<string, never>;
const withoutComments = (code: string): string => code.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|[^:'"`])\/\/.*$/gm, '$1');

function imports(path: string): string[] {
  const found: string[] = [];
  for (const match of withoutComments(text(path)).matchAll(/(?:\bfrom\s*|\bimport\s*\(?\s*)['"]([^'"]+)['"]/g))
    found.push(match[1] as string);
  return found;
}

/** Every file of the package that the entry reaches by relative imports. */
function reach(entry: string, seen = new Set<string>()): Set<string> {
  if (seen.has(entry)) return seen;
  seen.add(entry);
  for (const specifier of imports(entry)) {
    if (specifier.startsWith('.')) reach(relative(root, join(root, dirname(entry), specifier)), seen);
  }
  return seen;
}

describe.each(published)('@paravirt/%s', (name) => {
  const folder = `packages/${name}`;
  const manifest = json(`${folder}/package.json`) as unknown as {
    dependencies?: Record<string, string>;
    devDependencies?: Record<string, string>;
    exports: Record<string, string | Record<string, string>>;
    publishConfig: { exports: Record<string, string | Record<string, string>> };
  };
  const allowed = new Set((edges[name] as readonly string[]).map((edge) => `@paravirt/${edge}`));
  const own = tracked.filter((path) => path.startsWith(`${folder}/`) && /\.(ts|mjs)$/.test(path));

  it('depends on no package above or beside it', () => {
    for (const dependency of Object.keys({ ...manifest.dependencies, ...manifest.devDependencies })) {
      if (dependency.startsWith('@paravirt/')) expect(allowed, dependency).toContain(dependency);
    }
  });

  it('imports no package above or beside it', () => {
    for (const path of own) {
      for (const specifier of imports(path)) {
        const scope = /^@paravirt\/[^/]+/.exec(specifier)?.[0];
        if (scope !== undefined && scope !== `@paravirt/${name}`) expect(allowed, `${path} imports ${specifier}`).toContain(scope);
      }
    }
  });

  it('exports only files that stand, and publishes the same names without the source condition', () => {
    expect(Object.keys(manifest.publishConfig.exports).sort()).toEqual(Object.keys(manifest.exports).sort());
    for (const target of Object.values(manifest.exports)) {
      if (typeof target !== 'string')
        expect(existsSync(join(root, folder, target['@paravirt/source'] as string)), JSON.stringify(target)).toBe(true);
    }
    expect(JSON.stringify(manifest.publishConfig)).not.toContain('@paravirt/source');
  });

  it('reaches nothing of Node from an entry that must run anywhere', () => {
    for (const target of Object.values(manifest.exports)) {
      if (typeof target === 'string') continue;
      const entry = join(folder, target['@paravirt/source'] as string);
      if (nodeEntries.has(entry)) continue;
      for (const path of reach(entry)) {
        for (const specifier of imports(path)) expect(specifier, `${path}, reached from ${entry}`).not.toMatch(/^node:/);
      }
    }
  });

  it('takes time and chance from its user', () => {
    for (const path of sources.filter((source) => source.startsWith(`${folder}/`))) {
      expect(hostTimeAndChance.exec(withoutComments(text(path)))?.[0], path).toBeUndefined();
    }
  });

  it('has a README with an example that a test runs, a licence and a changelog entry to come', () => {
    expect(text(`${folder}/README.md`)).toMatch(/^## Use$/m);
    expect(tracked).toContain(`${folder}/test/readme.example.test.ts`);
    expect(tracked).toContain(`${folder}/LICENSE`);
  });
});

describe('every source file', () => {
  it('stays under 500 lines', () => {
    const long = sources.map((path) => [path, text(path).split('\n').length - 1] as const).filter(([, lines]) => lines > 500);
    expect(long).toEqual([]);
  });

  it('names what it exports, one by one', () => {
    for (const path of sources.filter((source) => source.startsWith('packages/'))) {
      expect(withoutComments(text(path)), path).not.toMatch(/^export (\*|default\b)/m);
    }
  });

  it('leaves nothing for later and switches no test off', () => {
    const words = new RegExp(
      `\\b(${['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'HA' + 'CK'].join('|')})\\b|\\b(it|test|describe)\\.(only|todo)\\(`,
    );
    for (const path of tracked.filter((file) => /\.(ts|mjs|js)$/.test(file))) {
      expect(words.exec(text(path))?.[0], path).toBeUndefined();
    }
  });
});

describe('the repository', () => {
  it('names no registry host and no machine of ours', () => {
    expect(text('pnpm-lock.yaml')).not.toMatch(/https?:\/\//);
    for (const path of tracked.filter((file) => /\.(ts|mjs|js|json|md|ya?ml|sh)$/.test(file) && file !== 'scripts/tidy.test.ts')) {
      expect(/(^|[\s'"`(])\/(work|root|home)\//.exec(text(path))?.[0], path).toBeUndefined();
    }
  });

  it('keeps the edges it declares in turbo.json the same as those held here', () => {
    const { boundaries } = json('turbo.json') as unknown as {
      boundaries: { tags: Record<string, { dependencies?: { allow: string[] } }> };
    };
    for (const name of published)
      expect(boundaries.tags[name]?.dependencies?.allow.slice().sort(), name).toEqual([...(edges[name] ?? []), 'tooling'].sort());
  });
});
