import { InvariantError } from '@paravirt/event-bus/contract';

/**
 * A handle is four words of one array: its kinds, with the granter above `domidShift`, and these, each to be combined with
 * `handle << shift`. The kinds of a free one are 0.
 */
export const HANDLE: {
  readonly shift: 2;
  readonly ref: 1;
  /** The next free handle, or -1. */
  readonly next: 2;
  /** Where the host mapping stands, or -1 where that is above 2^31. */
  readonly vfn: 3;
  readonly domidShift: 16;
} = { shift: 2, ref: 1, next: 2, vfn: 3, domidShift: 16 };

// Plain constants of this module: an exported one is loaded at each use.
const { shift: SHIFT, ref: REF, next: NEXT, vfn: VFN, domidShift: DOMID_SHIFT } = HANDLE;

/**
 * The handles of one mapping domain. A free handle goes to the end of the queue and a wanted one comes from its front, so a
 * handle is out of use as long as can be before it is given again, and never given twice while live.
 */
export class Maptrack {
  readonly handlesMax: number;
  /** Handles that exist. */
  size = 0;
  /** Handles in use. */
  live = 0;
  /** By handle; the grant core goes straight to them. */
  words: Int32Array = new Int32Array(0);
  /** Where the host mapping stands that is above 2^31: then the word is -1. */
  readonly #far: Map<number, number> = new Map();
  /** The first and the last of the free handles, or -1. */
  head = -1;
  tail = -1;

  constructor(handlesMax: number) {
    this.handlesMax = handlesMax;
  }

  /** A handle that nobody uses, or -1 when the domain has as many as it may. Until it is set it counts as taken, not as live. */
  take(): number {
    if (this.head < 0 && !this.#grow()) return -1;
    const handle = this.head;
    const next = this.words[(handle << SHIFT) | NEXT]!;
    this.head = next;
    if (next < 0) this.tail = -1;
    this.live++;
    return handle;
  }

  /** `count` handles were taken from the front of the free ones, of which `head` is the first now. */
  took(head: number, count: number): void {
    this.head = head;
    if (head < 0) this.tail = -1;
    this.live += count;
  }

  /** `count` handles were put behind the free ones, of which there was one at least; `tail` is the last now. */
  gave(tail: number, count: number): void {
    this.tail = tail;
    this.live -= count;
  }

  /** What the handle stands for. `kinds`: GNTMAP_device_map, GNTMAP_host_map and GNTMAP_readonly, not 0. */
  set(handle: number, kinds: number, domid: number, ref: number, vfn: number): void {
    const words = this.words;
    const at = handle << SHIFT;
    if (words[at] !== 0) alive(handle);
    words[at] = kinds | (domid << DOMID_SHIFT);
    words[at | REF] = ref;
    if ((vfn | 0) === vfn) words[at | VFN] = vfn;
    else {
      words[at | VFN] = -1;
      this.#far.set(handle, vfn);
    }
  }

  /** Some of the kinds are gone; `kinds` are left. */
  keep(handle: number, kinds: number): void {
    this.words[handle << SHIFT] = kinds | (this.domidOf(handle) << DOMID_SHIFT);
  }

  give(handle: number): void {
    const words = this.words;
    const at = handle << SHIFT;
    if (words[at | VFN] === -1) this.#far.delete(handle);
    words[at] = 0;
    words[at | NEXT] = -1;
    if (this.tail < 0) this.head = handle;
    else words[(this.tail << SHIFT) | NEXT] = handle;
    this.tail = handle;
    this.live--;
  }

  /** The kinds that still stand; 0 when the handle is free. */
  flagsOf(handle: number): number {
    return this.words[handle << SHIFT]! & 0xffff;
  }

  /** Who granted. */
  domidOf(handle: number): number {
    return this.words[handle << SHIFT]! >>> DOMID_SHIFT;
  }

  /** What was granted. */
  refOf(handle: number): number {
    return this.words[(handle << SHIFT) | REF]! >>> 0;
  }

  /** Where the host mapping stands. */
  vfnOf(handle: number): number {
    const vfn = this.words[(handle << SHIFT) | VFN]!;
    return vfn === -1 ? this.#far.get(handle)! : vfn;
  }

  #grow(): boolean {
    const from = this.size;
    const size = Math.min(from === 0 ? 256 : from * 2, this.handlesMax);
    if (size <= from) return false;
    const words = new Int32Array(size << SHIFT);
    words.set(this.words);
    for (let i = from; i < size; i++) words[(i << SHIFT) | NEXT] = i + 1 < size ? i + 1 : -1;
    this.words = words;
    this.head = from;
    this.tail = size - 1;
    this.size = size;
    return true;
  }
}

function alive(handle: number): never {
  throw new InvariantError(`handle ${handle} was free and live`);
}
