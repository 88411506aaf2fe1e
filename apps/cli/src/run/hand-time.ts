import { performance } from 'node:perf_hooks';
import type { TimeSource } from '@paravirt/hv-sim';

/**
 * The host's clock for a machine that is stepped by hand while there is work, and wakes up by itself only for its timers. Between
 * `hold` and `release` time stands still and a wake-up that is due at once is only noted: whoever holds it runs the machine. So a
 * request that is answered at once asks the host for no timer and no turn of its event loop.
 */
export class HandTime implements TimeSource {
  #held = -1;
  #seen = 0;
  #wake: (() => void) | undefined;
  /** When `#wake` is to be called; it may lie after the host's timer, which is then set again. */
  #due = 0;
  #timer: NodeJS.Timeout | undefined;
  #timerDue = 0;
  #immediate: NodeJS.Immediate | undefined;
  readonly #cancel = (): void => {
    this.#wake = undefined;
  };
  readonly #fire = (): void => {
    this.#timer = undefined;
    const left = this.#due - performance.now();
    if (this.#wake === undefined) return;
    if (left > 0) this.#arm(left);
    else this.#run();
  };
  readonly #turn = (): void => {
    this.#immediate = undefined;
    this.#run();
  };

  now(): number {
    return this.#held >= 0 ? this.#held : performance.now();
  }

  wakeIn(delay: number, wake: () => void): () => void {
    this.#wake = wake;
    this.#due = this.now() + delay;
    if (delay > 0) this.#arm(delay);
    else if (this.#held < 0) this.#immediate ??= setImmediate(this.#turn);
    return this.#cancel;
  }

  /** Stops time until `release`; again: moves it on. Returns the time. */
  hold(): number {
    this.#held = performance.now();
    this.#seen = this.#held;
    return this.#held;
  }

  /** The time when it was held last. */
  get seen(): number {
    return this.#seen;
  }

  /** `idle`: the machine has nothing left to run now; it is asked for its next timer. Else the holder comes back by itself. */
  release(idle: boolean): void {
    const due = this.#wake !== undefined && this.#due <= this.#held;
    this.#held = -1;
    if (due && idle) this.#run();
  }

  #arm(delay: number): void {
    const due = this.now() + delay;
    if (this.#timer !== undefined) {
      if (this.#timerDue <= due) return;
      clearTimeout(this.#timer);
    }
    this.#timerDue = due;
    this.#timer = setTimeout(this.#fire, delay).unref();
  }

  #run(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
