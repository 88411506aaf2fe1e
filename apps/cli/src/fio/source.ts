import { type NextIo, Offsets } from './offsets.ts';
import type { JobOptions } from './options.ts';
import type { IoKind } from './target.ts';

/** What a job does next. */
export interface Step {
  kind: IoKind;
  offset: number;
  bytes: number;
  /** Not before this many nanoseconds after the job's start. */
  notBeforeNs: number;
}

/** Where a job's requests come from. */
export interface IoSource {
  /** Fills `out`; false: no more. */
  next(out: Step): boolean;
}

/** Requests as the job's options draw them, within its size, count and loops. */
export class GeneratedSource implements IoSource {
  readonly #options: JobOptions;
  readonly #offsets: Offsets;
  readonly #io: NextIo = { direction: 'read', offset: 0, bytes: 0 };
  readonly #bytesMax: number;
  readonly #iosMax: number;
  #bytes = 0;
  #ios = 0;
  #writesToSync = 0;

  constructor(options: JobOptions, start: number, bytes: number, seed: number) {
    this.#options = options;
    this.#offsets = new Offsets(options, start, bytes, seed);
    const passes = options.timeBased && options.runtimeUs > 0 ? Number.POSITIVE_INFINITY : options.loops;
    // Without io_size, the size bounds a job even where number_ios asks for more.
    this.#bytesMax = (options.ioSize ?? bytes) * passes;
    this.#iosMax = (options.numberIos ?? Number.POSITIVE_INFINITY) * (options.timeBased ? Number.POSITIVE_INFINITY : options.loops);
  }

  next(out: Step): boolean {
    const { fsyncEvery } = this.#options;
    out.notBeforeNs = 0;
    if (fsyncEvery > 0 && this.#writesToSync >= fsyncEvery) {
      this.#writesToSync = 0;
      out.kind = 'sync';
      out.offset = 0;
      out.bytes = 0;
      return true;
    }
    if (this.#bytes >= this.#bytesMax || this.#ios >= this.#iosMax) return false;
    const io = this.#io;
    if (!this.#offsets.next(io)) {
      // The pass is over: every block was visited. With more to do the range starts again.
      const { ioSize, loops, timeBased } = this.#options;
      if (ioSize === undefined && loops === 1 && !timeBased) return false;
      this.#offsets.rewind();
      if (!this.#offsets.next(io)) return false;
    }
    this.#bytes += io.bytes;
    this.#ios += 1;
    if (io.direction === 'write') this.#writesToSync += 1;
    out.kind = io.direction;
    out.offset = io.offset;
    out.bytes = io.bytes;
    return true;
  }
}

/** Requests as they were recorded. With `stall` each waits for its time. */
export class RecordedSource implements IoSource {
  readonly #steps: readonly Step[];
  readonly #stall: boolean;
  #at = 0;

  constructor(steps: readonly Step[], stall: boolean) {
    this.#steps = steps;
    this.#stall = stall;
  }

  next(out: Step): boolean {
    const step = this.#steps[this.#at];
    if (step === undefined) return false;
    this.#at += 1;
    Object.assign(out, step);
    if (!this.#stall) out.notBeforeNs = 0;
    return true;
  }
}
