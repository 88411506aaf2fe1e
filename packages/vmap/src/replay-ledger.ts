import { createPageTable, type MemoryPageTable } from './page-table.ts';
import type { MapFlags, PageAllocator, PageTable } from './types.ts';

const PRIME = 0x0100_0193;

/** FNV-1a of 32 bits over one little-endian word of 32 bits more. */
export function fnv32(hash: number, word: number): number {
  let h = Math.imul(hash ^ (word & 0xff), PRIME);
  h = Math.imul(h ^ ((word >>> 8) & 0xff), PRIME);
  h = Math.imul(h ^ ((word >>> 16) & 0xff), PRIME);
  return Math.imul(h ^ (word >>> 24), PRIME);
}

/** FNV-1a over one little-endian number of 64 bits, given as `units * 2^shift`; `units` is exact below 2^53. */
export function fnv64(hash: number, units: number, shift: number): number {
  const split = 2 ** (32 - shift);
  const high = Math.floor(units / split);
  return fnv32(fnv32(hash, ((units - high * split) << shift) >>> 0), high >>> 0);
}

/** Start of an FNV-1a hash of 32 bits. */
export const FNV_OFFSET = 2166136261;

/** Which call of an operation fails; -1 is none. Counters start at 0 with each operation. */
export class Injection {
  heap = -1;
  map = -1;
  xmalloc = -1;
  heapCalls = 0;
  mapCalls = 0;
  xmallocCalls = 0;

  begin(heap: number, map: number, xmalloc: number): void {
    this.heap = heap;
    this.map = map;
    this.xmalloc = xmalloc;
    this.heapCalls = 0;
    this.mapCalls = 0;
    this.xmallocCalls = 0;
  }

  smallAlloc(): boolean {
    return this.xmallocCalls++ !== this.xmalloc;
  }
}

/** Frames in order of allocation, never used twice, `pages` of them out at most. */
export class LedgerHeap implements PageAllocator {
  readonly #injection: Injection;
  readonly #first: number;
  readonly #max: number;
  readonly #out: Set<number> = new Set();
  next = 0;
  cleared = 0;

  constructor(injection: Injection, first: number, max: number) {
    this.#injection = injection;
    this.#first = first;
    this.#max = max;
  }

  get live(): number {
    return this.#out.size;
  }

  alloc(): number {
    if (this.#injection.heapCalls++ === this.#injection.heap || this.#out.size >= this.#max) return -1;
    const mfn = this.#first + this.next++;
    this.#out.add(mfn);
    return mfn;
  }

  free(mfn: number): void {
    this.#out.delete(mfn);
  }

  clear(_mfn: number): void {
    this.cleared++;
  }
}

/** A page table that keeps the digest of what is mapped: the sum, over all pages, of the hash of address and frame. */
export class LedgerTable implements PageTable {
  readonly #injection: Injection;
  readonly #table: MemoryPageTable = createPageTable();
  digest = 0;

  constructor(injection: Injection) {
    this.#injection = injection;
  }

  get mapped(): number {
    return this.#table.mapped;
  }

  map(vfn: number, mfn: number, count: number, flags: MapFlags): boolean {
    if (this.#injection.mapCalls++ === this.#injection.map) return false;
    this.#count(vfn, count, -1);
    this.#table.map(vfn, mfn, count, flags);
    this.#count(vfn, count, 1);
    return true;
  }

  unmap(vfn: number, count: number): void {
    this.#count(vfn, count, -1);
    this.#table.unmap(vfn, count);
  }

  translate(vfn: number): number {
    return this.#table.translate(vfn);
  }

  #count(vfn: number, count: number, sign: number): void {
    for (let page = vfn; page < vfn + count; page++) {
      const mfn = this.#table.translate(page);
      if (mfn >= 0) this.digest = (this.digest + sign * (fnv64(fnv64(FNV_OFFSET, page, 12), mfn, 0) >>> 0)) >>> 0;
    }
  }
}
