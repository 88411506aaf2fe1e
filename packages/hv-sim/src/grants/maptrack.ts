import { invariant } from '@paravirt/event-bus/contract';

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
  /** GNTMAP_device_map, GNTMAP_host_map, GNTMAP_readonly of what still stands; 0 when the handle is free. */
  flags: Uint8Array = new Uint8Array(0);
  domid: Uint16Array = new Uint16Array(0);
  ref: Uint32Array = new Uint32Array(0);
  /** Where the host mapping stands. */
  vfn: Float64Array = new Float64Array(0);
  #next: Int32Array = new Int32Array(0);
  #head = -1;
  #tail = -1;

  constructor(handlesMax: number) {
    this.handlesMax = handlesMax;
  }

  /** A handle that nobody uses, or -1 when the domain has as many as it may. Until its flags are set it counts as taken, not as live. */
  take(): number {
    if (this.#head < 0 && !this.#grow()) return -1;
    const handle = this.#head;
    this.#head = this.#next[handle]!;
    if (this.#head < 0) this.#tail = -1;
    invariant(this.flags[handle] === 0, () => `handle ${handle} was free and live`);
    this.live++;
    return handle;
  }

  give(handle: number): void {
    this.flags[handle] = 0;
    this.#next[handle] = -1;
    if (this.#tail < 0) this.#head = handle;
    else this.#next[this.#tail] = handle;
    this.#tail = handle;
    this.live--;
  }

  #grow(): boolean {
    const from = this.size;
    const size = Math.min(from === 0 ? 256 : from * 2, this.handlesMax);
    if (size <= from) return false;
    const flags = new Uint8Array(size);
    flags.set(this.flags);
    const domid = new Uint16Array(size);
    domid.set(this.domid);
    const ref = new Uint32Array(size);
    ref.set(this.ref);
    const vfn = new Float64Array(size);
    vfn.set(this.vfn);
    const next = new Int32Array(size);
    next.set(this.#next);
    for (let i = from; i < size; i++) next[i] = i + 1 < size ? i + 1 : -1;
    this.flags = flags;
    this.domid = domid;
    this.ref = ref;
    this.vfn = vfn;
    this.#next = next;
    this.#head = from;
    this.#tail = size - 1;
    this.size = size;
    return true;
  }
}
