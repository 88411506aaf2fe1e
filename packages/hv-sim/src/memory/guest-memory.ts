import type { Gfn } from '@paravirt/event-bus/contract';
import type { MemoryFrame, MemoryViews } from '@paravirt/gnttab';
import { type AddressSpaceView, createMemslots, type Memslots } from '@paravirt/memslots';
import type { PageAllocator } from '@paravirt/vmap';
import { HvError, whole } from '../errors.ts';
import { type Bank, type Frames, PAGE as PAGE_BYTES } from './frames.ts';

/** A plain constant of this module: an imported one is loaded at each use. */
const PAGE = PAGE_BYTES;

/** Memory slot ids that the machine uses itself; the domain may add others. */
export const SLOT_RAM = 0;
/** Start info, shared info, store ring, console ring. */
export const SLOT_SPECIAL = 1;
/** Shared frames of the grant table. */
export const SLOT_GRANTS = 2;
/** Status frames of the grant table. */
export const SLOT_STATUS = 3;
/** Memory that a growing buffer added. */
const SLOT_GROWN = 4;
/** Guest frames whose host page is remembered: as many as there are, within these bounds; powers of two. */
const REMEMBERED_MIN = 256;
const REMEMBERED_MAX = 1 << 14;

/** A remembered translation is two words: the guest frame, and with `page` the host page; from the frame's low bits `<< shift` on. */
export const KNOWN: { readonly shift: 1; readonly page: 1 } = { shift: 1, page: 1 };

// Plain constants of this module: an exported one is loaded at each use.
const { shift: KNOWN_SHIFT, page: KNOWN_PAGE } = KNOWN;
const USER_SLOTS = 509;

/** Where a domain's memory lies. */
export interface MemoryLayout {
  readonly domid: number;
  readonly frames: Frames;
  /** The heap that its frames come from and go back to. */
  readonly heap: number;
  /** Pages of RAM from gfn 0 on, populated at once. */
  readonly ramPages: number;
  /** RAM pages at the bottom that `pages.alloc` never gives: the domain's own code and data. */
  readonly reservedPages: number;
  readonly grantFramesMax: number;
  readonly statusFramesMax: number;
  /** The domain's own buffer, or undefined when its frames come from the machine's. */
  readonly bank: Bank | undefined;
}

/**
 * A domain's guest-physical memory: memory slots say which host page a guest frame is, and a flat table says which machine
 * frame backs that host page, if any. A frame that was ballooned out leaves its slot in place and its backing empty, so
 * nothing that reads the table at each use can go on with an old frame.
 */
export class GuestMemory {
  // What every mapping uses stands first and together: with many domains it comes from far memory every time.
  readonly #space: AddressSpaceView;
  /** Machine frame by host page, -1 where there is none. The grant core goes straight to it, and to the two below. */
  backing: Int32Array;
  /** Guest frame and host page of translations for writing, by the frame's low bits. Right while the slots' generation is `#knownAt`. */
  readonly known: Int32Array;
  readonly knownMask: number;
  #knownAt = -1;
  /** Whether a slot has a dirty log: then writes by others are logged. */
  logging = false;
  readonly domid: number;
  readonly slots: Memslots;
  readonly #frames: Frames;
  readonly #heap: number;
  readonly #bank: Bank | undefined;
  #hostPages: number;
  readonly ramPages: number;
  readonly specialGfn: number;
  readonly grantGfn: number;
  readonly statusGfn: number;
  #grown = 0;
  /** RAM frames that are populated. */
  populated = 0;
  /** Asked before a frame is taken for ballooning or the heap: false refuses it. A fault injector's handle. */
  allow: () => boolean = () => true;

  constructor(layout: MemoryLayout) {
    const { domid, frames, heap, ramPages, grantFramesMax, statusFramesMax, bank } = layout;
    this.domid = domid;
    this.#frames = frames;
    this.#heap = heap;
    this.#bank = bank;
    this.ramPages = ramPages;
    this.specialGfn = ramPages;
    this.grantGfn = ramPages + 4;
    this.statusGfn = this.grantGfn + grantFramesMax;
    // In a buffer of its own a frame's number is its place in the buffer; the heap's frames stand there and have no guest frame.
    this.#hostPages = Math.max(this.statusGfn + statusFramesMax, bank?.frames ?? 0);
    this.backing = new Int32Array(this.#hostPages).fill(-1);
    let remembered = REMEMBERED_MIN;
    while (remembered < this.#hostPages && remembered < REMEMBERED_MAX) remembered *= 2;
    this.known = new Int32Array(remembered << KNOWN_SHIFT);
    this.knownMask = remembered - 1;
    this.#forget();
    this.slots = createMemslots({
      userMemSlots: USER_SLOTS,
      addressSpaces: 1,
      name: `dom${domid}`,
      hooks: { commit: () => this.#noteLogging() },
    });
    this.#space = this.slots.space(0);
    // Host address = host page x 4096, and host pages are numbered like the guest frames of the first layout.
    const create = (id: number, first: number, pages: number): void => {
      if (pages > 0) this.slots.createSlot({ id, baseGfn: first, pages, userspaceAddr: first * PAGE });
    };
    create(SLOT_RAM, 0, ramPages);
    create(SLOT_SPECIAL, this.specialGfn, 4);
    create(SLOT_GRANTS, this.grantGfn, grantFramesMax);
    create(SLOT_STATUS, this.statusGfn, statusFramesMax);
  }

  #noteLogging(): void {
    this.logging = false;
    for (const slot of this.slots.slots(0)) if ((slot.flags & 1) !== 0) this.logging = true;
  }

  /** Fills RAM. @returns false when the heap runs dry; then the caller gives back what there is. */
  populateAll(): boolean {
    for (let page = 0; page < this.ramPages; page++) {
      const mfn = this.#frames.alloc(this.#heap, this.domid);
      if (mfn < 0) return false;
      this.backing[page] = mfn;
      this.populated++;
    }
    return true;
  }

  /** Puts a frame that the machine allocated for the domain behind one of its special, grant or status frames. */
  place(gfn: number, mfn: number): void {
    this.backing[gfn] = mfn;
  }

  /** Takes it away again. */
  displace(gfn: number): void {
    this.backing[gfn] = -1;
  }

  /** The machine frame behind `gfn`, or -1; for writing also -1 when its slot is read-only. */
  mfnOf(gfn: number, writing: boolean): number {
    const at = (gfn & this.knownMask) << KNOWN_SHIFT;
    const { known } = this;
    // What may be written may be read.
    if (known[at] === gfn && this.#knownAt === this.#space.generation) return this.backing[known[at | KNOWN_PAGE]!]!;
    return this.#translate(gfn, writing);
  }

  /** Whether what is remembered still holds. */
  knowsNow(): boolean {
    return this.#knownAt === this.#space.generation;
  }

  #translate(gfn: number, writing: boolean): number {
    const space = this.#space;
    const hva = writing ? space.translate(gfn) : space.translateRead(gfn);
    if (hva < 0) return -1;
    const page = hva / PAGE;
    // Undefined past the end and between two pages: a slot of the domain's own may lead anywhere, and a gfn may be no whole number.
    const mfn = this.backing[page];
    if (mfn === undefined) return -1;
    // What may only be read is not remembered.
    if (writing || space.translate(gfn) === hva) this.#remember(gfn, page);
    return mfn;
  }

  #remember(gfn: number, page: number): void {
    const { generation } = this.#space;
    // A change of the slots that is under way has no generation of its own; a frame above 2^31 is not remembered.
    if (generation < 0 || (gfn | 0) !== gfn) return;
    const { known } = this;
    if (this.#knownAt !== generation) {
      this.#forget();
      this.#knownAt = generation;
    }
    const at = (gfn & this.knownMask) << KNOWN_SHIFT;
    known[at] = gfn;
    known[at | KNOWN_PAGE] = page;
  }

  #forget(): void {
    const { known } = this;
    known.fill(-1);
    // A caller may ask for frame -1: the place where that would be found holds another number that is no frame.
    known[this.knownMask << KNOWN_SHIFT] = -2;
  }

  /** The machine frame behind `gfn`. @throws {HvError} `bad-gfn`: no slot, or ballooned out. `readonly-gfn`. */
  mfn(gfn: number, writing: boolean): number {
    const mfn = this.mfnOf(gfn, writing);
    if (mfn >= 0) return mfn;
    if (writing && this.mfnOf(gfn, false) >= 0) throw new HvError({ code: 'readonly-gfn', domid: this.domid, gfn });
    throw new HvError({ code: 'bad-gfn', domid: this.domid, gfn });
  }

  /** Where the page's bytes are; one object a frame. @throws {HvError} `bad-gfn` */
  frame(gfn: number): MemoryFrame {
    return this.#frames.frame(this.mfn(gfn, false));
  }

  /** Where the page's bytes are, into an object of the caller's. @throws {HvError} `bad-gfn`, `readonly-gfn` */
  locate(gfn: number, writing: boolean, out: { views: MemoryViews; offset: number }): void {
    const mfn = this.mfn(gfn, writing);
    out.views = this.#frames.viewsOf(mfn);
    out.offset = this.#frames.offsetOf(mfn);
  }

  /** Notes a write by somebody else in the dirty log, where there is one. */
  markDirty(gfn: number): void {
    if (this.logging && gfn >= 0) this.slots.markPageDirty(0, gfn);
  }

  /** Copies guest memory from byte address `address` on into `into`. Crosses pages. @throws {HvError} `bad-gfn` */
  read(address: number, into: Uint8Array): void {
    this.#transfer(address, into, false);
  }

  /** Copies `from` into guest memory. @throws {HvError} `bad-gfn`, `readonly-gfn`; pages before the refused one are written. */
  write(address: number, from: Uint8Array): void {
    this.#transfer(address, from, true);
  }

  #transfer(address: number, bytes: Uint8Array, writing: boolean): void {
    whole('address', address, 0, Number.MAX_SAFE_INTEGER);
    for (let done = 0; done < bytes.length; ) {
      const gfn = Math.floor((address + done) / PAGE);
      const inPage = address + done - gfn * PAGE;
      const length = Math.min(PAGE - inPage, bytes.length - done);
      const mfn = this.mfn(gfn, writing);
      const { u8 } = this.#frames.viewsOf(mfn);
      const at = this.#frames.offsetOf(mfn) + inPage;
      if (writing) {
        u8.set(bytes.subarray(done, done + length), at);
        this.markDirty(gfn);
      } else bytes.set(u8.subarray(at, at + length), done);
      done += length;
    }
  }

  /** The highest frame number that any of its slots holds. */
  get lastGfn(): number {
    return this.#hostPages - 1;
  }

  /** The host page behind `gfn` where it is RAM that the balloon may take and give, or -1. */
  #ramPage(gfn: number): number {
    const hva = this.#space.translateRead(gfn);
    const page = hva / PAGE;
    if (hva < 0 || !Number.isInteger(page)) return -1;
    const ram = page < this.ramPages || (page >= this.#firstGrown() && page < this.#hostPages);
    return ram ? page : -1;
  }

  #firstGrown(): number {
    return this.#grown === 0 ? Number.POSITIVE_INFINITY : this.#hostPages - this.#grown;
  }

  /** Balloons a page out. Whoever has it mapped keeps it until the last mapping goes. @returns false when it is not populated RAM. */
  decrease(gfn: number): boolean {
    const page = this.#ramPage(gfn);
    const mfn = page < 0 ? -1 : this.backing[page]!;
    if (mfn < 0) return false;
    this.backing[page] = -1;
    this.populated--;
    this.#frames.giveUp(mfn, this.domid);
    return true;
  }

  /** Balloons a zeroed page in. @returns false when it is no RAM page, is populated, or the heap is empty. */
  populate(gfn: number): boolean {
    const page = this.#ramPage(gfn);
    if (page < 0 || this.backing[page]! >= 0 || !this.allow()) return false;
    const mfn = this.#frames.alloc(this.#heap, this.domid);
    if (mfn < 0) return false;
    this.backing[page] = mfn;
    this.populated++;
    return true;
  }

  /** The domain's own buffer grew by `frames` frames: they become RAM above everything else. @returns their first gfn. */
  grow(frames: number): number {
    const first = this.#hostPages;
    const backing = new Int32Array(first + frames).fill(-1);
    backing.set(this.backing);
    this.backing = backing;
    this.#hostPages += frames;
    const id = SLOT_GROWN + this.#countGrown();
    this.slots.createSlot({ id, baseGfn: first, pages: frames, userspaceAddr: first * PAGE });
    this.#grown += frames;
    for (let i = 0; i < frames; i++) this.populate(first + i);
    return first;
  }

  #countGrown(): number {
    let count = 0;
    while (this.slots.slot(SLOT_GROWN + count) !== null) count++;
    return count;
  }

  /** The domain dies: every page that backs it is given up; grant and status frames are the caller's. */
  destroy(): void {
    for (let page = 0; page < this.#hostPages; page++) {
      const mfn = this.backing[page]!;
      if (mfn < 0) continue;
      this.backing[page] = -1;
      const table = page >= this.grantGfn && page < this.#hostPages - this.#grown;
      if (!table) this.#frames.giveUp(mfn, this.domid);
    }
    this.populated = 0;
  }

  /** Takes the domain's own buffer again, if it was replaced by a larger one. @returns how many frames came. */
  refresh(): number {
    if (this.#bank === undefined) return 0;
    const frames = this.#frames.refresh(this.#bank);
    if (frames > 0) this.grow(frames);
    return frames;
  }

  /** Frames of the domain's own, outside its guest-physical memory: what vmap takes its pages from. */
  allocator(): PageAllocator {
    return {
      alloc: () => (this.allow() ? this.#frames.alloc(this.#heap, this.domid) : -1),
      free: (mfn) => {
        if (!this.#frames.giveUp(mfn, this.domid)) {
          throw new HvError({ code: 'bad-argument', argument: 'mfn', value: String(mfn), allowed: 'a frame that this domain allocated' });
        }
      },
      clear: (mfn) => this.#frames.clear(mfn),
    };
  }
}

/**
 * Lends out the pages of a domain's RAM, last in first out. A page that is lent has one hold, its borrower's; whoever shares it
 * may take more, and it is free when the last hold ends. Fits what block drivers and rings ask of a guest.
 */
export class GuestPageList {
  readonly #memory: GuestMemory;
  readonly #frames: Frames;
  readonly #free: Int32Array;
  #count: number;
  /** Holds by gfn; 0 is a free page. */
  readonly #holds: Uint32Array;
  /** 1 until the borrower has given the page back. */
  readonly #borrowed: Uint8Array;
  /** Asked before each allocation: false refuses it. A fault injector's handle. */
  allow: () => boolean = () => true;

  constructor(memory: GuestMemory, frames: Frames, reserved: number) {
    this.#memory = memory;
    this.#frames = frames;
    this.#count = memory.ramPages - reserved;
    this.#free = new Int32Array(this.#count);
    for (let i = 0; i < this.#count; i++) this.#free[i] = memory.ramPages - 1 - i;
    this.#holds = new Uint32Array(memory.ramPages);
    this.#borrowed = new Uint8Array(memory.ramPages);
  }

  /** Pages that `alloc` can still give, ballooned ones included. */
  get available(): number {
    return this.#count;
  }

  /** Pages that are lent out. */
  get lent(): number {
    return this.#free.length - this.#count;
  }

  /** A page that nobody else uses, zeroed; undefined when there is none. Pages that are ballooned out are passed over. */
  alloc(): Gfn | undefined {
    if (!this.allow()) return undefined;
    for (let at = this.#count - 1; at >= 0; at--) {
      const gfn = this.#free[at]!;
      const mfn = this.#memory.mfnOf(gfn, true);
      if (mfn < 0) continue;
      this.#count--;
      this.#free.copyWithin(at, at + 1, this.#count + 1);
      this.#holds[gfn] = 1;
      this.#borrowed[gfn] = 1;
      this.#frames.clear(mfn);
      return gfn as Gfn;
    }
    return undefined;
  }

  /** The borrower gives a page back. @throws {HvError} `bad-argument`: not a page that is lent out. */
  free(gfn: Gfn): void {
    if (this.#borrowed[gfn] !== 1) {
      throw new HvError({
        code: 'bad-argument',
        argument: 'gfn',
        value: String(gfn),
        allowed: 'a page that alloc gave and free has not taken',
      });
    }
    this.#borrowed[gfn] = 0;
    this.release(gfn);
  }

  /** One hold more; nothing for a page that is not lent out. */
  hold(gfn: number): void {
    if (this.#holds[gfn]! > 0) this.#holds[gfn]!++;
  }

  /** One hold less, the borrower's own included; nothing for a page that is not lent out. */
  release(gfn: number): void {
    const holds = this.#holds[gfn];
    if (holds === undefined || holds === 0) return;
    this.#holds[gfn] = holds - 1;
    if (holds > 1) return;
    this.#borrowed[gfn] = 0;
    this.#free[this.#count++] = gfn;
  }

  /** Where the page's bytes are. @throws {HvError} `bad-gfn` */
  frame(gfn: Gfn): MemoryFrame {
    return this.#memory.frame(gfn);
  }

  /** Calls `visit` for every page that is lent out: for ledgers. */
  eachLent(visit: (gfn: number) => void): void {
    for (let gfn = 0; gfn < this.#holds.length; gfn++) if (this.#holds[gfn]! > 0) visit(gfn);
  }
}
