import { DOMID, errnoOf } from '@paravirt/xen-abi';
import type { DomainCore } from '../domain.ts';
import type { World } from '../world.ts';
import type { GuestBytes } from './guest-struct.ts';

const EFAULT = -errnoOf('EFAULT');

/** @see xen/include/public/memory.h */
const XENMEM = {
  increase_reservation: 0,
  decrease_reservation: 1,
  maximum_ram_page: 2,
  current_reservation: 3,
  maximum_reservation: 4,
  populate_physmap: 6,
  maximum_gpfn: 14,
} as const;

/** `memory_op` as far as ballooning goes. A list is worked through until an extent cannot be had; the result is how many were. */
export class MemoryDoor {
  readonly #bytes: GuestBytes;
  readonly #core: DomainCore;
  readonly #world: World;

  constructor(bytes: GuestBytes, core: DomainCore, world: World) {
    this.#bytes = bytes;
    this.#core = core;
    this.#world = world;
  }

  call(command: number, address: number): number {
    switch (command) {
      case XENMEM.populate_physmap:
        return this.#reservation(address, (gfn) => this.#core.memory.populate(gfn));
      case XENMEM.decrease_reservation:
        return this.#reservation(address, (gfn) => this.#core.memory.decrease(gfn));
      case XENMEM.maximum_ram_page:
        return this.#world.frames.end - 1;
      case XENMEM.current_reservation:
        return this.#of(address, (core) => core.memory.populated);
      case XENMEM.maximum_reservation:
        return this.#of(address, (core) => core.memory.ramPages);
      case XENMEM.maximum_gpfn:
        return this.#of(address, (core) => core.memory.lastGfn);
      default:
        return -errnoOf('ENOSYS');
    }
  }

  #of(address: number, answer: (core: DomainCore) => number): number {
    const domid = this.#bytes.number(address, 2);
    if (domid < 0) return EFAULT;
    if (domid === DOMID.SELF || domid === this.#core.id) return answer(this.#core);
    const other = this.#world.parties[domid];
    if (other === undefined) return -errnoOf('ESRCH');
    return this.#core.privileged ? answer(other) : -errnoOf('EPERM');
  }

  /** `struct xen_memory_reservation`: pointer to extents, their number, order, flags, domain. */
  #reservation(address: number, act: (gfn: number) => boolean): number {
    const word = this.#bytes.wordBytes;
    const list = this.#bytes.number(address, word);
    const count = this.#bytes.number(address + word, word);
    const order = this.#bytes.number(address + 2 * word, 4);
    const domid = this.#bytes.number(address + 2 * word + 8, 2);
    if (list < 0 || count < 0 || order < 0 || domid < 0) return EFAULT;
    if (order > 9) return -errnoOf('EPERM');
    if (domid !== DOMID.SELF && domid !== this.#core.id) return -errnoOf('EPERM');
    for (let i = 0; i < count; i++) {
      const gfn = this.#bytes.number(list + i * word, word);
      if (gfn < 0) return i;
      const pages = 2 ** order;
      for (let page = 0; page < pages; page++) {
        if (act(gfn + page)) continue;
        // An extent is had whole or not at all.
        for (let done = 0; done < page; done++) this.#undo(gfn + done);
        return i;
      }
    }
    return count;
  }

  /** A page of a half-done extent goes back to what it was: the bytes of one that was given up are gone, as they are in the original. */
  #undo(gfn: number): void {
    if (this.#core.memory.mfnOf(gfn, false) >= 0) this.#core.memory.decrease(gfn);
    else this.#core.memory.populate(gfn);
  }
}
