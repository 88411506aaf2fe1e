import type { EventBus } from '@paravirt/event-bus';
import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import { GTF } from '@paravirt/xen-abi';
import type { SchedulerLike } from 'rxjs';
import { checkFlag, checkFrame, checkPeer, isGranted, refuseGref } from './checks.ts';
import { DeferredEnds, type DeferredHost } from './deferred.ts';
import type { Entries } from './entries.ts';
import { GrantError, refuseArgument } from './errors.ts';
import type { GnttabEvents } from './events.ts';
import { type FreeList, STATE } from './free-list.ts';
import { PeerCounts } from './peer-counts.ts';
import type { References } from './references.ts';
import type { PageUse } from './types.ts';

const PAGE_BYTES = 4096;
const DOMID_MAX = 0x7fff;
// Plain constants of this module: an imported one is loaded at each use.
const { claimed: CLAIMED, granted: GRANTED, busy: BUSY } = STATE;
const PERMIT: number = GTF.permit_access;
const PERMIT_READING: number = GTF.permit_access | GTF.readonly;

export interface GrantsOptions {
  readonly owner: DomId;
  readonly freePerIteration: number;
  readonly canDefer: () => boolean;
}

/** What references are granted for, from the opening of an entry to its end. */
export class Grants implements DeferredHost {
  busy = 0;
  leaked = 0;
  readonly peers: PeerCounts = new PeerCounts();
  readonly deferred: DeferredEnds;
  private readonly owner: DomId;
  private readonly canDefer: () => boolean;
  private readonly references: References;
  private readonly list: FreeList;
  private readonly entries: Entries;
  private readonly bus: EventBus<GnttabEvents> | undefined;
  private readonly pages: PageUse | undefined;

  constructor(
    options: GrantsOptions,
    references: References,
    entries: Entries,
    scheduler: SchedulerLike,
    bus: EventBus<GnttabEvents> | undefined,
    pages: PageUse | undefined,
  ) {
    this.owner = options.owner;
    this.canDefer = options.canDefer;
    this.references = references;
    this.list = references.list;
    this.entries = entries;
    this.bus = bus;
    this.pages = pages;
    this.deferred = new DeferredEnds(this, scheduler, options.freePerIteration);
  }

  grant(peer: DomId, gfn: Gfn, readonly: boolean): Gref {
    checkPeer('peer', peer);
    checkFrame('gfn', gfn);
    checkFlag('readonly', readonly);
    const gref = this.references.alloc();
    this.open(gref, peer, gfn, readonly);
    return gref;
  }

  /** References that are published and whose end does not wait: counted by peer, so that a request counts once. */
  get granted(): number {
    return this.peers.total - this.deferred.size - this.leaked;
  }

  // The two calls of every request of a driver: straight lines for what they meet, on numbers that the compiler knows for machine
  // integers from their first line on, and a call for anything else. Short, so that a driver's compiler takes them in whole.
  publish(gref: Gref, peer: DomId, gfn: Gfn, readonly: boolean): void {
    const { list } = this;
    const ref = gref | 0;
    const domid = peer & DOMID_MAX;
    const frame = gfn | 0;
    if (
      ref !== gref ||
      domid !== peer ||
      frame !== gfn ||
      frame < 0 ||
      list.state[ref] !== CLAIMED ||
      (readonly !== true && readonly !== false) ||
      this.references.closed === true ||
      this.entries.plain !== true ||
      this.bus?.observed('gnttab:granted') === true
    ) {
      this.publishOther(gref, peer, gfn, readonly);
      return;
    }
    this.entries.writePlain(ref, readonly === true ? PERMIT_READING : PERMIT, domid, frame);
    list.state[ref] = GRANTED;
    // A granted reference is in no list, so its link is free to remember the peer; the entry itself is not to be trusted for it.
    list.link[ref] = domid;
    this.peers.add(domid);
  }

  /** `publish` of what is watched, or rare, or wrong. */
  private publishOther(gref: Gref, peer: DomId, gfn: Gfn, readonly: boolean): void {
    if (this.list.state[gref] !== CLAIMED) this.refuseUnclaimed(gref);
    checkPeer('peer', peer);
    checkFrame('gfn', gfn);
    checkFlag('readonly', readonly);
    this.references.refuseClosed('publish');
    this.open(gref, peer, gfn, readonly);
  }

  publishMany(refs: Uint32Array, at: number, peer: DomId, gfns: ArrayLike<number>, from: number, count: number, readonly: boolean): void {
    const { state, link } = this.list;
    const domid = peer & DOMID_MAX;
    const flag = readonly === true || readonly === false;
    const plain = domid === peer && flag && this.references.closed !== true && this.bus?.observed('gnttab:granted') !== true;
    let done = 0;
    // Up to the first that is rare or wrong, which `publish` tells apart.
    for (; done < count && plain; done++) {
      const ref = refs[at + done]! | 0;
      const gfn = gfns[from + done]!;
      const frame = gfn | 0;
      if (frame !== gfn || frame < 0 || state[ref] !== CLAIMED) break;
      state[ref] = GRANTED;
      link[ref] = domid;
    }
    if (done > 0) {
      this.entries.writeMany(refs, at, readonly === true ? PERMIT_READING : PERMIT, domid, gfns, from, done);
      this.peers.change(domid, done);
    }
    for (; done < count; done++) this.publish(refs[at + done]! as Gref, peer, gfns[from + done]! as Gfn, readonly);
  }

  publishSubPage(gref: Gref, peer: DomId, gfn: Gfn, readonly: boolean, pageOffset: number, bytes: number): void {
    this.refuseVersion1('publishSubPage');
    if (this.references.list.state[gref] !== CLAIMED) this.refuseUnclaimed(gref);
    checkPeer('peer', peer);
    checkFrame('gfn', gfn);
    checkFlag('readonly', readonly);
    if (!Number.isInteger(pageOffset) || pageOffset < 0 || pageOffset >= PAGE_BYTES) {
      refuseArgument('pageOffset', pageOffset, `a whole number from 0 to ${PAGE_BYTES - 1}`);
    }
    if (!Number.isInteger(bytes) || bytes < 1 || bytes > PAGE_BYTES - pageOffset) {
      refuseArgument('bytes', bytes, `a whole number from 1 to ${PAGE_BYTES - pageOffset}, the end of the page`);
    }
    this.references.refuseClosed('publishSubPage');
    const flags = GTF.permit_access | GTF.sub_page | (readonly ? GTF.readonly : 0);
    this.entries.writeSubPage(gref, flags, peer, gfn, pageOffset, bytes);
    this.opened(gref, peer, gfn, readonly);
  }

  publishTransitive(gref: Gref, peer: DomId, through: DomId, throughGref: Gref, readonly: boolean): void {
    this.refuseVersion1('publishTransitive');
    if (this.references.list.state[gref] !== CLAIMED) this.refuseUnclaimed(gref);
    checkPeer('peer', peer);
    checkPeer('through', through);
    if (throughGref >>> 0 !== throughGref) refuseArgument('throughGref', throughGref, 'an unsigned 32-bit number');
    checkFlag('readonly', readonly);
    this.references.refuseClosed('publishTransitive');
    this.entries.writeTransitive(gref, GTF.transitive | (readonly ? GTF.readonly : 0), peer, through, throughGref);
    this.opened(gref, peer, undefined, readonly);
  }

  update(gref: Gref, peer: DomId, gfn: Gfn, readonly: boolean): boolean {
    if (!isGranted(this.references.list.state[gref])) this.refuseUngranted(gref);
    checkPeer('peer', peer);
    checkFrame('gfn', gfn);
    checkFlag('readonly', readonly);
    this.references.refuseClosed('update');
    if (!this.tryEnd(gref)) return false;
    this.open(gref, peer, gfn, readonly);
    return true;
  }

  tryEnd(gref: Gref): boolean {
    const { list } = this;
    const ref = gref | 0;
    if (ref !== gref || list.state[ref] !== GRANTED || this.bus?.observed('gnttab:ended') === true) return this.tryEndOther(gref);
    if (!this.entries.tryClear(ref)) return this.refusedEnd(gref);
    list.state[ref] = CLAIMED;
    this.peers.remove(list.link[ref]!);
    return true;
  }

  tryEndMany(refs: Uint32Array, at: number, count: number): number {
    const { state, link } = this.list;
    let run = 0;
    // Marked as they are counted, so that a reference that stands there twice is met as no longer granted.
    if (this.bus?.observed('gnttab:ended') !== true) {
      for (; run < count && state[refs[at + run]!] === GRANTED; run++) state[refs[at + run]!] = CLAIMED;
    }
    const ended = this.entries.tryClearMany(refs, at, run);
    for (let i = ended; i < run; i++) state[refs[at + i]!] = GRANTED;
    // By stretches of one peer's, which as a rule is all of them.
    for (let i = 0; i < ended; ) {
      const peer = link[refs[at + i]!]!;
      const from = i++;
      while (i < ended && link[refs[at + i]!] === peer) i++;
      this.peers.change(peer, from - i);
    }
    if (ended < run) {
      this.refusedEnd(refs[at + ended]! as Gref);
      return ended;
    }
    // What is left is watched, was refused before, or is wrong.
    for (let i = run; i < count; i++) if (!this.tryEnd(refs[at + i]! as Gref)) return i;
    return count;
  }

  /** `tryEnd` of what is watched, was refused before, or is no granted reference. */
  private tryEndOther(gref: Gref): boolean {
    const { list } = this;
    const state = list.state[gref];
    if (state !== GRANTED && state !== BUSY) this.refuseUngranted(gref);
    const peer = list.link[gref]! as DomId;
    if (!this.entries.tryClear(gref)) return this.refusedEnd(gref);
    list.state[gref] = CLAIMED;
    if (state === BUSY) this.busy--;
    this.peers.remove(peer);
    if (this.bus?.observed('gnttab:ended')) this.bus.emit('gnttab:ended', { owner: this.owner, peer, gref });
    return true;
  }

  private refusedEnd(gref: Gref): false {
    const { list } = this;
    if (list.state[gref] === GRANTED) {
      list.state[gref] = BUSY;
      this.busy++;
    }
    if (this.bus?.observed('gnttab:busy')) this.bus.emit('gnttab:busy', { owner: this.owner, peer: list.link[gref]! as DomId, gref });
    return false;
  }

  tryEndAndFree(gref: Gref): boolean {
    if (!this.tryEnd(gref)) return false;
    this.references.free(gref);
    return true;
  }

  end(gref: Gref, page: Gfn | undefined): boolean {
    const { list } = this.references;
    if (!isGranted(list.state[gref])) this.refuseUngranted(gref);
    if (page !== undefined) checkFrame('page', page);
    // Of a version 2 entry the attempt closes the flags, and with them goes what the frame field means.
    const frame = this.entries.frameOf(gref, this.entries.flags(gref));
    if (this.tryEnd(gref)) {
      this.references.free(gref);
      if (page !== undefined) this.pages?.release(page);
      return true;
    }
    const held = page ?? frame;
    if (page === undefined && held >= 0) this.pages?.hold(held);
    this.busy--;
    if (this.references.closed || !this.canDefer()) {
      this.leaked++;
      this.leak(gref);
      return false;
    }
    list.state[gref] = STATE.deferred;
    this.deferred.add(gref, held);
    if (this.bus?.observed('gnttab:deferred')) {
      const peer = list.link[gref]! as DomId;
      this.bus.emit('gnttab:deferred', { owner: this.owner, peer, gref, page: held < 0 ? undefined : (held as Gfn) });
    }
    return false;
  }

  isInUse(gref: Gref): boolean {
    if (gref >>> 0 !== gref || gref >= this.references.list.size) {
      refuseGref(this.references.list, 'gref', gref, `a reference of the table, 0 to ${this.references.list.size - 1}`);
    }
    return this.entries.inUse(gref);
  }

  tryClear(gref: number): boolean {
    return this.entries.tryClear(gref);
  }

  freed(gref: number, page: number): void {
    const { list } = this.references;
    this.peers.remove(list.link[gref]!);
    list.put(gref);
    this.references.freed(gref, 1);
    if (this.bus?.observed('gnttab:deferred-freed')) {
      const facts = { owner: this.owner, gref: gref as Gref, page: page < 0 ? undefined : (page as Gfn) };
      this.bus.emit('gnttab:deferred-freed', facts);
    }
    if (page >= 0) this.pages?.release(page);
  }

  stillPending(gref: number): void {
    if (!this.bus?.observed('gnttab:still-pending')) return;
    const peer = this.references.list.link[gref]! as DomId;
    this.bus.emit('gnttab:still-pending', { owner: this.owner, peer, gref: gref as Gref });
  }

  /** Stops the retries; what still waits is lost. */
  close(): void {
    const waiting = this.deferred.inOrder();
    this.deferred.close();
    this.leaked += waiting.length;
    for (const gref of waiting) this.leak(gref);
  }

  private leak(gref: number): void {
    const { list } = this.references;
    list.state[gref] = STATE.leaked;
    if (!this.bus?.observed('gnttab:leaked')) return;
    this.bus.emit('gnttab:leaked', { owner: this.owner, peer: list.link[gref]! as DomId, gref: gref as Gref });
  }

  private open(gref: Gref, peer: DomId, gfn: Gfn, readonly: boolean): void {
    this.entries.write(gref, readonly ? PERMIT_READING : PERMIT, peer, gfn);
    this.opened(gref, peer, gfn, readonly);
  }

  private opened(gref: Gref, peer: DomId, gfn: Gfn | undefined, readonly: boolean): void {
    const { list } = this.references;
    list.state[gref] = GRANTED;
    // A granted reference is in no list, so its link is free to remember the peer; the entry itself is not to be trusted for it.
    list.link[gref] = peer;
    this.peers.add(peer);
    if (this.bus?.observed('gnttab:granted')) this.bus.emit('gnttab:granted', { owner: this.owner, peer, gref, gfn, readonly });
  }

  private refuseUnclaimed(gref: number): never {
    refuseGref(this.references.list, 'gref', gref, 'a claimed reference');
  }

  private refuseUngranted(gref: number): never {
    refuseGref(this.references.list, 'gref', gref, 'a published reference whose end does not wait yet');
  }

  private refuseVersion1(operation: string): void {
    const { version } = this.entries;
    if (version === 1) throw new GrantError({ code: 'wrong-version', operation, version, allowed: 'a table of version 2' });
  }
}
