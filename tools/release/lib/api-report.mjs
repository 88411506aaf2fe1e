import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { withoutComments } from './specifiers.mjs';

/**
 * @typedef {{ name: string, text: string }} Declaration
 * @typedef {{ declarations: Map<string, Declaration[]>, imported: Map<string, { name: string, from: string }>, exported: Map<string, { name: string, from: string | null }>, stars: string[] }} Module
 */

/** Declarations that this reader cannot place; the report would be incomplete without a word. */
export class ReportError extends Error {
  /** @override */
  name = 'ReportError';
}

/**
 * The public surface of one entry as text: every exported name with its declaration, in the order of the names, then the declarations of
 * this package that those speak of without exporting them. Read from the declaration files that are published, without comments.
 * @param {string} title @param {string} entry path of the entry's declaration file
 * @returns {string}
 */
export function apiReport(title, entry) {
  /** @type {Map<string, Module>} */
  const modules = new Map();
  const load = (/** @type {string} */ path) => {
    let module = modules.get(path);
    if (module === undefined) {
      module = readModule(readFileSync(path, 'utf8'), path);
      modules.set(path, module);
    }
    return module;
  };
  /** @type {(path: string, name: string) => { path: string, name: string } | { external: string }} */
  const locate = (path, name) => {
    const module = load(path);
    const known = module.exported.get(name);
    const from = known === undefined ? module.imported.get(name) : known.from === null ? undefined : { name: known.name, from: known.from };
    if (from !== undefined) return follow(path, from);
    const local = known?.name ?? name;
    if (module.declarations.has(local)) return { path, name: local };
    const imported = module.imported.get(local);
    if (imported !== undefined) return follow(path, imported);
    throw new ReportError(`${path}: ${name} is declared nowhere`);
  };
  /** @type {(path: string, from: { name: string, from: string }) => { path: string, name: string } | { external: string }} */
  const follow = (path, { name, from }) => {
    const target = from.startsWith('.') ? declarationFile(path, from) : null;
    return target === null ? { external: `${name} of ${from}` } : locate(target, name);
  };

  const main = load(entry);
  if (main.stars.length > 0) throw new ReportError(`${entry} exports everything of ${main.stars.join(', ')}: a surface is a list of names`);
  const lines = [`# ${title}`, ''];
  /** @type {Set<string>} */
  const shown = new Set();
  /** @type {{ path: string, name: string }[]} */
  const queue = [];
  const show = (/** @type {string} */ heading, /** @type {{ path: string, name: string }} */ at) => {
    shown.add(`${at.path}#${at.name}`);
    const declarations = load(at.path).declarations.get(at.name) ?? [];
    lines.push(`## ${heading}`, '', ...declarations.map(({ text }) => text), '');
    for (const { text } of declarations) for (const word of identifiers(text)) queue.push({ path: at.path, name: word });
  };
  for (const name of [...main.exported.keys()].sort(byName)) {
    const at = locate(entry, name);
    if ('external' in at) lines.push(`## ${name}`, '', `${at.external}`, '');
    else if (shown.has(`${at.path}#${at.name}`)) lines.push(`## ${name}`, '', `the same as ${at.name}`, '');
    else show(name, at);
  }
  /** @type {Map<string, { path: string, name: string }>} */
  const inner = new Map();
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const module = load(next.path);
    if (!module.declarations.has(next.name) && !module.imported.has(next.name)) continue;
    const at = locate(next.path, next.name);
    if ('external' in at) continue;
    const key = `${at.path}#${at.name}`;
    if (shown.has(key)) continue;
    shown.add(key);
    inner.set(key, at);
    for (const { text } of load(at.path).declarations.get(at.name) ?? [])
      for (const word of identifiers(text)) queue.push({ path: at.path, name: word });
  }
  if (inner.size > 0) {
    lines.push('# Reached, not exported', '');
    for (const at of [...inner.values()].sort((a, b) => byName(a.name, b.name) || byName(a.path, b.path))) show(at.name, at);
  }
  return `${lines.join('\n').trimEnd()}\n`;
}

const byName = (/** @type {string} */ a, /** @type {string} */ b) => (a < b ? -1 : a > b ? 1 : 0);
const identifiers = (/** @type {string} */ text) => new Set(text.replace(/'[^'\n]*'|"[^"\n]*"/g, '').match(/[A-Za-z_$][\w$]*/g) ?? []);

/** @param {string} from a declaration file @param {string} specifier */
function declarationFile(from, specifier) {
  const base = normalize(join(dirname(from), specifier));
  const path = base.replace(/(?:\.d)?\.(?:ts|js)$/, '.d.ts');
  if (!existsSync(path)) throw new ReportError(`${from} imports ${specifier}: no declaration file stands there`);
  return path;
}

/** @param {string} source @param {string} path @returns {Module} */
function readModule(source, path) {
  /** @type {Module} */
  const module = { declarations: new Map(), imported: new Map(), exported: new Map(), stars: [] };
  for (const statement of statements(withoutComments(source))) {
    const link = /^(import|export)\s+(?:type\s+)?\{([\s\S]*?)\}(?:\s*from\s*['"]([^'"]+)['"])?/.exec(statement);
    if (link !== null) {
      const [, kind, names, from] = /** @type {string[]} */ (/** @type {unknown} */ (link));
      for (const part of /** @type {string} */ (names).split(',')) {
        const match = /^\s*(?:type\s+)?([\w$]+)(?:\s+as\s+([\w$]+))?\s*$/.exec(part);
        if (match === null) continue;
        const name = /** @type {string} */ (match[1]);
        const local = match[2] ?? name;
        if (kind === 'import') module.imported.set(local, { name, from: /** @type {string} */ (from) });
        else module.exported.set(local, { name, from: from ?? null });
      }
      continue;
    }
    const star = /^export\s*\*\s*(?:as\s+[\w$]+\s*)?from\s*['"]([^'"]+)['"]/.exec(statement);
    if (star !== null) {
      module.stars.push(/** @type {string} */ (star[1]));
      continue;
    }
    if (/^import\b/.test(statement)) continue; // namespaces and effects: nothing here is declared by them
    const declared =
      /^(export\s+)?(?:declare\s+)?(?:abstract\s+)?(?:const\s+|let\s+|var\s+|function\s+|class\s+|interface\s+|type\s+|namespace\s+)([\w$]+)/.exec(
        statement,
      );
    if (declared === null) throw new ReportError(`${path}: cannot read "${statement.slice(0, 80)}"`);
    const name = /** @type {string} */ (declared[2]);
    const text = statement
      .replace(/^(?:export\s+)?(?:declare\s+)?/, '')
      .split('\n')
      .filter((line) => line.trim() !== '')
      .map((line) => line.trimEnd())
      .join('\n');
    module.declarations.set(name, [...(module.declarations.get(name) ?? []), { name, text }]);
    if (declared[1] !== undefined) module.exported.set(name, { name, from: null });
  }
  return module;
}

/** The top-level statements of a declaration file, as tsc prints them: each begins at the margin. @param {string} source */
function statements(source) {
  const found = [];
  /** @type {string[]} */
  let current = [];
  for (const line of source.split('\n')) {
    if (/^(?:export|import|declare|interface|type|class|abstract|const|function|namespace)\b/.test(line) && current.length > 0) {
      found.push(current.join('\n'));
      current = [];
    }
    current.push(line);
  }
  found.push(current.join('\n'));
  return found.map((statement) => statement.trim()).filter((statement) => statement !== '' && statement !== 'export {};');
}
