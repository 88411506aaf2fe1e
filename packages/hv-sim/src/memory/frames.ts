import { invariant } from '@paravirt/event-bus/contract';
import type { MemoryFrame, MemoryViews } from '@paravirt/gnttab';
import { HvError, whole } from '../errors.ts';

/** Bytes of a page, everywhere. */
export const PAGE = 4096;
/** Owner of a frame that nobody has. */
export const OWNER_FREE = -1;
/** Owner of the frames that belong to the hypervisor itself. */
export const OWNER_XEN = -2;

/** Anything whose bytes can be a bank of machine frames. A `WebAssembly.Memory` fits: its `buffer` changes when it grows. */
export interface MemorySource {
  readonly buffer: ArrayBufferLike;
}

/**
 * The counts of a frame are four words of one array, the fourth unused, so that a mapping touches one cache line of them. These are
 * the words of a frame, each to be combined with `mfn << shift`.
 */
export const COUNTS: {
  readonly shift: 2;
  /** References of any kind. */
  readonly refs: 0;
  /** Of those, the ones that allow writing and are not the owner's own. */
  readonly writers: 1;
  /** Page-table entries that point to the frame, in all address spaces. */
  readonly mapped: 2;
} = { shift: 2, refs: 0, writers: 1, mapped: 2 };

// Plain constants of this module: an exported one is loaded at each use.
const { shift: SHIFT, writers: WRITERS, mapped: MAPPED } = COUNTS;
const PAGE_BYTES: number = PAGE;

/** One buffer of machine frames, numbered `first` to `first + frames - 1`. */
export interface Bank {
  readonly source: MemorySource;
  /** Views over the whole buffer; the fields are renewed when the buffer grows. */
  readonly views: MemoryViews;
  readonly first: number;
  /** Frames there are now. */
  frames: number;
  /** Frame numbers that are kept for it. */
  readonly framesMax: number;
  /** The heap its free frames go back to. */
  readonly heap: number;
}

/** A stack of free frames, last in first out, so that a run is the same every time. */
class FreeStack {
  #frames = new Int32Array(64);
  count = 0;
  push(mfn: number): void {
    if (this.count === this.#frames.length) {
      const grown = new Int32Array(this.count * 2);
      grown.set(this.#frames);
      this.#frames = grown;
    }
    this.#frames[this.count++] = mfn;
  }
  pop(): number {
    return this.count === 0 ? -1 : this.#frames[--this.count]!;
  }
}

/**
 * All machine frames: where their bytes are, who owns each, how often it is referenced. A frame is free exactly when its
 * reference count is 0; an allocation is one reference, each mapping and each open copy another, so a frame that anything
 * maps cannot be handed out again.
 */
export class Frames {
  readonly banks: Bank[] = [];
  /** Domid, `OWNER_FREE` or `OWNER_XEN`. */
  owner: Int32Array = new Int32Array(0);
  /** What is counted of each frame: references, writers, mappings. */
  counts: Int32Array = new Int32Array(0);
  /** 1 while the frame's owner holds it as memory of its own; that is one of its references. */
  allocated: Uint8Array = new Uint8Array(0);
  /** Index into `banks`. */
  bankOf: Uint16Array = new Uint16Array(0);
  /** Frames owned, by domid. */
  readonly held: Int32Array = new Int32Array(0x8000);
  #handles: (MemoryFrame | undefined)[] = [];
  /** A ready view of each frame that was copied whole: making one costs as much as the copy. */
  #pages: (Uint8Array | undefined)[] = [];
  #heaps: FreeStack[] = [];
  /** Frame numbers below this are given to banks. */
  #numbers = 0;
  #recycled: { first: number; frames: number }[] = [];
  /** Told when a frame's last reference goes. */
  onFreed: (mfn: number, owner: number) => void = () => {};

  /** A new heap; banks that are added to it feed it. */
  addHeap(): number {
    this.#heaps.push(new FreeStack());
    return this.#heaps.length - 1;
  }

  /**
   * Makes the frames of a buffer part of the machine, all of them free.
   * @param framesMax frame numbers to keep for a buffer that grows.
   * @throws {HvError} `bad-argument`: not a buffer of whole pages.
   */
  addBank(source: MemorySource, heap: number, framesMax?: number): Bank {
    const { buffer } = source;
    whole('memory bytes', buffer.byteLength, PAGE_BYTES, 2 ** 40);
    if (buffer.byteLength % PAGE_BYTES !== 0) {
      throw new HvError({
        code: 'bad-argument',
        argument: 'memory bytes',
        value: String(buffer.byteLength),
        allowed: 'a multiple of 4096',
      });
    }
    const frames = buffer.byteLength / PAGE_BYTES;
    const most = Math.max(frames, framesMax ?? frames);
    const bank: Bank = { source, views: viewsOver(buffer), first: this.#numbersFor(most), frames, framesMax: most, heap };
    let index = this.banks.findIndex((b) => b.frames === 0 && b.framesMax === 0);
    if (index < 0) index = this.banks.length;
    this.banks[index] = bank;
    this.bankOf.fill(index, bank.first, bank.first + most);
    this.#freeNew(bank, 0);
    return bank;
  }

  #numbersFor(count: number): number {
    const at = this.#recycled.findIndex((r) => r.frames >= count);
    if (at >= 0) {
      const range = this.#recycled[at]!;
      const first = range.first;
      range.first += count;
      range.frames -= count;
      if (range.frames === 0) this.#recycled.splice(at, 1);
      return first;
    }
    const first = this.#numbers;
    this.#numbers += count;
    // A page-table entry has 28 bits for the frame.
    if (this.#numbers > 0x0fff_ffff) throw new HvError({ code: 'out-of-memory', wanted: count, free: 0x0fff_ffff - first });
    if (this.#numbers > this.owner.length) this.#growTables(this.#numbers);
    return first;
  }

  #growTables(needed: number): void {
    const size = Math.max(needed, this.owner.length * 2);
    const owner = new Int32Array(size).fill(OWNER_FREE);
    owner.set(this.owner);
    const counts = new Int32Array(size << SHIFT);
    counts.set(this.counts);
    const bankOf = new Uint16Array(size);
    bankOf.set(this.bankOf);
    const allocated = new Uint8Array(size);
    allocated.set(this.allocated);
    this.allocated = allocated;
    this.owner = owner;
    this.counts = counts;
    this.bankOf = bankOf;
  }

  /** Pushed from the last to the first, so that frames are handed out in ascending order. Frame 0 is never handed out. */
  #freeNew(bank: Bank, from: number): void {
    const heap = this.#heaps[bank.heap]!;
    for (let i = bank.frames - 1; i >= from; i--) {
      const mfn = bank.first + i;
      if (mfn === 0) {
        this.owner[0] = OWNER_XEN;
        this.counts[0] = 1;
      } else {
        this.owner[mfn] = OWNER_FREE;
        heap.push(mfn);
      }
    }
  }

  /**
   * Renews the views of a bank whose buffer was replaced by a larger one, and adds its new frames to its heap.
   * @returns how many frames were added.
   */
  refresh(bank: Bank): number {
    const { buffer } = bank.source;
    if (buffer === bank.views.u8.buffer && bank.views.u8.length === buffer.byteLength) return 0;
    const { u8, u16, u32 } = viewsOver(buffer);
    bank.views.u8 = u8;
    bank.views.u16 = u16;
    bank.views.u32 = u32;
    this.#pages.fill(undefined, bank.first, bank.first + bank.framesMax);
    const before = bank.frames;
    bank.frames = Math.min(Math.floor(buffer.byteLength / PAGE_BYTES), bank.framesMax);
    this.#freeNew(bank, before);
    return bank.frames - before;
  }

  /** Forgets a bank all of whose frames are free; its frame numbers may be used again. Its heap must not be used after that. */
  dropBank(bank: Bank): void {
    for (let mfn = bank.first; mfn < bank.first + bank.frames; mfn++) {
      invariant(this.refsOf(mfn) === 0, () => `frame ${mfn} of a dropped bank is still referenced`);
      this.#handles[mfn] = undefined;
      this.#pages[mfn] = undefined;
    }
    this.#recycled.push({ first: bank.first, frames: bank.framesMax });
    const at = this.banks.indexOf(bank);
    const empty: Bank = { source: bank.source, views: viewsOver(new ArrayBuffer(0)), first: 0, frames: 0, framesMax: 0, heap: bank.heap };
    this.banks[at] = { ...empty, source: { buffer: empty.views.u8.buffer } };
    this.#heaps[bank.heap] = new FreeStack();
  }

  /** Free frames of a heap. */
  free(heap: number): number {
    return this.#heaps[heap]!.count;
  }

  /** A zeroed frame for `owner` with one reference, or -1. */
  alloc(heap: number, owner: number): number {
    const mfn = this.#heaps[heap]!.pop();
    if (mfn < 0) return -1;
    invariant(this.refsOf(mfn) === 0, () => `free frame ${mfn} has ${this.refsOf(mfn)} references`);
    this.owner[mfn] = owner;
    this.counts[mfn << SHIFT] = 1;
    this.allocated[mfn] = 1;
    if (owner >= 0) this.held[owner]!++;
    const bank = this.banks[this.bankOf[mfn]!]!;
    const at = (mfn - bank.first) * PAGE_BYTES;
    bank.views.u8.fill(0, at, at + PAGE_BYTES);
    return mfn;
  }

  /**
   * The owner gives the frame up: its own reference goes, and the frame is free once the others have gone too.
   * @returns false when the frame is not held by `owner`; then nothing changes.
   */
  giveUp(mfn: number, owner: number): boolean {
    if (!this.valid(mfn) || this.owner[mfn] !== owner || this.allocated[mfn] === 0) return false;
    this.allocated[mfn] = 0;
    this.put(mfn);
    return true;
  }

  /** References of any kind. */
  refsOf(mfn: number): number {
    return this.counts[mfn << SHIFT]!;
  }

  /** References that allow writing and are not the owner's own. */
  writersOf(mfn: number): number {
    return this.counts[(mfn << SHIFT) | WRITERS]!;
  }

  /** Page-table entries that point to the frame, in all address spaces. */
  mappedOf(mfn: number): number {
    return this.counts[(mfn << SHIFT) | MAPPED]!;
  }

  /** One reference more, of somebody who reads or also writes. */
  hold(mfn: number, readonly: boolean): void {
    const at = mfn << SHIFT;
    this.counts[at]!++;
    if (!readonly) this.counts[at | WRITERS]!++;
  }

  /** Ends a `hold`. */
  drop(mfn: number, readonly: boolean): void {
    if (!readonly) this.counts[(mfn << SHIFT) | WRITERS]!--;
    this.put(mfn);
  }

  /** One reference less; the last one frees the frame. */
  put(mfn: number): void {
    const at = mfn << SHIFT;
    const left = this.counts[at]! - 1;
    invariant(left >= 0, () => `frame ${mfn} has no reference to drop`);
    this.counts[at] = left;
    if (left === 0) this.#release(mfn);
  }

  #release(mfn: number): void {
    const mapped = this.mappedOf(mfn);
    invariant(this.writersOf(mfn) === 0 && mapped === 0, () => `frame ${mfn} is freed while ${mapped} mappings stand`);
    const owner = this.owner[mfn]!;
    this.owner[mfn] = OWNER_FREE;
    this.#heaps[this.banks[this.bankOf[mfn]!]!.heap]!.push(mfn);
    if (owner >= 0) this.held[owner]!--;
    this.onFreed(mfn, owner);
  }

  /** Whether there is such a frame. */
  valid(mfn: number): boolean {
    if (mfn < 0 || mfn >= this.owner.length) return false;
    const bank = this.banks[this.bankOf[mfn]!];
    return bank !== undefined && mfn >= bank.first && mfn < bank.first + bank.frames;
  }

  /** Views of the bank that holds a frame. */
  viewsOf(mfn: number): MemoryViews {
    return this.banks[this.bankOf[mfn]!]!.views;
  }

  /** Byte offset of a frame in its bank's views. */
  offsetOf(mfn: number): number {
    return (mfn - this.banks[this.bankOf[mfn]!]!.first) * PAGE_BYTES;
  }

  /** The frame as `{ views, offset }`: one object per frame, made at first use. */
  frame(mfn: number): MemoryFrame {
    let handle = this.#handles[mfn];
    if (handle === undefined) {
      handle = { views: this.viewsOf(mfn), offset: this.offsetOf(mfn) };
      this.#handles[mfn] = handle;
    }
    return handle;
  }

  /** The frame's 4096 bytes. */
  page(mfn: number): Uint8Array {
    let page = this.#pages[mfn];
    if (page === undefined) {
      const at = this.offsetOf(mfn);
      page = this.viewsOf(mfn).u8.subarray(at, at + PAGE_BYTES);
      this.#pages[mfn] = page;
    }
    return page;
  }

  /** Copies bytes from one frame to another, or within one. Neither side crosses its page. */
  copyBytes(to: number, toOffset: number, from: number, fromOffset: number, bytes: number): void {
    if (bytes === PAGE_BYTES) {
      this.page(to).set(this.page(from));
      return;
    }
    const toAt = this.offsetOf(to) + toOffset;
    const fromAt = this.offsetOf(from) + fromOffset;
    const toViews = this.viewsOf(to);
    const fromViews = this.viewsOf(from);
    if (toViews === fromViews) toViews.u8.copyWithin(toAt, fromAt, fromAt + bytes);
    else toViews.u8.set(fromViews.u8.subarray(fromAt, fromAt + bytes), toAt);
  }

  /** Fills a frame with zeroes. */
  clear(mfn: number): void {
    const at = this.offsetOf(mfn);
    this.viewsOf(mfn).u8.fill(0, at, at + PAGE_BYTES);
  }

  /** One past the highest frame number in use: the bound for walks. */
  get end(): number {
    return this.#numbers;
  }
}

function viewsOver(buffer: ArrayBufferLike): MemoryViews {
  const bytes = buffer.byteLength & ~3;
  return { u8: new Uint8Array(buffer), u16: new Uint16Array(buffer, 0, bytes / 2), u32: new Uint32Array(buffer, 0, bytes / 4) };
}
