import type { Access, MapFlags, PageTable } from './types.ts';

/** Pages that one table page describes, as on x86-64. */
const ENTRIES = 512;
const WRITABLE = 1;
const EXECUTABLE = 2;

/** Options of `createPageTable`. */
export interface PageTableOptions {
  /** Most table pages (of 512 entries) at once; past it `map` fails. Default: no bound. */
  readonly tablesMax?: number;
  /** Keeps translations of unmapped pages, as a processor's cache does, until `flush`; `cached` shows them. Default false. */
  readonly caching?: boolean;
}

/** A page table in memory. */
export interface MemoryPageTable extends PageTable {
  flush(): void;
  /** Pages mapped now. */
  readonly mapped: number;
  /** Table pages in use. */
  readonly tables: number;
  readonly flushes: number;
  /** The frame that an access of this kind reaches, or -1: not mapped, or the flags forbid it. */
  access(vfn: number, access: Access): number;
  /** The frame that a stale translation would still reach, or -1: what `translate` said before the page was unmapped. */
  cached(vfn: number): number;
  /** Calls `visit(vfn, mfn)` for each mapped page, in no particular order. */
  each(visit: (vfn: number, mfn: number) => void): void;
}

/** A page table in memory: 512 entries to a table page, made and dropped as they are needed. Costs: O(1) a page. */
export function createPageTable(options: PageTableOptions = {}): MemoryPageTable {
  return new Tables(options.tablesMax ?? Number.POSITIVE_INFINITY, options.caching ?? false);
}

interface Table {
  /** Frame + 1, so that 0 is unmapped. */
  readonly frames: Float64Array;
  readonly flags: Uint8Array;
  used: number;
}

class Tables implements MemoryPageTable {
  readonly #tablesMax: number;
  readonly #stale: Map<number, number> | null;
  readonly #tables: Map<number, Table> = new Map();
  mapped = 0;
  flushes = 0;

  constructor(tablesMax: number, caching: boolean) {
    this.#tablesMax = tablesMax;
    this.#stale = caching ? new Map() : null;
  }

  get tables(): number {
    return this.#tables.size;
  }

  map(vfn: number, mfn: number, count: number, flags: MapFlags): boolean {
    if (count === 0) return true;
    const bits = (flags.writable ? WRITABLE : 0) | (flags.executable ? EXECUTABLE : 0);
    const last = Math.floor((vfn + count - 1) / ENTRIES);
    let missing = 0;
    for (let number = Math.floor(vfn / ENTRIES); number <= last; number++) {
      if (!this.#tables.has(number) && ++missing + this.#tables.size > this.#tablesMax) return false;
    }
    for (let done = 0; done < count; ) {
      const number = Math.floor((vfn + done) / ENTRIES);
      let table = this.#tables.get(number);
      if (table === undefined) {
        table = { frames: new Float64Array(ENTRIES), flags: new Uint8Array(ENTRIES), used: 0 };
        this.#tables.set(number, table);
      }
      const first = vfn + done - number * ENTRIES;
      const end = Math.min(ENTRIES, first + count - done);
      for (let at = first; at < end; at++, done++) {
        if (table.frames[at] === 0) {
          table.used++;
          this.mapped++;
        }
        table.frames[at] = mfn + done + 1;
        table.flags[at] = bits;
      }
    }
    return true;
  }

  unmap(vfn: number, count: number): void {
    const end = vfn + count;
    for (let from = vfn; from < end; ) {
      const number = Math.floor(from / ENTRIES);
      const to = Math.min(end, (number + 1) * ENTRIES);
      const table = this.#tables.get(number);
      if (table !== undefined) {
        for (let page = from; page < to; page++) {
          const at = page - number * ENTRIES;
          const frame = table.frames[at]!;
          if (frame === 0) continue;
          this.#stale?.set(page, frame - 1);
          table.frames[at] = 0;
          table.used--;
          this.mapped--;
        }
        if (table.used === 0) this.#tables.delete(number);
      }
      from = to;
    }
  }

  translate(vfn: number): number {
    const number = Math.floor(vfn / ENTRIES);
    return (this.#tables.get(number)?.frames[vfn - number * ENTRIES] ?? 0) - 1;
  }

  access(vfn: number, access: Access): number {
    const number = Math.floor(vfn / ENTRIES);
    const table = this.#tables.get(number);
    if (table === undefined) return -1;
    const at = vfn - number * ENTRIES;
    const needed = access === 'write' ? WRITABLE : access === 'execute' ? EXECUTABLE : 0;
    return (table.flags[at]! & needed) === needed ? table.frames[at]! - 1 : -1;
  }

  cached(vfn: number): number {
    return this.#stale?.get(vfn) ?? -1;
  }

  flush(): void {
    this.#stale?.clear();
    this.flushes++;
  }

  each(visit: (vfn: number, mfn: number) => void): void {
    for (const [number, { frames }] of this.#tables) {
      for (let at = 0; at < ENTRIES; at++) if (frames[at] !== 0) visit(number * ENTRIES + at, frames[at]! - 1);
    }
  }
}
