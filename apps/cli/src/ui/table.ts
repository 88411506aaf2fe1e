import Table from 'cli-table3';
import type { Output } from '../context.ts';
import { palette } from './palette.ts';

/** Rows under headings: boxes on a terminal, tabs between columns elsewhere. */
export function table(
  output: Output,
  env: Readonly<Partial<Record<string, string>>>,
  head: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  if (output.isTTY !== true) return `${[head, ...rows].map((row) => row.join('\t')).join('\n')}\n`;
  const { bold } = palette(output, env);
  const box = new Table({
    head: head.map((cell) => bold(cell)),
    style: { head: [], border: [] },
    colAligns: head.map((_, index) => (index === 0 ? 'left' : 'right')),
  });
  for (const row of rows) box.push([...row]);
  return `${box.toString()}\n`;
}

/** 1234567 as 1,234,567. */
export function grouped(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ',');
}

/** A rate in MB/s (10^6 bytes), as disks are sold. */
export function megabytes(bytesPerSecond: number): string {
  return `${(bytesPerSecond / 1e6).toFixed(bytesPerSecond < 10e6 ? 2 : 0)} MB/s`;
}

/** Nanoseconds in a unit that fits. */
export function duration(ns: number): string {
  if (ns < 1e3) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toFixed(ns < 10e3 ? 2 : 1)} us`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(ns < 10e6 ? 2 : 1)} ms`;
  return `${(ns / 1e9).toFixed(2)} s`;
}
