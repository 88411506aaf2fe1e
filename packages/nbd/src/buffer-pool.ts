/**
 * Buffers by powers of two, kept for the next request: a fresh one costs its zeroing, which at 1 MiB is more than the copy.
 * Holds at most `keepBytes`; what comes back beyond that is left to the collector.
 */
export class BufferPool {
  readonly #keepBytes: number;
  readonly #free: Uint8Array[][] = [];
  #kept = 0;

  constructor(keepBytes: number) {
    this.#keepBytes = keepBytes;
  }

  /** At least `bytes` long; old content is still in it. */
  take(bytes: number): Uint8Array {
    const order = 32 - Math.clz32(Math.max(bytes, 4096) - 1);
    const free = this.#free[order]?.pop();
    if (free === undefined) return new Uint8Array(2 ** order);
    this.#kept -= free.length;
    return free;
  }

  give(buffer: Uint8Array): void {
    if (this.#kept + buffer.length > this.#keepBytes) return;
    this.#kept += buffer.length;
    const order = 31 - Math.clz32(buffer.length);
    this.#free[order] ??= [];
    (this.#free[order] as Uint8Array[]).push(buffer);
  }
}
