/** Buckets a power of two; the error of a percentile is below 1/64. */
const SUB_BITS = 6;
const SUBS = 1 << SUB_BITS;
const GROUPS = 42;

/** Latencies in whole nanoseconds, in buckets that are exact up to 64 and then 64 to each power of two. Adding costs a few ns. */
export class Histogram {
  readonly #counts: Float64Array = new Float64Array(GROUPS * SUBS);
  count = 0;
  min = 0;
  max = 0;
  #mean = 0;
  #squares = 0;

  static #bucketOf(value: number): number {
    if (value < SUBS) return value;
    const power = Math.floor(Math.log2(value));
    const shift = power - SUB_BITS;
    return Math.min(GROUPS * SUBS - 1, (shift + 1) * SUBS + Math.floor(value / 2 ** shift) - SUBS);
  }

  /** The middle of a bucket, which is what is told of its members. */
  static #valueOf(bucket: number): number {
    if (bucket < SUBS) return bucket;
    const shift = Math.floor(bucket / SUBS) - 1;
    return (SUBS + (bucket % SUBS)) * 2 ** shift + Math.floor(2 ** shift / 2);
  }

  add(value: number): void {
    const whole = Math.max(0, Math.round(value));
    const bucket = Histogram.#bucketOf(whole);
    this.#counts[bucket] = (this.#counts[bucket] as number) + 1;
    this.min = this.count === 0 ? whole : Math.min(this.min, whole);
    this.max = Math.max(this.max, whole);
    this.count += 1;
    const delta = whole - this.#mean;
    this.#mean += delta / this.count;
    this.#squares += delta * (whole - this.#mean);
  }

  merge(other: Histogram): void {
    if (other.count === 0) return;
    for (let bucket = 0; bucket < this.#counts.length; bucket += 1) {
      this.#counts[bucket] = (this.#counts[bucket] as number) + (other.#counts[bucket] as number);
    }
    const count = this.count + other.count;
    const delta = other.#mean - this.#mean;
    this.#squares += other.#squares + (delta * delta * this.count * other.count) / count;
    this.min = this.count === 0 ? other.min : Math.min(this.min, other.min);
    this.max = Math.max(this.max, other.max);
    this.#mean += (delta * other.count) / count;
    this.count = count;
  }

  get mean(): number {
    return this.#mean;
  }

  get stddev(): number {
    return this.count < 2 ? 0 : Math.sqrt(this.#squares / (this.count - 1));
  }

  percentile(percent: number): number {
    if (this.count === 0) return 0;
    const wanted = Math.max(1, Math.ceil((percent / 100) * this.count - 1e-9));
    let seen = 0;
    for (let bucket = 0; bucket < this.#counts.length; bucket += 1) {
      seen += this.#counts[bucket] as number;
      if (seen >= wanted) return Math.min(this.max, Math.max(this.min, Histogram.#valueOf(bucket)));
    }
    return this.max;
  }

  /** How many lie in [from, to). */
  between(from: number, to: number): number {
    let sum = 0;
    for (let bucket = 0; bucket < this.#counts.length; bucket += 1) {
      const count = this.#counts[bucket] as number;
      if (count === 0) continue;
      const value = Histogram.#valueOf(bucket);
      if (value >= from && value < to) sum += count;
    }
    return sum;
  }

  /** Every bucket that holds something, in order: what a chart or json+ wants. */
  bins(): (readonly [value: number, count: number])[] {
    const found: [number, number][] = [];
    for (let bucket = 0; bucket < this.#counts.length; bucket += 1) {
      const count = this.#counts[bucket] as number;
      if (count > 0) found.push([Histogram.#valueOf(bucket), count]);
    }
    return found;
  }
}
