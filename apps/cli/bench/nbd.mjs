// The served disk beside nbdkit's memory plugin and qemu-nbd: one fio command line, Unix sockets, one run, rounds in turn.
//
//   pnpm bench:nbd [--rounds 5] [--seconds 4] [--job NAME]... [--json]
//
// Only the ratios say something: absolute figures are the machine's. Prints also the server's CPU time for each request.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const hvsim = fileURLToPath(new URL('../bin/hvsim.mjs', import.meta.url));

/** What is measured, and what the ratio to each other server should at least be. */
const jobs = [
  { name: 'randread 4 KiB, depth 32', args: ['--rw=randread', '--bs=4k', '--iodepth=32'], way: 'read', nbdkit: 1, qemu: 1.8 },
  { name: 'randwrite 4 KiB, depth 32', args: ['--rw=randwrite', '--bs=4k', '--iodepth=32'], way: 'write', nbdkit: 1, qemu: 1.8 },
  { name: 'randread 4 KiB, depth 1', args: ['--rw=randread', '--bs=4k', '--iodepth=1'], way: 'read', nbdkit: 0.85, qemu: 1.2 },
  { name: 'read 1 MiB, depth 8', args: ['--rw=read', '--bs=1m', '--iodepth=8'], way: 'read', nbdkit: 1, qemu: 1.8 },
];

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '4' },
    job: { type: 'string', multiple: true },
    json: { type: 'boolean', default: false },
  },
});
const rounds = Number(options.rounds);
const seconds = Number(options.seconds);
const chosen = jobs.filter(({ name }) => !options.job || options.job.some((part) => name.includes(part)));

const missing = ['fio', 'nbdkit', 'qemu-nbd'].filter((name) => spawnSync(name, ['--version']).error);
if (missing.length > 0) {
  console.error(`bench: ${missing.join(', ')} missing (Debian: fio, nbdkit, qemu-utils)`);
  process.exit(2);
}

const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'hvsim-bench-'));
const disk = join(folder, 'disk.raw');
spawnSync('truncate', ['-s', '1G', disk]);
const socketOf = (name) => join(folder, `${name}.sock`);
const uriOf = (name) => `nbd+unix:///?socket=${socketOf(name)}`;
const commands = {
  hvsim: [process.execPath, hvsim, 'serve', '--disk', 'mem:1G', '--socket', socketOf('hvsim')],
  nbdkit: ['nbdkit', '-f', '-U', socketOf('nbdkit'), 'memory', '1G'],
  qemu: ['qemu-nbd', '-t', '-f', 'raw', '-e', '8', '-x', '', '-k', socketOf('qemu'), disk],
};

const servers = Object.entries(commands).map(([name, [program, ...args]]) => ({
  name,
  child: spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] }),
}));
const end = () => {
  for (const { child } of servers) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
};
process.on('exit', end);
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

async function listens(path) {
  for (let tries = 0; tries < 200; tries += 1) {
    const found = await new Promise((resolve) => {
      const probe = connect(path);
      probe.once('connect', () => resolve(true)).once('error', () => resolve(false));
      probe.once('connect', () => probe.destroy());
    });
    if (found) return;
    await sleep(50);
  }
  throw new Error(`nobody listens at ${path}`);
}
for (const { name } of servers) await listens(socketOf(name));

/** User and system time of a process, microseconds. @see proc(5), /proc/pid/stat fields 14 and 15 in hundredths of a second */
function cpuMicroseconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 1e4;
}

function fio(name, args) {
  const { status, stdout, stderr } = spawnSync(
    'fio',
    [
      '--name=j',
      '--ioengine=nbd',
      `--uri=${uriOf(name)}`,
      '--size=1g',
      '--randseed=1',
      '--allrandrepeat=1',
      '--output-format=json',
      ...args,
    ],
    { encoding: 'utf8', maxBuffer: 2 ** 26 },
  );
  if (status !== 0) throw new Error(`fio against ${name} exited ${status}: ${stderr || stdout}`);
  return JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs[0];
}

const median = (list) => {
  const sorted = [...list].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

for (const { name } of servers) fio(name, ['--rw=write', '--bs=1m', '--iodepth=8']);
const results = [];
for (const job of chosen) {
  const found = Object.fromEntries(servers.map(({ name }) => [name, { iops: [], mbs: [], cpuUs: [] }]));
  for (let round = 0; round < rounds; round += 1) {
    for (let turn = 0; turn < servers.length; turn += 1) {
      // Each round begins with another server, so that none always has the same neighbour.
      const { name, child } = servers[(turn + round) % servers.length];
      const ramp = 1;
      const before = cpuMicroseconds(child.pid);
      const report = fio(name, [...job.args, '--time_based', `--runtime=${seconds}`, `--ramp_time=${ramp}`]);
      const spent = cpuMicroseconds(child.pid) - before;
      const { iops, bw_bytes: bandwidth, total_ios: ios } = report[job.way];
      found[name].iops.push(iops);
      found[name].mbs.push(bandwidth / 1e6);
      found[name].cpuUs.push((spent * (seconds / (seconds + ramp))) / ios);
    }
  }
  const of = (name, key) => median(found[name][key]);
  // The ratio of neighbours in one round, then the median of the rounds: what else ran on the machine hit them alike.
  const ratio = (other) => median(found.hvsim.iops.map((value, round) => value / found[other].iops[round]));
  results.push({
    job: job.name,
    servers: Object.fromEntries(
      servers.map(({ name }) => [
        name,
        {
          iops: Math.round(of(name, 'iops')),
          mbPerSecond: Math.round(of(name, 'mbs')),
          cpuUsPerRequest: Number(of(name, 'cpuUs').toFixed(2)),
        },
      ]),
    ),
    ratio: { nbdkit: Number(ratio('nbdkit').toFixed(2)), qemu: Number(ratio('qemu').toFixed(2)) },
    wanted: { nbdkit: job.nbdkit, qemu: job.qemu },
  });
}

if (options.json) console.log(JSON.stringify({ rounds, seconds, node: process.version, results }, null, 2));
else {
  const rows = [
    [
      'job',
      'hvsim IOPS',
      'MB/s',
      'nbdkit',
      'qemu-nbd',
      'x nbdkit',
      'wanted',
      'x qemu',
      'wanted',
      'CPU us a request: hvsim',
      'nbdkit',
      'qemu-nbd',
    ],
  ];
  for (const { job, servers: by, ratio, wanted } of results) {
    rows.push([
      job,
      by.hvsim.iops,
      by.hvsim.mbPerSecond,
      by.nbdkit.iops,
      by.qemu.iops,
      ratio.nbdkit.toFixed(2),
      wanted.nbdkit.toFixed(2),
      ratio.qemu.toFixed(2),
      wanted.qemu.toFixed(2),
      by.hvsim.cpuUsPerRequest,
      by.nbdkit.cpuUsPerRequest,
      by.qemu.cpuUsPerRequest,
    ]);
  }
  for (const row of rows) console.log(`| ${row.join(' | ')} |`);
}
process.exit(0);
