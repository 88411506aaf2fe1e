import type { MemoryViews } from '@paravirt/gnttab';
import type { Frames } from '../memory/frames.ts';

/** Entries of a shared frame by version. */
export const ENTRIES_V1 = 512;
const ENTRIES_V2 = 256;
/** Status words of a status frame. */
export const STATUS_PER_FRAME = 2048;

/**
 * One domain's grant table as the hypervisor keeps it: where the shared and status frames are, and for each reference the
 * active entry: what was checked when it was first pinned. Typed arrays throughout; an active entry means something only
 * while its pin is not 0.
 */
export class GrantTable {
  version: 1 | 2 = 1;
  /** Shared frames there are. */
  frames = 0;
  readonly framesMax: number;
  /** References there are: frames x 512 or x 256. */
  entries = 0;
  statusFrames = 0;
  readonly sharedMfn: Int32Array;
  readonly sharedViews: MemoryViews[] = [];
  /** Word index (u32) of each shared frame in its views. */
  readonly sharedWord: Int32Array;
  readonly statusMfn: Int32Array;
  readonly statusViews: MemoryViews[] = [];
  /** Word index (u16) of each status frame in its views. */
  readonly statusWord: Int32Array;
  /** Whether the frames lie in shared memory that another thread may write. */
  atomic = false;

  /** -- active entries, by reference */
  pin: Uint32Array = new Uint32Array(0);
  mfn: Int32Array = new Int32Array(0);
  gfn: Float64Array = new Float64Array(0);
  domid: Uint16Array = new Uint16Array(0);
  start: Uint16Array = new Uint16Array(0);
  length: Uint16Array = new Uint16Array(0);
  /** 1 when only a part of the page may be used: then it cannot be mapped. */
  subPage: Uint8Array = new Uint8Array(0);
  /** The granter that a transitive entry led to, or -1. */
  transDomid: Int32Array = new Int32Array(0);
  transRef: Uint32Array = new Uint32Array(0);
  /** References with a pin. */
  pinned = 0;

  constructor(framesMax: number) {
    this.framesMax = framesMax;
    this.sharedMfn = new Int32Array(framesMax);
    this.sharedWord = new Int32Array(framesMax);
    // Version 2 has 256 entries a frame and 2,048 status words a frame.
    const status = Math.ceil((framesMax * ENTRIES_V2) / STATUS_PER_FRAME);
    this.statusMfn = new Int32Array(status);
    this.statusWord = new Int32Array(status);
  }

  /** Status frames that a table of `frames` shared frames has under version 2. */
  statusFramesFor(frames: number): number {
    return Math.ceil((frames * ENTRIES_V2) / STATUS_PER_FRAME);
  }

  /** Adds a shared frame. */
  addShared(mfn: number, memory: Frames): void {
    const at = this.frames++;
    this.sharedMfn[at] = mfn;
    this.sharedViews[at] = memory.viewsOf(mfn);
    this.sharedWord[at] = memory.offsetOf(mfn) >>> 2;
    this.atomic ||= typeof SharedArrayBuffer !== 'undefined' && memory.viewsOf(mfn).u8.buffer instanceof SharedArrayBuffer;
    this.#sizeActive(this.frames * ENTRIES_V1);
    this.countEntries();
  }

  /** Adds a status frame. */
  addStatus(mfn: number, memory: Frames): void {
    const at = this.statusFrames++;
    this.statusMfn[at] = mfn;
    this.statusViews[at] = memory.viewsOf(mfn);
    this.statusWord[at] = memory.offsetOf(mfn) >>> 1;
  }

  countEntries(): void {
    this.entries = this.frames * (this.version === 1 ? ENTRIES_V1 : ENTRIES_V2);
  }

  #sizeActive(needed: number): void {
    if (needed <= this.pin.length) return;
    const size = Math.min(Math.max(needed, this.pin.length * 2), this.framesMax * ENTRIES_V1);
    this.pin = grown(this.pin, new Uint32Array(size));
    this.mfn = grown(this.mfn, new Int32Array(size));
    this.gfn = grown(this.gfn, new Float64Array(size));
    this.domid = grown(this.domid, new Uint16Array(size));
    this.start = grown(this.start, new Uint16Array(size));
    this.length = grown(this.length, new Uint16Array(size));
    this.subPage = grown(this.subPage, new Uint8Array(size));
    this.transDomid = grown(this.transDomid, new Int32Array(size));
    this.transRef = grown(this.transRef, new Uint32Array(size));
  }

  /** Views that hold an entry. */
  viewsOf(ref: number): MemoryViews {
    return this.sharedViews[this.version === 1 ? ref >>> 9 : ref >>> 8]!;
  }

  /** Word index (u32) of an entry in its views; its header is that word. */
  wordOf(ref: number): number {
    return this.version === 1 ? this.sharedWord[ref >>> 9]! + (ref & 511) * 2 : this.sharedWord[ref >>> 8]! + (ref & 255) * 4;
  }

  /** Flags of the entry as the guest has them: of version 2 without the status. */
  flagsOf(ref: number): number {
    return this.viewsOf(ref).u32[this.wordOf(ref)]! & 0xffff;
  }

  /** GTF_reading and GTF_writing of the entry, wherever its version keeps them. */
  inUseOf(ref: number): number {
    if (this.version === 1) return this.flagsOf(ref) & 0x18;
    return this.statusViews[ref >>> 11]!.u16[this.statusWord[ref >>> 11]! + (ref & 2047)]!;
  }

  /** Sets bits of the in-use flags. */
  raise(ref: number, bits: number): void {
    if (this.version === 1) {
      const { u16 } = this.sharedViews[ref >>> 9]!;
      const at = (this.sharedWord[ref >>> 9]! + (ref & 511) * 2) * 2;
      if (this.atomic) Atomics.or(u16, at, bits);
      else u16[at] = u16[at]! | bits;
      return;
    }
    const { u16 } = this.statusViews[ref >>> 11]!;
    const at = this.statusWord[ref >>> 11]! + (ref & 2047);
    if (this.atomic) Atomics.or(u16, at, bits);
    else u16[at] = u16[at]! | bits;
  }

  /** Clears bits of the in-use flags, and nothing else of what the guest may have written meanwhile. */
  lower(ref: number, bits: number): void {
    if (this.version === 1) {
      const { u16 } = this.sharedViews[ref >>> 9]!;
      const at = (this.sharedWord[ref >>> 9]! + (ref & 511) * 2) * 2;
      if (this.atomic) Atomics.and(u16, at, ~bits & 0xffff);
      else u16[at] = u16[at]! & ~bits;
      return;
    }
    const { u16 } = this.statusViews[ref >>> 11]!;
    const at = this.statusWord[ref >>> 11]! + (ref & 2047);
    if (this.atomic) Atomics.and(u16, at, ~bits & 0xffff);
    else u16[at] = u16[at]! & ~bits;
  }
}

function grown<T extends { set(from: T): void }>(from: T, into: T): T {
  into.set(from);
  return into;
}
