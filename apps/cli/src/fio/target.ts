import type { Direction } from './options.ts';

export type IoKind = Direction | 'sync';

/** The disk as the engine sees it. `done` is called once, at once or later; a positive or negative errno is a failure. */
export interface IoTarget {
  readonly sizeBytes: number;
  readonly readonly: boolean;
  submit(kind: IoKind, offset: number, buffer: Uint8Array, done: (errno: number) => void): void;
  /** What was submitted since the last call goes out together. */
  kick(): void;
}

/** Time in nanoseconds, virtual or the host's. */
export interface IoClock {
  now(): number;
  after(ns: number, work: () => void): () => void;
}
