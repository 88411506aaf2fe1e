import type { Area } from './area.ts';
import { placeByCallback } from './callback.ts';
import { type Core, DEFAULT_FLAGS } from './core.ts';
import { describe } from './describe.ts';
import { VmapError } from './errors.ts';
import { areaAt, areasOf, touchAt } from './lookup.ts';
import {
  allocate,
  endOutside,
  freeMemory,
  giveFrames,
  mapFramesAt,
  mapInRegion,
  pagesOf,
  recordOf,
  remember,
  small,
  takeFrames,
  unmapArea,
} from './mapper.ts';
import { checkPlace, findFree } from './placement.ts';
import { hexOf } from './space.ts';
import type {
  Access,
  Allocation,
  AllocOptions,
  FindFree,
  MallocOptions,
  MapCallback,
  MapOptions,
  Vmap,
  VmapCounters,
  VmRegion,
} from './types.ts';

/** The outer layer: whole addresses, checked. Each method is described in `types.ts`. */
export class Allocator implements Vmap<null> {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  #addressOf(vfn: number): bigint | null {
    return vfn < 0 ? null : this.#core.addressOf(vfn);
  }

  get strict(): boolean {
    return this.#core.strict;
  }

  get regions(): readonly VmRegion[] {
    return this.#core.regions;
  }

  get counters(): VmapCounters {
    const { warnings, assertions, purges, regions } = this.#core;
    return {
      warnings,
      assertions,
      lazyAreas: purges?.areas ?? 0,
      lazyPages: purges?.pages ?? 0,
      purges: purges?.purged ?? 0,
      bitmapPages: regions.reduce((sum, region) => sum + region.bitmapPages, 0),
    };
  }

  region(name: string): VmRegion {
    const { regions } = this.#core;
    const found = regions.find((region) => region.name === name);
    if (found === undefined) throw new VmapError({ code: 'no-region', region: name, known: regions.map((region) => region.name) });
    return found;
  }

  vmAlloc(pages: number, options: AllocOptions = {}): bigint | null {
    const { align = 1, region: name = 'default', owner = null } = options;
    const region = this.#core.regionNamed(name);
    const vfn = allocate(this.#core, region, pages, align);
    if (vfn >= 0 && owner !== null) region!.records.set(vfn - region!.startVfn, recordOf('raw', owner, DEFAULT_FLAGS));
    return this.#addressOf(vfn);
  }

  vmFree(va: bigint | null): void {
    if (va === null) return;
    const core = this.#core;
    const vfn = core.startPageOf(va);
    const { offset } = core;
    const region = core.regionOf(vfn);
    if (region !== undefined) {
      region.vmFree(vfn);
      return;
    }
    const area = core.outsideAt(vfn, offset);
    if (area === null) {
      core.misuse(va);
      return;
    }
    if (core.strict && area.kind !== 'reserved') {
      throw new VmapError({
        code: 'wrong-kind',
        va: hexOf(va),
        at: core.occupant(va)!,
        allowed: 'a reservation; unmap it with vunmap or vfree',
      });
    }
    endOutside(core, area);
  }

  vmap(mfns: ArrayLike<number>, options: MapOptions = {}): bigint | null {
    return this.#addressOf(mapInRegion(this.#core, mfns, 'vmap', options));
  }

  vmapContig(mfn: number, pages: number, options: Omit<MapOptions, 'granularity'> = {}): bigint | null {
    return this.#addressOf(mapInRegion(this.#core, [mfn], 'vmap', { ...options, granularity: pages }));
  }

  vunmap(va: bigint | null): void {
    if (va !== null) unmapArea(this.#core, va);
  }

  vmSize(va: bigint | null, region?: string): number {
    if (va === null) return 0;
    const core = this.#core;
    const vfn = core.pageOf(va);
    const { offset } = core;
    if (region !== undefined) return core.regionNamed(region)?.vmSize(vfn) ?? 0;
    const found = core.regionOf(vfn);
    if (found !== undefined) return found.vmSize(vfn);
    return core.outside.size(vfn, offset);
  }

  vmalloc(size: number | bigint, options: MallocOptions = {}): bigint | null {
    return this.#malloc(size, options, false)?.va ?? null;
  }

  vzalloc(size: number | bigint, options: MallocOptions = {}): bigint | null {
    return this.#malloc(size, options, true)?.va ?? null;
  }

  vmallocXen(size: number | bigint, options: Omit<MallocOptions, 'region'> = {}): bigint | null {
    return this.#malloc(size, { ...options, region: 'xen' }, false)?.va ?? null;
  }

  #malloc(size: number | bigint, options: MallocOptions, zeroed: boolean): Allocation | null {
    const core = this.#core;
    if (core.strict) core.regionNamed(options.region ?? 'default');
    const pages = pagesOf(core, size);
    if (pages < 0 || !small(core)) return null;
    const frames = takeFrames(core, pages);
    if (frames === null) return null;
    let vfn = -1;
    try {
      vfn = mapInRegion(core, frames, 'vmalloc', options);
    } finally {
      if (vfn < 0) giveFrames(core, frames);
    }
    if (vfn < 0) return null;
    if (zeroed) for (const mfn of frames) core.pages.clear(mfn);
    return { va: core.addressOf(vfn), frames };
  }

  vfree(va: bigint | null): void {
    if (va !== null) freeMemory(this.#core, va);
  }

  vmallocCb(size: number | bigint, callback: MapCallback | null, options: MallocOptions = {}): Allocation | null {
    return callback === null ? this.#malloc(size, options, false) : placeByCallback(this.#core, size, callback, options);
  }

  vmallocAt(va: bigint, size: number | bigint, options: Omit<MallocOptions, 'region'> = {}): Allocation | null {
    const core = this.#core;
    const vfn = core.startPageOf(va);
    if (core.strict) checkPlace(core, vfn, pagesOf(core, size));
    const { flags = DEFAULT_FLAGS } = options;
    return placeByCallback(core, size, (frames) => (mapFramesAt(core, vfn, frames, flags) ? va : null), options);
  }

  reserve(va: bigint, pages: number, options: { readonly owner?: string } = {}): bigint {
    const core = this.#core;
    const vfn = core.startPageOf(va);
    const { offset } = core;
    core.count('pages', pages, 1, 2 ** 51);
    if (core.strict) checkPlace(core, vfn, pages);
    remember(core, vfn, offset, pages, 'reserved', options.owner ?? null, DEFAULT_FLAGS);
    return va;
  }

  area(va: bigint): Area | undefined {
    return areaAt(this.#core, this.#core.pageOf(va));
  }

  areas(): IterableIterator<Area> {
    if (this.#core.closed) throw new VmapError({ code: 'closed' });
    return areasOf(this.#core);
  }

  outsideNewestFirst(): readonly { readonly va: bigint; readonly pages: number }[] {
    return this.#core.outside.newestFirst().map(({ vfn, offset, pages }) => ({ va: BigInt(vfn) * 4096n + BigInt(offset), pages }));
  }

  findFree(request: FindFree): bigint | null {
    return findFree(this.#core, request);
  }

  translate(va: bigint): number {
    return this.#core.pageTable.translate(this.#core.pageOf(va));
  }

  touch(va: bigint, access: Access = 'read'): number {
    return touchAt(this.#core, va, access);
  }

  purge(): { areas: number; pages: number } {
    if (this.#core.closed) throw new VmapError({ code: 'closed' });
    return this.#core.purges?.purge() ?? { areas: 0, pages: 0 };
  }

  describe(): string {
    return describe(this.#core);
  }

  close(): void {
    const core = this.#core;
    if (core.closed) return;
    core.purges?.purge();
    for (const area of areasOf(core)) {
      const { start, pages, kind } = area;
      if (kind === 'bitmap' || kind === 'raw' || kind === 'reserved') continue;
      // Read before they are unmapped.
      const frames = kind === 'vmap' ? [] : area.frames.filter((mfn) => mfn >= 0);
      core.pageTable.unmap(Number(start >> 12n), pages);
      giveFrames(core, frames);
    }
    for (const region of core.regions) region.close();
    core.closed = true;
  }
}
