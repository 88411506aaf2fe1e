import type { Device } from '@paravirt/blkfront';

const PAGE = 4096;

/**
 * Memory of the guest that the host may fill and read in place, in slots of one size: what lies there goes to the disk and comes from
 * it without a copy, its pages granted to the backend once and for all.
 */
export class GuestArena {
  /** The frames, in the order of their bytes. */
  readonly gfns: readonly number[];
  readonly #slotBytes: number;
  readonly #memory: Uint8Array;
  readonly #free: Uint8Array[] = [];

  readonly #slots: number;

  private constructor(gfns: readonly number[], memory: Uint8Array, slotBytes: number) {
    this.gfns = gfns;
    this.#memory = memory;
    this.#slotBytes = slotBytes;
    for (let at = 0; at + slotBytes <= memory.length; at += slotBytes) this.#free.push(memory.subarray(at, at + slotBytes));
    this.#slots = this.#free.length;
  }

  /** Slots that somebody has. */
  get lent(): number {
    return this.#slots - this.#free.length;
  }

  /** Undefined where the guest's pages do not lie side by side in the host's memory. */
  static of(device: Device, slots: number, slotPages: number): GuestArena | undefined {
    const buffer = device.allocBuffer(slots * slotPages);
    const { views, offset } = buffer.frame(0);
    for (let page = 1; page < buffer.gfns.length; page += 1) {
      const frame = buffer.frame(page);
      if (frame.views === views && frame.offset === offset + page * PAGE) continue;
      buffer.free();
      return undefined;
    }
    return new GuestArena(buffer.gfns, views.u8.subarray(offset, offset + buffer.bytes), slotPages * PAGE);
  }

  /** A slot of at least `bytes`, or undefined when none is free or so long. */
  take(bytes: number): Uint8Array | undefined {
    return bytes <= this.#slotBytes ? this.#free.pop() : undefined;
  }

  give(slot: Uint8Array): void {
    this.#free.push(slot);
  }

  holds(bytes: Uint8Array): boolean {
    // Most transfers are short and of the host's memory: to ask a view for its buffer would cost them more than this.
    if (this.lent === 0 || bytes.buffer !== this.#memory.buffer) return false;
    const at = this.offsetOf(bytes);
    return at >= 0 && at + bytes.length <= this.#memory.length;
  }

  offsetOf(bytes: Uint8Array): number {
    return bytes.byteOffset - this.#memory.byteOffset;
  }
}
