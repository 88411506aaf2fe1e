import type { JobReport } from './engine.ts';
import { FORMAT_VERSION } from './format-version.ts';
import type { Histogram } from './histogram.ts';
import { type Direction, directions } from './options.ts';
import type { DirectionStats } from './stats.ts';

/** fio keeps six decimals. */
const six = (value: number): number => Math.round(value * 1e6) / 1e6;
const percentileKey = (percentile: number): string => percentile.toFixed(6);

function latency(histogram: Histogram): Record<string, number> {
  return { min: histogram.min, max: histogram.max, mean: six(histogram.mean), stddev: six(histogram.stddev), N: histogram.count };
}

function withPercentiles(histogram: Histogram, percentiles: readonly number[], bins: boolean): Record<string, unknown> {
  if (histogram.count === 0) return latency(histogram);
  return {
    ...latency(histogram),
    percentile: Object.fromEntries(percentiles.map((percentile) => [percentileKey(percentile), histogram.percentile(percentile)])),
    ...(bins && { bins: Object.fromEntries(histogram.bins()) }),
  };
}

function direction(stats: DirectionStats, percentiles: readonly number[], bins: boolean): Record<string, unknown> {
  const ms = Math.round(stats.runtimeNs / 1e6);
  const seconds = stats.runtimeNs / 1e9;
  const bandwidth = seconds > 0 ? stats.bytes / seconds : 0;
  return {
    io_bytes: stats.bytes,
    io_kbytes: Math.floor(stats.bytes / 1024),
    bw_bytes: Math.floor(bandwidth),
    bw: Math.floor(bandwidth / 1024),
    iops: seconds > 0 ? six(stats.ios / seconds) : 0,
    runtime: ms,
    total_ios: stats.ios,
    short_ios: 0,
    drop_ios: 0,
    slat_ns: latency(stats.slat),
    clat_ns: withPercentiles(stats.clat, percentiles, bins),
    lat_ns: latency(stats.lat),
    bw_min: Math.floor(stats.bandwidthKib.min),
    bw_max: Math.floor(stats.bandwidthKib.max),
    bw_agg: stats.bandwidthKib.count > 0 ? 100 : 0,
    bw_mean: six(stats.bandwidthKib.mean),
    bw_dev: six(stats.bandwidthKib.deviation),
    bw_samples: stats.bandwidthKib.count,
    iops_min: Math.floor(stats.rate.min),
    iops_max: Math.floor(stats.rate.max),
    iops_mean: six(stats.rate.mean),
    iops_stddev: six(stats.rate.deviation),
    iops_samples: stats.rate.count,
  };
}

const bounds = [2, 4, 10, 20, 50, 100, 250, 500, 750, 1000];

/** Shares of all requests below each bound, in percent: nanoseconds, microseconds or milliseconds. */
function latencyShares(report: JobReport, unitNs: number): Record<string, number> {
  const total = report.stats.totalIos;
  const shares: Record<string, number> = {};
  const share = (from: number, to: number): number => {
    if (total === 0) return 0;
    const count = directions.reduce((sum, each) => sum + report.stats.by[each].lat.between(from, to), 0);
    return six((100 * count) / total);
  };
  let from = unitNs === 1 ? 0 : unitNs;
  for (const bound of bounds) {
    shares[String(bound)] = share(from, bound * unitNs);
    from = bound * unitNs;
  }
  if (unitNs === 1e6) {
    shares['2000'] = share(from, 2000 * unitNs);
    shares['>=2000'] = share(2000 * unitNs, Number.POSITIVE_INFINITY);
  }
  return shares;
}

function depthShares(counts: Float64Array, keys: readonly string[]): Record<string, number> {
  const total = counts.reduce((sum, count) => sum + count, 0);
  return Object.fromEntries(keys.map((key, index) => [key, total === 0 ? 0 : six((100 * (counts[index] as number)) / total)]));
}

const levelKeys = ['1', '2', '4', '8', '16', '32', '>=64'];
const batchKeys = ['0', '4', '8', '16', '32', '64', '>=64'];

export interface JsonOptions {
  /** Milliseconds since the epoch; 0 in virtual time, where the same seed gives the same text. */
  readonly timestampMs: number;
  readonly globals: Readonly<Record<string, string>>;
  /** Adds `clat_ns.bins`, as fio's json+. */
  readonly bins: boolean;
}

function job(report: JobReport, bins: boolean): Record<string, unknown> {
  const { options, stats } = report;
  const one = (each: Direction): Record<string, unknown> => direction(stats.by[each], options.percentiles, bins);
  const continued = Object.values(options.continueOn).some(Boolean);
  return {
    jobname: options.name,
    ...(options.description !== '' && { desc: options.description }),
    groupid: report.groupId,
    error: stats.error,
    eta: 0,
    elapsed: Math.ceil(stats.elapsedNs / 1e9),
    'job options': { name: options.name, ...options.shown },
    read: one('read'),
    write: one('write'),
    trim: one('trim'),
    sync: { total_ios: stats.syncs.count, lat_ns: withPercentiles(stats.syncs, options.percentiles, bins) },
    job_runtime: Math.round(stats.elapsedNs / 1e6),
    usr_cpu: 0,
    sys_cpu: 0,
    ctx: 0,
    majf: 0,
    minf: 0,
    iodepth_level: depthShares(stats.depth, levelKeys),
    iodepth_submit: depthShares(stats.submit, batchKeys),
    iodepth_complete: depthShares(stats.complete, batchKeys),
    latency_ns: latencyShares(report, 1),
    latency_us: latencyShares(report, 1e3),
    latency_ms: latencyShares(report, 1e6),
    latency_depth: report.depth,
    latency_target: options.latencyTargetUs,
    latency_percentile: options.latencyPercentile,
    latency_window: options.latencyTargetUs > 0 ? options.latencyWindowUs : 0,
    ...(continued && { total_err: stats.errors, first_error: stats.firstError }),
  };
}

/** The object that `--output-format=json` prints: fio's fields, under the names that tools read. */
export function jsonReport(reports: readonly JobReport[], options: JsonOptions): Record<string, unknown> {
  return {
    'fio version': FORMAT_VERSION,
    timestamp: Math.floor(options.timestampMs / 1000),
    timestamp_ms: options.timestampMs,
    time: new Date(options.timestampMs).toUTCString(),
    'global options': options.globals,
    jobs: reports.map((report) => job(report, options.bins)),
    disk_util: [],
  };
}
