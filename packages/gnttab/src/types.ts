/**
 * What a grant table needs of its surroundings. The consumer owns these interfaces: a machine, a unikernel simulator or a
 * test fits them by shape.
 */

/**
 * Views over one stretch of simulated memory. The provider renews the fields when the memory grows, so keep this object and
 * fetch a field for each use; never build a view from `.buffer`.
 */
export interface MemoryViews {
  u8: Uint8Array;
  u16: Uint16Array;
  u32: Uint32Array;
}

/** A page of 4096 bytes in simulated memory: `offset` is in bytes from the start of the views and a multiple of 4096. */
export interface MemoryFrame {
  readonly views: MemoryViews;
  readonly offset: number;
}

/** One element of a map batch; owned and reused by the caller. @see xen/include/public/grant_table.h, gnttab_map_grant_ref */
export interface MapOp {
  /** Virtual frame of the mapper at which a host mapping appears (GNTMAP_host_map); page-aligned address / 4096. */
  vfn: number;
  /** GNTMAP_* flags. */
  flags: number;
  ref: number;
  domid: number;
  /** Out: a GNTST_* value, 0 or negative, always written. */
  status: number;
  /** Out: names the mapping; valid when status is 0. */
  handle: number;
  /** Out: the machine frame (dev_bus_addr / 4096). */
  mfn: number;
}

/** One element of an unmap batch. @see gnttab_unmap_grant_ref */
export interface UnmapOp {
  /** Virtual frame at which the host mapping stands; 0 when only a device mapping goes. */
  vfn: number;
  handle: number;
  /** Out: a GNTST_* value. */
  status: number;
}

/** One side of a copy: a frame of the caller's own, or a reference of `domid`'s. */
export interface CopyPtr {
  /** Whether `frameOrRef` is a grant reference (GNTCOPY_source_gref / GNTCOPY_dest_gref). */
  isRef: boolean;
  frameOrRef: number;
  domid: number;
  /** Bytes into the page. */
  offset: number;
}

/** One element of a copy batch. @see gnttab_copy */
export interface CopyOp {
  source: CopyPtr;
  dest: CopyPtr;
  /** Bytes; neither side may cross its page. */
  bytes: number;
  /** Out: a GNTST_* value. */
  status: number;
}

/**
 * The hypercalls of one domain. Batches are arrays of structs that the caller owns and reuses: the first `count` elements are
 * carried out in order, each with its own status. Nothing is allocated.
 */
export interface GrantHypercalls {
  /**
   * Makes the table at least `frames` frames long and gives its shared frames.
   * @returns GNTST_okay, or the refusal's GNTST_* value; on refusal nothing changes.
   */
  setupTable(frames: number, out: MemoryFrame[]): number;
  /** Fills `[frames now, most frames]`. */
  querySize(out: { frames: number; maxFrames: number }): number;
  /** Switches the entry layout; 0 or a negative errno. */
  setVersion(version: 1 | 2): number;
  /** Version 2: the status frames, 2048 u16 words each. */
  getStatusFrames(frames: number, out: MemoryFrame[]): number;
  map(ops: readonly MapOp[], count: number): void;
  unmap(ops: readonly UnmapOp[], count: number): void;
  copy(ops: readonly CopyOp[], count: number): void;
}
