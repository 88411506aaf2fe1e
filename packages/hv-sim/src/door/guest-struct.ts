import { type Abi, layoutOf, type Struct, type StructLayout } from '@paravirt/xen-abi';
import { HvError } from '../errors.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';

/** A guest's memory as hypercalls reach it: a bad address is an answer (-EFAULT), not an exception. */
export class GuestBytes {
  readonly abi: Abi;
  readonly #memory: GuestMemory;
  readonly #word: Uint8Array = new Uint8Array(8);
  readonly #view: DataView = new DataView(this.#word.buffer);

  constructor(abi: Abi, memory: GuestMemory) {
    this.abi = abi;
    this.#memory = memory;
  }

  /** Bytes of a pointer or `unsigned long` of the guest. */
  get wordBytes(): number {
    return this.abi === 'x86_32' ? 4 : 8;
  }

  read(address: number, into: Uint8Array): boolean {
    return this.#attempt(() => this.#memory.read(address, into));
  }

  write(address: number, from: Uint8Array): boolean {
    return this.#attempt(() => this.#memory.write(address, from));
  }

  #attempt(access: () => void): boolean {
    try {
      access();
      return true;
    } catch (error) {
      if (error instanceof HvError) return false;
      throw error;
    }
  }

  /** One unsigned number of 1, 2, 4 or 8 bytes, or -1 where there is no memory. */
  number(address: number, bytes: number): number {
    const part = this.#word.subarray(0, bytes);
    if (!this.read(address, part)) return -1;
    if (bytes === 2) return this.#view.getUint16(0, true);
    if (bytes === 4) return this.#view.getUint32(0, true);
    return bytes === 1 ? this.#word[0]! : this.#view.getUint32(4, true) * 0x1_0000_0000 + this.#view.getUint32(0, true);
  }

  setNumber(address: number, bytes: number, value: number): boolean {
    this.#view.setUint32(0, value >>> 0, true);
    this.#view.setUint32(4, Math.floor(value / 0x1_0000_0000) >>> 0, true);
    return this.write(address, this.#word.subarray(0, bytes));
  }
}

const BYTES: Readonly<Record<string, number>> = { u8: 1, s8: 1, u16: 2, s16: 2, u32: 4, s32: 4, u64: 8, s64: 8 };

/**
 * One argument structure in a guest's memory. `load` copies it once; fields are then taken from the copy, so that a guest that
 * changes them meanwhile changes nothing. `store` writes single fields back.
 */
export class GuestStruct<Fields extends object> {
  readonly #bytes: GuestBytes;
  readonly #layout: StructLayout;
  readonly #copy: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(struct: Struct<Fields>, bytes: GuestBytes) {
    this.#bytes = bytes;
    this.#layout = layoutOf(struct, bytes.abi);
    this.#copy = new Uint8Array(this.#layout.size);
    this.#view = new DataView(this.#copy.buffer);
  }

  get size(): number {
    return this.#layout.size;
  }

  /** Copies the structure at `address`; false where there is no memory. */
  load(address: number): boolean {
    this.#at = address;
    return this.#bytes.read(address, this.#copy);
  }

  #width(field: keyof Fields & string): number {
    const [type] = this.#layout.fields[field]!;
    return type === 'ptr' ? this.#bytes.wordBytes : BYTES[type as string]!;
  }

  /** A field of the copy, unsigned; 64 bits are exact up to 2^53. */
  get(field: keyof Fields & string): number {
    const at = this.#layout.fields[field]![1];
    switch (this.#width(field)) {
      case 1:
        return this.#copy[at]!;
      case 2:
        return this.#view.getUint16(at, true);
      case 4:
        return this.#view.getUint32(at, true);
      default:
        return this.#view.getUint32(at + 4, true) * 0x1_0000_0000 + this.#view.getUint32(at, true);
    }
  }

  /** Writes a field into the guest's memory; false where there is none. */
  store(field: keyof Fields & string, value: number): boolean {
    return this.#bytes.setNumber(this.#at + this.#layout.fields[field]![1], this.#width(field), value);
  }
}
