import type { AreaKind, PageTable } from './types.ts';

/** An area as it was when it was looked up. */
export class Area {
  /** Address of the first page. */
  readonly start: bigint;
  readonly pages: number;
  readonly kind: AreaKind;
  /** What the allocating call was given, or null. */
  readonly owner: string | null;
  /** Name of the region, or null outside every region. */
  readonly region: string | null;
  readonly #table: PageTable;

  constructor(start: bigint, pages: number, kind: AreaKind, owner: string | null, region: string | null, table: PageTable) {
    this.start = start;
    this.pages = pages;
    this.kind = kind;
    this.owner = owner;
    this.region = region;
    this.#table = table;
  }

  /** Address of the page past the last. */
  get end(): bigint {
    return this.start + BigInt(this.pages) * 4096n;
  }

  /** The frame of each page, -1 where nothing is mapped; read from the page table when asked, so it costs O(pages). */
  get frames(): readonly number[] {
    const first = Number(this.start >> 12n);
    return Array.from({ length: this.pages }, (_, i) => this.#table.translate(first + i));
  }
}
