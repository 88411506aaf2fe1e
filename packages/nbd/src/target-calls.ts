import { Cmd, CmdFlag, Errno } from './constants.ts';
import { allocationOf } from './extents.ts';
import type { Pending } from './pending.ts';
import { withHoles } from './read-reply.ts';
import type { NbdTarget } from './types.ts';

/**
 * The calls of a target that is not trusted to keep from throwing: a request at which it throws has failed, unless it had been answered,
 * and the error goes to the server's owner.
 */
export class TargetCalls {
  readonly #target: NbdTarget;
  readonly #thrown: (error: unknown) => void;

  constructor(target: NbdTarget, thrown: (error: unknown) => void) {
    this.#target = target;
    this.#thrown = thrown;
  }

  read(pending: Pending, into: Uint8Array): void {
    try {
      this.#target.read(pending.offset, into, pending.done);
    } catch (error) {
      this.#threw(pending, error);
    }
  }

  write(pending: Pending, source: Uint8Array, fua: boolean): void {
    try {
      (this.#target.write as NonNullable<NbdTarget['write']>).call(this.#target, pending.offset, source, fua, pending.done);
    } catch (error) {
      this.#threw(pending, error);
    }
  }

  /** Flushes, trims or writes zeroes. */
  change(pending: Pending, flags: number): void {
    const { type, offset, bytes, done } = pending;
    const fua = (flags & CmdFlag.FUA) !== 0;
    try {
      if (type === Cmd.FLUSH) this.#target.flush?.(done);
      else if (type === Cmd.TRIM) this.#target.trim?.(offset, bytes, fua, done);
      else {
        const options = { fua, noHole: (flags & CmdFlag.NO_HOLE) !== 0, fast: (flags & CmdFlag.FAST_ZERO) !== 0 };
        this.#target.writeZeroes?.(offset, bytes, options, done);
      }
    } catch (error) {
      this.#threw(pending, error);
    }
  }

  /** The answer to a question about allocation, or undefined where the target cannot give one. */
  allocation({ offset, bytes }: Pending, one: boolean): ReturnType<typeof allocationOf> | undefined {
    try {
      return allocationOf(this.#target, offset, bytes, one);
    } catch (error) {
      this.#thrown(error);
      return undefined;
    }
  }

  /** As `withHoles`; all is data where the target cannot tell its holes. */
  withHoles(pending: Pending): number {
    try {
      return withHoles(pending, this.#target);
    } catch (error) {
      this.#thrown(error);
      return pending.replyBytes;
    }
  }

  kick(): void {
    try {
      this.#target.kick?.();
    } catch (error) {
      this.#thrown(error);
    }
  }

  #threw(pending: Pending, error: unknown): void {
    if (pending.open) {
      // The target may have kept the request, and tell its end some day.
      pending.forsaken = true;
      pending.done(Errno.EIO);
    }
    this.#thrown(error);
  }
}
