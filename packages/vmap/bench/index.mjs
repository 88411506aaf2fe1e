/**
 * The table of the README: each workload on the allocator, on a scan in plain JavaScript, and on scan.c where gcc is found.
 * `--json` prints the figures as JSON. Exit status 1 when a target is missed.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createPageHeap, createPageTable, createVmap } from '../dist/index.js';
import { List, Scan } from './scan.mjs';
import { generator, measure, median, workloads } from './workloads.mjs';

const START = 0xffff_82c0_0000_0000n;
const here = (file) => fileURLToPath(new URL(file, import.meta.url));

const setup = (pages) => ({
  regions: [{ name: 'default', start: START, pages }],
  pageTable: createPageTable(),
  pages: createPageHeap(),
});
const strict = (pages) => createVmap(setup(pages)).region('default');
const scan = (pages) => new Scan(pages);

/** What scan.c prints, by workload; empty without gcc. */
function baselineInC() {
  const folder = mkdtempSync(join(tmpdir(), 'vmap-bench-'));
  try {
    execFileSync('gcc', ['-O2', '-o', join(folder, 'scan'), here('scan.c')], { stdio: 'ignore' });
    const lines = execFileSync(join(folder, 'scan'), { encoding: 'utf8' }).trim().split('\n');
    return Object.fromEntries(lines.map((line) => line.split(' ')).map(([name, ns]) => [name, Number(ns)]));
  } catch {
    return {};
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Looks an address up among `many` areas outside: by vmSize of a whole address, and on the list. */
function lookups(many) {
  const vmap = createVmap(setup(1024));
  const list = new List();
  const base = 0xffff_82d0_8000_0000n;
  const addresses = Array.from({ length: many }, (_, i) => base + BigInt(i) * 16_384n);
  for (const [i, va] of addresses.entries()) vmap.reserve(va, 1 + (i % 3));
  for (const [i, va] of addresses.entries()) list.add(va, 1 + (i % 3));
  // Asked in random order, but laid out in the order they are asked: what is measured is the lookup.
  const chance = generator();
  const queries = Array.from({ length: 32_768 }, () => base + BigInt(chance() % many) * 16_384n);
  const run = (find, each) => {
    let sum = 0;
    let n = 0;
    const body = () => {
      sum += find(queries[n++ & 32_767]);
    };
    for (let warm = 0; warm < Math.min(each, 20_000); warm++) body();
    const ns = median(7, each, body);
    if (sum === 0) throw new Error('nothing was found');
    return ns;
  };
  return { ours: run((va) => vmap.vmSize(va), 300_000), scan: run((va) => list.find(va), Math.ceil(300_000 / many)) };
}

const { arch, version } = process;
const c = baselineInC();
const rows = [];
for (const workload of workloads) {
  rows.push({
    name: workload.name,
    ours: measure(workload, strict, false),
    scan: measure(workload, scan, true),
    c: c[workload.name] ?? null,
  });
}
for (const many of [10, 1_000, 32_768]) rows.push({ name: `lookup-${many}`, ...lookups(many), c: c[`lookup-${many}`] ?? null });
const memory = JSON.parse(execFileSync(process.execPath, [here('memory.mjs')], { encoding: 'utf8' }));

const of = (name) => rows.find((row) => row.name === name);
const targets = {
  lifo: ['4 x C', (row) => row.c === null || row.ours <= 4 * row.c],
  'churn-32k': ['1 us', (row) => row.ours <= 1_000],
  'churn-16m': ['2 us, 4 x the small one', (row) => row.ours <= 2_000 && row.ours <= 4 * of('churn-32k').ours],
  checkerboard: ['5 us', (row) => row.ours <= 5_000],
  large: ['5 us', (row) => row.ours <= 5_000],
  'cannot-fit': ['1 us', (row) => row.ours <= 1_000],
  size: ['100 ns', (row) => row.ours <= 100],
  'lookup-10': ['100 ns', (row) => row.ours <= 100],
  'lookup-1000': ['100 ns', (row) => row.ours <= 100],
  'lookup-32768': ['100 ns', (row) => row.ours <= 100],
};
for (const row of rows) {
  const [target, met] = targets[row.name];
  Object.assign(row, { target, met: met(row) });
}
const bytesMax = 16 * 1024 * 1024;
rows.push({ name: 'memory', bytes: memory.bytes, areas: memory.areas, target: '16 MiB', met: memory.bytes <= bytesMax });

if (process.argv.includes('--json')) console.log(JSON.stringify({ node: version, arch, rows }, null, 2));
else {
  const time = (ns) =>
    ns === null
      ? '-'
      : ns < 1_000
        ? `${ns.toFixed(ns < 100 ? 1 : 0)} ns`
        : ns < 1e6
          ? `${(ns / 1e3).toFixed(1)} us`
          : `${(ns / 1e6).toFixed(1)} ms`;
  console.log(`node ${version}, ${arch}; processor time, medians of 7 rounds\n`);
  console.log('| workload | vmap | plain scan | scan in C | target | |\n|---|---|---|---|---|---|');
  for (const row of rows) {
    const figures =
      row.bytes === undefined
        ? [time(row.ours), time(row.scan), time(row.c)]
        : [`${(row.bytes / 2 ** 20).toFixed(1)} MiB`, '2 MiB', '2 MiB'];
    console.log(`| ${[row.name, ...figures, row.target, row.met ? 'met' : 'MISSED'].join(' | ')} |`);
  }
}
process.exitCode = rows.every(({ met }) => met) ? 0 : 1;
