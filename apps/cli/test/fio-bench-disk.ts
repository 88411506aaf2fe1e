import type { IoClock, IoTarget } from '../src/fio/target.ts';

/** A clock that only moves when the next timer is run. */
export class TestClock implements IoClock {
  #now = 0;
  readonly #timers: { at: number; work: (() => void) | undefined }[] = [];

  now(): number {
    return this.#now;
  }

  after(ns: number, work: () => void): () => void {
    const timer: { at: number; work: (() => void) | undefined } = { at: this.#now + ns, work };
    let place = this.#timers.length;
    while (place > 0 && (this.#timers[place - 1] as { at: number }).at > timer.at) place -= 1;
    this.#timers.splice(place, 0, timer);
    return () => {
      timer.work = undefined;
    };
  }

  /** Runs until nothing is left to run. */
  drain(): void {
    for (let timer = this.#timers.shift(); timer !== undefined; timer = this.#timers.shift()) {
      this.#now = Math.max(this.#now, timer.at);
      timer.work?.();
    }
  }
}

/** A disk in memory that serves one request after the other, each taking its time on the clock. */
export function testDisk(
  sizeBytes: number,
  clock: TestClock,
  corrupt?: (bytes: Uint8Array) => void,
): IoTarget & { counts: Record<string, number> } {
  const bytes = new Uint8Array(sizeBytes);
  const counts: Record<string, number> = { read: 0, write: 0, trim: 0, sync: 0 };
  let busyUntil = 0;
  return {
    sizeBytes,
    readonly: false,
    counts,
    kick() {},
    submit(kind, offset, buffer, done) {
      counts[kind] = (counts[kind] as number) + 1;
      if (kind === 'write') bytes.set(buffer, offset);
      if (kind === 'read') {
        buffer.set(bytes.subarray(offset, offset + buffer.length));
        corrupt?.(buffer);
      }
      busyUntil = Math.max(busyUntil, clock.now()) + 10_000;
      clock.after(busyUntil - clock.now(), () => done(0));
    },
  };
}
