import type { Unsubscribable } from '@paravirt/event-bus';
import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import type { Grants } from '../types.ts';

const PERMIT = 1;
const READONLY = 4;
const READING = 8;
const WRITING = 16;
const RESERVED = 8;

/** A version 1 grant table in plain bytes (flags u16, domid u16, frame u32), with the mapping side beside it. */
export class FakeGrants implements Grants {
  readonly entries: number;
  /** Two words an entry, as in a grant frame. */
  readonly words: Uint32Array;
  private readonly free: number[] = [];
  private readonly readers: Uint32Array;
  private readonly writers: Uint32Array;
  private readonly waiting: { callback: () => void; count: number }[] = [];
  private readonly deferred: { gref: Gref; ended: () => void }[] = [];
  private readonly lent: Set<number> = new Set();
  /** Open references by frame, as the guest means them to be. */
  private readonly openFrames: Map<number, number> = new Map();
  private readonly openAs: Int32Array;
  /** `revoke` calls, refused ones too. */
  revokes = 0;
  permits = 0;

  constructor(entries = 4096) {
    this.entries = entries;
    this.words = new Uint32Array(entries * 2);
    this.readers = new Uint32Array(entries);
    this.writers = new Uint32Array(entries);
    this.openAs = new Int32Array(entries).fill(-1);
    for (let i = entries - 1; i >= RESERVED; i--) this.free.push(i);
  }

  /** References taken and not given back. */
  get taken(): number {
    return this.lent.size;
  }

  /** References whose end waits for the peer. */
  get waitingEnds(): number {
    return this.deferred.length;
  }

  /** Mappings that stand. */
  get mappings(): number {
    let count = 0;
    for (let i = 0; i < this.entries; i++) count += this.readers[i]! + this.writers[i]!;
    return count;
  }

  reserve(): Gref | -1 {
    const gref = this.free.pop();
    if (gref === undefined) return -1;
    this.lent.add(gref);
    return gref as Gref;
  }

  available(): number {
    return this.free.length;
  }

  release(gref: Gref): void {
    if (!this.lent.delete(gref)) throw new Error(`reference ${gref} is not taken`);
    if ((this.words[gref * 2]! & 0xffff) !== 0) throw new Error(`reference ${gref} is released while open`);
    this.free.push(gref);
    for (let i = 0; i < this.waiting.length; i++) {
      const { callback, count } = this.waiting[i]!;
      if (this.free.length < count) continue;
      this.waiting.splice(i--, 1);
      callback();
    }
  }

  permit(gref: Gref, peer: DomId, gfn: Gfn, readonly: boolean): void {
    if (!this.lent.has(gref)) throw new Error(`reference ${gref} is opened without having been taken`);
    if ((this.words[gref * 2]! & 0xffff) !== 0) throw new Error(`reference ${gref} is opened twice`);
    this.permits++;
    this.openAs[gref] = gfn;
    this.openFrames.set(gfn, (this.openFrames.get(gfn) ?? 0) + 1);
    this.words[gref * 2 + 1] = gfn;
    this.words[gref * 2] = (peer << 16) | PERMIT | (readonly ? READONLY : 0);
  }

  revoke(gref: Gref): boolean {
    this.revokes++;
    const word = this.words[gref * 2]!;
    if ((word & (READING | WRITING)) !== 0) return false;
    this.words[gref * 2] = word & 0xffff_0000;
    const gfn = this.openAs[gref]!;
    if (gfn !== -1) {
      this.openAs[gref] = -1;
      this.openFrames.set(gfn, this.openFrames.get(gfn)! - 1);
    }
    return true;
  }

  /** Whether a reference to the frame is open. */
  isOpen(gfn: number): boolean {
    return (this.openFrames.get(gfn) ?? 0) > 0;
  }

  inUse(gref: Gref): boolean {
    return (this.words[gref * 2]! & (READING | WRITING)) !== 0;
  }

  endLater(gref: Gref, ended: () => void): void {
    if (this.revoke(gref)) {
      this.release(gref);
      ended();
    } else this.deferred.push({ gref, ended });
  }

  whenFree(callback: () => void, count: number): Unsubscribable {
    const entry = { callback, count };
    if (this.free.length >= count) {
      callback();
      return { unsubscribe: () => undefined };
    }
    this.waiting.push(entry);
    return {
      unsubscribe: () => {
        const at = this.waiting.indexOf(entry);
        if (at !== -1) this.waiting.splice(at, 1);
      },
    };
  }

  /** The peer maps a reference. @returns the granted frame, or -1 when it is refused. */
  map(gref: number, peer: number, write: boolean): number {
    if (gref >= this.entries) return -1;
    const word = this.words[gref * 2]!;
    if ((word & 3) !== PERMIT || word >>> 16 !== peer || (write && (word & READONLY) !== 0)) return -1;
    this.words[gref * 2] = word | READING | (write ? WRITING : 0);
    if (write) this.writers[gref]!++;
    else this.readers[gref]!++;
    return this.words[gref * 2 + 1]!;
  }

  /** The peer gives one mapping back; what waits for the last one ends. */
  unmap(gref: number, write: boolean): void {
    if (write) this.writers[gref]!--;
    else this.readers[gref]!--;
    let word = this.words[gref * 2]!;
    if (this.writers[gref] === 0) word &= ~WRITING;
    if (this.writers[gref] === 0 && this.readers[gref] === 0) word &= ~READING;
    this.words[gref * 2] = word >>> 0;
    for (let i = 0; i < this.deferred.length; i++) {
      const waiting = this.deferred[i]!;
      if (waiting.gref !== gref || !this.revoke(waiting.gref)) continue;
      this.deferred.splice(i--, 1);
      this.release(waiting.gref);
      waiting.ended();
    }
  }

  /** Frames that the peer could map or has mapped now. */
  reachable(): Set<number> {
    const frames = new Set<number>();
    for (let i = RESERVED; i < this.entries; i++) {
      if ((this.words[i * 2]! & (PERMIT | READING | WRITING)) !== 0) frames.add(this.words[i * 2 + 1]!);
    }
    return frames;
  }

  /** Takes references so that only `left` are free; returns what gives them back. */
  exhaust(left: number): () => void {
    const taken: Gref[] = [];
    while (this.free.length > left) taken.push(this.reserve() as Gref);
    return () => {
      for (const gref of taken.splice(0)) this.release(gref);
    };
  }
}
