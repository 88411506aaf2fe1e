import { LOG_DIRTY_PAGES, PAGE_SIZE, READONLY, type Slot } from './types.ts';

const UNITS = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const;

/** A number of pages in the largest unit that shows it whole. */
function sizeText(pages: number): string {
  let size = pages * (PAGE_SIZE / 1024);
  let unit = 0;
  while (size % 1024 === 0 && unit + 1 < UNITS.length) {
    size /= 1024;
    unit += 1;
  }
  return `${size} ${UNITS[unit]}`;
}

const hex = (frames: number, last: boolean): string => ((BigInt(frames) << 12n) - (last ? 1n : 0n)).toString(16).padStart(16, '0');

function flagsText(flags: number): string {
  const names: string[] = [(flags & READONLY) === 0 ? 'rw' : 'ro'];
  if ((flags & LOG_DIRTY_PAGES) !== 0) names.push('log');
  return names.join(',');
}

/** One row a slot, in the order given: guest range, size, slot, flags, host address. */
export function describeSlots(slots: Iterable<Slot>): string {
  const rows: string[][] = [['guest range', 'size', 'slot', 'flags', 'host address']];
  for (const { id, baseGfn, pages, flags, userspaceAddr } of slots) {
    rows.push([
      `${hex(baseGfn, false)}-${hex(baseGfn + pages, true)}`,
      sizeText(pages),
      String(id),
      flagsText(flags),
      `0x${userspaceAddr.toString(16)}`,
    ]);
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
