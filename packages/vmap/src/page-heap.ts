import { VmapError } from './errors.ts';
import type { PageAllocator } from './types.ts';

/** Options of `createPageHeap`. */
export interface PageHeapOptions {
  /** Number of the first frame. Default 0x100000. */
  readonly firstMfn?: number;
  /** Most frames that may be out at once. Default: no bound. */
  readonly pages?: number;
  /** Whether frames have bytes: then `bytes(mfn)` shows them and `clear` zeroes them. Default false: only numbers. */
  readonly memory?: boolean;
}

/** A heap of frames in memory that keeps a ledger. Frames are numbered in order of allocation and never used twice. */
export interface PageHeap extends PageAllocator {
  /** Frames out now. */
  readonly live: number;
  /** Frames handed out so far. */
  readonly handedOut: number;
  /** Frames cleared so far. */
  readonly cleared: number;
  /** Whether the frame was handed out and not given back. O(1). */
  isLive(mfn: number): boolean;
  /** The 4096 bytes of a live frame, with `memory`. @throws {VmapError} `bad-argument`. */
  bytes(mfn: number): Uint8Array;
}

/** A page heap that refuses to free or clear what is not out. @throws {VmapError} `bad-argument`. */
export function createPageHeap(options: PageHeapOptions = {}): PageHeap {
  const { firstMfn = 0x10_0000, pages = Number.POSITIVE_INFINITY, memory = false } = options;
  return new Heap(firstMfn, pages, memory);
}

class Heap implements PageHeap {
  readonly #first: number;
  readonly #max: number;
  readonly #memory: boolean;
  readonly #live: Map<number, Uint8Array | null> = new Map();
  handedOut = 0;
  cleared = 0;

  constructor(first: number, max: number, memory: boolean) {
    this.#first = first;
    this.#max = max;
    this.#memory = memory;
  }

  get live(): number {
    return this.#live.size;
  }

  alloc(): number {
    if (this.#live.size >= this.#max) return -1;
    const mfn = this.#first + this.handedOut++;
    this.#live.set(mfn, this.#memory ? new Uint8Array(4096).fill(0xa5) : null);
    return mfn;
  }

  free(mfn: number): void {
    this.#check(mfn);
    this.#live.delete(mfn);
  }

  clear(mfn: number): void {
    this.#check(mfn);
    this.#live.get(mfn)?.fill(0);
    this.cleared++;
  }

  isLive(mfn: number): boolean {
    return this.#live.has(mfn);
  }

  bytes(mfn: number): Uint8Array {
    this.#check(mfn);
    const bytes = this.#live.get(mfn);
    if (!bytes) throw new VmapError({ code: 'bad-argument', argument: 'memory', value: 'false', allowed: 'true, for frames with bytes' });
    return bytes;
  }

  #check(mfn: number): void {
    if (!this.#live.has(mfn))
      throw new VmapError({ code: 'bad-argument', argument: 'mfn', value: String(mfn), allowed: 'a frame that is out' });
  }
}
