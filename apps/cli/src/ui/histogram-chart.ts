import type { Histogram } from '../fio/histogram.ts';
import { duration } from './table.ts';

const WIDTH = 50;

/** Latencies in bars, a row to each power of two: what is rare stays visible because a row with one member has a mark. */
export function latencyChart(histogram: Histogram): string {
  if (histogram.count === 0) return '';
  const rows = new Map<number, number>();
  for (const [value, count] of histogram.bins()) {
    const row = value < 1 ? 0 : Math.floor(Math.log2(value)) + 1;
    rows.set(row, (rows.get(row) ?? 0) + count);
  }
  const first = Math.min(...rows.keys());
  const last = Math.max(...rows.keys());
  const most = Math.max(...rows.values());
  const lines: string[] = [];
  for (let row = first; row <= last; row += 1) {
    const count = rows.get(row) ?? 0;
    const bar = count === 0 ? '' : '#'.repeat(Math.max(1, Math.round((count / most) * WIDTH)));
    const label = row === 0 ? '0 ns' : `< ${duration(2 ** row)}`;
    lines.push(`${label.padStart(11)} |${bar.padEnd(WIDTH)}| ${count} (${((100 * count) / histogram.count).toFixed(1)}%)`);
  }
  return `${lines.join('\n')}\n`;
}
