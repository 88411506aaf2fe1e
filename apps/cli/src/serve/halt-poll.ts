import { performance } from 'node:perf_hooks';

/** How long the next batch is waited for without sleep, milliseconds. */
const WINDOW_MS = 0.2;
/** Batches that are taken one way before the ways are compared. */
const EPOCH_BATCHES = 64;
/** Epochs of the better way before the other is tried again. */
const TRIAL_EPOCHS = 32;
/** Polling burns a processor while it waits: it must be better by this much. */
const WORTH = 0.9;
/** Batches of an epoch that may come too late to be caught before polling is given up, and, asleep, before it is not even tried. */
const POLL_MISSES = 16;
const SLEEP_MISSES = 32;

/**
 * Decides whether a server should poll for the next batch of requests or sleep. To be woken costs a client that waits for each answer
 * more than all the rest of its request when processors are idle, for they halt; where they are busy with something else, a server that
 * polls only keeps the client from running. So it tries both, keeps to what takes less time for a request, and tries the other
 * now and then. With a client that thinks for longer than is worth waiting there is nothing to gain, and it sleeps.
 * @see Documentation/virt/kvm/halt-polling.rst of Linux, and `poll-max-ns` of QEMU's I/O threads
 */
export class PollChoice {
  #polling = false;
  #since = Number.NEGATIVE_INFINITY;
  #batches = 0;
  #requests = 0;
  #spentMs = 0;
  #misses = 0;
  /** Epochs until the other way is tried. */
  #untilTrial = 0;
  #trial = false;
  /** Milliseconds for a request when sleeping and when polling. */
  #sleepCost = 0;
  #pollCost = 0;

  get polling(): boolean {
    return this.#polling;
  }

  /** A batch of `requests` came at `now`, milliseconds. */
  came(now: number, requests: number): void {
    const waited = now - this.#since;
    this.#since = now;
    if (waited === Number.POSITIVE_INFINITY) return;
    if (waited > WINDOW_MS) this.#misses += 1;
    // What the client or the machine did in the meantime is no cost of waiting.
    this.#spentMs += Math.min(waited, WINDOW_MS);
    this.#requests += requests;
    this.#batches += 1;
    if (this.#batches === EPOCH_BATCHES || (this.#polling && this.#misses === POLL_MISSES)) this.#compare();
  }

  #compare(): void {
    const cost = this.#spentMs / Math.max(1, this.#requests);
    const idle = this.#misses >= (this.#polling ? POLL_MISSES : SLEEP_MISSES);
    if (this.#polling) this.#pollCost = idle ? Number.POSITIVE_INFINITY : cost;
    else this.#sleepCost = cost;
    this.#batches = 0;
    this.#requests = 0;
    this.#spentMs = 0;
    this.#misses = 0;
    this.#untilTrial -= 1;
    if (this.#trial) {
      this.#trial = false;
      this.#polling = this.#pollCost < this.#sleepCost * WORTH;
      this.#untilTrial = TRIAL_EPOCHS;
    } else if (this.#polling && idle) {
      this.#polling = false;
      this.#untilTrial = TRIAL_EPOCHS;
    } else if (this.#untilTrial <= 0 && !idle) {
      this.#trial = true;
      this.#polling = !this.#polling;
    }
  }
}

/** Keeps the event loop turning while its choice is to poll, for a moment after each batch of requests. */
export class HaltPoll {
  readonly #choice: PollChoice = new PollChoice();
  #end = 0;
  #turning: NodeJS.Immediate | undefined;
  readonly #turn = (): void => {
    this.#turning = performance.now() < this.#end ? setImmediate(this.#turn) : undefined;
  };

  /** A batch of `requests` came at `now`, as `performance.now()` has it. */
  came(now: number, requests: number): void {
    this.#choice.came(now, requests);
    if (!this.#choice.polling) this.#end = 0;
    else {
      this.#end = now + WINDOW_MS;
      this.#turning ??= setImmediate(this.#turn);
    }
  }
}
