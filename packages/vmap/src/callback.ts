import { type Core, DEFAULT_FLAGS } from './core.ts';
import { VmapError } from './errors.ts';
import { giveFrames, pagesOf, recordOf, remember, small, takeFrames } from './mapper.ts';
import { checkPlace } from './placement.ts';
import { hexOf } from './space.ts';
import type { Allocation, MallocOptions, MapCallback } from './types.ts';

/** Memory whose place the caller's callback chooses; the area is remembered by its address. */
export function placeByCallback(
  core: Core,
  size: number | bigint,
  callback: MapCallback,
  options: Omit<MallocOptions, 'region'>,
): Allocation | null {
  const { owner = null, flags = DEFAULT_FLAGS } = options;
  const pages = pagesOf(core, size);
  if (pages < 0 || !small(core) || !small(core)) return null;
  const frames = takeFrames(core, pages);
  if (frames === null) return null;
  let kept = false;
  try {
    // A copy, because what the callback does to the list must not change which frames are given back.
    const va = callback(frames.slice());
    if (va === null) return core.fail({ code: 'map-failed', va: null, region: null });
    const vfn = core.pageOf(va);
    const { offset } = core;
    const inRegion = adopted(core, vfn, frames, owner, flags);
    if (core.strict && !inRegion) checkMapped(core, va, vfn, frames);
    if (!core.strict || !inRegion) remember(core, vfn, offset, pages, 'outside', owner, flags);
    kept = true;
    // What the callback forwarded to `vmap` has been told already.
    if (!inRegion) core.tell('vmap:mapped', vfn, pages, 'outside', null, owner);
    return { va, frames };
  } finally {
    if (!kept) giveFrames(core, frames);
  }
}

const holds = (core: Core, vfn: number, frames: readonly number[]): boolean =>
  frames.every((mfn, i) => core.pageTable.translate(vfn + i) === mfn);

/**
 * Whether the callback forwarded to `vmap`, so that a region has the area already. Then it is memory of that region and of nobody
 * else: the original remembers it twice, and keeps the second entry when it is freed.
 */
function adopted(core: Core, vfn: number, frames: readonly number[], owner: string | null, flags: typeof DEFAULT_FLAGS): boolean {
  const region = core.regionOf(vfn);
  if (region === undefined) return false;
  const bit = vfn - region.startVfn;
  if (region.records.get(bit)?.kind !== 'vmap' || region.vmSize(vfn) !== frames.length || !holds(core, vfn, frames)) return false;
  region.records.set(bit, recordOf('vmalloc', owner, flags));
  return true;
}

/** Takes the callback at its word only once the place is allowed and shows its frames; else takes its mapping back. */
function checkMapped(core: Core, va: bigint, vfn: number, frames: readonly number[]): void {
  try {
    core.startPageOf(va, 'the address that the callback returned');
    checkPlace(core, vfn, frames.length);
    if (!holds(core, vfn, frames)) throw new VmapError({ code: 'map-failed', va: hexOf(va), region: null });
  } catch (error) {
    for (let i = 0; i < frames.length; i++) if (core.pageTable.translate(vfn + i) === frames[i]) core.pageTable.unmap(vfn + i, 1);
    throw error;
  }
}
