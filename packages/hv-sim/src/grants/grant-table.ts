import type { MemoryViews } from '@paravirt/gnttab';
import type { Frames } from '../memory/frames.ts';

/** Entries of a shared frame by version. */
export const ENTRIES_V1 = 512;
const ENTRIES_V2 = 256;
/** Status words of a status frame. */
export const STATUS_PER_FRAME = 2048;

/**
 * An active entry is eight words of one array, so that a mapping touches one cache line of it and checks few bounds. These are the
 * words of an entry, each to be combined with `ref << shift`.
 */
export const ACTIVE: {
  readonly shift: 3;
  /** Counts of pins, HOST_WRITE and the others. While it is 0 the rest means nothing. */
  readonly pin: 0;
  readonly mfn: 1;
  /** The domid that holds the pins, with `inPart` where they are not for a whole page. */
  readonly holder: 2;
  /** The granted frame; -1 and -1 of a transitive entry. */
  readonly gfnLo: 3;
  readonly gfnHi: 4;
  /** Where `inPart` is set: first byte, and bytes from the 16th bit on. */
  readonly extent: 5;
  /** Where `inPart` is set: the granter that a transitive entry led to, or -1, and its reference. */
  readonly farDomid: 6;
  readonly farRef: 7;
  /** Bit of `holder`: only a part of the page may be used, or the entry is transitive. Then it cannot be mapped. */
  readonly inPart: 0x1_0000;
} = { shift: 3, pin: 0, mfn: 1, holder: 2, gfnLo: 3, gfnHi: 4, extent: 5, farDomid: 6, farRef: 7, inPart: 0x1_0000 };

// Plain constants of this module: an exported one is loaded at each use.
const { shift: SHIFT, mfn: MFN, holder: HOLDER, gfnLo: GFN_LO, gfnHi: GFN_HI } = ACTIVE;

const NOWHERE: MemoryViews = { u8: new Uint8Array(0), u16: new Uint16Array(0), u32: new Uint32Array(0) };

/**
 * One domain's grant table as the hypervisor keeps it: where the shared and status frames are, and for each reference the
 * active entry: what was checked when it was first pinned.
 */
export class GrantTable {
  // What every mapping uses stands first and together: with many domains it comes from far memory every time.
  /** 1 for version 1 in memory that nobody else writes during a call: entries may be looked at and then changed without more ado. */
  plain = 1;
  /** References there are: frames x 512 or x 256. */
  entries = 0;
  /** The active entries, by reference. */
  active: Int32Array = new Int32Array(0);
  /** References with a pin. */
  pinned = 0;
  /** The views of the first shared frame, and its word in them: those of most references. */
  firstViews: MemoryViews = NOWHERE;
  firstWord = 0;
  version: 1 | 2 = 1;
  /** Shared frames there are. */
  frames = 0;
  readonly framesMax: number;
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
    if (at === 0) {
      this.firstViews = this.sharedViews[0]!;
      this.firstWord = this.sharedWord[0]!;
    }
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

  /** After a change of the version or of the frames. */
  countEntries(): void {
    this.plain = this.version === 1 && !this.atomic ? 1 : 0;
    this.entries = this.frames * (this.version === 1 ? ENTRIES_V1 : ENTRIES_V2);
  }

  #sizeActive(needed: number): void {
    const held = this.active.length >>> SHIFT;
    if (needed <= held) return;
    const size = Math.min(Math.max(needed, held * 2), this.framesMax * ENTRIES_V1);
    const active = new Int32Array(size << SHIFT);
    active.set(this.active);
    this.active = active;
  }

  /** The pins of a reference, unsigned. */
  pinOf(ref: number): number {
    return this.active[ref << SHIFT]! >>> 0;
  }

  /** Who holds the pins. */
  holderOf(ref: number): number {
    return this.active[(ref << SHIFT) | HOLDER]! & 0xffff;
  }

  /** The machine frame of a pinned reference. */
  mfnOf(ref: number): number {
    return this.active[(ref << SHIFT) | MFN]!;
  }

  /** The granted frame of a pinned reference, -1 for a transitive one. */
  gfnOf(ref: number): number {
    const high = this.active[(ref << SHIFT) | GFN_HI]!;
    return high < 0 ? -1 : high * 0x1_0000_0000 + (this.active[(ref << SHIFT) | GFN_LO]! >>> 0);
  }

  /** The frame that the shared entry names: 64 bits under version 2. */
  frameOf(ref: number): number {
    const { u32 } = this.viewsOf(ref);
    const word = this.wordOf(ref);
    return this.version === 1 ? u32[word + 1]! : u32[word + 3]! * 0x1_0000_0000 + u32[word + 2]!;
  }

  /** Fills the active entry of a reference that nobody had pinned, for a whole page; its pin is the caller's to set. */
  activate(ref: number, holder: number, mfn: number, gfn: number): void {
    const { active } = this;
    active[(ref << SHIFT) | MFN] = mfn;
    active[(ref << SHIFT) | HOLDER] = holder;
    active[(ref << SHIFT) | GFN_LO] = gfn | 0;
    active[(ref << SHIFT) | GFN_HI] = Math.floor(gfn / 0x1_0000_0000);
    this.pinned++;
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
