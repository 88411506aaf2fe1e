import { closest } from 'fastest-levenshtein';
import { JobError } from './errors.ts';
import type { JobSection } from './job-file.ts';
import { parseBool, parseCount, parseSize, parseTimeUs } from './units.ts';

export type Direction = 'read' | 'write' | 'trim';
export const directions: readonly Direction[] = ['read', 'write', 'trim'];

/** A value for reads, writes and trims. */
export type PerDirection<T> = Readonly<Record<Direction, T>>;

export type Distribution = { readonly kind: 'random' } | { readonly kind: 'zipf' | 'pareto' | 'normal'; readonly parameter: number };

export type VerifyMethod = 'crc32c' | 'crc32' | 'md5' | 'sha1' | 'sha256' | 'sha512' | 'pattern' | 'meta' | 'null';

/** One job, checked and complete. Sizes are bytes, times microseconds. */
export interface JobOptions {
  readonly name: string;
  readonly description: string;
  /** Keys as the file has them, for the "job options" of the output. */
  readonly shown: Readonly<Record<string, string>>;
  readonly random: boolean;
  readonly reads: boolean;
  readonly writes: boolean;
  readonly trims: boolean;
  /** `trimwrite`: each block is trimmed, then written. */
  readonly trimThenWrite: boolean;
  /** `:N` behind rw: for random a batch of N in sequence, for sequential a gap of N bytes. */
  readonly sequence: number;
  readonly blockSizes: PerDirection<readonly { readonly bytes: number; readonly weight: number }[]>;
  readonly blockAlign: number | undefined;
  readonly size: { readonly bytes: number } | { readonly percent: number } | undefined;
  readonly offset: { readonly bytes: number } | { readonly percent: number };
  readonly offsetIncrement: number;
  readonly ioSize: number | undefined;
  readonly numberIos: number | undefined;
  readonly loops: number;
  readonly iodepth: number;
  readonly batch: number;
  /** Requests that must have ended before new ones are begun, and how shallow the queue must be for that. */
  readonly batchComplete: number;
  readonly depthLow: number;
  readonly numjobs: number;
  readonly stonewall: boolean;
  readonly waitFor: string | undefined;
  readonly groupReporting: boolean;
  readonly newGroup: boolean;
  readonly runtimeUs: number;
  readonly timeBased: boolean;
  readonly rampUs: number;
  readonly startDelayUs: number;
  readonly readPercent: number;
  readonly randomPercent: PerDirection<number>;
  readonly randomMap: boolean;
  readonly distribution: Distribution;
  readonly seed: number | undefined;
  readonly repeatable: boolean;
  readonly fsyncEvery: number;
  readonly endFsync: boolean;
  readonly thinkTimeUs: number;
  readonly thinkBlocks: number;
  readonly rateBytes: PerDirection<number>;
  readonly rateIops: PerDirection<number>;
  readonly verify: VerifyMethod | undefined;
  readonly verifyPattern: Uint8Array;
  readonly doVerify: boolean;
  readonly verifyFatal: boolean;
  readonly verifyBacklog: number;
  readonly verifyOnly: boolean;
  readonly continueOn: { readonly read: boolean; readonly write: boolean; readonly verify: boolean };
  readonly percentiles: readonly number[];
  readonly latencyTargetUs: number;
  readonly latencyWindowUs: number;
  readonly latencyPercentile: number;
  readonly exitAll: boolean;
  readonly writeIolog: string | undefined;
  readonly readIolog: string | undefined;
  readonly replayNoStall: boolean;
  readonly bufferPattern: Uint8Array | undefined;
  readonly zeroBuffers: boolean;
}

const aliases: Readonly<Record<string, string>> = {
  readwrite: 'rw',
  blocksize: 'bs',
  blockalign: 'ba',
  io_limit: 'io_size',
  bssplit: 'bssplit',
  iodepth_batch_submit: 'iodepth_batch',
  iodepth_batch_complete_min: 'iodepth_batch_complete',
  start_delay: 'startdelay',
  wait_for_previous: 'stonewall',
};

/** Keys that change nothing here: accepted because people's files have them. */
const silent = new Set([
  'ioengine',
  'uri',
  'filename',
  'direct',
  'buffered',
  'unlink',
  // There is one disk, and what a trace names is that one; the most that are taken back at once changes nothing that is reported.
  'replay_redirect',
  'iodepth_batch_complete_max',
  'thread',
  'invalidate',
  'create_serialize',
  'overwrite',
]);
/** Keys that ask for something that does not exist on a simulated disk: warned about once. */
const ignored = new Set(
  (
    'fallocate nrfiles openfiles cpus_allowed cpus_allowed_policy gtod_reduce gtod_cpu lockmem refill_buffers scramble_buffers ' +
    'buffer_compress_percentage buffer_compress_chunk dedupe_percentage zonemode zonesize zonerange zoneskip nice prio prioclass cpumask mem ' +
    'directory filename_format file_service_type filesize create_on_open create_fsync allow_file_create hugepage-size iomem numa_cpu_nodes ' +
    'numa_mem_policy disk_util disable_lat disable_clat disable_slat clocksource sync sync_file_range atomic norandommap_warn random_generator ' +
    'fadvise_hint write_bw_log write_lat_log write_iops_log log_avg_msec per_job_logs bwavgtime iopsavgtime clat_percentiles lat_percentiles ' +
    'slat_percentiles unified_rw_reporting stats fsync_on_close verify_dump verify_async verify_state_save verify_state_load ' +
    'verify_backlog_batch serialize_overlap io_submit_mode rw_sequencer trim_percentage trim_backlog trim_backlog_batch trim_verify_zero error_dump kb_base unit_base ' +
    'exitall_on_error exit_what replay_align replay_scale replay_time_scale replay_skip experimental_verify pre_read ' +
    'significant_figures rate_process rate_cycle rate_min rate_iops_min rate_ignore_thinktime thinktime_spin thinktime_blocks_type max_latency ' +
    'bs_unaligned bs_is_seq_rand offset_align verify_interval verify_offset group exec_prerun exec_postrun ioscheduler uid gid hipri ' +
    'sqthread_poll fixedbufs registerfiles userspace_reap nonvectored continue_on_error_fatal latency_run unlink_each_loop'
  ).split(' '),
);
/** Keys that the reader below understands. */
const understood = new Set(
  (
    'name description rw bs bssplit bsrange ba size offset offset_increment io_size number_ios loops iodepth iodepth_batch iodepth_batch_complete iodepth_low numjobs stonewall ' +
    'wait_for group_reporting new_group runtime time_based ramp_time startdelay rwmixread rwmixwrite percentage_random norandommap ' +
    'random_distribution randseed randrepeat allrandrepeat fsync fdatasync end_fsync thinktime thinktime_blocks rate rate_iops verify ' +
    'verify_pattern do_verify verify_fatal verify_backlog verify_only continue_on_error percentile_list latency_target latency_window ' +
    'latency_percentile exitall write_iolog read_iolog replay_no_stall buffer_pattern zero_buffers'
  ).split(' '),
);

const modes: Readonly<Record<string, Pick<JobOptions, 'random' | 'reads' | 'writes' | 'trims' | 'trimThenWrite'>>> = {
  read: { random: false, reads: true, writes: false, trims: false, trimThenWrite: false },
  write: { random: false, reads: false, writes: true, trims: false, trimThenWrite: false },
  trim: { random: false, reads: false, writes: false, trims: true, trimThenWrite: false },
  randread: { random: true, reads: true, writes: false, trims: false, trimThenWrite: false },
  randwrite: { random: true, reads: false, writes: true, trims: false, trimThenWrite: false },
  randtrim: { random: true, reads: false, writes: false, trims: true, trimThenWrite: false },
  rw: { random: false, reads: true, writes: true, trims: false, trimThenWrite: false },
  readwrite: { random: false, reads: true, writes: true, trims: false, trimThenWrite: false },
  randrw: { random: true, reads: true, writes: true, trims: false, trimThenWrite: false },
  trimwrite: { random: false, reads: false, writes: true, trims: true, trimThenWrite: true },
  randtrimwrite: { random: true, reads: false, writes: true, trims: true, trimThenWrite: true },
};

const methods: Readonly<Record<string, VerifyMethod>> = {
  crc32c: 'crc32c',
  'crc32c-intel': 'crc32c',
  crc32: 'crc32',
  md5: 'md5',
  sha1: 'sha1',
  sha256: 'sha256',
  sha512: 'sha512',
  pattern: 'pattern',
  meta: 'meta',
  null: 'null',
};

const defaultPercentiles = [1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99];

function perDirection<T>(text: string, parse: (part: string) => T, nothing?: T): PerDirection<T> {
  const parts = text.split(',');
  if (parts.length > 3) throw new JobError(`${text}: at most three values, for reads, writes and trims`);
  // `rate=,500k` limits writes alone.
  const read = parts[0] === '' && nothing !== undefined ? nothing : parse(parts[0] as string);
  const write = parts[1] === undefined || parts[1] === '' ? read : parse(parts[1]);
  return { read, write, trim: parts[2] === undefined || parts[2] === '' ? write : parse(parts[2]) };
}

function parseSplit(key: string, text: string): readonly { bytes: number; weight: number }[] {
  const entries = text.split(':').map((entry) => {
    const [bytes, weight] = entry.split('/');
    return {
      bytes: parseSize(key, bytes as string),
      weight: weight === undefined || weight === '' ? Number.NaN : parseCount(key, weight, 0, 100),
    };
  });
  const given = entries.reduce((sum, { weight }) => sum + (Number.isNaN(weight) ? 0 : weight), 0);
  const open = entries.filter(({ weight }) => Number.isNaN(weight)).length;
  if (given > 100) throw new JobError(`${key}=${text}: the percentages add up to ${given}; at most 100`);
  return entries.map(({ bytes, weight }) => ({ bytes, weight: Number.isNaN(weight) ? (100 - given) / open : weight }));
}

/** `0xdeadbeef`, `"text"`, a decimal number, or several of them one behind the other. */
export function parsePattern(key: string, text: string): Uint8Array {
  const bytes: number[] = [];
  for (const part of text.match(/"[^"]*"|'[^']*'|0x[0-9a-f]+|-?\d+|\S/gi) ?? []) {
    if (/^["']/.test(part)) bytes.push(...new TextEncoder().encode(part.slice(1, -1)));
    else if (/^0x/i.test(part)) {
      const digits = part.slice(2).padStart(2 * Math.ceil((part.length - 2) / 2), '0');
      for (let at = 0; at < digits.length; at += 2) bytes.push(Number.parseInt(digits.slice(at, at + 2), 16));
    } else if (/^-?\d+$/.test(part)) {
      let value = BigInt(part) & 0xffff_ffff_ffff_ffffn;
      do {
        bytes.push(Number(value & 0xffn));
        value >>= 8n;
      } while (value > 0n);
    } else throw new JobError(`${key}=${text}: a pattern is made of 0x..., decimal numbers and "text"`);
  }
  if (bytes.length === 0 || bytes.length > 512) throw new JobError(`${key}=${text}: a pattern has 1 to 512 bytes`);
  return Uint8Array.from(bytes);
}

function parseDistribution(text: string): Distribution {
  const [kind, parameter] = text.split(':');
  const value = Number(parameter ?? Number.NaN);
  switch (kind) {
    case 'random':
      return { kind: 'random' };
    case 'zipf': {
      const theta = parameter === undefined ? 1.1 : value;
      if (!(theta > 0) || theta === 1) throw new JobError(`random_distribution=${text}: theta is greater than 0 and not 1`);
      return { kind, parameter: theta };
    }
    case 'pareto': {
      const power = parameter === undefined ? 0.2 : value;
      if (!(power > 0 && power < 1)) throw new JobError(`random_distribution=${text}: the power lies between 0 and 1`);
      return { kind, parameter: power };
    }
    case 'normal': {
      const deviation = parameter === undefined ? 0.2 : value;
      if (!(deviation >= 0 && deviation <= 100)) throw new JobError(`random_distribution=${text}: the deviation is 0 to 100 percent`);
      return { kind, parameter: deviation };
    }
    default:
      throw new JobError(`random_distribution=${text}: known are random, zipf:THETA, pareto:POWER, normal:PERCENT`);
  }
}

function parsePlace(key: string, text: string): { bytes: number } | { percent: number } {
  const percent = /^(\d+(?:\.\d+)?)%$/.exec(text);
  if (!percent) return { bytes: parseSize(key, text) };
  if (Number(percent[1]) > 100) throw new JobError(`${key}=${text}: at most 100%`);
  return { percent: Number(percent[1]) };
}

/** What a job file asked for that is accepted and does nothing: told once each. */
export type Warn = (message: string) => void;

/** No key is longer; looking for one that resembles a line of a binary file would take for ever. */
const KEY_MAX = 64;

/** Checks one job's keys. @throws {JobError} as fio: an unknown key is "Bad option". */
export function readJob(section: JobSection, warn: Warn): JobOptions {
  const keys = new Map<string, string | true>();
  for (const source of [section.globals, section.own]) {
    for (const [given, value] of source) {
      const key = aliases[given] ?? given;
      if (silent.has(key)) continue;
      if (ignored.has(key)) {
        warn(`${given} is accepted and has no effect on a simulated disk`);
        continue;
      }
      if (!understood.has(key)) {
        const near = closest(given.slice(0, KEY_MAX), [...understood, ...silent, ...Object.keys(aliases)]);
        throw new JobError(`Bad option <${given}${value === true ? '' : `=${value}`}> in job ${section.name}; did you mean ${near}?`);
      }
      keys.set(key, value);
    }
  }
  const text = (key: string): string | undefined => {
    const value = keys.get(key);
    if (value === true) throw new JobError(`${key}: a value is missing in job ${section.name}`);
    return value;
  };
  const as = <T>(key: string, fallback: T, parse: (value: string) => T): T => {
    const value = text(key);
    return value === undefined ? fallback : parse(value);
  };
  const flag = (key: string, fallback: boolean): boolean => (keys.has(key) ? parseBool(key, keys.get(key) as string | true) : fallback);
  const count = (key: string, fallback: number, min: number, max: number): number =>
    as(key, fallback, (value) => parseCount(key, value, min, max));
  const time = (key: string, fallback: number, unit: number): number => as(key, fallback, (value) => parseTimeUs(key, value, unit));
  const optionalSize = (key: string): number | undefined => as<number | undefined>(key, undefined, (value) => parseSize(key, value));
  const rates = (key: string): PerDirection<number> =>
    as(key, { read: 0, write: 0, trim: 0 }, (value) => perDirection(value, (part) => parseSize(key, part), 0));

  const [mode, sequence] = as('rw', 'read', (value) => value).split(':') as [string, string | undefined];
  const direction = modes[mode.toLowerCase()];
  if (!direction) throw new JobError(`rw=${mode}: known are ${Object.keys(modes).join(', ')}`);

  let blockSizes: PerDirection<readonly { bytes: number; weight: number }[]> = as(
    'bs',
    perDirection('4096', (part) => [{ bytes: parseSize('bs', part), weight: 100 }]),
    (value) => perDirection(value, (part) => [{ bytes: parseSize('bs', part), weight: 100 }]),
  );
  blockSizes = as('bssplit', blockSizes, (value) => perDirection(value, (part) => parseSplit('bssplit', part)));
  blockSizes = as('bsrange', blockSizes, (value) =>
    perDirection(value, (part) => {
      const [low, high] = part.split('-').map((bound) => parseSize('bsrange', bound)) as [number, number | undefined];
      if (high === undefined || high < low) throw new JobError(`bsrange=${value}: a range is LOW-HIGH`);
      const steps = Math.floor(high / low);
      return Array.from({ length: steps }, (_, index) => ({ bytes: low * (index + 1), weight: 100 / steps }));
    }),
  );
  for (const each of directions) {
    for (const { bytes } of blockSizes[each]) {
      if (bytes < 1 || bytes > 256 * 1024 * 1024) throw new JobError(`bs: ${bytes} bytes; allowed is 1 to 256m`);
    }
  }

  const readMix = keys.has('rwmixread') ? count('rwmixread', 50, 0, 100) : 100 - count('rwmixwrite', 50, 0, 100);
  const verifyName = text('verify');
  const verify = verifyName === undefined || verifyName === '0' ? undefined : methods[verifyName];
  if (verifyName !== undefined && verifyName !== '0' && verify === undefined) {
    throw new JobError(`verify=${verifyName}: known are ${Object.keys(methods).join(', ')}`);
  }
  const continued = as('continue_on_error', keys.get('continue_on_error') === true ? 'all' : 'none', (value) => value);
  if (!/^(none|read|write|io|verify|all|0|1)$/.test(continued))
    throw new JobError(`continue_on_error=${continued}: known are none, read, write, io, verify, all`);
  const goesOn = (kinds: string): boolean => kinds.split(' ').includes(continued);
  const distribution = as<Distribution>('random_distribution', { kind: 'random' }, parseDistribution);
  const numberIos = as<number | undefined>('number_ios', undefined, (value) => parseCount('number_ios', value, 0, Number.MAX_SAFE_INTEGER));
  const fsync = count('fsync', 0, 0, 2 ** 31);

  return {
    name: as('name', section.name, (value) => value),
    description: as('description', '', (value) => value),
    shown: Object.fromEntries([...section.own].map(([key, value]) => [key, value === true ? '1' : value])),
    ...direction,
    sequence: sequence === undefined ? 0 : parseSize('rw', sequence),
    blockSizes,
    blockAlign: optionalSize('ba'),
    size: as<JobOptions['size']>('size', undefined, (value) => parsePlace('size', value)),
    offset: as<JobOptions['offset']>('offset', { bytes: 0 }, (value) => parsePlace('offset', value)),
    offsetIncrement: optionalSize('offset_increment') ?? 0,
    ioSize: optionalSize('io_size'),
    numberIos: numberIos === 0 ? undefined : numberIos,
    loops: count('loops', 1, 1, 2 ** 31),
    iodepth: count('iodepth', 1, 1, 1024),
    batch: count('iodepth_batch', 1, 1, 1024),
    batchComplete: count('iodepth_batch_complete', 1, 0, 1024),
    depthLow: keys.has('iodepth_low') ? count('iodepth_low', 0, 0, 1024) : Number.MAX_SAFE_INTEGER,
    numjobs: count('numjobs', 1, 1, 1024),
    stonewall: flag('stonewall', false),
    waitFor: text('wait_for'),
    groupReporting: flag('group_reporting', false),
    newGroup: flag('new_group', false),
    runtimeUs: time('runtime', 0, 1e6),
    timeBased: flag('time_based', false),
    rampUs: time('ramp_time', 0, 1e6),
    startDelayUs: as('startdelay', 0, (value) => parseTimeUs('startdelay', value.split('-')[0] as string, 1e6)),
    readPercent: readMix,
    randomPercent: as('percentage_random', { read: 100, write: 100, trim: 100 }, (value) =>
      perDirection(value, (part) => parseCount('percentage_random', part, 0, 100)),
    ),
    randomMap: !flag('norandommap', false) && distribution.kind === 'random',
    distribution,
    seed: as<number | undefined>('randseed', undefined, (value) => parseCount('randseed', value, 0, Number.MAX_SAFE_INTEGER)),
    repeatable: flag('allrandrepeat', false) || flag('randrepeat', true),
    fsyncEvery: fsync > 0 ? fsync : count('fdatasync', 0, 0, 2 ** 31),
    endFsync: flag('end_fsync', false),
    thinkTimeUs: time('thinktime', 0, 1),
    thinkBlocks: count('thinktime_blocks', 1, 1, 2 ** 31),
    rateBytes: rates('rate'),
    rateIops: rates('rate_iops'),
    verify,
    verifyPattern: as<Uint8Array>('verify_pattern', Uint8Array.from([0]), (value) => parsePattern('verify_pattern', value)),
    doVerify: flag('do_verify', true),
    verifyFatal: flag('verify_fatal', false),
    verifyBacklog: count('verify_backlog', 0, 0, 2 ** 31),
    verifyOnly: flag('verify_only', false),
    continueOn: { read: goesOn('read io all 1'), write: goesOn('write io all 1'), verify: goesOn('verify all 1') },
    percentiles: as('percentile_list', defaultPercentiles, (value) =>
      value.split(':').map((part) => {
        const percentile = Number(part);
        if (!(percentile > 0 && percentile <= 100)) throw new JobError(`percentile_list=${value}: each lies above 0 and up to 100`);
        return percentile;
      }),
    ),
    latencyTargetUs: time('latency_target', 0, 1),
    latencyWindowUs: time('latency_window', 1e6, 1),
    latencyPercentile: as('latency_percentile', 100, Number),
    exitAll: flag('exitall', false),
    writeIolog: text('write_iolog'),
    readIolog: text('read_iolog'),
    replayNoStall: flag('replay_no_stall', false),
    bufferPattern: as<Uint8Array | undefined>('buffer_pattern', undefined, (value) => parsePattern('buffer_pattern', value)),
    zeroBuffers: flag('zero_buffers', false),
  };
}
