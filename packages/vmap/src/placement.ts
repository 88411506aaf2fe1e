import { type Core, occupantOf } from './core.ts';
import { VmapError } from './errors.ts';
import { roundUp } from './outside.ts';
import { hexOf, hexOfVfn } from './space.ts';
import type { FindFree } from './types.ts';

/** One past the last page of the address space. */
const VFN_END = 2 ** 52;
const REACH = 2n ** 31n;

/**
 * Checks that the pages [vfn, vfn + pages) lie outside every region, meet no area outside, and leave a page free on both sides.
 * @throws {VmapError} `bad-address`, `inside-region`, `overlap`, `no-guard`.
 */
export function checkPlace(core: Core, vfn: number, pages: number): void {
  const va = hexOfVfn(vfn);
  const end = vfn + pages;
  if (vfn < 1 || end >= VFN_END) {
    throw new VmapError({
      code: 'bad-address',
      argument: 'va',
      value: va,
      allowed: `room for ${pages} pages and a guard page on both sides`,
    });
  }
  for (const region of core.regions) {
    const regionEnd = region.startVfn + region.pages;
    if (end < region.startVfn || vfn > regionEnd) continue;
    const start = hexOfVfn(region.startVfn);
    const at = { start, pages: region.pages, kind: 'region', region: region.name, owner: null } as const;
    const code = end === region.startVfn || vfn === regionEnd ? 'no-guard' : 'inside-region';
    throw new VmapError({ code, va, pages, at });
  }
  const met = core.outside.meeting(vfn, end);
  if (met !== null) throw new VmapError({ code: 'overlap', va, pages, at: occupantOf(met) });
  const touched = core.outside.meeting(vfn - 1, end + 1);
  if (touched !== null) throw new VmapError({ code: 'no-guard', va, pages, at: occupantOf(touched) });
}

/** The lowest place in the window, or null. */
export function findFree(core: Core, request: FindFree): bigint | null {
  if (core.closed) throw new VmapError({ code: 'closed' });
  const pages = core.count('pages', request.pages, 1, 2 ** 51);
  const align = core.count('align', request.align ?? 1, 1, 2 ** 51);
  if (Math.log2(align) % 1 !== 0) {
    throw new VmapError({ code: 'bad-argument', argument: 'align', value: String(align), allowed: 'a power of two' });
  }
  let lo: bigint;
  let hi: bigint;
  if ('near' in request) {
    const reach = request.reach ?? REACH;
    core.pageOf(request.near, 'near');
    if (typeof reach !== 'bigint' || reach < 1n) {
      throw new VmapError({ code: 'bad-argument', argument: 'reach', value: String(reach), allowed: 'a bigint from 1' });
    }
    // Every byte from near - reach + 1 to near + reach - 1.
    lo = request.near - reach + 1n;
    hi = request.near + reach;
    if (lo < 0n) lo = 0n;
  } else {
    lo = request.lo;
    hi = request.hi;
    core.pageOf(lo, 'lo');
    if (hi !== 2n ** 64n) core.pageOf(hi, 'hi');
    if (hi < lo) throw new VmapError({ code: 'bad-argument', argument: 'hi', value: hexOf(hi), allowed: `an address from ${hexOf(lo)}` });
  }
  const first = Math.max(1, Number((lo + 0xfffn) >> 12n));
  const end = Math.min(VFN_END - 1, Number(hi >> 12n));
  const vfn = search(core, first, end, pages, align);
  if (vfn >= 0) return BigInt(vfn) * 4096n;
  // Areas that wait for a purge are in the way until then.
  if (core.purges === null || core.purges.purge().areas === 0) return null;
  const again = search(core, first, end, pages, align);
  return again < 0 ? null : BigInt(again) * 4096n;
}

function search(core: Core, first: number, end: number, pages: number, align: number): number {
  let at = roundUp(first, align);
  for (let moved = true; moved && at + pages <= end; ) {
    moved = false;
    at = core.outside.firstFit(at, pages, align);
    for (const region of core.regions) {
      const regionEnd = region.startVfn + region.pages;
      if (at + pages < region.startVfn || at > regionEnd) continue;
      at = roundUp(regionEnd + 1, align);
      moved = true;
    }
  }
  return at + pages <= end ? at : -1;
}
