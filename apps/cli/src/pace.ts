import { setImmediate } from 'node:timers/promises';
import type { Stack } from './compose.ts';
import { CliError, exitCodes } from './errors.ts';

/** How long the machine runs before the process looks at signals and draws: long enough to cost nothing, short enough to feel at once. */
const SLICE_MS = 20;
const STEPS_BETWEEN_LOOKS = 64;

/** Ctrl-C and SIGTERM as a promise of the command's: it stops at its next slice and cleans up. */
export class Interrupt {
  #signal: NodeJS.Signals | undefined;
  readonly #take = (signal: NodeJS.Signals): void => {
    this.#signal ??= signal;
  };

  constructor() {
    process.on('SIGINT', this.#take);
    process.on('SIGTERM', this.#take);
  }

  get requested(): boolean {
    return this.#signal !== undefined;
  }

  /** @throws {CliError} exit code 130 or 143 once a signal came. */
  check(): void {
    if (this.#signal !== undefined) throw new CliError('interrupted', this.#signal === 'SIGINT' ? exitCodes.interrupted : 143);
  }

  release(): void {
    process.off('SIGINT', this.#take);
    process.off('SIGTERM', this.#take);
  }
}

/**
 * Runs the machine until `done`, a slice at a time, with a look at signals and the terminal in between.
 * @throws {CliError} when nothing is left to run and it is not done, or a signal came.
 */
export async function runUntil(stack: Stack, done: () => boolean, interrupt: Interrupt, look: () => void = () => {}): Promise<void> {
  const { machine } = stack;
  while (!done()) {
    const end = performance.now() + SLICE_MS;
    for (let steps = 1; !done(); steps += 1) {
      if (!machine.step()) {
        if (done()) break;
        throw new CliError(`the machine came to rest before the work was done (device ${stack.state()})`);
      }
      if (steps % STEPS_BETWEEN_LOOKS === 0 && performance.now() >= end) break;
    }
    look();
    await setImmediate();
    interrupt.check();
  }
}
