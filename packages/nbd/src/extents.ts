import { Extent } from './constants.ts';
import type { AddExtent, NbdTarget } from './types.ts';

/** Most pieces that one sparse read is answered in, and most extents in one answer about allocation. */
const READ_PIECES_MAX = 64;
const EXTENTS_MAX = 1024;
/** A hole shorter than this is not worth a chunk of its own. */
const HOLE_BYTES_MIN = 4096;

type Run = [bytes: number, flags: number];

/**
 * Collects the target's extents within the range into at most `most` runs, neighbours of one kind joined.
 * @returns how many bytes from the start they cover.
 */
function collect(
  target: NbdTarget,
  offset: number,
  bytes: number,
  most: number,
  runs: Run[],
  kindOf: (room: number, flags: number) => number,
): number {
  let covered = 0;
  target.extents?.(offset, bytes, (length, flags) => {
    const room = Math.min(length, bytes - covered);
    if (room <= 0) return false;
    const kind = kindOf(room, flags);
    const last = runs.at(-1);
    if (last !== undefined && last[1] === kind) last[0] += room;
    else if (runs.length === most) return false;
    else runs.push([room, kind]);
    covered += room;
    return covered < bytes;
  });
  return covered;
}

let firstBytes = 0;
let firstFlags = 0;
const first: AddExtent = (bytes, flags) => {
  firstBytes = bytes;
  firstFlags = flags;
  return false;
};

/** Whether the range is one stretch without a hole: the common answer, found without an allocation. */
function allData(target: NbdTarget, offset: number, bytes: number): boolean {
  firstBytes = 0;
  target.extents?.(offset, bytes, first);
  return firstBytes >= bytes && (firstFlags & Extent.ZERO) === 0;
}

/** The range in data (0) and holes (`Extent.ZERO`), or undefined where no hole is worth telling. What was not described is data. */
export function dataAndHoles(target: NbdTarget, offset: number, bytes: number): readonly Run[] | undefined {
  if (allData(target, offset, bytes)) return undefined;
  const runs: Run[] = [];
  const covered = collect(target, offset, bytes, READ_PIECES_MAX - 1, runs, (room, flags) =>
    (flags & Extent.ZERO) !== 0 && room >= HOLE_BYTES_MIN ? Extent.ZERO : 0,
  );
  if (!runs.some(([, kind]) => kind !== 0)) return undefined;
  const last = runs.at(-1) as Run;
  if (covered < bytes) {
    if (last[1] === 0) last[0] += bytes - covered;
    else runs.push([bytes - covered, 0]);
  }
  return runs;
}

/** The answer to a question about allocation: at least one extent, from the start of the range, none beyond its end. */
export function allocationOf(target: NbdTarget, offset: number, bytes: number, one: boolean): readonly Run[] {
  const runs: Run[] = [];
  collect(target, offset, bytes, one ? 1 : EXTENTS_MAX, runs, (_room, flags) => flags);
  return runs.length > 0 ? runs : [[bytes, 0]];
}
