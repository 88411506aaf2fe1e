import { Errno } from './constants.ts';
import { sizedTarget } from './sized-target.ts';
import type { Done, NbdTarget } from './types.ts';

/** Nothing, or a promise of nothing: done. A throw or a rejection is an error of the disk (EIO, or its `errno` where it has one). */
type Answer = unknown;

/** The least a disk can be. */
export interface SimpleDisk {
  readonly sizeBytes: number;
  readonly readonly?: boolean;
  /** Fills `target` with the bytes from `offset` on. */
  read(offset: number, target: Uint8Array): Answer;
  /** Takes the bytes of `source` for those from `offset` on; it must not keep `source`. Without it the disk is read-only. */
  write?(offset: number, source: Uint8Array): Answer;
  /** What was written before is durable once this has succeeded. Without it clients are offered no flush. */
  flush?(): Answer;
  /** The bytes are not needed any more, whatever they read as afterwards. */
  trim?(offset: number, bytes: number): Answer;
}

function errnoOf(error: unknown): number {
  const errno = (error as { errno?: unknown } | null)?.errno;
  return typeof errno === 'number' && errno !== 0 ? errno : Errno.EIO;
}

function settle(operation: () => Answer, done: Done): void {
  let answer: Answer;
  try {
    answer = operation();
  } catch (error) {
    done(errnoOf(error));
    return;
  }
  if (typeof (answer as PromiseLike<unknown> | undefined)?.then === 'function') {
    (answer as PromiseLike<unknown>).then(
      () => done(0),
      (error: unknown) => done(errnoOf(error)),
    );
  } else done(0);
}

/** Serves any object that reads and writes, at once or by promise. FUA is a write and a flush. */
export function simpleTarget(disk: SimpleDisk): NbdTarget {
  const durable = (fua: boolean, done: Done): Done =>
    fua && disk.flush
      ? (errno) => {
          if (errno !== 0) done(errno);
          else settle(() => disk.flush?.(), done);
        }
      : done;
  return sizedTarget(disk, {
    readonly: disk.readonly === true || !disk.write,
    read: (offset, target, done) => settle(() => disk.read(offset, target), done),
    ...(disk.write && {
      write: (offset: number, source: Uint8Array, fua: boolean, done: Done) =>
        settle(() => disk.write?.(offset, source), durable(fua, done)),
    }),
    ...(disk.flush && { flush: (done: Done) => settle(() => disk.flush?.(), done) }),
    ...(disk.trim && {
      trim: (offset: number, bytes: number, fua: boolean, done: Done) => settle(() => disk.trim?.(offset, bytes), durable(fua, done)),
    }),
  });
}
