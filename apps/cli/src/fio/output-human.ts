import type { JobReport } from './engine.ts';
import type { Histogram } from './histogram.ts';
import { type Direction, directions } from './options.ts';

/** A number in four characters or so, as fio: 1234 is 1234, 123456 is 123k. */
function short(value: number): string {
  if (value < 10) return value.toFixed(2).replace(/\.?0+$/, '') || '0';
  if (value < 10_000) return String(Math.round(value));
  for (const [unit, size] of [
    ['k', 1e3],
    ['M', 1e6],
    ['G', 1e9],
  ] as const) {
    if (value < size * 1000 || unit === 'G') return `${value / size < 100 ? (value / size).toFixed(1) : Math.round(value / size)}${unit}`;
  }
  return String(value);
}

export function bytesText(bytes: number, base: 1000 | 1024): string {
  const units = base === 1024 ? ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] : ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let unit = 0;
  while (value >= 10_000 && unit < units.length - 1) {
    value /= base;
    unit += 1;
  }
  while (unit === 0 && value >= base && unit < units.length - 1) {
    value /= base;
    unit += 1;
  }
  return `${Number.isInteger(value) || value >= 100 ? Math.round(value) : value.toFixed(1)}${units[unit]}`;
}

interface Scale {
  readonly name: string;
  readonly ns: number;
}

function scaleOf(histogram: Histogram): Scale {
  if (histogram.mean > 10e6) return { name: 'msec', ns: 1e6 };
  return histogram.mean > 10e3 ? { name: 'usec', ns: 1e3 } : { name: 'nsec', ns: 1 };
}

function latencyLine(name: string, histogram: Histogram): string {
  const { name: unit, ns } = scaleOf(histogram);
  const value = (each: number): string => short(each / ns);
  const { min, max, mean, stddev } = histogram;
  return `    ${name} (${unit}): min=${value(min)}, max=${value(max)}, avg=${(mean / ns).toFixed(2)}, stdev=${(stddev / ns).toFixed(2)}`;
}

function percentileLines(histogram: Histogram, percentiles: readonly number[]): string[] {
  const { name, ns } = scaleOf(histogram);
  const cells = percentiles.map(
    (each) => `${each.toFixed(2).padStart(5)}th=[${String(Math.round(histogram.percentile(each) / ns)).padStart(5)}]`,
  );
  const lines = [`    clat percentiles (${name}):`];
  for (let at = 0; at < cells.length; at += 4)
    lines.push(`     | ${cells.slice(at, at + 4).join(', ')}${at + 4 < cells.length ? ',' : ''}`);
  return lines;
}

const share = (count: number, total: number): string => `${(total === 0 ? 0 : (100 * count) / total).toFixed(1)}%`;

function directionLines(report: JobReport, direction: Direction): string[] {
  const stats = report.stats.by[direction];
  if (stats.ios === 0) return [];
  const seconds = stats.runtimeNs / 1e9;
  const bandwidth = seconds > 0 ? stats.bytes / seconds : 0;
  const lines = [
    `  ${direction}: IOPS=${short(seconds > 0 ? stats.ios / seconds : 0)}, BW=${bytesText(bandwidth, 1024)}/s (${bytesText(bandwidth, 1000)}/s)(${bytesText(stats.bytes, 1024)}/${Math.round(stats.runtimeNs / 1e6)}msec)`,
  ];
  if (stats.slat.max > 0) lines.push(latencyLine('slat', stats.slat));
  lines.push(latencyLine('clat', stats.clat), latencyLine(' lat', stats.lat), ...percentileLines(stats.clat, report.options.percentiles));
  const { bandwidthKib: bw, rate } = stats;
  if (bw.count > 0) {
    lines.push(
      `   bw (  KiB/s): min=${Math.floor(bw.min)}, max=${Math.floor(bw.max)}, per=100.00%, avg=${bw.mean.toFixed(2)}, stdev=${bw.deviation.toFixed(2)}, samples=${bw.count}`,
      `   iops        : min=${Math.floor(rate.min)}, max=${Math.floor(rate.max)}, avg=${rate.mean.toFixed(2)}, stdev=${rate.deviation.toFixed(2)}, samples=${rate.count}`,
    );
  }
  return lines;
}

function latencyShareLines(report: JobReport): string[] {
  const lines: string[] = [];
  const total = report.stats.totalIos;
  const bounds = [2, 4, 10, 20, 50, 100, 250, 500, 750, 1000];
  for (const [unit, ns] of [
    ['nsec', 1],
    ['usec', 1e3],
    ['msec', 1e6],
  ] as const) {
    const cells: string[] = [];
    let from = ns === 1 ? 0 : ns;
    for (const bound of bounds) {
      const count = directions.reduce((sum, each) => sum + report.stats.by[each].lat.between(from, bound * ns), 0);
      if (count > 0) cells.push(`${bound}=${((100 * count) / total).toFixed(2)}%`);
      from = bound * ns;
    }
    for (let at = 0; at < cells.length; at += 5) lines.push(`  lat (${unit})   : ${cells.slice(at, at + 5).join(', ')}`);
  }
  return lines;
}

function jobLines(report: JobReport): string[] {
  const { options, stats, groupId, jobs } = report;
  const lines = [
    `${options.name}: (groupid=${groupId}, jobs=${jobs}): err=${String(stats.error).padStart(2)}${stats.errorText === undefined ? '' : ` (${stats.errorText})`}`,
  ];
  if (options.description !== '') lines.push(`  Description  : [${options.description}]`);
  for (const direction of directions) lines.push(...directionLines(report, direction));
  if (stats.totalIos > 0) lines.push(...latencyShareLines(report));
  if (stats.syncs.count > 0) lines.push('  fsync/fdatasync/sync_file_range:', latencyLine('sync', stats.syncs));
  const total = stats.depth.reduce((sum, count) => sum + count, 0);
  const names = ['1', '2', '4', '8', '16', '32', '>=64'];
  lines.push(`  IO depths    : ${names.map((name, index) => `${name}=${share(stats.depth[index] as number, total)}`).join(', ')}`);
  const batches = ['0', '4', '8', '16', '32', '64', '>=64'];
  for (const [name, counts] of [
    ['submit   ', stats.submit],
    ['complete ', stats.complete],
  ] as const) {
    const sum = counts.reduce((all, count) => all + count, 0);
    lines.push(`     ${name} : ${batches.map((each, index) => `${each}=${share(counts[index] as number, sum)}`).join(', ')}`);
  }
  const { read, write, trim } = stats.by;
  lines.push(`     issued rwts: total=${read.ios},${write.ios},${trim.ios},${stats.syncs.count} short=0,0,0,0 dropped=0,0,0,0`);
  const window = options.latencyTargetUs > 0 ? options.latencyWindowUs : 0;
  lines.push(
    `     latency   : target=${options.latencyTargetUs}, window=${window}, percentile=${options.latencyPercentile.toFixed(2)}%, depth=${report.depth}`,
  );
  return lines;
}

function groupLines(reports: readonly JobReport[]): string[] {
  const lines: string[] = [];
  for (const group of new Set(reports.map(({ groupId }) => groupId))) {
    lines.push('', `Run status group ${group} (all jobs):`);
    for (const direction of directions) {
      const stats = reports
        .filter(({ groupId }) => groupId === group)
        .map((report) => report.stats.by[direction])
        .filter(({ ios }) => ios > 0);
      if (stats.length === 0) continue;
      const rates = stats.map(({ bytes, runtimeNs }) => (runtimeNs > 0 ? bytes / (runtimeNs / 1e9) : 0));
      const both = (value: number): string => `${bytesText(value, 1024)}/s`;
      const bytes = stats.reduce((sum, each) => sum + each.bytes, 0);
      const times = stats.map(({ runtimeNs }) => Math.round(runtimeNs / 1e6));
      const longest = Math.max(...times);
      const all = longest > 0 ? bytes / (longest / 1e3) : rates.reduce((sum, each) => sum + each, 0);
      lines.push(
        `${direction.toUpperCase().padStart(7)}: bw=${both(all)} (${bytesText(all, 1000)}/s), ${both(Math.min(...rates))}-${both(Math.max(...rates))} (${bytesText(Math.min(...rates), 1000)}/s-${bytesText(Math.max(...rates), 1000)}/s), io=${bytesText(bytes, 1024)} (${bytesText(bytes, 1000)}), run=${Math.min(...times)}-${longest}msec`,
      );
    }
  }
  return lines;
}

/** The summary for people, in the order in which fio prints it. */
export function humanReport(reports: readonly JobReport[]): string {
  return [...reports.flatMap((report) => ['', ...jobLines(report)]), ...groupLines(reports), ''].join('\n');
}
