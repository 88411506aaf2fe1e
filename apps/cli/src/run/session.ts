import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { composeStack, type DeviceChoice, type Figures, type Stack, type StackOptions } from '../compose.ts';
import type { Output } from '../context.ts';
import type { OpenedDisk } from '../disk/open.ts';
import { CliError, exitCodes, fileError, messageOf } from '../errors.ts';
import { createEngine, type JobReport } from '../fio/engine.ts';
import { JobError } from '../fio/errors.ts';
import { IologWriter } from '../fio/iolog.ts';
import { type JobSection, type JobText, parseJobFiles } from '../fio/job-file.ts';
import { directions, type JobOptions, readJob } from '../fio/options.ts';
import { parseTrace } from '../fio/traces.ts';
import { Interrupt, runUntil } from '../pace.ts';
import { progressBar } from '../ui/progress.ts';
import { grouped } from '../ui/table.ts';
import { hostTime } from './host-time.ts';
import { pacedTarget, type ServiceTime, stackTarget, virtualClock, wallClock } from './stack-target.ts';
import { Timeline } from './timeline.ts';

export interface SessionOptions extends DeviceChoice {
  readonly jobFiles: readonly JobText[];
  /** Where the job file lies: its traces and includes are named relative to it. */
  readonly folder: string;
  readonly disk: OpenedDisk;
  readonly seed: number;
  /** The host's time instead of the machine's. */
  readonly wall: boolean;
  readonly service: ServiceTime;
  readonly env: Readonly<Partial<Record<string, string>>>;
  readonly stderr: Output;
  readonly driver?: NonNullable<StackOptions['driver']>;
  /** Of what `write_iolog` writes. Default 3. */
  readonly iologVersion?: 2 | 3;
  /** No bar: the output is for a program. */
  readonly quiet: boolean;
}

export interface SessionResult {
  readonly reports: readonly JobReport[];
  readonly globals: Readonly<Record<string, string>>;
  readonly figures: Figures;
  readonly timeline: Timeline;
  readonly failed: boolean;
}

function readText(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw fileError(path, error, exitCodes.usage);
  }
}

/** Opens the logs that jobs ask for; one file may serve several jobs. */
function openLogs(jobs: readonly JobOptions[], folder: string, version: 2 | 3) {
  const logs = new Map<string, { fd: number; writer: IologWriter }>();
  for (const { writeIolog } of jobs) {
    if (writeIolog === undefined || logs.has(writeIolog)) continue;
    const path = resolve(folder, writeIolog);
    let fd: number;
    try {
      fd = openSync(path, 'w');
    } catch (error) {
      throw fileError(path, error);
    }
    logs.set(writeIolog, { fd, writer: new IologWriter(version, 'disk', (text) => void writeSync(fd, text)) });
  }
  return logs;
}

/** Runs a job file on a disk, through a guest's block device and its backend. */
export async function runSession(options: SessionOptions): Promise<SessionResult> {
  const { folder, disk, stderr, env } = options;
  const warned = new Set<string>();
  const sections = parseJobFiles(options.jobFiles, {
    env,
    include: (path) => new TextDecoder().decode(readText(resolve(folder, path))),
  });
  const jobs = sections.map((section) =>
    JobError.at(section.file, () =>
      readJob(section, (message) => {
        if (warned.has(message)) return;
        warned.add(message);
        stderr.write(`hvsim: note: ${message}\n`);
      }),
    ),
  );
  const shown = sections.at(-1)?.globals ?? new Map<string, string | true>();
  const globals = Object.fromEntries([...shown].map(([key, value]) => [key, value === true ? '1' : value]));

  const interrupt = new Interrupt();
  const stack = composeStack({ ...options, disk: (machine) => disk.build(machine), seed: options.seed });
  const clock = options.wall ? wallClock() : virtualClock(stack);
  const device = stackTarget(stack);
  const paced = !options.wall && (options.service.requestNs > 0 || options.service.byteNs > 0);
  const target = paced ? pacedTarget(device, clock, options.service) : device;
  const granule = stack.info.sectorBytes;
  for (const [index, job] of jobs.entries()) JobError.at((sections[index] as JobSection).file, () => checkGranule(job, granule));
  const logs = openLogs(jobs, folder, options.iologVersion ?? 3);
  const timeline = new Timeline();
  const engine = createEngine({
    jobs,
    target,
    clock,
    seed: options.seed,
    readTrace: (path) => JobError.at(path, () => parseTrace(readText(resolve(folder, path)))),
    onIo(job, kind, offset, bytes, atNs) {
      timeline.add(kind, bytes, atNs);
      const name = (jobs[job] as JobOptions).writeIolog;
      if (name !== undefined) logs.get(name)?.writer.io(kind, offset, bytes, atNs);
    },
  });
  const known = engine.progress().fraction !== undefined;
  const bar = await progressBar(options.quiet ? { write() {} } : stderr, 'run', known ? 1000 : 0, (done) => `${grouped(done / 1e6)} MB`);
  const look = (): void => {
    const { bytes, ios, job, fraction } = engine.progress();
    bar.update(bytes, `${job} ${grouped(ios)} requests`, fraction);
  };
  const drive = options.wall ? stack.machine.drive(hostTime) : undefined;
  try {
    engine.start();
    if (drive) await driven(engine, drive, interrupt, look);
    else await runUntil(stack, () => engine.ended, interrupt, look);
    drive?.stop();
    const reports = engine.reports();
    stack.close();
    const figures = stack.figures();
    return { reports, globals, figures, timeline, failed: reports.some(({ stats }) => stats.fatal) };
  } finally {
    bar.stop();
    interrupt.release();
    engine.stop();
    // Else it would go on, and the process with it.
    drive?.stop();
    for (const { fd, writer } of logs.values()) {
      writer.close(clock.now());
      closeSync(fd);
    }
    disk.close();
  }
}

function checkGranule(job: JobOptions, granule: number): void {
  for (const each of directions) {
    if (!(each === 'read' ? job.reads : each === 'write' ? job.writes : job.trims)) continue;
    for (const { bytes } of job.blockSizes[each]) {
      if (bytes % granule !== 0) throw new JobError(`${job.name}: bs ${bytes} is no multiple of the disk's sector of ${granule} bytes`);
    }
  }
  if ('bytes' in job.offset && job.offset.bytes % granule !== 0)
    throw new JobError(`${job.name}: offset ${job.offset.bytes} is no multiple of ${granule}`);
}

async function driven(
  engine: { readonly ended: boolean },
  drive: ReturnType<Stack['machine']['drive']>,
  interrupt: Interrupt,
  look: () => void,
): Promise<void> {
  while (!engine.ended) {
    await new Promise((done) => setTimeout(done, 20));
    look();
    interrupt.check();
    if (drive.failure !== undefined)
      throw new CliError(`the machine stopped: ${messageOf(drive.failure)}`, undefined, { cause: drive.failure });
  }
}

/** The folder a job file's own paths start from. */
export const folderOf = (path: string): string => dirname(resolve(path));
