import type { UnmapOp } from '@paravirt/gnttab';
import { GNTST } from '@paravirt/xen-abi';
import type { AddressSource } from './types.ts';

// A plain constant of this module: a property is loaded at each use.
const { okay: OKAY } = GNTST;

/** Virtual frames taken at once. */
const AREA_PAGES = 32;

/**
 * The virtual frames at which one queue maps: taken from the address space in small areas as they are needed, reused last in first
 * out, given back all together. Taking and returning cost O(1) and allocate nothing.
 */
export class PagePool {
  private readonly source: AddressSource;
  private readonly max: number;
  private readonly areas: number[] = [];
  /** A plain array: a virtual frame below 2^30 stays a small integer all the way. */
  readonly stack: number[];
  /** Free frames: the last of `stack` are taken first. */
  top = 0;
  private made = 0;
  private readonly lost: Set<number> = new Set();

  /** `max`: frames it may hold, a multiple of 32 or rounded up to one. */
  constructor(source: AddressSource, max: number) {
    this.source = source;
    this.max = Math.ceil(max / AREA_PAGES) * AREA_PAGES;
    this.stack = new Array<number>(this.max).fill(0);
  }

  /** Frames that may be taken at once. */
  get free(): number {
    return this.top;
  }

  /** Takes areas until `count` frames are free. @returns whether they are. */
  grow(count: number): boolean {
    while (this.top < count) {
      if (this.made + AREA_PAGES > this.max) return false;
      const first = this.source.alloc(AREA_PAGES);
      if (first < 0) return false;
      this.areas.push(first);
      this.made += AREA_PAGES;
      for (let i = AREA_PAGES - 1; i >= 0; i--) this.stack[this.top++] = first + i;
    }
    return true;
  }

  /** A free frame; there must be one. */
  take(): number {
    this.top--;
    return this.stack[this.top]!;
  }

  give(vfn: number): void {
    this.stack[this.top++] = vfn;
  }

  /** `give` for the frame of each operation, up to the first that was not carried out. @returns how many. */
  giveAll(ops: readonly UnmapOp[], count: number): number {
    const { stack, top } = this;
    let i = 0;
    for (; i < count; i++) {
      const op = ops[i]!;
      if (op.status !== OKAY) break;
      stack[top + i] = op.vfn;
    }
    this.top = top + i;
    return i;
  }

  /** The frame is never used again: something is still mapped there. */
  lose(vfn: number): void {
    this.lost.add(vfn);
  }

  /** Frames taken and not given back. */
  get taken(): number {
    return this.made - this.top;
  }

  /** Gives every area back in which nothing is mapped. */
  close(): void {
    for (const first of this.areas) {
      let usable = true;
      for (const vfn of this.lost) if (vfn >= first && vfn < first + AREA_PAGES) usable = false;
      if (usable) this.source.free(first);
    }
    this.areas.length = 0;
    this.top = 0;
    this.made = 0;
  }
}
