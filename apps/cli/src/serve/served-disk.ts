import type { Disk } from '@paravirt/hv-sim';
import type { NbdTarget } from '@paravirt/nbd';
import { alignedTarget, Extent } from '@paravirt/nbd';
import { ByteQueue } from '../byte-queue.ts';
import { composeStack, type DeviceChoice, type Stack, type StackOptions } from '../compose.ts';
import type { OpenedDisk } from '../disk/open.ts';
import { CliError, messageOf } from '../errors.ts';
import type { IologWriter } from '../fio/iolog.ts';
import { GuestArena } from '../guest-arena.ts';
import { HandTime } from '../run/hand-time.ts';
import type { HaltPoll } from './halt-poll.ts';

/** Steps between two looks at the clock, and how long the machine may keep a socket waiting. */
const STEPS = 256;
/** One request on the ring carries 1 MiB, the longest there is. */
const SEGMENTS = 256;
/** Memory of the guest for long transfers: buffers of 1 MiB with a page for the header in front. */
const SLOTS = 10;
const SLOT_PAGES = 257;
const SLICE_MS = 10;

export interface ServedOptions extends DeviceChoice {
  readonly disk: OpenedDisk;
  readonly seed: number | string;
  readonly log?: IologWriter;
  readonly driver?: NonNullable<StackOptions['driver']>;
  /** Told of every batch of requests. */
  readonly poll?: HaltPoll | undefined;
  /** Told once when the machine broke one of its own promises: nothing moves any more. */
  readonly onFailure?: (error: unknown) => void;
}

/** A disk behind a guest's block device, in real time, as an NBD target. */
export interface ServedDisk {
  readonly stack: Stack;
  readonly target: NbdTarget;
  /** While paused, requests are taken and nothing moves. */
  pause(): void;
  resume(): void;
  readonly paused: boolean;
  /** What is known of the disk's holes may have changed behind the device. */
  forgetHoles(): void;
  /** Buffers of the guest's memory that transfers have. */
  readonly buffersLent: number;
  /** Makes what was answered durable, closes the device, and ends the machine. */
  close(): void;
}

/** Composes the stack of one export and lets it run in real time. */
export function serveDisk(options: ServedOptions): ServedDisk {
  const { disk, log, poll } = options;
  let outer: Disk = disk.base;
  const stack = composeStack({
    segments: SEGMENTS,
    persistentMax: (SLOTS * SLOT_PAGES * 3) / 2,
    ...options,
    disk: (machine) => {
      outer = disk.build(machine);
      return outer;
    },
  });
  const { machine, bytes, info, device } = stack;
  const arena = device && bytes instanceof ByteQueue ? GuestArena.of(device.device, SLOTS, SLOT_PAGES) : undefined;
  if (bytes instanceof ByteQueue) bytes.arena = arena;
  const time = new HandTime();
  const drive = machine.drive(time);
  const began = performance.now();
  let paused = false;
  let more: NodeJS.Immediate | undefined;

  /** Requests since the last batch ended. */
  let asked = 0;
  const note = (kind: 'read' | 'write' | 'trim' | 'sync', offset: number, length: number): void => {
    asked += 1;
    log?.io(kind, offset, length, (performance.now() - began) * 1e6);
  };

  let running = false;
  let failure: unknown;

  /** Runs what can run now. What is due later is the drive's; what takes long goes on after the sockets had their turn. */
  const kick = (): void => {
    // From inside an answer there is nothing to do: the loop below sees what was added.
    if (paused || running || failure !== undefined) return;
    running = true;
    const end = time.hold() + SLICE_MS;
    let late = false;
    try {
      bytes.move();
      let steps: number;
      do {
        steps = 0;
        while (steps < STEPS && machine.step()) steps += 1;
        late = steps === STEPS && time.hold() >= end;
      } while (!late && (steps === STEPS || bytes.move()));
    } catch (error) {
      failure = error;
    }
    running = false;
    time.release(!late);
    failure ??= drive.failure;
    if (failure !== undefined) {
      options.onFailure?.(failure);
      return;
    }
    if (!late) return;
    more ??= setImmediate(() => {
      more = undefined;
      kick();
    });
  };

  const writable = !info.readonly;
  const durably =
    (done: (errno: number) => void): ((errno: number) => void) =>
    (errno) =>
      errno === 0 ? bytes.flush(done) : done(errno);
  /**
   * A stretch known to be allocated: asking the disk costs time that grows with it. Ended by the answer to whatever may make holes; until
   * then its reads are answered as data, which they were when they were asked for.
   */
  let dataFrom = 0;
  let dataTo = 0;
  const forgetHoles = (): void => {
    dataTo = 0;
  };
  const holed =
    (done: (errno: number) => void): ((errno: number) => void) =>
    (errno) => {
      forgetHoles();
      done(errno);
    };
  const inner: NbdTarget = {
    sizeBytes: info.sectors * 512,
    readonly: info.readonly,
    blockBytes: { minimum: info.sectorBytes, preferred: 4096 },
    // One device carries all connections, so a flush covers what any of them was answered.
    multiConn: true,
    fastZeroes: false,
    read(offset, target, done) {
      note('read', offset, target.length);
      bytes.read(offset, target, done);
    },
    ...(writable && {
      write(offset: number, source: Uint8Array, fua: boolean, done: (errno: number) => void) {
        note('write', offset, source.length);
        bytes.write(offset, source, fua, done);
      },
      trim(offset: number, length: number, fua: boolean, done: (errno: number) => void) {
        note('trim', offset, length);
        // A hint: where the disk knows no discards there is nothing to do.
        if (!info.discard) done(0);
        else bytes.discard(offset, length, fua ? durably(holed(done)) : holed(done));
      },
      writeZeroes(offset: number, length: number, zero: { readonly fua: boolean }, done: (errno: number) => void) {
        note('write', offset, length);
        bytes.writeZeroes(offset, length, zero.fua ? durably(holed(done)) : holed(done));
      },
    }),
    flush(done) {
      note('sync', 0, 0);
      // A backend refuses flushes of a read-only disk as it refuses writes; there is nothing to flush.
      if (writable) bytes.flush(holed(done));
      else done(0);
    },
    // What a filter corrupts is no hole any more, whatever the disk behind knows.
    ...(outer.extentAt &&
      !disk.filters.some(({ name }) => name.startsWith('corrupt')) && {
        extents(offset: number, length: number, add: (length: number, flags: number) => boolean) {
          if (offset >= dataFrom && offset + length <= dataTo) {
            add(length, 0);
            return;
          }
          for (let at = offset; at < offset + length; ) {
            const run = outer.extentAt?.(at) ?? length;
            if (run > 0 && at === offset) {
              dataFrom = at;
              dataTo = at + run;
            }
            if (run === 0 || !add(Math.abs(run), run < 0 ? Extent.HOLE | Extent.ZERO : 0)) return;
            at += Math.abs(run);
          }
        },
      }),
    ...(arena && {
      takeBuffer: (length: number) => arena.take(length),
      giveBuffer: (buffer: Uint8Array) => arena.give(buffer),
    }),
    kick() {
      if (running || paused) return;
      kick();
      poll?.came(time.seen, asked);
      asked = 0;
    },
  };

  return {
    stack,
    target: alignedTarget(inner, info.sectorBytes),
    get buffersLent() {
      return arena?.lent ?? 0;
    },
    get paused() {
      return paused;
    },
    pause() {
      paused = true;
    },
    forgetHoles,
    resume() {
      paused = false;
      kick();
    },
    close() {
      paused = false;
      if (more) clearImmediate(more);
      kick();
      drive.stop();
      failure ??= drive.failure;
      if (failure !== undefined) throw new CliError(`the machine stopped: ${messageOf(failure)}`, undefined, { cause: failure });
      // By hand from here on: what waits for a delay need not wait for it in real time.
      let flushed: number | undefined = writable ? undefined : 0;
      if (writable) {
        bytes.flush((errno) => {
          flushed = errno;
        });
      }
      bytes.move();
      machine.runUntil(() => flushed !== undefined);
      stack.close();
      disk.close();
      if (flushed !== 0) throw new CliError('the last flush failed: what was not flushed before may be lost');
    },
  };
}
