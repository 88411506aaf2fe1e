import type { EventBus } from '@paravirt/event-bus';
import type { Vfn } from '@paravirt/event-bus/contract';
import { type Occupant, VmapError, type VmapRefusal } from './errors.ts';
import type { VmapEvents } from './events.ts';
import { type OutsideArea, OutsideAreas } from './outside.ts';
import { PurgeQueue } from './purge-queue.ts';
import { Region } from './region.ts';
import { hexOf, hexOfVfn, type Space } from './space.ts';
import type { AreaKind, MapFlags, PageAllocator, PageTable, VmapSetup } from './types.ts';

/** What a page may be used for unless the caller says otherwise. */
export const DEFAULT_FLAGS: MapFlags = { writable: true, executable: false };

const ADDRESS_MAX = 2n ** 64n - 1n;

/** The state of one allocator, and what all its operations share: addresses checked, refusals made, facts told. */
export class Core implements Space {
  readonly strict: boolean;
  readonly pageTable: PageTable;
  readonly pages: PageAllocator;
  readonly smallAlloc: (() => boolean) | undefined;
  readonly bus: EventBus<VmapEvents> | undefined;
  readonly outside: OutsideAreas = new OutsideAreas();
  readonly purges: PurgeQueue | null;
  /** In the order of lookup. */
  readonly regions: Region[] = [];
  /** In order of address. */
  readonly #sorted: readonly Region[];
  /** Byte within its page of the address that was checked last. */
  offset = 0;
  readonly #halves: DataView = new DataView(new ArrayBuffer(8));
  closed = false;
  warnings = 0;
  assertions = 0;

  /** @throws {VmapError} what the first pages of a bitmap met; everything is undone. */
  constructor(setup: VmapSetup, strict: boolean, lazyPagesMax: number) {
    this.strict = strict;
    this.pageTable = setup.pageTable;
    this.pages = setup.pages;
    this.smallAlloc = setup.smallAlloc;
    this.bus = setup.bus;
    this.purges = lazyPagesMax > 0 ? new PurgeQueue(lazyPagesMax, setup.pageTable, setup.pages, this.outside, setup.bus) : null;
    try {
      for (const { name, start, pages } of setup.regions) this.regions.push(new Region(this, name, Number(start >> 12n), pages));
    } catch (error) {
      for (const region of this.regions) region.close();
      throw error;
    }
    this.#sorted = [...this.regions].sort((a, b) => a.startVfn - b.startVfn);
  }

  /** Throws in strict mode; in `compat` the caller returns the null. */
  fail(refusal: VmapRefusal): null {
    if (this.strict) throw new VmapError(refusal);
    return null;
  }

  /** A free of what is no area: counted as the original's warning, or refused. */
  misuse(va: bigint): void {
    this.fail({ code: 'not-an-area', va: hexOf(va), region: this.regionAt(Number(va >> 12n))?.name ?? null, at: this.occupant(va) });
    this.warnings++;
  }

  /** Checks an address. @returns its page; `offset` is the byte within it. */
  pageOf(va: bigint, argument: string = 'va'): number {
    if (this.closed) throw new VmapError({ code: 'closed' });
    if (typeof va !== 'bigint' || va < 0n || va > ADDRESS_MAX) {
      const value = typeof va === 'bigint' ? hexOf(va) : String(va);
      throw new VmapError({ code: 'bad-address', argument, value, allowed: 'a bigint from 0 to 2^64 - 1' });
    }
    // Through memory, in halves: arithmetic on bigints makes new ones, and takes five times as long.
    this.#halves.setBigUint64(0, va, true);
    const low = this.#halves.getUint32(0, true);
    this.offset = low & 0xfff;
    return this.#halves.getUint32(4, true) * 0x10_0000 + (low >>> 12);
  }

  /** The address of a page below 2^52. */
  addressOf(vfn: number): bigint {
    const high = Math.floor(vfn / 0x10_0000);
    this.#halves.setUint32(0, (vfn - high * 0x10_0000) << 12, true);
    this.#halves.setUint32(4, high, true);
    return this.#halves.getBigUint64(0, true);
  }

  /** As `pageOf`, and in strict mode the address must be that of a whole page. */
  startPageOf(va: bigint, argument: string = 'va'): number {
    const vfn = this.pageOf(va, argument);
    if (this.strict && this.offset !== 0) {
      throw new VmapError({ code: 'bad-address', argument, value: hexOf(va), allowed: 'a multiple of 4096' });
    }
    return vfn;
  }

  /** A whole number in [min, max], or a refusal that names it. */
  count(argument: string, value: number, min: number, max: number): number {
    if (!Number.isInteger(value) || value < min || value > max) {
      const allowed = `a whole number from ${min} to ${max}`;
      throw new VmapError({ code: 'bad-argument', argument, value: String(value), allowed });
    }
    return value;
  }

  /** The region of that name. In `compat` an absent one is undefined. */
  regionNamed(name: string): Region | undefined {
    if (this.closed) throw new VmapError({ code: 'closed' });
    for (const region of this.regions) if (region.name === name) return region;
    this.fail({ code: 'no-region', region: name, known: this.regions.map((region) => region.name) });
    return undefined;
  }

  /** The region whose range holds the page. Cost O(log regions), in `compat` O(regions). */
  regionAt(vfn: number): Region | undefined {
    // In `compat` a region of fewer than 32,768 pages reaches past its end, maybe into another: there the order of lookup decides.
    if (!this.strict) return this.regions.find(({ startVfn, pages, top }) => vfn >= startVfn && vfn < startVfn + Math.max(pages, top));
    let from = 0;
    let to = this.#sorted.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.#sorted[middle]!.startVfn <= vfn) from = middle + 1;
      else to = middle;
    }
    const region = this.#sorted[from - 1];
    return region !== undefined && vfn < region.startVfn + region.pages ? region : undefined;
  }

  /** The region in which an area starts at this page. */
  regionOf(vfn: number): Region | undefined {
    if (this.strict) {
      const region = this.regionAt(vfn);
      return region?.isArea(region.bitOf(vfn)) ? region : undefined;
    }
    for (const region of this.regions) if (region.isArea(region.bitOf(vfn))) return region;
    return undefined;
  }

  /** The region that has this page in an area, freed or not, or in its bitmap. */
  regionHolding(vfn: number): Region | undefined {
    if (this.strict) {
      const region = this.regionAt(vfn);
      return region !== undefined && region.runAt(vfn - region.startVfn) >= 0 ? region : undefined;
    }
    return this.regions.find((region) => region.runAt(vfn - region.startVfn) >= 0);
  }

  /** The area outside that is remembered by exactly this address: a page, and the byte within it. */
  outsideAt(vfn: number, offset: number): OutsideArea | null {
    if (this.outside.count === 0) return null;
    const area = this.outside.get(vfn, offset);
    return area === null || area.freed ? null : area;
  }

  /** What lies at an address, for an error to name. */
  occupant(va: bigint): Occupant | null {
    const vfn = Number(va >> 12n);
    const region = this.regionHolding(vfn);
    if (region !== undefined) return region.occupant(vfn - region.startVfn);
    const area = this.outside.holding(vfn);
    return area === null ? null : occupantOf(area);
  }

  tell(
    type: 'vmap:mapped' | 'vmap:unmapped',
    vfn: number,
    pages: number,
    kind: AreaKind,
    region: string | null,
    owner: string | null,
  ): void {
    const { bus } = this;
    if (bus?.observed(type)) bus.emit(type, { vfn: vfn as Vfn, pages, kind, region, owner });
  }
}

export function occupantOf(area: OutsideArea): Occupant {
  const { pages, owner } = area;
  return { start: hexOfVfn(area.vfn), pages, kind: area.freed ? 'freed' : area.kind, region: null, owner };
}
