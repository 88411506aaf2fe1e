/**
 * The table of the README. Every contender runs in a process of its own, in turn, several times over; a figure is the best of its medians, because what
 * else the machine does can only add to it. `--json` prints the figures as JSON, `--quick` runs once.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeWorkload, writeWorkload } from './workload.mjs';

const REPEATS = process.argv.includes('--quick') ? 1 : 9;
const SIZES = [32764, 509];
const here = (file) => fileURLToPath(new URL(file, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'memslots-bench-'));

/** The C baselines, where gcc is found. */
function compiled() {
  try {
    for (const name of ['array', 'tree']) execFileSync('gcc', ['-O2', '-o', join(folder, name), here(`${name}.c`)], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

function run(file, args) {
  return JSON.parse(execFileSync(file, args, { encoding: 'utf8' }));
}

function best(into, figures) {
  for (const [name, value] of Object.entries(figures)) into[name] = Math.min(into[name] ?? Number.POSITIVE_INFINITY, value);
}

const results = {};
try {
  const inC = compiled();
  for (const slots of SIZES) {
    writeWorkload(join(folder, `${slots}`), makeWorkload(slots));
    const figures = { paravirt: {}, plain: {}, array: {}, tree: {} };
    results[slots] = figures;
    for (let i = 0; i < REPEATS; i++) {
      if (inC) {
        best(figures.array, run(join(folder, 'array'), [join(folder, `${slots}`)]));
        best(figures.tree, run(join(folder, 'tree'), [join(folder, `${slots}`)]));
      }
      best(figures.paravirt, run(process.execPath, ['--expose-gc', here('one.mjs'), 'paravirt', `${slots}`]));
      if (i < 3 || slots < 1000) best(figures.plain, run(process.execPath, [here('one.mjs'), 'plain', `${slots}`]));
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}

/** Workload, its figure, and the targets by size: [factor, contender] or a bound in nanoseconds. */
const ROWS = [
  ['lookup, every mapped frame equally often', 'hit', { 32764: [[0.3, 'array']], 509: [[0.5, 'array']] }],
  ['lookup, every slot equally often', 'spread', {}],
  ['lookup, 95 % one slot', 'same', { 32764: [[2, 'array']], 509: [[2, 'array']] }],
  ['lookup, miss', 'miss', { 32764: [[1, 'array']], 509: [[1.2, 'array']] }],
  ['delete and create, validated', 'change', { 32764: [2000, [1, 'tree']], 509: [1000] }],
  ['delete and create under a snapshot', 'watched', {}],
  ['move', 'move', { 32764: [[1, 'tree']], 509: [[1, 'array']] }],
  ['host range of one page', 'hva', { 32764: [[2, 'tree']] }],
  ['take and release a snapshot', 'snapshot', {}],
];

function targetText(target) {
  return typeof target === 'number' ? `${target / 1000} µs` : `${target[0]} x C ${target[1]}`;
}

function met(target, figures, name) {
  const bound = typeof target === 'number' ? target : target[0] * (figures[target[1]][name] ?? Number.NaN);
  return Number.isNaN(bound) ? 'no gcc' : figures.paravirt[name] <= bound ? 'met' : 'missed';
}

const shown = (ns) =>
  ns === undefined ? '-' : ns >= 10_000 ? `${Math.round(ns / 1000)} µs` : ns >= 100 ? `${Math.round(ns)}` : ns.toFixed(1);

if (process.argv.includes('--json')) {
  console.log(JSON.stringify(results, null, 2));
} else {
  for (const slots of SIZES) {
    const figures = results[slots];
    console.log(`\n| ${slots.toLocaleString('en')} slots | this package | C array | C array, copied | C tree | plain array | target |`);
    console.log('| --- | ---: | ---: | ---: | ---: | ---: | --- |');
    for (const [title, name, targets] of ROWS) {
      const { paravirt, array, tree, plain } = figures;
      const target = (targets[slots] ?? []).map((one) => `${targetText(one)}: ${met(one, figures, name)}`).join('; ');
      const cells = [paravirt[name], array[name], array[`copied_${name}`], tree[name], plain[name]].map(shown);
      console.log(`| ${title} | ${cells.join(' | ')} | ${target} |`);
    }
    const { paravirt, array, tree } = figures;
    const bytes = [paravirt.bytes, array.bytes, undefined, tree.bytes, undefined].map((value) =>
      value === undefined ? '-' : value.toFixed(1),
    );
    console.log(`| memory, bytes a slot | ${bytes.join(' | ')} | 64 bytes: ${paravirt.bytes <= 64 ? 'met' : 'missed'} |`);
  }
}
