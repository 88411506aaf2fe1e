import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import type { CliContext } from '../context.ts';
import { filterReports, openDisk } from '../disk/open.ts';
import { CliError, exitCodes, fileError } from '../errors.ts';
import { figuresTable } from '../figures-table.ts';
import { Histogram } from '../fio/histogram.ts';
import type { JobText } from '../fio/job-file.ts';
import { directions } from '../fio/options.ts';
import { humanReport } from '../fio/output-human.ts';
import { jsonReport } from '../fio/output-json.ts';
import { terseReport } from '../fio/output-terse.ts';
import { parseTimeUs } from '../fio/units.ts';
import { driverOf, loadPlugins } from '../plugins.ts';
import { folderOf, runSession } from '../run/session.ts';
import { defaultService } from '../run/stack-target.ts';
import { latencyChart } from '../ui/histogram-chart.ts';
import { version } from '../version.ts';
import { deviceChoice } from './device-flags.ts';
import type { RunFlags } from './run.ts';

/** Several files are one run, as with fio: their jobs one behind the other. */
function readJobs(paths: readonly string[]): JobText[] {
  return paths.map((name) => {
    try {
      return { name, text: readFileSync(name, 'utf8') };
    } catch (error) {
      throw fileError(name, error, exitCodes.usage);
    }
  });
}

/** A run of an hour should not end with a report that cannot be written. */
function checkWritable(path: string): void {
  try {
    closeSync(openSync(path, 'a'));
  } catch (error) {
    throw fileError(path, error, exitCodes.usage);
  }
}

/** `hvsim run JOB.fio` */
export async function run(this: CliContext, flags: RunFlags, ...paths: string[]): Promise<void> {
  const { stdout, stderr, env } = this.process;
  const jobFiles = readJobs(paths);
  const format = flags.json ? 'json' : flags.outputFormat;
  const service = flags.serviceTime === '0' ? { requestNs: 0, byteNs: 0 } : { ...defaultService, requestNs: serviceNs(flags.serviceTime) };
  if (flags.output !== undefined) checkWritable(flags.output);
  const extensions = await loadPlugins(flags.plugin ?? []);
  const disk = openDisk({ disk: flags.disk, filters: flags.filter ?? [], seed: flags.seed, extensions });
  const { reports, globals, figures, timeline, failed } = await runSession({
    ...deviceChoice(flags),
    ...driverOf(extensions, flags.driver),
    jobFiles,
    folder: folderOf(paths[0] as string),
    disk,
    seed: flags.seed,
    wall: flags.wall,
    service,
    env,
    stderr,
    iologVersion: flags.iologVersion === '2' ? 2 : 3,
    quiet: false,
  });
  let text: string;
  if (format === 'terse') text = `${terseReport(reports)}\n`;
  else if (format !== 'normal') {
    const timestampMs = flags.wall ? Date.now() : 0;
    const report = jsonReport(reports, { timestampMs, globals, bins: format === 'json+' });
    text = `${JSON.stringify({ ...report, hvsim: { version, seed: flags.seed, time: flags.wall ? 'wall' : 'virtual', ...figures, faults: disk.faults(), filters: filterReports(disk) } }, null, 2)}\n`;
  } else {
    const all = new Histogram();
    for (const { stats } of reports) for (const direction of directions) all.merge(stats.by[direction].lat);
    const faults = disk.faults().map(({ name, reached, fired }) => `fault ${name}: met ${reached} times, fired ${fired}\n`);
    text = `${humanReport(reports)}\n${timeline.chart()}\nlatency of a request\n${latencyChart(all)}\n${figuresTable(stdout, env, figures)}${faults.join('')}`;
  }
  if (flags.output === undefined) stdout.write(text);
  else {
    try {
      writeFileSync(flags.output, text);
    } catch (error) {
      throw fileError(flags.output, error);
    }
  }
  this.process.exitCode = failed ? exitCodes.failed : exitCodes.ok;
}

function serviceNs(text: string): number {
  try {
    return parseTimeUs('--service-time', text, 1) * 1e3;
  } catch (error) {
    throw new CliError(error instanceof Error ? error.message : String(error), exitCodes.usage);
  }
}
