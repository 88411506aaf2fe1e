import { GNTMAP, GNTST } from '@paravirt/xen-abi';
import { ForeignIndex } from './foreign-index.ts';
import type { ForeignPage, MapOp, UnmapOp } from './types.ts';

// Plain constants of this module: a property is loaded at each use.
const { okay: OKAY } = GNTST;
const { host_map: HOST_MAP } = GNTMAP;
/** Handles below it have a row. A hypervisor gives small ones; one that does not costs the index from its first large one on. */
const HANDLES_MAX = 1 << 20;
const EMPTY = -1;

/**
 * Who granted the page mapped at a virtual frame. Until somebody asks, what is noted at each mapping is a row by its handle, which
 * costs next to nothing; from then on an index by frame is kept, because who asks once asks for each page.
 */
export class ForeignPages {
  /** By handle: where it is mapped, or -1. */
  private vfns: Float64Array = new Float64Array(64).fill(EMPTY);
  /** By handle: who granted, and what. */
  private granters: Int32Array = new Int32Array(64);
  private grefs: Int32Array = new Int32Array(64);
  private count = 0;
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
    if (this.vfns[handle] === EMPTY) this.count++;
    this.vfns[handle] = vfn;
    this.granters[handle] = domid;
    this.grefs[handle] = gref;
  }

  get(vfn: number, out: ForeignPage): boolean {
    if (this.index === undefined) this.build();
    return this.index!.get(vfn, out);
  }

  /** Forgets the page if it is the one mapped under `handle`. */
  delete(vfn: number, handle: number): void {
    if (this.index !== undefined) this.index.delete(vfn, handle);
    else if (this.vfns[handle] === vfn) {
      this.vfns[handle] = EMPTY;
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
    let i = 0;
    for (; i < count; i++) {
      const op = ops[i]!;
      const { handle } = op;
      if (op.status !== OKAY || (op.flags & HOST_MAP) === 0) break;
      if (!((handle | 0) === handle && handle >= 0 && handle < rows)) break;
      if (vfns[handle] === EMPTY) fresh++;
      vfns[handle] = op.vfn;
      granters[handle] = op.domid;
      grefs[handle] = op.ref;
    }
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
      const { handle } = op;
      if (op.status !== OKAY || !(handle >= 0 && handle < rows) || vfns[handle] !== op.vfn) break;
      vfns[handle] = EMPTY;
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
    const granters = new Int32Array(rows);
    granters.set(this.granters);
    this.granters = granters;
    const grefs = new Int32Array(rows);
    grefs.set(this.grefs);
    this.grefs = grefs;
  }

  private build(): void {
    const { vfns, granters, grefs } = this;
    const index = new ForeignIndex();
    for (let handle = 0; handle < vfns.length; handle++) {
      if (vfns[handle] !== EMPTY) index.set(vfns[handle]!, granters[handle]!, grefs[handle]! >>> 0, handle);
    }
    this.index = index;
    this.vfns = new Float64Array(0);
    this.granters = new Int32Array(0);
    this.grefs = new Int32Array(0);
  }
}
