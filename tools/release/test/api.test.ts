import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { apiFiles } from '../lib/api-files.mjs';
import { apiReport, ReportError } from '../lib/api-report.mjs';
import { root } from './fixture.ts';

describe('a report of a surface', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'paravirt-api-'));
    const files = {
      'index.d.ts':
        "export { type Options, count as tally } from './count.ts';\nexport type { Observable } from 'rxjs';\nexport declare const FIRST: 0;\n",
      'count.d.ts':
        "import type { Unit } from './unit.ts';\n/** Words. */\nexport interface Options {\n    /** How much. */\n    readonly unit: Unit;\n}\nexport declare function count(from: number): number;\nexport declare function count(from: string, options: Options): string;\nexport declare const secret: 1;\n",
      'unit.d.ts': 'declare const brand: unique symbol;\nexport type Unit = number & {\n    readonly [brand]: true;\n};\n',
      'star.d.ts': "export * from './count.ts';\n",
      'gone.d.ts': "export { nothing } from './count.ts';\n",
    };
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), text);
    }
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('shows each public name with its declarations, then what those speak of, and nothing else', () => {
    expect(apiReport('counter', join(folder, 'index.d.ts'))).toBe(`# counter

## FIRST

const FIRST: 0;

## Observable

Observable of rxjs

## Options

interface Options {
    readonly unit: Unit;
}

## tally

function count(from: number): number;
function count(from: string, options: Options): string;

# Reached, not exported

## Unit

type Unit = number & {
    readonly [brand]: true;
};

## brand

const brand: unique symbol;
`);
  });

  it('refuses a surface that is not a list of names, and a name that is declared nowhere', () => {
    expect(() => apiReport('star', join(folder, 'star.d.ts'))).toThrow(ReportError);
    expect(() => apiReport('gone', join(folder, 'gone.d.ts'))).toThrow(/nothing is declared nowhere/);
  });
});

describe('the reports of this checkout', () => {
  it('say what the packages export: read the difference, then run "pnpm api"', () => {
    const files = apiFiles(root);
    const stale = files.filter(({ path, text }) => !existsSync(join(root, path)) || readFileSync(join(root, path), 'utf8') !== text);
    expect(stale.map(({ path }) => path)).toEqual([]);
    const known = new Set(files.map(({ path }) => path));
    for (const folder of new Set(files.map(({ path }) => dirname(path))))
      for (const file of readdirSync(join(root, folder))) expect(known, 'a report of an entry that is gone').toContain(`${folder}/${file}`);
  });
});
