import { JobError } from './errors.ts';
import { JobRun } from './job-run.ts';
import { directions, type JobOptions } from './options.ts';
import { Random } from './random.ts';
import { GeneratedSource, type IoSource, RecordedSource, type Step } from './source.ts';
import { JobStats } from './stats.ts';
import type { IoClock, IoKind, IoTarget } from './target.ts';

/** What is reported of one job, or of a group of them with `group_reporting`. */
export interface JobReport {
  readonly options: JobOptions;
  readonly groupId: number;
  /** How many clones and jobs are merged in it. */
  readonly jobs: number;
  readonly stats: JobStats;
  readonly depth: number;
}

export interface EngineOptions {
  readonly jobs: readonly JobOptions[];
  readonly target: IoTarget;
  readonly clock: IoClock;
  /** Mixed into every job's own seed. */
  readonly seed: number;
  /** Reads the trace that `read_iolog` names. */
  readonly readTrace?: (path: string) => readonly Step[];
  /** Told of each request: job, kind, bytes, virtual or real nanoseconds since the run began. */
  readonly onIo?: (job: number, kind: IoKind, offset: number, bytes: number, atNs: number) => void;
}

interface Planned {
  readonly run: JobRun;
  readonly job: number;
  readonly groupId: number;
  /** Clones start when everything of earlier stages has ended. */
  readonly stage: number;
  /** Bytes the clone will move, checks included, where that is known. */
  readonly bytesTotal: number | undefined;
}

export interface Engine {
  start(): void;
  stop(): void;
  readonly ended: boolean;
  /** Requests done and, where it is known, to be done: what a progress bar shows. */
  progress(): {
    ios: number;
    bytes: number /** Of the whole run, 0 to 1; undefined where it is not known. */;
    fraction: number | undefined;
    job: string;
  };
  reports(): readonly JobReport[];
}

/** The bytes of the disk that a clone works on. */
function rangeOf(options: JobOptions, clone: number, diskBytes: number): { start: number; bytes: number } {
  const place = options.offset;
  const base = 'bytes' in place ? place.bytes : Math.floor((diskBytes * place.percent) / 100 / 4096) * 4096;
  const start = base + clone * options.offsetIncrement;
  const size = options.size;
  const bytes =
    size === undefined ? diskBytes - start : 'bytes' in size ? size.bytes : Math.floor((diskBytes * size.percent) / 100 / 4096) * 4096;
  if (start < 0 || start >= diskBytes) throw new JobError(`${options.name}: offset ${start} lies beyond the disk of ${diskBytes} bytes`);
  // fio lets a size reach past the end of a device and works on what is there.
  const fits = Math.min(bytes, diskBytes - start);
  const largest = Math.max(...usedSizes(options));
  if (fits < largest) throw new JobError(`${options.name}: the range has ${fits} bytes, less than a block of ${largest}`);
  return { start, bytes: fits };
}

function usedSizes(options: JobOptions): number[] {
  const used = directions.filter((each) => (each === 'read' ? options.reads : each === 'write' ? options.writes : options.trims));
  return used.flatMap((each) => options.blockSizes[each].map(({ bytes }) => bytes));
}

/** Lays out every clone of every job, in stages. @throws {JobError} where a job does not fit the disk. */
export function createEngine(options: EngineOptions): Engine {
  const { jobs, target, clock, seed } = options;
  const planned: Planned[] = [];
  const startedAt = clock.now();
  let stage = 0;
  let groupId = -1;
  const seeds = new Random(seed, 11);

  for (const [job, each] of jobs.entries()) {
    if (job > 0 && (each.stonewall || each.waitFor !== undefined)) stage += 1;
    if (job === 0 || each.stonewall || each.newGroup || each.waitFor !== undefined) groupId += 1;
    if (target.readonly && (each.writes || each.trims)) throw new JobError(`${each.name}: the disk is read-only`);
    for (let clone = 0; clone < each.numjobs; clone += 1) {
      const own = ((each.seed ?? seeds.next()) + seed + 0x9e37 * clone + (each.repeatable ? 0 : seeds.next())) % 2 ** 52;
      const { start, bytes } = rangeOf(each, clone, target.sizeBytes);
      let source: IoSource;
      let bytesTotal: number | undefined;
      if (each.readIolog !== undefined) {
        const steps = options.readTrace?.(each.readIolog) ?? [];
        for (const step of steps) {
          if (step.offset + step.bytes > target.sizeBytes) {
            throw new JobError(`${each.readIolog}: ${step.kind} at ${step.offset} reaches beyond the disk of ${target.sizeBytes} bytes`);
          }
          bytesTotal = (bytesTotal ?? 0) + step.bytes;
        }
        source = new RecordedSource(steps, !each.replayNoStall);
      } else {
        source = new GeneratedSource(each, start, bytes, own);
        if (each.runtimeUs <= 0) {
          const least = Math.min(...usedSizes(each));
          const once = Math.min((each.ioSize ?? bytes) * each.loops, (each.numberIos ?? Number.POSITIVE_INFINITY) * least);
          bytesTotal = once * (each.verify && each.doVerify && each.writes ? 2 : 1);
        }
      }
      const { onIo } = options;
      const run: JobRun = new JobRun({
        options: each,
        source,
        target,
        clock,
        seed: own,
        start,
        granule: Math.min(...usedSizes(each), 4096),
        ...(onIo && { onIo: (kind: IoKind, offset: number, count: number, at: number) => onIo(job, kind, offset, count, at - startedAt) }),
        onEnd,
      });
      planned.push({ run, job, groupId, stage, bytesTotal });
    }
  }

  let at = -1;
  let stopped = false;

  /** Starts the next stage when nothing of those before it runs any more. */
  function proceed(): void {
    while (!stopped && at < stage && planned.every(({ run, stage: each }) => each > at || run.ended)) {
      at += 1;
      for (const { run, stage: each } of planned) {
        if (each !== at) continue;
        const { startDelayUs } = run.options;
        if (startDelayUs > 0) clock.after(startDelayUs * 1e3, () => (stopped ? undefined : run.start()));
        else run.start();
      }
    }
  }

  function onEnd(run: JobRun): void {
    if (run.options.exitAll) for (const { run: other, stage: each } of planned) if (each === at && !other.ended) other.stop();
    proceed();
  }

  return {
    start: proceed,
    stop() {
      stopped = true;
      for (const { run } of planned) run.stop();
    },
    get ended() {
      return stopped || planned.every(({ run }) => run.ended);
    },
    progress() {
      let ios = 0;
      let bytes = 0;
      for (const { run } of planned) {
        ios += run.stats.totalIos;
        for (const direction of directions) bytes += run.stats.by[direction].bytes;
      }
      let fraction: number | undefined = 0;
      for (const { run, bytesTotal } of planned) {
        const own = run.fraction(bytesTotal);
        fraction = own === undefined || fraction === undefined ? undefined : fraction + own / planned.length;
      }
      return { ios, bytes, fraction, job: planned.find(({ run, stage: each }) => each === at && !run.ended)?.run.options.name ?? '' };
    },
    reports() {
      const reports: { options: JobOptions; groupId: number; jobs: number; stats: JobStats; depth: number }[] = [];
      for (const { run, groupId: group } of planned) {
        const { options: each, stats } = run;
        const last = reports.at(-1);
        if (last && last.groupId === group && each.groupReporting && last.options.groupReporting) {
          last.stats.merge(stats);
          last.jobs += 1;
        } else {
          const own = new JobStats();
          own.merge(stats);
          reports.push({ options: each, groupId: group, jobs: 1, stats: own, depth: run.depth });
        }
      }
      return reports;
    },
  };
}
