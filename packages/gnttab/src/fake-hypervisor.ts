import { DOMID, GNTMAP, GNTST, GTF, XEN_ERRNO } from '@paravirt/xen-abi';
import { entriesPerFrame, statusFramesFor } from './entries.ts';
import type { CopyOp, CopyPtr, GrantHypercalls, MapOp, MemoryFrame, MemoryViews, UnmapOp } from './types.ts';

const PAGE = 4096;
const RESERVED = 8;
/** How far a transitive reference is followed. */
const TRANSITIVE_DEPTH = 4;

/** Options of a `FakeHypervisor`. */
export interface FakeHypervisorOptions {
  /** Most frames of a domain's table. Default 64. */
  readonly maxFrames?: number;
  /** Pages of each domain's own memory, frame numbers from 0. Default 64. */
  readonly pages?: number;
  /** Puts the memory into SharedArrayBuffers, so that the table takes its atomic paths. Default false. */
  readonly shared?: boolean;
}

interface Mapping {
  readonly granter: FakeDomain;
  readonly ref: number;
  readonly gfn: number;
  readonly vfn: number;
  readonly hostMap: boolean;
  readonly readonly: boolean;
}

/** A page that a copy may touch: `from` to `to` are byte offsets. */
interface Window {
  readonly domain: FakeDomain;
  readonly gfn: number;
  readonly from: number;
  readonly to: number;
}

/**
 * A hypervisor in memory, just large enough to use grant tables without a machine: domains with pages, tables as bytes, in-use
 * bits that follow the mappings, and the statuses of Xen. One domain's memory is one buffer: table, status frames, own pages.
 */
export class FakeHypervisor {
  readonly options: Required<FakeHypervisorOptions>;
  private readonly domains: Map<number, FakeDomain> = new Map();

  constructor(options: FakeHypervisorOptions = {}) {
    this.options = { maxFrames: 64, pages: 64, shared: false, ...options };
  }

  /** The domain `domid`, made when it is first asked for. */
  domain(domid: number): FakeDomain {
    let found = this.domains.get(domid);
    if (found === undefined) {
      found = new FakeDomain(this, domid);
      this.domains.set(domid, found);
    }
    return found;
  }

  /** The domain `domid`, if there is one. */
  find(domid: number): FakeDomain | undefined {
    return this.domains.get(domid);
  }
}

/** One domain of a `FakeHypervisor`, with handles for faults. */
export class FakeDomain {
  readonly domid: number;
  readonly hypercalls: GrantHypercalls;
  readonly views: MemoryViews;
  frames = 1;
  version: 1 | 2 = 1;
  /** Answers of the next `setup_table` calls that would grow the table, GNTST_okay for none. */
  refuseGrowth: number = GNTST.okay;
  /** As many elements of map and copy batches are answered GNTST_eagain. */
  eagain = 0;
  /** Errno of the next batch as a whole, 0 for none. */
  refuseBatch = 0;
  private readonly hypervisor: FakeHypervisor;
  /** Readers and writers of each reference. */
  private readonly readers: Map<number, number> = new Map();
  private readonly writers: Map<number, number> = new Map();
  private readonly mappings: Map<number, Mapping> = new Map();
  private readonly mappedAt: Map<number, Mapping> = new Map();
  private nextHandle = 1;

  constructor(hypervisor: FakeHypervisor, domid: number) {
    this.hypervisor = hypervisor;
    this.domid = domid;
    const { maxFrames, pages, shared } = hypervisor.options;
    const bytes = (maxFrames + statusFramesFor(maxFrames) + pages) * PAGE;
    const buffer = shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes);
    this.views = { u8: new Uint8Array(buffer), u16: new Uint16Array(buffer), u32: new Uint32Array(buffer) };
    this.hypercalls = {
      setupTable: (frames, out) => this.setupTable(frames, out),
      querySize: (out) => {
        out.frames = this.frames;
        out.maxFrames = maxFrames;
        return GNTST.okay;
      },
      setVersion: (version) => this.setVersion(version),
      getStatusFrames: (frames, out) => this.getStatusFrames(frames, out),
      map: (ops, count) => this.batch(ops, count, (op) => this.map(op)),
      unmap: (ops, count) => this.batch(ops, count, (op) => this.unmap(op)),
      copy: (ops, count) => this.batch(ops, count, (op) => this.copy(op)),
    };
  }

  /** Mappings of this domain's references by anyone. */
  get pinned(): number {
    let sum = 0;
    for (const count of this.readers.values()) sum += count;
    return sum;
  }

  /** How often the reference is mapped. */
  pins(ref: number): number {
    return this.readers.get(ref) ?? 0;
  }

  /** A page of the domain's own memory. */
  page(gfn: number): MemoryFrame {
    const { maxFrames } = this.hypervisor.options;
    return { views: this.views, offset: (maxFrames + statusFramesFor(maxFrames) + gfn) * PAGE };
  }

  /** The bytes behind a virtual frame that a grant is mapped at; undefined when none is. */
  mappedPage(vfn: number): MemoryFrame | undefined {
    const mapping = this.mappedAt.get(vfn);
    return mapping?.granter.page(mapping.gfn);
  }

  /** Scribbles on the in-use bits of an entry, as a peer's mappings would. */
  changeFlags(ref: number, set: number, clear: number): void {
    const at = this.useWord(ref);
    this.views.u16[at] = (this.views.u16[at]! | set) & ~clear;
  }

  private setupTable(frames: number, out: MemoryFrame[]): number {
    const { maxFrames } = this.hypervisor.options;
    if (frames > this.frames && this.refuseGrowth !== GNTST.okay) return this.refuseGrowth;
    if (frames > maxFrames) return GNTST.general_error;
    this.frames = Math.max(this.frames, frames);
    for (let i = 0; i < frames; i++) out[i] = { views: this.views, offset: i * PAGE };
    return GNTST.okay;
  }

  private getStatusFrames(frames: number, out: MemoryFrame[]): number {
    if (this.version !== 2 || frames > statusFramesFor(this.frames)) return GNTST.general_error;
    for (let i = 0; i < frames; i++) out[i] = { views: this.views, offset: (this.hypervisor.options.maxFrames + i) * PAGE };
    return GNTST.okay;
  }

  /** Keeps the reserved entries and clears the others, as Xen does. */
  private setVersion(version: 1 | 2): number {
    if (version === this.version) return 0;
    if (this.pinned > 0) return -XEN_ERRNO.EBUSY;
    const kept: [number, number, number][] = [];
    for (let ref = 0; ref < RESERVED; ref++) {
      const at = this.entryWord(ref);
      const flags = this.views.u16[at]!;
      if (this.version === 2 && (flags & GTF.type_mask) !== 0 && !isFullPage(flags)) return -XEN_ERRNO.ERANGE;
      kept.push([flags, this.views.u16[at + 1]!, this.version === 1 ? this.views.u32[(at >>> 1) + 1]! : this.views.u32[(at >>> 1) + 2]!]);
    }
    const { maxFrames } = this.hypervisor.options;
    this.views.u8.fill(0, 0, (maxFrames + statusFramesFor(maxFrames)) * PAGE);
    this.version = version;
    kept.forEach(([flags, domid, frame], ref) => {
      const at = this.entryWord(ref);
      this.views.u16[at] = flags;
      this.views.u16[at + 1] = domid;
      this.views.u32[(at >>> 1) + (version === 1 ? 1 : 2)] = frame;
    });
    return 0;
  }

  private batch<Op extends { status: number }>(ops: readonly Op[], count: number, one: (op: Op) => number): number {
    if (this.refuseBatch !== 0) {
      const errno = this.refuseBatch;
      this.refuseBatch = 0;
      return errno;
    }
    for (let i = 0; i < count; i++) ops[i]!.status = one(ops[i]!);
    return 0;
  }

  private again(): boolean {
    return this.eagain > 0 && this.eagain-- > 0;
  }

  private map(op: MapOp): number {
    if (this.again()) return GNTST.eagain;
    const granter = this.hypervisor.find(op.domid);
    if (granter === undefined) return GNTST.bad_domain;
    const hostMap = (op.flags & GNTMAP.host_map) !== 0;
    if (!hostMap && (op.flags & GNTMAP.device_map) === 0) return GNTST.bad_gntref;
    const readonly = (op.flags & GNTMAP.readonly) !== 0;
    const status = granter.mayUse(op.ref, this.domid, !readonly);
    if (status !== GNTST.okay) return status;
    if (hostMap && this.mappedAt.has(op.vfn)) return GNTST.bad_virt_addr;
    const gfn = granter.frameOf(op.ref);
    const mapping: Mapping = { granter, ref: op.ref, gfn, vfn: op.vfn, hostMap, readonly };
    granter.pin(op.ref, !readonly);
    op.handle = this.nextHandle++;
    op.mfn = granter.domid * 0x10_0000 + gfn;
    this.mappings.set(op.handle, mapping);
    if (hostMap) this.mappedAt.set(op.vfn, mapping);
    return GNTST.okay;
  }

  private unmap(op: UnmapOp): number {
    const mapping = this.mappings.get(op.handle);
    if (mapping === undefined) return GNTST.bad_handle;
    if (mapping.hostMap && mapping.vfn !== op.vfn) return GNTST.general_error;
    this.mappings.delete(op.handle);
    if (mapping.hostMap) this.mappedAt.delete(op.vfn);
    mapping.granter.unpin(mapping.ref, !mapping.readonly);
    return GNTST.okay;
  }

  private copy(op: CopyOp): number {
    if (this.again()) return GNTST.eagain;
    const source = this.window(op.source, false);
    if (typeof source === 'number') return source;
    const dest = this.window(op.dest, true);
    if (typeof dest === 'number') return dest;
    if (!fits(op.source, op.bytes, source) || !fits(op.dest, op.bytes, dest)) return GNTST.bad_copy_arg;
    const from = source.domain.page(source.gfn).offset + op.source.offset;
    const to = dest.domain.page(dest.gfn).offset + op.dest.offset;
    dest.domain.views.u8.set(source.domain.views.u8.subarray(from, from + op.bytes), to);
    return GNTST.okay;
  }

  private window(ptr: CopyPtr, write: boolean): Window | number {
    const domain = ptr.domid === DOMID.SELF ? this : this.hypervisor.find(ptr.domid);
    if (domain === undefined) return GNTST.bad_domain;
    if (ptr.isRef) return domain.resolve(ptr.frameOrRef, this.domid, write, 0);
    if (domain !== this) return GNTST.permission_denied;
    if (ptr.frameOrRef >= this.hypervisor.options.pages) return GNTST.bad_page;
    return { domain, gfn: ptr.frameOrRef, from: 0, to: PAGE };
  }

  private resolve(ref: number, peer: number, write: boolean, depth: number): Window | number {
    if (ref >= this.frames * entriesPerFrame(this.version)) return GNTST.bad_gntref;
    const { u16, u32 } = this.views;
    const at = this.entryWord(ref);
    const flags = u16[at]!;
    if (u16[at + 1] !== peer || (write && (flags & GTF.readonly) !== 0)) return GNTST.general_error;
    if (this.version === 2 && (flags & GTF.type_mask) === GTF.transitive) {
      const through = this.hypervisor.find(u16[at + 2]!);
      if (through === undefined || depth === TRANSITIVE_DEPTH) return GNTST.general_error;
      return through.resolve(u32[(at >>> 1) + 2]!, this.domid, write, depth + 1);
    }
    if ((flags & GTF.type_mask) !== GTF.permit_access) return GNTST.general_error;
    const gfn = this.frameOf(ref);
    if (gfn >= this.hypervisor.options.pages) return GNTST.bad_page;
    if (isFullPage(flags) || this.version === 1) return { domain: this, gfn, from: 0, to: PAGE };
    return { domain: this, gfn, from: u16[at + 2]!, to: u16[at + 2]! + u16[at + 3]! };
  }

  private mayUse(ref: number, peer: number, write: boolean): number {
    if (ref >= this.frames * entriesPerFrame(this.version)) return GNTST.bad_gntref;
    const at = this.entryWord(ref);
    const flags = this.views.u16[at]!;
    const wrong = (flags & GTF.type_mask) !== GTF.permit_access || (this.version === 2 && !isFullPage(flags));
    if (wrong || this.views.u16[at + 1] !== peer || (write && (flags & GTF.readonly) !== 0)) return GNTST.general_error;
    return this.frameOf(ref) < this.hypervisor.options.pages ? GNTST.okay : GNTST.bad_page;
  }

  private pin(ref: number, write: boolean): void {
    this.readers.set(ref, this.pins(ref) + 1);
    if (write) this.writers.set(ref, (this.writers.get(ref) ?? 0) + 1);
    this.changeFlags(ref, GTF.reading | (write ? GTF.writing : 0), 0);
  }

  private unpin(ref: number, write: boolean): void {
    const readers = this.pins(ref) - 1;
    this.readers.set(ref, readers);
    if (write) this.writers.set(ref, this.writers.get(ref)! - 1);
    this.changeFlags(ref, 0, ((this.writers.get(ref) ?? 0) === 0 ? GTF.writing : 0) | (readers === 0 ? GTF.reading : 0));
  }

  private frameOf(ref: number): number {
    const word = this.entryWord(ref) >>> 1;
    const { u32 } = this.views;
    return this.version === 1 ? u32[word + 1]! : u32[word + 2]! + u32[word + 3]! * 2 ** 32;
  }

  /** Index of an entry's flags in the u16 view. */
  private entryWord(ref: number): number {
    return ref * (this.version === 1 ? 4 : 8);
  }

  /** Index of the word with a reference's in-use bits. */
  private useWord(ref: number): number {
    return this.version === 1 ? this.entryWord(ref) : (this.hypervisor.options.maxFrames * PAGE) / 2 + ref;
  }
}

function isFullPage(flags: number): boolean {
  return (flags & GTF.type_mask) === GTF.permit_access && (flags & GTF.sub_page) === 0;
}

function fits(ptr: CopyPtr, bytes: number, window: Window): boolean {
  return ptr.offset >= window.from && ptr.offset + bytes <= window.to;
}
