/**
 * What the allocator needs of its surroundings: where virtual pages are mapped, and where frames come from. Both fit by shape.
 */

/** Flags of a mapping. */
export interface MapFlags {
  readonly writable: boolean;
  readonly executable: boolean;
}

/** One address space. Page numbers are `va / 4096`, exact up to 2^52. */
export interface PageTable {
  /**
   * Maps `count` pages from `vfn` on to the frames `mfn, mfn + 1, ...`.
   * @returns false when it cannot (no memory for a table page); then nothing is mapped.
   */
  map(vfn: number, mfn: number, count: number, flags: MapFlags): boolean;
  /** Unmaps `count` pages from `vfn` on; pages that are not mapped are passed over. Cannot fail. */
  unmap(vfn: number, count: number): void;
  /** The frame mapped at `vfn`, or -1. */
  translate(vfn: number): number;
}

/** A heap of machine frames. */
export interface PageAllocator {
  /** One frame, or -1 when there is none. */
  alloc(): number;
  free(mfn: number): void;
  /** Fills the frame with zeroes. */
  clear(mfn: number): void;
}
