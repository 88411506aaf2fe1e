import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import type { Grants, PoolFigures } from './types.ts';

/**
 * A queue's own grant references: reserved once and without access, opened for a request, closed when it is over. A request that
 * finds the pool empty gets new references, given back to the table at its end. A reference that the peer still maps when its
 * request is over is set aside and tried again later: it is never lent again while it is mapped, and so is its page if it is ours.
 *
 * References are lent last in first out (the warmest entry again) or first in first out, as the original does.
 */
export class GrefPool {
  private readonly grants: Grants;
  private readonly peer: DomId;
  private readonly fifo: boolean;
  private readonly onHeld: (gref: Gref, gfn: Gfn) => void;
  /** Free references: a stack, or a ring of `free.length` when first in first out. */
  private readonly free: Uint32Array;
  private head = 0;
  private count = 0;
  /** References that the peer still maps although their request is over: those of `held`. */
  quarantined = 0;
  /** By reference: 1 where it is the pool's to keep. */
  private pooled: Uint8Array = new Uint8Array(1024);
  private hits = 0;
  private misses = 0;
  /** References taken out of the table and not given back to it, and those of them that are claimed and not open. */
  private owned = 0;
  private idle = 0;
  /** References of them that are not the pool's to keep. While there are none nobody needs to look which are. */
  private strays = 0;
  private exhausted = 0;
  private quarantinedEver = 0;
  private readonly held: Gref[] = [];
  private readonly heldGfns: number[] = [];
  private readonly heldPages: number[] = [];

  /** Takes up to `size` references out of the table; fewer when it has no more, which `size` then says. */
  constructor(grants: Grants, peer: DomId, size: number, order: 'lifo' | 'fifo', onHeld: (gref: Gref, gfn: Gfn) => void = () => undefined) {
    this.grants = grants;
    this.onHeld = onHeld;
    this.peer = peer;
    this.fifo = order === 'fifo';
    this.free = new Uint32Array(Math.max(1, size));
    for (let i = 0; i < size; i++) {
      const gref = grants.reserve();
      if (gref === -1) break;
      this.keep(gref);
      this.free[this.count++] = gref;
    }
    // A stack lends its top first: the lowest reference should come first, as from a fresh table.
    if (!this.fifo) this.free.subarray(0, this.count).reverse();
  }

  /** How it stands, in a fresh object. */
  get figures(): PoolFigures {
    const { hits, misses, quarantined, quarantinedEver, exhausted, count: free } = this;
    // What is neither free nor claimed nor set aside is open: so a request counts nothing here.
    const live = this.owned - this.idle - free - quarantined;
    return { hits, misses, quarantined, quarantinedEver, live, free, exhausted };
  }

  /** Opens a reference for a page and gives it, or -1 when pool and table are empty. O(1). */
  lend(gfn: Gfn, readonly: boolean): Gref | -1 {
    const left = this.count - 1;
    if (left < 0 || this.fifo === true) return this.lendOther(gfn, readonly);
    this.count = left;
    this.hits++;
    const gref = this.free[left] as Gref;
    this.grants.permit(gref, this.peer, gfn, readonly);
    return gref;
  }

  /**
   * Lends `count` references for the frames of `gfns` from `from` on, into `into` from `at` on. @returns how many there were:
   * `count`, unless pool and table ran out.
   */
  lendMany(into: Uint32Array, at: number, gfns: ArrayLike<number>, from: number, count: number, readonly: boolean): number {
    const { grants, free } = this;
    let lent = 0;
    if (this.fifo !== true && grants.permitMany !== undefined) {
      lent = Math.min(count, this.count);
      let top = this.count;
      for (let i = 0; i < lent; i++) into[at + i] = free[--top]!;
      this.count = top;
      this.hits += lent;
      grants.permitMany(into, at, this.peer, gfns, from, lent, readonly);
    }
    for (; lent < count; lent++) {
      const gref = this.lend(gfns[from + lent]! as Gfn, readonly);
      if (gref === -1) break;
      into[at + lent] = gref;
    }
    return lent;
  }

  private lendOther(gfn: Gfn, readonly: boolean): Gref | -1 {
    const gref = this.claim();
    if (gref !== -1) this.open(gref, gfn, readonly);
    return gref;
  }

  /** A reference without access, or -1 when pool and table are empty. O(1). */
  claim(): Gref | -1 {
    if (this.count === 0) return this.miss();
    this.hits++;
    this.idle++;
    return this.pop();
  }

  /** Gives back a claimed reference that was never opened. */
  unclaim(gref: Gref): void {
    this.idle--;
    this.put(gref);
  }

  /** Opens a claimed reference. */
  open(gref: Gref, gfn: Gfn, readonly: boolean): void {
    this.idle--;
    this.grants.permit(gref, this.peer, gfn, readonly);
  }

  /**
   * Closes a reference and takes it back. False when the peer still maps it: it is set aside, with `page` (a page of ours, or -1)
   * kept by it until `retry` succeeds.
   */
  close(gref: Gref, gfn: Gfn, page: number): boolean {
    if (this.closeIdle(gref)) return true;
    this.setAside(gref, gfn, page);
    return false;
  }

  /**
   * Closes `count` references, those of `refs` from `at` on, and takes them back, up to one that the peer still maps, which is the
   * caller's to set aside. @returns how many were closed.
   */
  closeRun(refs: Uint32Array, at: number, count: number): number {
    const { grants } = this;
    let closed = 0;
    if (grants.revokeMany !== undefined) closed = grants.revokeMany(refs, at, count);
    else while (closed < count && grants.revoke(refs[at + closed]! as Gref)) closed++;
    this.putMany(refs, at, at + closed);
    return closed;
  }

  /** `close` of `count` references, those of `refs` from `at` on, of the frames of `gfns` from `from` on, which are no pages of ours. */
  closeMany(refs: Uint32Array, at: number, gfns: ArrayLike<number>, from: number, count: number): void {
    for (let i = this.closeRun(refs, at, count); i < count; i += 1 + this.closeRun(refs, at + i + 1, count - i - 1)) {
      this.setAside(refs[at + i]! as Gref, gfns[from + i]! as Gfn, -1);
    }
  }

  /** What `close` does about a reference that `closeIdle` would not close. */
  setAside(gref: Gref, gfn: Gfn, page: number): void {
    this.held.push(gref);
    this.heldGfns.push(gfn);
    this.heldPages.push(page);
    this.quarantined++;
    this.quarantinedEver++;
    this.onHeld(gref, gfn);
  }

  /** Closes a reference unless the peer maps it; then it stays open, as a persistent grant, and the answer is false. */
  closeIdle(gref: Gref): boolean {
    if (!this.grants.revoke(gref)) return false;
    this.put(gref);
    return true;
  }

  /** Whether the peer has the page behind the reference mapped at this moment. */
  inUse(gref: Gref): boolean {
    return this.grants.inUse(gref);
  }

  /** One attempt at each reference set aside; `returned` is told of those that came back. O(set aside). */
  retry(returned: (gref: Gref, gfn: Gfn, page: number) => void): void {
    let kept = 0;
    const count = this.held.length;
    const back: number[] = [];
    for (let i = 0; i < count; i++) {
      const gref = this.held[i]!;
      if (this.grants.revoke(gref)) back.push(gref, this.heldGfns[i]!, this.heldPages[i]!);
      else {
        this.held[kept] = gref;
        this.heldGfns[kept] = this.heldGfns[i]!;
        this.heldPages[kept++] = this.heldPages[i]!;
      }
    }
    this.held.length = kept;
    this.quarantined = kept;
    this.heldGfns.length = kept;
    this.heldPages.length = kept;
    for (let i = 0; i < back.length; i += 3) {
      this.put(back[i] as Gref);
      returned(back[i] as Gref, back[i + 1] as Gfn, back[i + 2]!);
    }
  }

  /**
   * Gives half of the free references back to the table, for whoever finds it empty: the pool keeps that much less from then on.
   * O(given back).
   */
  spare(): void {
    this.giveBack(Math.ceil(this.count / 2));
  }

  /** Whether a page that the peer may still reach is set aside. O(set aside). */
  holds(gfn: number): boolean {
    return this.heldGfns.includes(gfn);
  }

  /**
   * Gives every reference back to the table; those set aside go as soon as the peer lets go, and `returned` is told then.
   * Nothing may be lent any more.
   */
  destroy(returned: (gref: Gref, gfn: Gfn, page: number) => void): void {
    this.giveBack(this.count);
    for (let i = 0; i < this.held.length; i++) {
      const gref = this.held[i]!;
      const gfn = this.heldGfns[i] as Gfn;
      const page = this.heldPages[i]!;
      this.pooled[gref] = 0;
      this.owned--;
      this.grants.endLater(gref, () => returned(gref, gfn, page));
    }
    this.held.length = 0;
    this.quarantined = 0;
    this.heldGfns.length = 0;
    this.heldPages.length = 0;
  }

  private miss(): Gref | -1 {
    const gref = this.grants.reserve();
    if (gref === -1) this.exhausted++;
    else {
      this.misses++;
      this.strays++;
      this.owned++;
      this.idle++;
    }
    return gref;
  }

  private pop(): Gref {
    this.count--;
    if (!this.fifo) return this.free[this.count] as Gref;
    const gref = this.free[this.head] as Gref;
    if (++this.head === this.free.length) this.head = 0;
    return gref;
  }

  private giveBack(count: number): void {
    for (let left = count; left > 0; left--) {
      const gref = this.pop();
      this.pooled[gref] = 0;
      this.giveUp(gref);
    }
  }

  private put(gref: Gref): void {
    if (this.strays > 0 && this.pooled[gref] !== 1) {
      this.strays--;
      this.giveUp(gref);
    } else if (this.fifo === true) this.putNewest(gref);
    else this.free[this.count++] = gref;
  }

  /** `put` of the references of `refs` from `from` to `end - 1`. */
  private putMany(refs: Uint32Array, from: number, end: number): void {
    const { pooled, free, strays } = this;
    let at = from;
    if (!this.fifo) {
      let top = this.count;
      for (; at < end; at++) {
        const gref = refs[at]!;
        if (strays > 0 && pooled[gref] !== 1) break;
        free[top++] = gref;
      }
      this.count = top;
    }
    for (; at < end; at++) this.put(refs[at]! as Gref);
  }

  private putNewest(gref: Gref): void {
    const at = this.head + this.count++;
    this.free[at < this.free.length ? at : at - this.free.length] = gref;
  }

  private giveUp(gref: Gref): void {
    this.owned--;
    this.grants.release(gref);
  }

  private keep(gref: Gref): void {
    if (gref >= this.pooled.length) {
      const wider = new Uint8Array(Math.max(gref + 1, this.pooled.length * 2));
      wider.set(this.pooled);
      this.pooled = wider;
    }
    this.pooled[gref] = 1;
    this.owned++;
  }
}
