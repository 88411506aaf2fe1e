import { Area } from './area.ts';
import { type Core, DEFAULT_FLAGS, occupantOf } from './core.ts';
import { type Occupant, VmapError } from './errors.ts';
import type { OutsideArea } from './outside.ts';
import type { Region } from './region.ts';
import { hexOf } from './space.ts';
import type { Access, MapFlags } from './types.ts';

const vaOf = (vfn: number): bigint => BigInt(vfn) * 4096n;

function areaOutside(core: Core, area: OutsideArea): Area {
  return new Area(vaOf(area.vfn), area.pages, area.kind, area.owner, null, core.pageTable);
}

function areaInside(core: Core, region: Region, bit: number): Area {
  const record = region.records.get(bit);
  const kind = bit === 0 ? 'bitmap' : (record?.kind ?? 'raw');
  const pages = region.bitmap.endOf(bit) - bit;
  return new Area(vaOf(region.startVfn + bit), pages, kind, record?.owner ?? null, region.name, core.pageTable);
}

/** The area that holds a page, regions first. */
export function areaAt(core: Core, vfn: number): Area | undefined {
  const region = core.regionHolding(vfn);
  if (region !== undefined) {
    const bit = region.runAt(vfn - region.startVfn);
    if (bit === 0 || region.isArea(bit)) return areaInside(core, region, bit);
  }
  const area = core.outside.holding(vfn);
  return area === null || area.freed ? undefined : areaOutside(core, area);
}

/** All areas in order of address: the regions' runs and the areas outside, merged. */
export function* areasOf(core: Core): IterableIterator<Area> {
  let outside = core.outside.after(null);
  for (const region of [...core.regions].sort((a, b) => a.startVfn - b.startVfn)) {
    for (let bit = region.bitmap.nextStart(0); bit >= 0; bit = region.bitmap.nextStart(bit + 1)) {
      for (; outside !== null && outside.vfn < region.startVfn + bit; outside = core.outside.after(outside)) {
        if (!outside.freed) yield areaOutside(core, outside);
      }
      if (bit === 0 || region.isArea(bit)) yield areaInside(core, region, bit);
    }
  }
  for (; outside !== null; outside = core.outside.after(outside)) if (!outside.freed) yield areaOutside(core, outside);
}

/** The area, freed or not, one page of which is at `vfn`: its place and flags. */
function holder(core: Core, vfn: number): { at: Occupant; flags: MapFlags; live: boolean } | null {
  const region = core.regionHolding(vfn);
  if (region !== undefined) {
    const bit = region.runAt(vfn - region.startVfn);
    const at = region.occupant(bit)!;
    return { at, flags: region.records.get(bit)?.flags ?? DEFAULT_FLAGS, live: at.kind !== 'freed' };
  }
  const area = core.outside.holding(vfn);
  return area === null ? null : { at: occupantOf(area), flags: area.flags, live: !area.freed };
}

/** What an access to an address meets. @returns the frame. */
export function touchAt(core: Core, va: bigint, access: Access): number {
  const vfn = core.pageOf(va);
  const fault = (reason: 'guard' | 'unmapped' | 'read-only' | 'no-execute', at: Occupant | null): VmapError =>
    new VmapError({ code: 'fault', va: hexOf(va), access, reason, at });
  const here = holder(core, vfn);
  const mfn = core.pageTable.translate(vfn);
  if (here === null) {
    if (mfn >= 0) return mfn;
    const beside = holder(core, vfn - 1) ?? holder(core, vfn + 1);
    throw beside === null || !beside.live ? fault('unmapped', null) : fault('guard', beside.at);
  }
  if (mfn < 0) throw fault('unmapped', here.at);
  // Who mapped raw address space knows its flags; this allocator does not.
  if (here.at.kind !== 'raw') {
    if (access === 'write' && !here.flags.writable) throw fault('read-only', here.at);
    if (access === 'execute' && !here.flags.executable) throw fault('no-execute', here.at);
  }
  return mfn;
}
