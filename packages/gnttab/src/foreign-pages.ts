import { GNTMAP, GNTST } from '@paravirt/xen-abi';
import { ForeignIndex } from './foreign-index.ts';
import type { ForeignPage, MapOp, UnmapOp } from './types.ts';

// Plain constants of this module: a property is loaded at each use.
const { okay: OKAY } = GNTST;
const { host_map: HOST_MAP } = GNTMAP;
/** Handles below it have a row. A hypervisor gives small ones; one that does not costs the index from its first large one on. */
const HANDLES_MAX = 1 << 20;
const EMPTY = -1;
/** What an ended mapping at `vfn` leaves in its row is `ENDED - vfn`. */
const ENDED = -2;
/** A granter's number is below it, so that the one of a mapping and the mappings before it make one number. */
const ORDER = 0x1_0000;

/**
 * Who granted the page mapped at a virtual frame. Until somebody asks, what is noted at each mapping is a row by its handle, which
 * costs next to nothing; from then on an index by frame is kept, because who asks once asks for each page. A mapping that was ended
 * past the table stays known until its page or its handle is mapped again.
 */
export class ForeignPages {
  /** By handle: where it is mapped; negative where it is not. */
  private vfns: Float64Array = new Float64Array(64).fill(EMPTY);
  /** By handle: who granted, and in multiples of `ORDER` how many mappings were noted before. */
  private granters: Float64Array = new Float64Array(64);
  /** By handle: what was granted. */
  private grefs: Int32Array = new Int32Array(64);
  private count = 0;
  private order = 0;
  private index: ForeignIndex | undefined = undefined;

  /** Pages mapped. */
  get size(): number {
    return this.index === undefined ? this.count : this.index.size;
  }

  set(vfn: number, domid: number, gref: number, handle: number): void {
    if (this.index === undefined && !((handle | 0) === handle && handle >= 0 && handle < HANDLES_MAX)) this.build();
    if (this.index !== undefined) {
      this.index.set(vfn, domid, gref, handle);
      return;
    }
    if (handle >= this.vfns.length) this.grow(handle);
    if (this.vfns[handle]! < 0) this.count++;
    this.vfns[handle] = vfn;
    this.granters[handle] = this.order + domid;
    this.grefs[handle] = gref;
    this.order += ORDER;
  }

  get(vfn: number, out: ForeignPage): boolean {
    if (this.index === undefined) this.build();
    return this.index!.get(vfn, out);
  }

  /** Forgets the page if it is the one mapped under `handle`. */
  delete(vfn: number, handle: number): void {
    if (this.index !== undefined) this.index.delete(vfn, handle);
    else if (this.vfns[handle] === vfn) {
      this.vfns[handle] = ENDED - vfn;
      this.count--;
    }
  }

  /**
   * `set` for every mapping of a batch that was made, up to the first operation that needs a closer look. The loop calls nothing, so
   * that the compiler keeps what it knows of the arrays from one turn to the next. @returns which that is, or `count`.
   */
  setAll(ops: readonly MapOp[], count: number): number {
    if (this.index !== undefined) return 0;
    const { vfns, granters, grefs } = this;
    const rows = vfns.length;
    let fresh = 0;
    let { order } = this;
    let i = 0;
    for (; i < count; i++) {
      const op = ops[i]!;
      const { handle } = op;
      if (op.status !== OKAY || (op.flags & HOST_MAP) === 0) break;
      if (!((handle | 0) === handle && handle >= 0 && handle < rows)) break;
      if (vfns[handle]! < 0) fresh++;
      vfns[handle] = op.vfn;
      granters[handle] = order + op.domid;
      grefs[handle] = op.ref;
      order += ORDER;
    }
    this.order = order;
    this.count += fresh;
    return i;
  }

  /** `delete` for every mapping of a batch that was ended, likewise. */
  deleteAll(ops: readonly UnmapOp[], count: number): number {
    if (this.index !== undefined) return 0;
    const { vfns } = this;
    const rows = vfns.length;
    let i = 0;
    for (; i < count; i++) {
      const op = ops[i]!;
      const { handle, vfn } = op;
      if (op.status !== OKAY || !(handle >= 0 && handle < rows) || vfns[handle] !== vfn) break;
      vfns[handle] = ENDED - vfn;
    }
    this.count -= i;
    return i;
  }

  private grow(handle: number): void {
    let rows = this.vfns.length;
    while (rows <= handle) rows *= 2;
    const vfns = new Float64Array(rows).fill(EMPTY);
    vfns.set(this.vfns);
    this.vfns = vfns;
    const granters = new Float64Array(rows);
    granters.set(this.granters);
    this.granters = granters;
    const grefs = new Int32Array(rows);
    grefs.set(this.grefs);
    this.grefs = grefs;
  }

  private build(): void {
    const { vfns, granters, grefs } = this;
    const index = new ForeignIndex();
    const handles = Array.from(vfns.keys()).filter((handle) => vfns[handle] !== EMPTY);
    handles.sort((a, b) => granters[a]! - granters[b]!);
    // The last word on a page counts.
    const last = new Map<number, number>();
    for (const handle of handles) {
      const vfn = vfns[handle]!;
      if (vfn >= 0) last.set(vfn, handle);
      else last.delete(ENDED - vfn);
    }
    for (const [vfn, handle] of last) index.set(vfn, granters[handle]! % ORDER, grefs[handle]! >>> 0, handle);
    this.index = index;
    this.vfns = new Float64Array(0);
    this.granters = new Float64Array(0);
    this.grefs = new Int32Array(0);
  }
}
