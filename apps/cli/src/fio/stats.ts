import { Histogram } from './histogram.ts';
import { type Direction, directions } from './options.ts';
import type { IoKind } from './target.ts';

/** fio samples bandwidth and rate each half second. */
const WINDOW_NS = 500e6;

/** Minimum, maximum, mean and deviation of samples. */
export class Samples {
  count = 0;
  min = 0;
  max = 0;
  mean = 0;
  #squares = 0;

  add(value: number): void {
    this.min = this.count === 0 ? value : Math.min(this.min, value);
    this.max = Math.max(this.max, value);
    this.count += 1;
    const delta = value - this.mean;
    this.mean += delta / this.count;
    this.#squares += delta * (value - this.mean);
  }

  merge(other: Samples): void {
    if (other.count === 0) return;
    const count = this.count + other.count;
    const delta = other.mean - this.mean;
    this.#squares += other.#squares + (delta * delta * this.count * other.count) / count;
    this.min = this.count === 0 ? other.min : Math.min(this.min, other.min);
    this.max = Math.max(this.max, other.max);
    this.mean += (delta * other.count) / count;
    this.count = count;
  }

  get deviation(): number {
    return this.count < 2 ? 0 : Math.sqrt(this.#squares / (this.count - 1));
  }
}

/** One direction of one job. */
export class DirectionStats {
  ios = 0;
  bytes = 0;
  runtimeNs = 0;
  slat: Histogram = new Histogram();
  clat: Histogram = new Histogram();
  lat: Histogram = new Histogram();
  bandwidthKib: Samples = new Samples();
  rate: Samples = new Samples();
  #windowStart = -1;
  #windowBytes = 0;
  #windowIos = 0;

  add(bytes: number, submitNs: number, completeNs: number, now: number): void {
    this.ios += 1;
    this.bytes += bytes;
    this.slat.add(submitNs);
    this.clat.add(completeNs);
    this.lat.add(submitNs + completeNs);
    if (this.#windowStart < 0) this.#windowStart = now;
    this.#windowBytes += bytes;
    this.#windowIos += 1;
    const elapsed = now - this.#windowStart;
    if (elapsed >= WINDOW_NS) {
      this.bandwidthKib.add(this.#windowBytes / 1024 / (elapsed / 1e9));
      this.rate.add(this.#windowIos / (elapsed / 1e9));
      this.#windowStart = now;
      this.#windowBytes = 0;
      this.#windowIos = 0;
    }
  }

  merge(other: DirectionStats): void {
    this.ios += other.ios;
    this.bytes += other.bytes;
    this.runtimeNs = Math.max(this.runtimeNs, other.runtimeNs);
    this.slat.merge(other.slat);
    this.clat.merge(other.clat);
    this.lat.merge(other.lat);
    this.bandwidthKib.merge(other.bandwidthKib);
    this.rate.merge(other.rate);
  }
}

/** Bounds of the queue depth buckets: 1, 2, 4, ... 32, 64 and more. */
const depthBounds = [1, 2, 4, 8, 16, 32, 64];

/** Everything a job counts. */
export class JobStats {
  readonly by: Record<Direction, DirectionStats> = { read: new DirectionStats(), write: new DirectionStats(), trim: new DirectionStats() };
  syncs: Histogram = new Histogram();
  readonly depth: Float64Array = new Float64Array(depthBounds.length);
  /** Requests handed over in one go, and taken back in one go: 0, 4, 8, 16, 32, 64, more. */
  readonly submit: Float64Array = new Float64Array(7);
  readonly complete: Float64Array = new Float64Array(7);
  elapsedNs = 0;
  /** First error, an errno; 0 when there was none. */
  error = 0;
  errors = 0;
  /** An error that `continue_on_error` does not forgive. */
  fatal = false;
  firstError = 0;
  errorText: string | undefined;

  began(depth: number): void {
    let bucket = 0;
    while (bucket < depthBounds.length - 1 && depth >= (depthBounds[bucket + 1] as number)) bucket += 1;
    this.depth[bucket] = (this.depth[bucket] as number) + 1;
  }

  batch(into: Float64Array, count: number): void {
    const bucket = count === 0 ? 0 : count <= 4 ? 1 : count <= 8 ? 2 : count <= 16 ? 3 : count <= 32 ? 4 : count <= 64 ? 5 : 6;
    into[bucket] = (into[bucket] as number) + 1;
  }

  ended(kind: IoKind, bytes: number, submitNs: number, completeNs: number, now: number): void {
    if (kind === 'sync') this.syncs.add(submitNs + completeNs);
    else this.by[kind].add(bytes, submitNs, completeNs, now);
  }

  merge(other: JobStats): void {
    for (const direction of directions) this.by[direction].merge(other.by[direction]);
    this.syncs.merge(other.syncs);
    for (const [mine, theirs] of [
      [this.depth, other.depth],
      [this.submit, other.submit],
      [this.complete, other.complete],
    ] as const) {
      for (let bucket = 0; bucket < mine.length; bucket += 1) mine[bucket] = (mine[bucket] as number) + (theirs[bucket] as number);
    }
    this.elapsedNs = Math.max(this.elapsedNs, other.elapsedNs);
    this.error ||= other.error;
    this.errors += other.errors;
    this.fatal ||= other.fatal;
    this.firstError ||= other.firstError;
    this.errorText ??= other.errorText;
  }

  get totalIos(): number {
    return directions.reduce((sum, direction) => sum + this.by[direction].ios, 0);
  }
}
