import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  truncateSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileDisk } from '@paravirt/hv-sim/node';
import { composeStack, type Figures, type Stack } from '../compose.ts';
import type { CliContext } from '../context.ts';
import { observedDisk } from '../disk/observed.ts';
import { CliError, exitCodes, fileError } from '../errors.ts';
import { figuresTable } from '../figures-table.ts';
import { Interrupt, runUntil } from '../pace.ts';
import { progressBar } from '../ui/progress.ts';
import { grouped, megabytes } from '../ui/table.ts';
import type { CpFlags } from './cp.ts';
import { deviceChoice } from './device-flags.ts';

const SECTOR = 512;
/** One transfer, and how many are under way. */
const CHUNK_BYTES = 1024 * 1024;
const CHUNKS = 8;

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return undefined;
    throw fileError(path, error, exitCodes.usage);
  }
}

/** Opens SRC for reading. A pipe or a device has no length that could be compared. */
function openSource(path: string): { fd: number; bytes: number; stats: Stats } {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw fileError(path, error, exitCodes.usage);
  }
  const stats = fstatSync(fd);
  if (!stats.isFile()) {
    closeSync(fd);
    throw new CliError(`${path}: ${stats.isDirectory() ? 'is a directory' : 'is not a regular file'}`, exitCodes.usage);
  }
  return { fd, bytes: stats.size, stats };
}

function checkDestination(path: string, source: Stats): void {
  const stats = statOf(path);
  if (!stats) {
    const folder = dirname(path);
    if (!statOf(folder)?.isDirectory()) throw new CliError(`${path}: ${folder} is no directory`, exitCodes.usage);
    return;
  }
  if (stats.isDirectory()) throw new CliError(`${path}: is a directory; name the file`, exitCodes.usage);
  if (!stats.isFile()) throw new CliError(`${path}: is not a regular file`, exitCodes.usage);
  if (stats.dev === source.dev && stats.ino === source.ino)
    throw new CliError(`${path}: source and destination are the same file`, exitCodes.usage);
}

/** Fills `target` from the source; what lies beyond its end is zeroes, the padding of the last sector. */
function readSource(path: string, fd: number, offset: number, target: Uint8Array, sourceBytes: number): void {
  const wanted = Math.min(target.length, sourceBytes - offset);
  let done = 0;
  while (done < wanted) {
    let count: number;
    try {
      count = readSync(fd, target, done, wanted - done, offset + done);
    } catch (error) {
      throw fileError(path, error);
    }
    if (count === 0) throw new CliError(`${path}: became shorter while it was read`);
    done += count;
  }
  target.fill(0, wanted);
}

interface Slot {
  readonly bytes: Uint8Array;
  readonly source: Uint8Array;
}

interface Carry {
  readonly stack: Stack;
  readonly path: string;
  readonly fd: number;
  readonly sourceBytes: number;
  readonly diskBytes: number;
  readonly interrupt: Interrupt;
  readonly why: () => string;
  readonly moved: (bytes: number) => void;
}

/** Moves every chunk in one direction, several at a time. */
async function pass(carry: Carry, direction: 'write' | 'compare'): Promise<void> {
  const { stack, path, fd, sourceBytes, diskBytes, interrupt } = carry;
  const free: Slot[] = Array.from({ length: CHUNKS }, () => ({ bytes: new Uint8Array(CHUNK_BYTES), source: new Uint8Array(CHUNK_BYTES) }));
  let next = 0;
  let left = diskBytes;
  let failure: CliError | undefined;
  let moved = 0;

  const begin = (): void => {
    while (next < diskBytes && free.length > 0 && !failure) {
      const slot = free.pop() as Slot;
      const offset = next;
      const bytes = slot.bytes.subarray(0, Math.min(CHUNK_BYTES, diskBytes - next));
      next += bytes.length;
      const ended = (errno: number): void => {
        if (errno !== 0) failure ??= new CliError(`the disk failed at byte ${offset}: ${carry.why()}`);
        else if (direction === 'compare') {
          const source = slot.source.subarray(0, bytes.length);
          readSource(path, fd, offset, source, sourceBytes);
          if (Buffer.compare(bytes, source) !== 0) {
            const at = source.findIndex((byte, index) => byte !== bytes[index]);
            failure ??= new CliError(`what came back differs from ${path} at byte ${offset + at}`);
          }
        }
        left -= bytes.length;
        moved += bytes.length;
        free.push(slot);
      };
      if (direction === 'write') {
        readSource(path, fd, offset, bytes, sourceBytes);
        stack.bytes.write(offset, bytes, false, ended);
      } else stack.bytes.read(offset, bytes, ended);
    }
    stack.bytes.move();
  };

  const base = direction === 'write' ? 0 : diskBytes;
  while (left > 0) {
    begin();
    const target = free.length;
    await runUntil(
      stack,
      () => free.length > target || left === 0 || failure !== undefined,
      interrupt,
      () => carry.moved(base + moved),
    );
    if (failure) throw failure;
  }
}

async function flush(carry: Carry): Promise<void> {
  let ended: number | undefined;
  carry.stack.bytes.flush((errno) => {
    ended = errno;
  });
  carry.stack.bytes.move();
  await runUntil(carry.stack, () => ended !== undefined, carry.interrupt);
  if (ended !== 0) throw new CliError(`the disk failed to flush: ${carry.why()}`);
}

/** Makes the file its final length and durable, and gives it its name. */
function settle(temporary: string, destination: string, bytes: number): void {
  try {
    truncateSync(temporary, bytes);
    const fd = openSync(temporary, constants.O_RDWR);
    fsyncSync(fd);
    closeSync(fd);
    renameSync(temporary, destination);
  } catch (error) {
    throw fileError(destination, error);
  }
}

/** `hvsim cp SRC DST` */
export async function cp(this: CliContext, flags: CpFlags, source: string, destination: string): Promise<void> {
  const { stdout, stderr, env } = this.process;
  const { fd, bytes: sourceBytes, stats } = openSource(source);
  const interrupt = new Interrupt();
  const temporary = join(dirname(destination), `.${basename(destination)}.hvsim-${process.pid}`);
  const started = performance.now();
  let made = false;
  let stack: Stack | undefined;
  let figures: Figures;
  let close: () => void = () => {};
  const diskBytes = Math.max(1, Math.ceil(sourceBytes / SECTOR)) * SECTOR;
  const bar = await progressBar(stderr, 'cp', 2 * diskBytes, (done) =>
    megabytes(done / Math.max(1e-3, (performance.now() - started) / 1e3)),
  );
  try {
    checkDestination(destination, stats);
    rmSync(temporary, { force: true });
    const file = openDisk(temporary, diskBytes, destination);
    made = true;
    close = () => file.close();
    const { disk, why } = observedDisk(file);
    stack = composeStack({ disk, seed: 1, ...deviceChoice(flags) });
    const carry: Carry = {
      stack,
      path: source,
      fd,
      sourceBytes,
      diskBytes,
      interrupt,
      why,
      moved: (done) => bar.update(done, done < diskBytes ? 'writing' : 'comparing'),
    };
    await pass(carry, 'write');
    await flush(carry);
    await pass(carry, 'compare');
    stack.close();
    figures = stack.figures();
    close();
    settle(temporary, destination, sourceBytes);
    made = false;
  } finally {
    bar.stop();
    interrupt.release();
    closeSync(fd);
    if (made) {
      close();
      rmSync(temporary, { force: true });
    }
  }
  const seconds = (performance.now() - started) / 1e3;
  const result = {
    source,
    destination,
    bytes: sourceBytes,
    equal: true,
    seconds: Number(seconds.toFixed(3)),
    bytesPerSecond: Math.round((2 * diskBytes) / seconds),
  };
  if (flags.json) stdout.write(`${JSON.stringify({ ...result, ...figures })}\n`);
  else {
    stdout.write(
      `${source} -> ${destination}: ${grouped(sourceBytes)} bytes, there and back in ${seconds.toFixed(2)} s (${megabytes(result.bytesPerSecond)}), equal\n`,
    );
    stdout.write(figuresTable(stdout, env, figures));
  }
}

function openDisk(temporary: string, sizeBytes: number, destination: string): ReturnType<typeof fileDisk> {
  try {
    return fileDisk({ path: temporary, sizeBytes, create: true });
  } catch (error) {
    throw fileError(destination, (error as { cause?: unknown }).cause ?? error);
  }
}
