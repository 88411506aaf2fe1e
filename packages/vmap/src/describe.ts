import type { Core } from './core.ts';
import { areasOf } from './lookup.ts';
import type { Region } from './region.ts';
import { hexOf, hexOfVfn } from './space.ts';

/** Cells of a chart, and how full a cell is: nothing, up to an eighth, ..., all of it. */
const COLUMNS = 64;
const LEVELS = ' ▁▂▃▄▅▆▇█';
/** Areas outside that are listed by name. */
const OUTSIDE_MAX = 16;

const percent = (part: number, whole: number): string => `${whole === 0 ? 0 : Math.round((part / whole) * 100)} %`;

/** The chart and the figures of one region. */
function describeRegion(region: Region): string[] {
  const { pages, low, top, reserved } = region;
  const perCell = Math.ceil(pages / COLUMNS);
  const cells = new Float64Array(Math.ceil(pages / perCell));
  const holes = new Map<number, number>();
  let areas = 0;
  let used = 0;
  let end = 0;
  let largest = 0;
  const hole = (length: number): void => {
    if (length === 0) return;
    largest = Math.max(largest, length);
    const bucket = Math.floor(Math.log2(length));
    holes.set(bucket, (holes.get(bucket) ?? 0) + 1);
  };
  region.eachRun((start, length) => {
    hole(start - end);
    end = start + length;
    if (start > 0) {
      areas++;
      used += length;
    }
    for (let at = start; at < Math.min(end, pages); ) {
      const cell = Math.floor(at / perCell);
      const to = Math.min(end, pages, (cell + 1) * perCell);
      cells[cell]! += to - at;
      at = to;
    }
  });
  const tail = Math.max(pages, top) - end;
  hole(tail);
  const free = Math.max(pages, top) - used - reserved;
  const chart = Array.from(cells, (filled, i) => {
    const size = Math.min(perCell, pages - i * perCell);
    return LEVELS[Math.ceil((filled / size) * 8)];
  }).join('');
  const buckets = [...holes].sort(([a], [b]) => a - b).map(([log, count]) => `${2 ** log}+: ${count}`);
  return [
    `region ${region.name} at ${hexOfVfn(region.startVfn)}, ${pages} pages, low ${low}, top ${top}`,
    `  ${areas} areas of ${used} pages (${percent(used, pages)}), ${reserved} for the bitmap, ${region.bitmapPages} of them populated`,
    `  |${chart}| ${perCell} pages a column`,
    `  free ${free}, largest hole ${largest}, fragmentation ${percent(free - largest, free)}`,
    `  holes by pages: ${buckets.join(', ') || 'none'}`,
  ];
}

/** The regions, each with a chart of how full it is, then the areas outside and what waits for a purge. */
export function describe(core: Core): string {
  const lines = [`vmap, ${core.closed ? 'closed' : core.strict ? 'strict' : 'compat xen'}`];
  if (core.closed) return lines.join('\n');
  for (const region of core.regions) lines.push(...describeRegion(region));
  const size = core.outside.count;
  lines.push(`outside: ${size} areas`);
  if (size > 0) {
    let listed = 0;
    for (const area of areasOf(core)) {
      if (area.region !== null) continue;
      if (++listed > OUTSIDE_MAX) {
        lines.push(`  and ${size - OUTSIDE_MAX} more`);
        break;
      }
      lines.push(`  ${hexOf(area.start)} ${area.pages} pages ${area.kind}${area.owner === null ? '' : ` ${area.owner}`}`);
    }
  }
  if (core.purges !== null) lines.push(`waiting for a purge: ${core.purges.areas} areas, ${core.purges.pages} pages`);
  return lines.map((line) => (line.length > 100 ? `${line.slice(0, 99)}…` : line)).join('\n');
}
