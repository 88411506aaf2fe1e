import type { Marks } from './print.ts';

/** Text out of a dump as a terminal may have it: control characters, which could be commands to it, are dots. */
export const visible = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '.');

/** Columns of equal width; a table longer than `most` rows is cut, and says so. */
export function textTable(head: readonly string[], rows: readonly (readonly string[])[], most: number, marks: Marks): string[] {
  const shown = rows.slice(0, most).map((row) => row.map(visible));
  const widths = head.map((title, column) => Math.max(title.length, ...shown.map((row) => (row[column] ?? '').length)));
  const line = (cells: readonly string[]): string => {
    const padded = cells.map((cell, column) => (column === cells.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)));
    return `  ${padded.join('  ')}`.trimEnd();
  };
  const cut = rows.length - shown.length;
  const rest = cut > 0 ? [marks.dim(`  ... ${cut} more; --all or --json has every one`)] : [];
  return [marks.dim(line(head)), ...shown.map(line), ...rest];
}
