import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Every file below a folder, relative to it, in order. @param {string} folder @returns {string[]} */
export function filesBelow(folder, prefix = '') {
  const found = [];
  for (const entry of readdirSync(join(folder, prefix), { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = prefix === '' ? entry.name : `${prefix}/${entry.name}`;
    if (entry.isDirectory()) found.push(...filesBelow(folder, path));
    else found.push(path);
  }
  return found;
}

/**
 * What a built module or declaration file imports, in the forms that tsc writes. Comments do not count: docstrings hold examples.
 * @param {string} path @returns {{ specifier: string, bare: boolean }[]} bare: imported for its side effects alone
 */
export function specifiersOf(path) {
  const text = withoutComments(readFileSync(path, 'utf8'));
  const found = [];
  const pattern =
    /(?:^|[\s;}])(?:import|export)\s+(?:type\s+)?(?:[\w$*{},\s]+?\s+from\s*)?(['"])([^'"\n]+)\1|\bimport\s*\(\s*(['"])([^'"\n]+)\3\s*\)/g;
  for (const match of text.matchAll(pattern)) {
    const specifier = /** @type {string} */ (match[2] ?? match[4]);
    found.push({ specifier, bare: match[2] !== undefined && !/\bfrom\b/.test(match[0]) && match[0].trim().startsWith('import') });
  }
  return found;
}

/** @param {string} code */
export function withoutComments(code) {
  return code.replace(
    /("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (_, string) => string ?? '',
  );
}

/** The package of a specifier: `@scope/name` of `@scope/name/entry`. @param {string} specifier */
export function packageOf(specifier) {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
}
