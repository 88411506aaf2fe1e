import {
  GRANT_STATUS_PER_FRAME,
  GRANT_V1_BYTES,
  GRANT_V1_PER_FRAME,
  GRANT_V2_BYTES,
  GRANT_V2_PER_FRAME,
  GTF,
  grantV1Frame,
  grantV2Frame,
  writeGrantV1,
  writeGrantV2FullPage,
  writeGrantV2SubPage,
  writeGrantV2Transitive,
} from '@paravirt/xen-abi';
import type { MemoryFrame, MemoryViews } from './types.ts';

const IN_USE = GTF.reading | GTF.writing;
const STATUS_SHIFT = 11;
const INVALID: number = GTF.invalid;

const NOWHERE: MemoryViews = { u8: new Uint8Array(0), u16: new Uint16Array(0), u32: new Uint32Array(0) };

/** Entries that one frame of 4096 bytes holds. */
export function entriesPerFrame(version: 1 | 2): number {
  return version === 1 ? GRANT_V1_PER_FRAME : GRANT_V2_PER_FRAME;
}

/** Status frames that go with `frames` frames of version 2 entries. */
export function statusFramesFor(frames: number): number {
  return Math.ceil((frames * GRANT_V2_PER_FRAME) / GRANT_STATUS_PER_FRAME);
}

/**
 * The entries' bytes in simulated memory. One class with a branch for the version: two classes behind one interface would make
 * every call of the hot path polymorphic.
 */
export class Entries {
  /** Version 1 in memory of this thread alone, which most tables are: straight lines for the two calls of every request. */
  plain = false;
  /** The views of the first frame, which has most entries in use, and its first word in them: found without a look at `frames`. */
  private firstViews: MemoryViews = NOWHERE;
  private firstWord = 0;
  version: 1 | 2 = 1;
  private shift = 9;
  private bytes: number = GRANT_V1_BYTES;
  private frames: readonly MemoryFrame[] = [];
  private status: readonly MemoryFrame[] = [];
  /** Whether another thread may write the entries. */
  private shared = false;

  /** Takes over the frames; the arrays are kept. */
  attach(version: 1 | 2, frames: readonly MemoryFrame[], status: readonly MemoryFrame[]): void {
    this.version = version;
    this.shift = version === 1 ? 9 : 8;
    this.bytes = version === 1 ? GRANT_V1_BYTES : GRANT_V2_BYTES;
    this.frames = frames;
    this.status = status;
    this.shared = typeof SharedArrayBuffer !== 'undefined' && frames.some(isShared);
    this.plain = version === 1 && !this.shared;
    const first = frames[0];
    this.firstViews = first?.views ?? NOWHERE;
    this.firstWord = (first?.offset ?? 0) >>> 2;
  }

  /** Writes a full-page entry; flags come last, so that a reader never meets a half-made one. */
  write(gref: number, flags: number, peer: number, frame: number): void {
    if (this.plain) this.writePlain(gref, flags, peer, frame);
    else this.writeAny(gref, flags, peer, frame);
  }

  /** `write` where entries are `plain`. */
  writePlain(gref: number, flags: number, peer: number, frame: number): void {
    let views = this.firstViews;
    let word = this.firstWord;
    if (gref >>> 9 !== 0) {
      const page = this.frames[gref >>> 9]!;
      views = page.views;
      word = page.offset >>> 2;
    }
    const { u32 } = views;
    word += (gref & 511) << 1;
    u32[word + 1] = frame;
    // Domid and flags in one store: a reader meets both or neither.
    u32[word] = flags | (peer << 16);
  }

  /** `write` of `count` entries, those of `refs` from `at` on, for the frames of `gfns` from `from` on. */
  writeMany(refs: Uint32Array, at: number, flags: number, peer: number, gfns: ArrayLike<number>, from: number, count: number): void {
    if (this.plain !== true) {
      for (let i = 0; i < count; i++) this.writeAny(refs[at + i]!, flags, peer, gfns[from + i]!);
      return;
    }
    const head = flags | (peer << 16);
    for (let i = 0; i < count; ) {
      // One frame's entries after another: references that were taken together stand together.
      const page = refs[at + i]! >>> 9;
      const { views, offset } = this.frames[page]!;
      const { u32 } = views;
      const start = offset >>> 2;
      for (; i < count; i++) {
        const gref = refs[at + i]! | 0;
        if (gref >>> 9 !== page) break;
        const word = start + ((gref & 511) << 1);
        u32[word + 1] = gfns[from + i]!;
        u32[word] = head;
      }
    }
  }

  private writeAny(gref: number, flags: number, peer: number, frame: number): void {
    const views = this.viewsOf(gref);
    const at = this.offsetOf(gref);
    const first = this.shared ? GTF.invalid : flags;
    if (this.version === 1) writeGrantV1(views, at, first, peer, frame);
    else writeGrantV2FullPage(views, at, first, peer, frame);
    // Plain stores into shared memory may be seen in any order; an atomic store is seen after all stores before it.
    if (this.shared) Atomics.store(views.u16, at >>> 1, flags);
  }

  writeSubPage(gref: number, flags: number, peer: number, frame: number, pageOffset: number, bytes: number): void {
    const views = this.viewsOf(gref);
    const at = this.offsetOf(gref);
    writeGrantV2SubPage(views, at, this.shared ? GTF.invalid : flags, peer, frame, pageOffset, bytes);
    if (this.shared) Atomics.store(views.u16, at >>> 1, flags);
  }

  writeTransitive(gref: number, flags: number, peer: number, through: number, throughGref: number): void {
    const views = this.viewsOf(gref);
    const at = this.offsetOf(gref);
    writeGrantV2Transitive(views, at, this.shared ? GTF.invalid : flags, peer, through, throughGref);
    if (this.shared) Atomics.store(views.u16, at >>> 1, flags);
  }

  /**
   * Closes an entry unless it is in use: one attempt.
   *
   * Version 1 keeps the in-use bits beside the type, so closing is a compare-and-swap of the flags that were looked at. Over
   * shared memory another thread may set a bit in between, and only `Atomics.compareExchange` notices; a failed exchange
   * counts as in use, because trying again would let a peer that keeps flipping bits hold this domain in a loop. Over a
   * plain buffer nobody else runs between the read and the write of one synchronous call, so that pair is the exchange.
   *
   * Version 2 has its in-use bits in the status word, which only the hypervisor writes: the flags are closed first, which
   * keeps out new mappings, and then the status tells whether an old one is left.
   */
  tryClear(gref: number): boolean {
    if (this.plain !== true) return this.tryClearAny(gref);
    let views = this.firstViews;
    let word = this.firstWord;
    if (gref >>> 9 !== 0) {
      const page = this.frames[gref >>> 9]!;
      views = page.views;
      word = page.offset >>> 2;
    }
    const { u16 } = views;
    const at = (word << 1) + ((gref & 511) << 2);
    if ((u16[at]! & IN_USE) !== 0) return false;
    u16[at] = INVALID;
    return true;
  }

  /** `tryClear` of `count` entries, those of `refs` from `at` on, up to the first that is in use. @returns how many were closed. */
  tryClearMany(refs: Uint32Array, at: number, count: number): number {
    if (this.plain !== true) {
      for (let i = 0; i < count; i++) if (!this.tryClearAny(refs[at + i]!)) return i;
      return count;
    }
    for (let i = 0; i < count; ) {
      const page = refs[at + i]! >>> 9;
      let views = this.firstViews;
      let start = this.firstWord << 1;
      if (page !== 0) {
        const frame = this.frames[page]!;
        views = frame.views;
        start = frame.offset >>> 1;
      }
      const { u16 } = views;
      for (; i < count; i++) {
        const gref = refs[at + i]! | 0;
        if (gref >>> 9 !== page) break;
        const half = start + ((gref & 511) << 2);
        if ((u16[half]! & IN_USE) !== 0) return i;
        u16[half] = INVALID;
      }
    }
    return count;
  }

  private tryClearAny(gref: number): boolean {
    const { u16 } = this.viewsOf(gref);
    const at = this.offsetOf(gref) >>> 1;
    if (this.version === 2) {
      if (this.shared) Atomics.store(u16, at, GTF.invalid);
      else u16[at] = GTF.invalid;
      return (this.statusOf(gref) & IN_USE) === 0;
    }
    const flags = Atomics.load(u16, at);
    return (flags & IN_USE) === 0 && Atomics.compareExchange(u16, at, flags, GTF.invalid) === flags;
  }

  inUse(gref: number): boolean {
    return ((this.version === 1 ? this.flags(gref) : this.statusOf(gref)) & IN_USE) !== 0;
  }

  flags(gref: number): number {
    const { u16 } = this.viewsOf(gref);
    const at = this.offsetOf(gref) >>> 1;
    return this.shared ? Atomics.load(u16, at) : u16[at]!;
  }

  /** The frame an entry with these flags names, -1 where it names none (a transitive one). */
  frameOf(gref: number, flags: number): number {
    const views = this.viewsOf(gref);
    const at = this.offsetOf(gref);
    if (this.version === 1) return grantV1Frame(views, at);
    return (flags & GTF.type_mask) === GTF.transitive ? -1 : grantV2Frame(views, at);
  }

  /** A copy of an entry's bytes. */
  bytesOf(gref: number): Uint8Array {
    const at = this.offsetOf(gref);
    return Uint8Array.from(this.viewsOf(gref).u8.subarray(at, at + this.bytes));
  }

  /** Where an entry's bytes are. */
  private viewsOf(gref: number): MemoryViews {
    return this.frames[gref >>> this.shift]!.views;
  }

  private offsetOf(gref: number): number {
    return this.frames[gref >>> this.shift]!.offset + (gref & ((1 << this.shift) - 1)) * this.bytes;
  }

  private statusOf(gref: number): number {
    const frame = this.status[gref >>> STATUS_SHIFT]!;
    const at = (frame.offset >>> 1) + (gref & (GRANT_STATUS_PER_FRAME - 1));
    return this.shared ? Atomics.load(frame.views.u16, at) : frame.views.u16[at]!;
  }
}

function isShared(frame: MemoryFrame): boolean {
  return frame.views.u16.buffer instanceof SharedArrayBuffer;
}
