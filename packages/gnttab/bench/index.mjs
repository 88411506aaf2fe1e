/**
 * Grant tables measured beside two baselines in the same run: the same algorithm as the original's in TypeScript and, where
 * gcc is, in C. Prints a table and each target's verdict; with --json only the measurements.
 *
 *   pnpm bench [--json]
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SIZES = ['4096', '65536', '1048576'];
const ROUNDS = 5;
const here = (file) => fileURLToPath(new URL(file, import.meta.url));
const lines = (text) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
const run = (command, args) => lines(execFileSync(command, args, { encoding: 'utf8' }));
// Whatever else the machine does only adds to a time, so the least of the rounds is taken, for all alike.
const least = (values) => Math.min(...values);

function allocators() {
  const folder = mkdtempSync(join(tmpdir(), 'gnttab-bench-'));
  try {
    const binary = join(folder, 'list');
    const built = spawnSync('gcc', ['-O2', '-o', binary, here('list.c')]).status === 0;
    const subjects = {
      // A process for each size: what one size has taught the compiler is not another size's.
      table: () => SIZES.flatMap((size) => run(process.execPath, [here('subject.mjs'), 'table', size])),
      list: () => SIZES.flatMap((size) => run(process.execPath, [here('subject.mjs'), 'list', size])),
      ...(built ? { c: () => run(binary, SIZES) } : {}),
    };
    const samples = new Map();
    // In turns, so that whatever else the machine does falls on all of them.
    for (let round = 0; round < ROUNDS; round++) {
      for (const [subject, measure] of Object.entries(subjects)) {
        for (const { workload, references, ns } of measure()) {
          const key = `${workload}|${references}`;
          if (!samples.has(key)) samples.set(key, { workload, references: Number(references), table: [], list: [], c: [] });
          samples.get(key)[subject].push(ns);
        }
      }
    }
    return [...samples.values()].map(({ workload, references, table, list, c }) => ({
      workload,
      references,
      table: least(table),
      list: least(list),
      ...(built ? { c: least(c) } : {}),
    }));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function hotPaths() {
  const rounds = Array.from({ length: ROUNDS }, () => run(process.execPath, ['--expose-gc', here('hot-paths.mjs')]));
  return rounds[0].map((row, i) => (row.ns === undefined ? row : { ...row, ns: least(rounds.map((round) => round[i].ns)) }));
}

function verdicts(rows, hot, memory) {
  const of = (workload, references) => rows.find((row) => row.workload === workload && row.references === references);
  const found = [];
  const check = (what, value, limit, unit) => found.push({ target: what, value, limit, unit, met: value <= limit });
  for (const references of SIZES.map(Number)) {
    const single = of('alloc 1 + free 1', references);
    const tail = of('allocSeq 16 + freeSeq, tail', references);
    if (single.c === undefined) continue;
    check(`alloc 1 + free 1 at ${references}, against C`, single.table / single.c, 2, 'x');
    check(`allocSeq 16 + freeSeq from the tail at ${references}, against C`, tail.table / tail.c, 1.5, 'x');
  }
  for (const pattern of ['every other free', 'runs of 1 to 15']) {
    const workload = `allocSeq 16 + freeSeq, ${pattern}`;
    check(`allocSeq 16, ${pattern}, at 1048576`, of(workload, 1_048_576).table, 5000, 'ns');
    check(`allocSeq 16, ${pattern}, 1048576 against 4096`, of(workload, 1_048_576).table / of(workload, 4096).table, 4, 'x');
  }
  check(
    'unmapRefsAsync of 16 idle pages',
    hot.find((row) => row.workload === 'unmapRefsAsync of 16 idle pages' && 'ns' in row).ns,
    200,
    'ns',
  );
  for (const { workload, bytes } of memory) check(`bytes a reference, ${workload}`, bytes, 6, 'bytes');
  return found;
}

const rows = allocators();
const hot = hotPaths();
const memory = run(process.execPath, ['--expose-gc', here('memory.mjs')]).slice(1);
const targets = verdicts(rows, hot, memory);

if (process.argv.includes('--json'))
  console.log(JSON.stringify({ node: process.version, allocators: rows, hotPaths: hot, memory, targets }, null, 1));
else {
  const ns = (value) => (value === undefined ? '-' : String(Number(value.toPrecision(3))));
  console.log('| workload, ns | references | this package | list in TypeScript | list in C |\n|---|--:|--:|--:|--:|');
  for (const { workload, references, table, list, c } of rows) {
    console.log(`| ${workload} | ${references} | ${ns(table)} | ${ns(list)} | ${ns(c)} |`);
  }
  console.log('\n| call | ns |\n|---|--:|');
  for (const { workload, ns: value } of hot) if (value !== undefined) console.log(`| ${workload} | ${ns(value)} |`);
  console.log('\n| a million references | bytes each |\n|---|--:|');
  for (const { workload, bytes } of memory) console.log(`| ${workload} | ${bytes.toFixed(2)} |`);
  console.log('\n| target | measured | at most | |\n|---|--:|--:|---|');
  for (const { target, value, limit, unit, met } of targets)
    console.log(`| ${target} | ${ns(value)} ${unit} | ${limit} ${unit} | ${met ? 'met' : 'missed'} |`);
}
