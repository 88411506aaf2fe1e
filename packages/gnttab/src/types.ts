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
   * Makes the table at least `frames` frames long and puts its shared frames, `frames` of them or more, into `out` from index 0.
   * @returns GNTST_okay, or the refusal's GNTST_* value; on refusal nothing changes.
   */
  setupTable(frames: number, out: MemoryFrame[]): number;
  /** Fills `[frames now, most frames]`. @returns a GNTST_* value. */
  querySize(out: { frames: number; maxFrames: number }): number;
  /** Switches the entry layout; 0 or a negative errno. */
  setVersion(version: 1 | 2): number;
  /** Version 2: the first `frames` status frames, 2048 u16 words each, into `out` from index 0. @returns a GNTST_* value. */
  getStatusFrames(frames: number, out: MemoryFrame[]): number;
  /** @returns 0, or a negative errno for the whole batch (then no element counts as carried out). */
  map(ops: readonly MapOp[], count: number): number;
  /** @returns as `map`. */
  unmap(ops: readonly UnmapOp[], count: number): number;
  /** @returns as `map`. */
  copy(ops: readonly CopyOp[], count: number): number;
}

/**
 * Who uses the pages behind grants and mappings. Pages are numbers: the guest frame number for a granted page, the virtual
 * frame for a mapped one. A domain that does not count its pages leaves this out.
 */
export interface PageUse {
  /** Whether somebody besides its owner still uses the mapped page `vfn`, so that it must not be unmapped yet. A few ns. */
  inUse(vfn: number): boolean;
  /** The same for any of the first `count` of `ops`: a provider that can tell at one look has it. */
  anyInUse?(ops: readonly UnmapOp[], count: number): boolean;
  /** Keeps the granted page `gfn` from being given back. */
  hold(gfn: number): void;
  /** Ends one hold of the granted page `gfn`; with the last one the page may be given back. */
  release(gfn: number): void;
}

/** Somebody who waits until enough references are free. The object itself is the identity of the request. */
export interface FreeCallback {
  /**
   * Called once, when `count` references are free, and then forgotten. The references are not set aside: another may be
   * faster. May call the table.
   */
  notify(): void;
}

/** Asks for a batch to be unmapped as soon as none of its pages is in use. Owned and reused by the caller; busy until `done`. */
export interface UnmapBatch {
  readonly ops: readonly UnmapOp[];
  count: number;
  /**
   * The unmap was carried out. `result` is 0, or the hypercall's negative errno; elements carry their own status. May call
   * the table, also to unmap this batch again. `age` counts the attempts that were put off.
   */
  done(result: number, age: number): void;
}

/** How an asynchronous unmap ended: the hypercall's result, 0 or a negative errno, and how often it was put off. */
export interface UnmapResult {
  readonly result: number;
  readonly age: number;
}

/** Who granted a mapped page. */
export interface ForeignPage {
  domid: number;
  gref: number;
  handle: number;
}

/** References set aside by `allocGrantReferences`, taken one by one with `claimGrantReference`. */
export interface GrantList {
  /** The reference that the next claim gives, or `END_OF_LIST`. */
  readonly head: number;
  /** References in the list. */
  readonly length: number;
}
