import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { CliContext } from '../context.ts';
import { openDisk } from '../disk/open.ts';
import { exitCodes } from '../errors.ts';
import { figuresTable } from '../figures-table.ts';
import { Histogram } from '../fio/histogram.ts';
import { directions } from '../fio/options.ts';
import { folderOf, runSession } from '../run/session.ts';
import { defaultService } from '../run/stack-target.ts';
import { latencyChart } from '../ui/histogram-chart.ts';
import { duration, grouped, megabytes, table } from '../ui/table.ts';
import type { DemoFlags } from './demo.ts';
import { deviceChoice } from './device-flags.ts';

const jobFile = fileURLToPath(new URL('../../jobs/demo.fio', import.meta.url));

/** `hvsim demo` */
export async function demo(this: CliContext, flags: DemoFlags): Promise<void> {
  const { stdout, stderr, env } = this.process;
  if (!flags.json) {
    stdout.write('A guest and its backend on a simulated hypervisor, a 64 MiB disk between them; jobs of apps/cli/jobs/demo.fio.\n');
    stdout.write('Every byte goes through a grant entry, the shared ring, an event channel and a mapping. Times are virtual.\n\n');
  }
  const began = performance.now();
  const { reports, figures, timeline, failed } = await runSession({
    ...deviceChoice(flags),
    jobFiles: [{ name: 'demo.fio', text: readFileSync(jobFile, 'utf8') }],
    folder: folderOf(jobFile),
    disk: openDisk({ disk: 'mem:64M', filters: [], seed: flags.seed }),
    seed: flags.seed,
    wall: false,
    service: defaultService,
    env,
    stderr,
    quiet: flags.json,
  });
  const seconds = (performance.now() - began) / 1e3;
  const all = new Histogram();
  const jobs = reports.map(({ options, stats }) => {
    const own = new Histogram();
    for (const direction of directions) own.merge(stats.by[direction].lat);
    all.merge(own);
    const bytes = directions.reduce((sum, direction) => sum + stats.by[direction].bytes, 0);
    const runtime = stats.elapsedNs / 1e9;
    const { read, write } = stats.by;
    return {
      name: options.name,
      reads: read.ios,
      writes: write.ios,
      flushes: stats.syncs.count,
      bytes,
      bytesPerSecond: runtime > 0 ? bytes / runtime : 0,
      p50: own.percentile(50),
      p99: own.percentile(99),
      error: stats.error,
    };
  });
  if (flags.json) stdout.write(`${JSON.stringify({ seed: flags.seed, hostSeconds: Number(seconds.toFixed(3)), jobs, ...figures })}\n`);
  else {
    const rows = jobs.map((job) => [
      job.name,
      grouped(job.reads),
      grouped(job.writes),
      grouped(job.flushes),
      megabytes(job.bytesPerSecond),
      duration(job.p50),
      duration(job.p99),
      job.error === 0 ? 'none' : String(job.error),
    ]);
    stdout.write(table(stdout, env, ['job', 'reads', 'writes', 'flushes', 'rate', 'p50', 'p99', 'error'], rows));
    stdout.write(`\n${timeline.chart()}\nlatency of a request\n${latencyChart(all)}\n`);
    stdout.write(figuresTable(stdout, env, figures));
    stdout.write(`\n${grouped(figures.requests)} requests in ${seconds.toFixed(2)} s of real time. Next: npx hvsim --help\n`);
  }
  this.process.exitCode = failed ? exitCodes.failed : exitCodes.ok;
}
