import { refuse } from './errors.ts';
import { splitAddress } from './region.ts';
import { HVA_RO_BAD, type Memslots, PAGE_SIZE, type U64 } from './types.ts';

/** Host memory behind the slots. The object is kept and `u8` fetched anew for every call, so that a buffer may grow behind it. */
export interface Backing {
  readonly u8: Uint8Array;
  /** Host virtual address of the first byte of `u8`. */
  readonly hva: number;
}

/** A guest's memory as bytes, through its slots. */
export interface GuestMemory {
  /**
   * Copies guest memory to `into`, across pages and slots.
   * @throws {MemslotsError} `hole` (EFAULT): no slot, or a slot on its way out, somewhere in the range; `outside-backing`. Nothing is copied then.
   */
  read(gpa: U64, into: Uint8Array): void;
  /**
   * Copies `from` to guest memory and marks the pages dirty.
   * @throws {MemslotsError} `hole`, `write-protected` (a read-only slot), `outside-backing`. Nothing is copied or marked then.
   */
  write(gpa: U64, from: Uint8Array): void;
  /** Fills guest memory with a byte and marks the pages dirty. @throws as {@link write}. */
  fill(gpa: U64, byte: number, bytes: number): void;
  /**
   * The bytes themselves, no copy, for reading; with `writable`, for writing: then read-only slots are refused and all its pages are marked dirty now.
   * Valid until the generation changes.
   * @throws {MemslotsError} as {@link read} and {@link write}, and `not-contiguous`: the range crosses to a slot whose host memory is elsewhere.
   */
  view(gpa: U64, bytes: number, writable?: boolean): Uint8Array;
}

/** Bytes of guest memory over a buffer; every access translates anew, so no change of the slots can be missed. */
class SlottedMemory implements GuestMemory {
  readonly #memslots: Memslots;
  readonly #asId: number;
  readonly #backing: Backing;

  constructor(memslots: Memslots, backing: Backing, asId: number) {
    this.#memslots = memslots;
    this.#backing = backing;
    this.#asId = asId;
  }

  read(gpa: U64, into: Uint8Array): void {
    const { gfn, offset } = splitAddress(gpa, 'gpa');
    this.#check(gfn, offset, into.length, false);
    let done = 0;
    while (done < into.length) {
      const at = this.#at(gfn, offset + done, false);
      const bytes = this.#run(gfn, offset + done, into.length - done, false);
      into.set(this.#backing.u8.subarray(at, at + bytes), done);
      done += bytes;
    }
  }

  write(gpa: U64, from: Uint8Array): void {
    const { gfn, offset } = splitAddress(gpa, 'gpa');
    this.#check(gfn, offset, from.length, true);
    let done = 0;
    while (done < from.length) {
      const at = this.#at(gfn, offset + done, true);
      const bytes = this.#run(gfn, offset + done, from.length - done, true);
      this.#backing.u8.set(bytes === from.length ? from : from.subarray(done, done + bytes), at);
      done += bytes;
    }
    this.#mark(gfn, offset, from.length);
  }

  fill(gpa: U64, byte: number, bytes: number): void {
    const { gfn, offset } = splitAddress(gpa, 'gpa');
    this.#length(bytes);
    this.#check(gfn, offset, bytes, true);
    let done = 0;
    while (done < bytes) {
      const at = this.#at(gfn, offset + done, true);
      const run = this.#run(gfn, offset + done, bytes - done, true);
      this.#backing.u8.fill(byte, at, at + run);
      done += run;
    }
    this.#mark(gfn, offset, bytes);
  }

  view(gpa: U64, bytes: number, writable = false): Uint8Array {
    const { gfn, offset } = splitAddress(gpa, 'gpa');
    this.#length(bytes);
    this.#check(gfn, offset, bytes, writable);
    if (bytes === 0) return this.#backing.u8.subarray(0, 0);
    const run = this.#run(gfn, offset, bytes, writable);
    if (run < bytes) refuse('not-contiguous', 'bytes', bytes, `at most ${run} here, where host memory goes on elsewhere`);
    if (writable) this.#mark(gfn, offset, bytes);
    const at = this.#at(gfn, offset, writable);
    return this.#backing.u8.subarray(at, at + bytes);
  }

  #length(bytes: number): void {
    if (!Number.isSafeInteger(bytes) || bytes < 0) refuse('bad-argument', 'bytes', bytes, 'a whole number');
  }

  /** Host address of the page `byte` bytes past the start of `gfn` lies in; negative where there is none. */
  #host(gfn: number, write: boolean): number {
    return write ? this.#memslots.translate(this.#asId, gfn) : this.#memslots.translateRead(this.#asId, gfn);
  }

  /** Index into the backing of a byte that was checked. */
  #at(gfn: number, byte: number, write: boolean): number {
    return this.#host(gfn + Math.floor(byte / PAGE_SIZE), write) + (byte % PAGE_SIZE) - this.#backing.hva;
  }

  /** Bytes from here, at most `bytes`, that are side by side in the host too. */
  #run(gfn: number, byte: number, bytes: number, write: boolean): number {
    let page = Math.floor(byte / PAGE_SIZE);
    let host = this.#host(gfn + page, write);
    let run = PAGE_SIZE - (byte % PAGE_SIZE);
    while (run < bytes) {
      page += 1;
      const next = this.#host(gfn + page, write);
      if (next !== host + PAGE_SIZE) return run;
      host = next;
      run += PAGE_SIZE;
    }
    return bytes;
  }

  /** The whole range, before anything is touched. */
  #check(gfn: number, offset: number, bytes: number, write: boolean): void {
    const { u8, hva } = this.#backing;
    for (let done = 0; done < bytes; ) {
      const page = gfn + Math.floor((offset + done) / PAGE_SIZE);
      const within = (offset + done) % PAGE_SIZE;
      const run = Math.min(PAGE_SIZE - within, bytes - done);
      const host = this.#host(page, write);
      if (host < 0) this.#refuse(page);
      const at = host + within - hva;
      if (at < 0 || at + run > u8.length) {
        refuse('outside-backing', 'gfn', page, `host memory in [0x${hva.toString(16)}, 0x${(hva + u8.length).toString(16)})`);
      }
      done += run;
    }
  }

  #refuse(gfn: number): never {
    if (this.#memslots.gfnToHva(this.#asId, gfn) === HVA_RO_BAD)
      return refuse('write-protected', 'gfn', gfn, 'a frame of a slot that may be written');
    return refuse('hole', 'gfn', gfn, 'a frame of a slot');
  }

  #mark(gfn: number, offset: number, bytes: number): void {
    const pages = Math.ceil((offset + bytes) / PAGE_SIZE);
    for (let page = 0; bytes > 0 && page < pages; page++) this.#memslots.markPageDirty(this.#asId, gfn + page);
  }
}

/** Reads and writes guest memory through the slots of an address space, whose host addresses lie in `backing`. */
export function createGuestMemory(memslots: Memslots, backing: Backing, asId = 0): GuestMemory {
  return new SlottedMemory(memslots, backing, asId);
}
