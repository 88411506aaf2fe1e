import type { JobReport } from './engine.ts';
import { FORMAT_VERSION } from './format-version.ts';
import { directions } from './options.ts';
import type { DirectionStats } from './stats.ts';

const us = (ns: number): string => (ns / 1000).toFixed(6);
const usWhole = (ns: number): string => String(Math.floor(ns / 1000));

function direction(stats: DirectionStats, percentiles: readonly number[]): string[] {
  const seconds = stats.runtimeNs / 1e9;
  const bandwidth = seconds > 0 ? stats.bytes / 1024 / seconds : 0;
  const { slat, clat, lat, bandwidthKib } = stats;
  // Twenty percentile columns, whatever the job's list has.
  const columns = Array.from({ length: 20 }, (_, index) => {
    const percentile = percentiles[index];
    return percentile === undefined ? '0%=0' : `${percentile.toFixed(6)}%=${usWhole(clat.percentile(percentile))}`;
  });
  return [
    String(Math.floor(stats.bytes / 1024)),
    String(Math.floor(bandwidth)),
    String(seconds > 0 ? Math.floor(stats.ios / seconds) : 0),
    String(Math.round(stats.runtimeNs / 1e6)),
    usWhole(slat.min),
    usWhole(slat.max),
    us(slat.mean),
    us(slat.stddev),
    usWhole(clat.min),
    usWhole(clat.max),
    us(clat.mean),
    us(clat.stddev),
    ...columns,
    usWhole(lat.min),
    usWhole(lat.max),
    us(lat.mean),
    us(lat.stddev),
    String(Math.floor(bandwidthKib.min)),
    String(Math.floor(bandwidthKib.max)),
    bandwidthKib.count > 0 ? '100.000000%' : '0.000000%',
    bandwidthKib.mean.toFixed(6),
    bandwidthKib.deviation.toFixed(6),
  ];
}

function shares(counts: Float64Array): string[] {
  const total = counts.reduce((sum, count) => sum + count, 0);
  return [...counts].map((count) => `${total === 0 ? '0.0' : ((100 * count) / total).toFixed(1)}%`);
}

/** fio's terse output, version 3: one line a job, fields between semicolons. */
export function terseReport(reports: readonly JobReport[]): string {
  return reports
    .map(({ options, groupId, stats }) => {
      const [read, write] = directions.map((each) => direction(stats.by[each], options.percentiles)) as [string[], string[]];
      const total = stats.totalIos;
      const share = (from: number, to: number): string => {
        const count = directions.reduce((sum, each) => sum + stats.by[each].lat.between(from, to), 0);
        return `${(total === 0 ? 0 : (100 * count) / total).toFixed(2)}%`;
      };
      const microseconds = [0, 2, 4, 10, 20, 50, 100, 250, 500, 750, 1000];
      const milliseconds = [1, 2, 4, 10, 20, 50, 100, 250, 500, 750, 1000, 2000];
      return [
        '3',
        FORMAT_VERSION,
        options.name,
        String(groupId),
        String(stats.error),
        ...read,
        ...write,
        '0.000000%',
        '0.000000%',
        '0',
        '0',
        '0',
        ...shares(stats.depth),
        ...microseconds.slice(1).map((bound, index) => share((microseconds[index] as number) * 1e3, bound * 1e3)),
        ...milliseconds.slice(1).map((bound, index) => share((milliseconds[index] as number) * 1e6, bound * 1e6)),
        share(2e9, Number.POSITIVE_INFINITY),
        ...(options.description === '' ? [] : [options.description]),
      ].join(';');
    })
    .join('\n');
}
