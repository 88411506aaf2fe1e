import asciichart from 'asciichart';
import type { IoKind } from '../fio/target.ts';

const COLUMNS = 60;

/** Bytes over time, in buckets that widen as the run goes on: bounded whatever it lasts. */
export class Timeline {
  #bucketNs = 1e5;
  readonly #read: number[] = [];
  readonly #written: number[] = [];

  add(kind: IoKind, bytes: number, atNs: number): void {
    if (kind !== 'read' && kind !== 'write') return;
    let bucket = Math.floor(atNs / this.#bucketNs);
    while (bucket >= 2 * COLUMNS) {
      for (const series of [this.#read, this.#written]) {
        for (let at = 0; at < COLUMNS; at += 1) series[at] = (series[2 * at] ?? 0) + (series[2 * at + 1] ?? 0);
        series.length = Math.min(series.length, COLUMNS);
      }
      this.#bucketNs *= 2;
      bucket = Math.floor(atNs / this.#bucketNs);
    }
    const series = kind === 'read' ? this.#read : this.#written;
    series[bucket] = (series[bucket] ?? 0) + bytes;
  }

  /** MB/s over the run: what was read, and what was written. Empty for a run too short to draw. */
  chart(): string {
    const length = Math.max(this.#read.length, this.#written.length);
    if (length < 4) return '';
    const rate = (series: readonly number[]): number[] =>
      Array.from({ length }, (_, at) => (series[at] ?? 0) / (this.#bucketNs / 1e9) / 1e6);
    const draw = (title: string, series: readonly number[]): string =>
      series.some((bytes) => bytes > 0)
        ? `${title} MB/s over ${((length * this.#bucketNs) / 1e9).toFixed(3)} s\n${asciichart.plot(rate(series), { height: 6, format: (value: number) => value.toFixed(0).padStart(8) })}\n`
        : '';
    return draw('read', this.#read) + draw('written', this.#written);
  }
}
