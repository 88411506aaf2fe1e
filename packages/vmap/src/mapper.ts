import { type Core, DEFAULT_FLAGS } from './core.ts';
import { VmapError } from './errors.ts';
import { OutsideArea } from './outside.ts';
import type { AreaRecord, Region } from './region.ts';
import { hexOf, hexOfVfn } from './space.ts';
import type { AreaKind, MapFlags, MapOptions } from './types.ts';

const PLAIN_MAPPING: AreaRecord = { kind: 'vmap', owner: null, flags: DEFAULT_FLAGS };
const PLAIN_MEMORY: AreaRecord = { kind: 'vmalloc', owner: null, flags: DEFAULT_FLAGS };

/** One object for all areas that were asked for in the plainest way. */
export function recordOf(kind: AreaKind, owner: string | null, flags: MapFlags): AreaRecord {
  if (owner === null && flags === DEFAULT_FLAGS) {
    if (kind === 'vmap') return PLAIN_MAPPING;
    if (kind === 'vmalloc') return PLAIN_MEMORY;
  }
  return { kind, owner, flags };
}

/** Finds address space in a region. @returns the first page, or -1 in `compat`. */
export function allocate(core: Core, region: Region | undefined, pages: number, align: number): number {
  if (region === undefined) return -1;
  const vfn = region.vmAlloc(pages, align);
  if (vfn < 0 && core.strict) {
    const { failure, name } = region;
    throw new VmapError(
      failure === 'no-room'
        ? { code: 'no-room', region: name, pages, align }
        : failure === 'no-memory'
          ? { code: 'no-memory', what: 'bitmap', region: name }
          : { code: 'map-failed', va: hexOfVfn(region.startVfn + region.bitmapPages), region: name },
    );
  }
  return vfn;
}

/** Maps frames side by side in a region. @returns the first page, or -1 in `compat`. */
export function mapInRegion(core: Core, mfns: ArrayLike<number>, kind: AreaKind, options: MapOptions): number {
  const { granularity = 1, align = 1, owner = null, flags = DEFAULT_FLAGS } = options;
  const region = core.regionNamed(options.region ?? 'default');
  let pages = Math.imul(mfns.length, granularity) >>> 0;
  if (core.strict) {
    core.count('granularity', granularity, 1, 0xffff_ffff);
    core.count('mfns.length', mfns.length, 1, 0xffff_ffff);
    for (let i = 0; i < mfns.length; i++) core.count(`mfns[${i}]`, mfns[i]!, 0, 2 ** 52 - granularity);
    pages = core.count('mfns.length * granularity', mfns.length * granularity, 1, 0xffff_ffff);
  }
  const vfn = allocate(core, region, pages, align);
  if (vfn < 0) return -1;
  for (let i = 0; i < mfns.length; i++) {
    if (core.pageTable.map(vfn + i * granularity, mfns[i]!, granularity, flags)) continue;
    abandon(core, region!, vfn);
    core.fail({ code: 'map-failed', va: hexOfVfn(vfn + i * granularity), region: region!.name });
    return -1;
  }
  if (pages > 0) region!.records.set(vfn - region!.startVfn, recordOf(kind, owner, flags));
  core.tell('vmap:mapped', vfn, pages, kind, region!.name, owner);
  return vfn;
}

/** Undoes an area that nobody has seen: its addresses are free at once, also under `lazy`. */
function abandon(core: Core, region: Region, vfn: number): void {
  const size = region.vmSize(vfn);
  core.pageTable.unmap(vfn, size);
  if (size > 0) region.clear(vfn - region.startVfn);
  else core.warnings++;
}

/** Pages for `size` bytes, or -1 for a size that the original cannot count, or that strict mode refuses. */
export function pagesOf(core: Core, size: number | bigint): number {
  if (core.closed) throw new VmapError({ code: 'closed' });
  const whole = typeof size === 'bigint' ? size : Number.isSafeInteger(size) ? BigInt(size) : -1n;
  const pages = (whole + 0xfffn) >> 12n;
  if (whole < 0n || (core.strict && whole === 0n) || (core.strict && pages > 0xffff_ffffn)) {
    const allowed = `a whole number of bytes from ${core.strict ? 1 : 0}, at most 2^32 - 1 pages`;
    throw new VmapError({ code: 'bad-argument', argument: 'size', value: String(size), allowed });
  }
  if (whole === 0n) core.assertions++;
  return pages > 0xffff_ffffn ? -1 : Number(pages);
}

/** Asks for one of the original's small allocations. */
export function small(core: Core): boolean {
  if (core.smallAlloc === undefined || core.smallAlloc()) return true;
  core.fail({ code: 'no-memory', what: 'small', region: null });
  return false;
}

/** Takes pages one by one. @returns their frames, or null in `compat` with none kept. */
export function takeFrames(core: Core, pages: number): number[] | null {
  const frames: number[] = [];
  for (let i = 0; i < pages; i++) {
    const mfn = core.pages.alloc();
    if (mfn < 0) {
      giveFrames(core, frames);
      return core.fail({ code: 'no-memory', what: 'page', region: null });
    }
    frames.push(mfn);
  }
  return frames;
}

export function giveFrames(core: Core, frames: readonly number[]): void {
  for (const mfn of frames) core.pages.free(mfn);
}

/** Unmaps the area at `va` and ends it. */
export function unmapArea(core: Core, va: bigint): void {
  const vfn = core.startPageOf(va);
  const { offset } = core;
  const region = core.regionOf(vfn);
  if (region !== undefined) {
    const bit = vfn - region.startVfn;
    const record = region.records.get(bit);
    const pages = region.vmSize(vfn);
    core.pageTable.unmap(vfn, pages);
    region.release(bit);
    core.tell('vmap:unmapped', vfn, pages, record?.kind ?? 'raw', region.name, record?.owner ?? null);
    return;
  }
  const area = core.outsideAt(vfn, offset);
  if (area === null) {
    core.misuse(va);
    return;
  }
  if (core.strict && area.kind === 'reserved') {
    const at = core.occupant(va)!;
    throw new VmapError({ code: 'wrong-kind', va: hexOf(va), at, allowed: 'mapped; end a reservation with vmFree' });
  }
  core.pageTable.unmap(vfn, area.pages);
  endOutside(core, area);
  core.tell('vmap:unmapped', vfn, area.pages, area.kind, null, area.owner);
}

export function endOutside(core: Core, area: OutsideArea): void {
  if (core.purges === null) core.outside.remove(area);
  else core.purges.deferOutside(area);
}

/** Unmaps an area of `vmalloc` or of its kin and gives its frames back. */
export function freeMemory(core: Core, va: bigint): void {
  const vfn = core.startPageOf(va);
  const { offset } = core;
  const region = core.regionOf(vfn);
  const area = region === undefined ? core.outsideAt(vfn, offset) : null;
  const pages = region?.vmSize(vfn) ?? area?.pages ?? 0;
  if (core.strict && (region !== undefined || area !== null)) {
    const kind = area?.kind ?? region!.records.get(vfn - region!.startVfn)?.kind ?? 'raw';
    if (kind !== 'vmalloc' && kind !== 'outside') {
      throw new VmapError({ code: 'wrong-kind', va: hexOf(va), at: core.occupant(va)!, allowed: 'memory of vmalloc or of its kin' });
    }
  }
  if (pages === 0 && !core.strict) core.assertions++;
  const frames: number[] = [];
  for (let i = 0; i < pages; i++) {
    const mfn = core.pageTable.translate(vfn + i);
    if (mfn >= 0) frames.push(mfn);
    else if (core.strict) {
      const at = core.occupant(va);
      throw new VmapError({ code: 'fault', va: hexOfVfn(vfn + i), access: 'read', reason: 'unmapped', at });
    } else core.assertions++;
  }
  if (core.purges !== null && pages > 0) core.purges.deferFrames(frames);
  unmapArea(core, va);
  if (core.purges === null) giveFrames(core, frames);
}

/** Maps frames page by page at an address of the caller's choice, all or none. */
export function mapFramesAt(core: Core, vfn: number, frames: readonly number[], flags: MapFlags): boolean {
  for (let i = 0; i < frames.length; i++) {
    if (core.pageTable.map(vfn + i, frames[i]!, 1, flags)) continue;
    core.pageTable.unmap(vfn, frames.length);
    return false;
  }
  return true;
}

export function remember(
  core: Core,
  vfn: number,
  offset: number,
  pages: number,
  kind: AreaKind,
  owner: string | null,
  flags: MapFlags,
): void {
  core.outside.insert(new OutsideArea(vfn, offset, pages, kind, owner, flags));
}
