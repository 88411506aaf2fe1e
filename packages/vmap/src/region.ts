import { Bitmap, candidateOf } from './bitmap.ts';
import { type Occupant, VmapError } from './errors.ts';
import { PageSet } from './page-set.ts';
import { hexOfVfn, type Space } from './space.ts';
import type { AreaKind, MapFlags, VmRegion } from './types.ts';

/** Bits that one page of the bitmap holds. */
const BITS_PER_PAGE = 32_768;
const BITMAP_FLAGS: MapFlags = { writable: true, executable: false };

/** What is known of an area beyond its place. Raw areas have none. */
export interface AreaRecord {
  readonly kind: AreaKind;
  readonly owner: string | null;
  readonly flags: MapFlags;
}

/** Why `vmAlloc` last returned -1. */
export type RegionFailure = 'no-room' | 'no-memory' | 'map-failed';

/** One region: first fit from `low`, and a bitmap that is populated page by page up to `top`. */
export class Region implements VmRegion {
  readonly name: string;
  readonly startVfn: number;
  readonly pages: number;
  low: number;
  top: number;
  /** What the last `vmAlloc` that returned -1 met. */
  failure: RegionFailure = 'no-room';
  /** Pages at the region's start that the whole bitmap takes. */
  readonly reserved: number;
  readonly bitmap: Bitmap;
  readonly records: Map<number, AreaRecord> = new Map();
  readonly #space: Space;
  readonly #bitmapFrames: number[] = [];
  /** Areas that wait for a purge, by their first bit; null where none ever does. */
  readonly #freed: PageSet | null;
  /** The end of what the tail may use. */
  #tailEnd = 0;
  /** Whether `low` stands on a set bit, where only a wrapped request can put it. */
  #lowIsSet = false;

  /** @throws {VmapError} `no-memory`, `map-failed`: the first pages of the bitmap cannot be had; nothing is kept. */
  constructor(space: Space, name: string, startVfn: number, pages: number) {
    this.#space = space;
    this.name = name;
    this.startVfn = startVfn;
    this.pages = pages;
    this.reserved = Math.ceil(Math.floor((pages + 7) / 8) / 4096);
    const populated = Math.ceil(Math.floor((this.reserved + 7) / 8) / 4096);
    this.low = this.reserved;
    this.top = 0;
    for (let i = 0; i < populated; i++) {
      if (this.#populate()) continue;
      const { failure } = this;
      this.close();
      throw new VmapError(
        failure === 'map-failed'
          ? { code: 'map-failed', va: hexOfVfn(startVfn + i), region: name }
          : { code: 'no-memory', what: 'bitmap', region: name },
      );
    }
    // The original leaves `top` above the end of a region of fewer than 32,768 pages, and hands out what lies between.
    this.#moveTop(space.strict ? Math.min(populated * BITS_PER_PAGE, pages) : populated * BITS_PER_PAGE);
    this.bitmap = new Bitmap(Math.max(this.top, pages), this.reserved);
    this.#freed = space.purges === null ? null : new PageSet(pages);
  }

  get bitmapPages(): number {
    return this.#bitmapFrames.length;
  }

  vmAlloc(pages: number, align: number = 1): number {
    const { low, bitmap } = this;
    // The commonest request first: no hole below the last area, and room above it.
    const end = low + 1 + pages;
    if (align === 1 && low === bitmap.tail && end <= this.#tailEnd && pages >>> 0 === pages && pages !== 0) {
      bitmap.append(low + 1, end);
      this.low = end;
      return this.startVfn + low + 1;
    }
    if (this.#space.closed) throw new VmapError({ code: 'closed' });
    if (this.#space.strict) this.#checkRequest(pages, align);
    // The lowest set bit of the alignment; none counts as 1.
    const bit = this.allocBit(pages >>> 0, align === 0 ? 0 : 31 - Math.clz32(align & -align));
    return bit < 0 ? -1 : this.startVfn + bit;
  }

  #checkRequest(pages: number, align: number): void {
    if (!Number.isInteger(pages) || pages < 1 || pages > 0xffff_ffff) {
      throw new VmapError({ code: 'bad-argument', argument: 'pages', value: String(pages), allowed: 'a whole number from 1 to 2^32 - 1' });
    }
    if (!Number.isInteger(align) || align < 0 || align > 0xffff_ffff) {
      throw new VmapError({ code: 'bad-argument', argument: 'align', value: String(align), allowed: 'a whole number from 0 to 2^32 - 1' });
    }
  }

  /** @param nr unsigned 32-bit. @param log of the alignment, 0 to 31. @returns the first bit, or -1 with `failure` set. */
  allocBit(nr: number, log: number): number {
    if (this.#space.strict) {
      // An aligned candidate is at least `align`, so none of this can fit; and what remains is below 2^32 in every sum.
      if (nr >= this.pages || (1 << log) >>> 0 >= this.pages) {
        this.failure = 'no-room';
        return -1;
      }
    } else if (nr + ((1 << log) >>> 0) + Math.max(this.top, this.pages) > 0xffff_ffff || this.#lowIsSet) {
      // Where 32-bit sums can wrap, or `low` stands on a set bit, the search goes hole by hole as the original's does.
      return this.#allocExact(nr, log);
    }
    const bitmap = this.bitmap;
    const low = this.low;
    if (low < this.top) {
      const border = low >= bitmap.tail ? -1 : bitmap.nextStart(low + 1);
      const bit = candidateOf(low, log);
      if (border >= 0) {
        if (bit + nr < border) {
          this.#insert(bitmap.isEnd(low) ? low : bitmap.gapStart(low), border, bit, nr);
          return bit;
        }
        const gap = bitmap.find(border, nr, log);
        if (gap >= 0) {
          const found = candidateOf(gap, log);
          this.#insert(gap, bitmap.nextStart(gap + 1), found, nr);
          return found;
        }
      }
    }
    return this.#allocTail(nr, log);
  }

  #insert(gap: number, border: number, bit: number, nr: number): void {
    if (nr > 0) this.bitmap.insert(gap, border, bit, bit + nr);
    if (bit <= this.low + 2) this.low = bit + nr;
  }

  /** Moves `top`. The tail ends there, but strict mode keeps the region's last page as a guard. */
  #moveTop(top: number): void {
    this.top = top;
    this.#tailEnd = this.#space.strict && top === this.pages ? top - 1 : top;
  }

  /** Nothing fits below the last run: the tail, with a purge or more bitmap if that helps. */
  #allocTail(nr: number, log: number): number {
    for (;;) {
      const { tail } = this.bitmap;
      const from = Math.max(tail, this.low);
      const bit = from < this.top ? candidateOf(from, log) : this.top;
      if (bit < this.top && bit + nr <= this.#tailEnd) {
        this.#insert(tail, -1, bit, nr);
        return bit;
      }
      const space = this.#space;
      if (space.purges !== null && space.purges.pages > 0 && space.purges.purge().areas > 0) return this.allocBit(nr, log);
      // The original populates the whole bitmap before it refuses what can never fit.
      if (this.top >= this.pages || (space.strict && candidateOf(from, log) + nr > this.pages - 1)) {
        this.failure = 'no-room';
        return -1;
      }
      if (!this.#populate()) return -1;
      this.#moveTop(Math.min(this.top + BITS_PER_PAGE, this.pages));
    }
  }

  /** Adds a page to the bitmap. */
  #populate(): boolean {
    const { pages, pageTable } = this.#space;
    const mfn = pages.alloc();
    if (mfn < 0) {
      this.failure = 'no-memory';
      return false;
    }
    if (!pageTable.map(this.startVfn + this.#bitmapFrames.length, mfn, 1, BITMAP_FLAGS)) {
      pages.free(mfn);
      this.failure = 'map-failed';
      return false;
    }
    pages.clear(mfn);
    this.#bitmapFrames.push(mfn);
    return true;
  }

  /** The search in unsigned 32-bit arithmetic, wherever it wraps to. Cost O(holes). */
  #allocExact(nr: number, log: number): number {
    const bitmap = this.bitmap;
    for (;;) {
      if (this.#lowIsSet) this.#space.assertions++;
      let start = this.low;
      while (start < this.top) {
        const border = this.#firstSet(start + 1);
        start = candidateOf(start, log);
        const end = (start + nr) >>> 0;
        if (border < this.top ? end < border : end <= this.top) break;
        start = border < this.top ? this.#firstClear(border + 1) : this.top;
      }
      if (start < this.top) {
        const end = (start + nr) >>> 0;
        bitmap.union(start, end);
        const last = Math.max(start, end);
        const set = last < this.top && bitmap.isSet(last);
        if (set) this.#space.assertions++;
        if (start <= this.low + 2) {
          this.low = last;
          this.#lowIsSet = set;
        }
        return start;
      }
      if (this.top >= this.pages) {
        this.failure = 'no-room';
        return -1;
      }
      if (!this.#populate()) return -1;
      this.#moveTop(Math.min(this.top + BITS_PER_PAGE, this.pages));
    }
  }

  #firstSet(bit: number): number {
    if (bit >= this.top) return this.top;
    if (this.bitmap.isSet(bit)) return bit;
    const start = this.bitmap.nextStart(bit);
    return start < 0 ? this.top : start;
  }

  #firstClear(bit: number): number {
    if (bit >= this.top) return this.top;
    return this.bitmap.isSet(bit) ? Math.min(this.bitmap.endOf(bit), this.top) : bit;
  }

  vmFree(vfn: number): boolean {
    const space = this.#space;
    const bit = this.bitOf(vfn);
    if (!this.isArea(bit)) {
      if (space.closed) throw new VmapError({ code: 'closed' });
      if (space.strict)
        throw new VmapError({ code: 'not-an-area', va: hexOfVfn(vfn), region: this.name, at: this.occupant(vfn - this.startVfn) });
      space.warnings++;
      return false;
    }
    if (space.strict && this.records.size > 0) {
      const record = this.records.get(bit);
      if (record !== undefined && record.kind !== 'raw') {
        const at = this.occupant(bit)!;
        throw new VmapError({ code: 'wrong-kind', va: hexOfVfn(vfn), at, allowed: 'raw address space; unmap it with vunmap or vfree' });
      }
    }
    this.release(bit);
    return true;
  }

  /** The bit that stands for the page `vfn`, or 0, which never is an area's, when none does. */
  bitOf(vfn: number): number {
    const distance = vfn - this.startVfn;
    const bit = distance >>> 0;
    return bit === distance && bit < this.top ? bit : 0;
  }

  /** Whether an area starts at `bit`, one that `bitOf` gave, and is not freed already. */
  isArea(bit: number): boolean {
    if (bit === 0 || !this.bitmap.isStart(bit)) return false;
    return this.#freed === null || !this.#freed.has(bit);
  }

  /** Ends the area that starts at `bit`: at once, or at the next purge. */
  release(bit: number): void {
    if (this.records.size > 0) this.records.delete(bit);
    if (this.#freed === null) {
      this.clear(bit);
      return;
    }
    this.#freed.add(bit);
    this.#space.purges!.defer(this, bit, this.bitmap.endOf(bit) - bit);
  }

  /** Ends the wait of a freed area, at a purge. */
  settle(bit: number): void {
    this.#freed?.delete(bit);
    this.clear(bit);
  }

  /** Clears the run that starts at `bit`, and moves `low` as the original does. */
  clear(bit: number): void {
    const end = this.bitmap.endOf(bit);
    const gap = this.bitmap.remove(bit, end);
    if (bit < this.low) {
      this.low = gap;
      this.#lowIsSet = false;
    } else if (bit === this.low) this.#lowIsSet = false;
  }

  vmSize(vfn: number): number {
    const bit = this.bitOf(vfn);
    return this.isArea(bit) ? Math.min(this.bitmap.endOf(bit), this.top) - bit : 0;
  }

  areaStart(vfn: number): number {
    const bit = this.bitOf(vfn);
    const start = bit === 0 ? 0 : this.runAt(bit);
    return start > 0 && this.isArea(start) ? this.startVfn + start : -1;
  }

  /** The start of the run of set bits that holds `bit`, any number, or -1. */
  runAt(bit: number): number {
    if (bit >>> 0 !== bit || bit >= this.top) return -1;
    const start = this.bitmap.prevStart(bit);
    return this.bitmap.endOf(start) > bit ? start : -1;
  }

  eachRun(visit: (start: number, length: number) => void): void {
    for (let start = this.bitmap.nextStart(0); start >= 0; start = this.bitmap.nextStart(start + 1)) {
      visit(start, this.bitmap.endOf(start) - start);
    }
  }

  /** What holds `bit`, for an error to name. */
  occupant(bit: number): Occupant | null {
    const start = this.runAt(bit);
    if (start < 0) return null;
    const kind = start === 0 ? 'bitmap' : this.isArea(start) ? (this.records.get(start)?.kind ?? 'raw') : 'freed';
    const owner = this.records.get(start)?.owner ?? null;
    return { start: hexOfVfn(this.startVfn + start), pages: this.bitmap.endOf(start) - start, kind, region: this.name, owner };
  }

  /** Gives the bitmap's pages back. */
  close(): void {
    if (this.#bitmapFrames.length > 0) this.#space.pageTable.unmap(this.startVfn, this.#bitmapFrames.length);
    for (const mfn of this.#bitmapFrames.splice(0)) this.#space.pages.free(mfn);
    // No area starts below bit 0, and nothing fits there: what is asked of a closed region is refused.
    this.low = 0;
    this.#moveTop(0);
  }
}
