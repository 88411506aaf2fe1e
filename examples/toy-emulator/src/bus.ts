import { type AddressSpaceView, fromLayout, LOG_DIRTY_PAGES, type Memslots, MemslotsError, PAGE_SIZE, READONLY } from '@paravirt/memslots';

/** Where things are for the guest: bytes. Video memory can be moved; see {@link VIDEO_BASE_REGISTER}. */
export const RAM = 0;
export const RAM_BYTES = 16 * PAGE_SIZE;
export const VIDEO = 0x8_0000;
export const VIDEO_BYTES = 4 * PAGE_SIZE;
export const ROM = 0xf_f000;
/** A byte stored here is printed. */
export const PRINT_REGISTER = 0xf_e000;
/** A word stored here is the new address of video memory, as a base address register of a PCI device is. */
export const VIDEO_BASE_REGISTER = 0xf_e004;

const RAM_SLOT = 0;
export const VIDEO_SLOT = 1;
const ROM_SLOT = 2;

/** Where the emulator's buffer counts as mapped in the host. */
const HOST = 0x7f00_0000_0000;

/** An access that nobody answers. The guest made it; the emulator lives on. */
export class BusError extends Error {
  override readonly name = 'BusError';
  readonly address: number;
  readonly kind: 'hole' | 'write-protected' | 'unaligned';
  constructor(address: number, kind: BusError['kind']) {
    super(`${kind} at 0x${address.toString(16)}`);
    this.address = address;
    this.kind = kind;
  }
}

/** The last translation of one kind of access. It holds for its page, and while no slot has changed. */
interface Cached {
  gfn: number;
  generation: number;
  /** Index of the page's first byte in the buffer. */
  at: number;
}

/** What the processor sees at each address: memory through slots, and two device registers. */
export class Bus {
  readonly memslots: Memslots;
  readonly printed: number[] = [];
  /** Translations that were looked up, the others being cached. */
  lookups = 0;
  readonly #space: AddressSpaceView;
  readonly #u8: Uint8Array;
  readonly #u32: Uint32Array;
  readonly #reading: Cached = { gfn: -1, generation: 0, at: 0 };
  readonly #writing: Cached = { gfn: -1, generation: 0, at: 0 };
  readonly #fetching: Cached = { gfn: -1, generation: 0, at: 0 };

  constructor(rom: Uint8Array) {
    if (rom.length > PAGE_SIZE) throw new RangeError(`a ROM has at most ${PAGE_SIZE} bytes, this one ${rom.length}`);
    const memory = new ArrayBuffer(RAM_BYTES + VIDEO_BYTES + PAGE_SIZE);
    this.#u8 = new Uint8Array(memory);
    this.#u32 = new Uint32Array(memory);
    this.#u8.set(rom, RAM_BYTES + VIDEO_BYTES);
    this.memslots = fromLayout([
      { slot: RAM_SLOT, gpa: RAM, size: RAM_BYTES, hva: HOST },
      { slot: VIDEO_SLOT, gpa: VIDEO, size: VIDEO_BYTES, hva: HOST + RAM_BYTES, flags: LOG_DIRTY_PAGES },
      { slot: ROM_SLOT, gpa: ROM, size: PAGE_SIZE, hva: HOST + RAM_BYTES + VIDEO_BYTES, flags: READONLY },
    ]);
    this.#space = this.memslots.space(0);
  }

  load8(address: number): number {
    return this.#u8[this.#find(this.#reading, address, false)]!;
  }

  load32(address: number): number {
    if (address % 4 !== 0) throw new BusError(address, 'unaligned');
    return this.#u32[this.#find(this.#reading, address, false) / 4]!;
  }

  fetch32(address: number): number {
    if (address % 4 !== 0) throw new BusError(address, 'unaligned');
    return this.#u32[this.#find(this.#fetching, address, false) / 4]!;
  }

  store8(address: number, value: number): void {
    if (address === PRINT_REGISTER) {
      this.printed.push(value & 0xff);
      return;
    }
    this.#u8[this.#find(this.#writing, address, true)] = value;
    this.memslots.markPageDirty(0, address >>> 12);
  }

  store32(address: number, value: number): void {
    if (address % 4 !== 0) throw new BusError(address, 'unaligned');
    if (address === VIDEO_BASE_REGISTER) {
      // A device that is told to sit on top of another thing stays where it is; the slots refuse it.
      try {
        this.memslots.moveSlot(VIDEO_SLOT, value >>> 12);
      } catch (error) {
        if (!(error instanceof MemslotsError)) throw error;
      }
      return;
    }
    this.#u32[this.#find(this.#writing, address, true) / 4] = value;
    this.memslots.markPageDirty(0, address >>> 12);
  }

  /** A page of video memory as the display reads it: the host's own view, wherever the guest has put it. */
  videoPage(page: number): Uint8Array {
    const at = RAM_BYTES + page * PAGE_SIZE;
    return this.#u8.subarray(at, at + PAGE_SIZE);
  }

  /** Index of a byte in the buffer. Two comparisons while the page and the generation are the same; nothing is allocated. */
  #find(cached: Cached, address: number, writing: boolean): number {
    const gfn = address >>> 12;
    const { generation } = this.#space;
    if (cached.gfn !== gfn || cached.generation !== generation) {
      const host = writing ? this.#space.translate(gfn) : this.#space.translateRead(gfn);
      if (host < 0) throw new BusError(address, this.#space.lookup(gfn) < 0 ? 'hole' : 'write-protected');
      cached.gfn = gfn;
      cached.generation = generation;
      cached.at = host - HOST;
      this.lookups++;
    }
    return cached.at + (address & (PAGE_SIZE - 1));
  }
}
