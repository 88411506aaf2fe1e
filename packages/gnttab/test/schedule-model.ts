import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import { expect } from 'vitest';
import type { TableStep } from '../src/generators.ts';
import { type FreeCallback, GrantError, type GrantList } from '../src/index.ts';
import { type TableFixture, tableFixture } from '../src/testing.ts';

const PEERS = [2, 3, 5].map((domid) => domid as DomId);
const IN_USE = 0x18;

type Place = 'listed' | 'claimed' | 'granted' | 'deferred' | 'leaked';

interface Out {
  place: Place;
  peer: DomId;
  page: number;
}

export interface ScheduleOptions {
  readonly version: 1 | 2;
  readonly initialFrames: number;
  readonly maxFrames: number;
  readonly shared: boolean;
}

/**
 * Runs a schedule on a table and, beside it, on the plainest model there is: a map from each reference that is out to where it
 * is. After every step the counts and what the step handed out or took back are compared, in full every hundredth step.
 */
export class ScheduleModel {
  readonly fixture: TableFixture;
  /** What happened at least once: a schedule that never gets anywhere proves nothing. */
  readonly seen: Set<string> = new Set();
  private readonly out: Map<number, Out> = new Map();
  private readonly byPlace: Record<Place, Gref[]> = { listed: [], claimed: [], granted: [], deferred: [], leaked: [] };
  private readonly lists: { list: GrantList; members: Gref[] }[] = [];
  private readonly callbacks: { id: number; calls: number; callback: FreeCallback }[] = [];
  private readonly waiting: Set<number> = new Set();
  /** Handles of the peers' mappings: [reference, peer, handle]. */
  private readonly mappings: [Gref, DomId, number][] = [];
  /** References whose in-use bits a peer made up. */
  private readonly forged: Set<number> = new Set();
  private readonly perFrame: number;
  private readonly mappable: number;
  private nextPage = 0;
  private frames: number;
  private recordFits = true;
  private steps = 0;

  constructor(options: ScheduleOptions) {
    this.perFrame = options.version === 1 ? 512 : 256;
    this.mappable = 64;
    this.fixture = tableFixture({ ...options, pages: this.mappable, record: false, canDefer: () => this.recordFits });
    this.frames = options.initialFrames;
    for (let id = 0; id < 4; id++) {
      const entry = { id, calls: 0, callback: { notify: () => this.called(id) } };
      this.callbacks.push(entry);
    }
  }

  run(step: TableStep): void {
    this.step(step);
    if (this.frames !== this.fixture.table.frames) this.seen.add('grown');
    this.frames = this.fixture.table.frames;
    this.compareCounts();
    if (++this.steps % 100 === 0) this.compareAll();
  }

  compareAll(): void {
    const { table } = this.fixture;
    const free = [...table.freeReferences()];
    const members = new Set<number>(free);
    expect(members.size).toBe(free.length);
    let longest = 0;
    for (let ref = 0, run = 0; ref < table.entries; ref++) {
      const isFree = ref >= 8 && !this.out.has(ref);
      if (isFree !== members.has(ref)) throw new Error(`reference ${ref} is ${isFree ? '' : 'not '}free in the model`);
      run = isFree ? run + 1 : 0;
      longest = Math.max(longest, run);
    }
    const usage = table.usage();
    expect(usage.largestRun).toBe(longest);
    const live = [...table.liveEntries()];
    expect(live.map(({ gref }) => gref as number)).toEqual(
      [...this.byPlace.granted, ...this.byPlace.deferred, ...this.byPlace.leaked].map(Number).sort((a, b) => a - b),
    );
    for (const entry of live) expect(entry.peer).toBe(this.out.get(entry.gref)!.peer);
    for (const peer of PEERS) expect(table.grantedTo(peer)).toBe(live.filter((entry) => entry.peer === peer).length);
    expect(table.deferredReferences().toSorted((a, b) => a - b)).toEqual(this.byPlace.deferred.toSorted((a, b) => a - b));
    for (const { list, members: listed } of this.lists) {
      expect(list.length).toBe(listed.length);
      expect(table.emptyGrantReferences(list)).toBe(listed.length === 0);
    }
    for (const ref of members) this.expectUnmapped(ref);
  }

  private compareCounts(): void {
    const { table } = this.fixture;
    const free = this.frames * this.perFrame - 8 - this.out.size;
    if (table.free !== free) throw new Error(`${table.free} references are free, in the model ${free}`);
    const { byPlace } = this;
    const published = PEERS.reduce((sum, peer) => sum + table.grantedTo(peer), 0);
    const wanted = byPlace.granted.length + byPlace.deferred.length + byPlace.leaked.length;
    if (published !== wanted) throw new Error(`${published} entries are published, in the model ${wanted}`);
    // Asking for the usage brings the tree of runs up to date; not asking at every step leaves stale leaves to be found.
    if (this.steps % 10 !== 0) return;
    const { private: priv, granted, deferred, leaked } = table.usage();
    const want = [byPlace.listed.length + byPlace.claimed.length, byPlace.granted.length, byPlace.deferred.length, byPlace.leaked.length];
    if (want.join() !== [priv, granted, deferred, leaked].join()) {
      throw new Error(`private, granted, deferred, leaked are ${[priv, granted, deferred, leaked]}, in the model ${want}`);
    }
  }

  private step({ kind, pick, count }: TableStep): void {
    const { table, guest, clock } = this.fixture;
    switch (kind) {
      case 'alloc':
        this.unlessExhausted(() => this.takeOut(table.allocGrantReference(), 'claimed'));
        return;
      case 'allocList':
        this.unlessExhausted(() => {
          const list = table.allocGrantReferences(count);
          const members: Gref[] = [];
          this.lists.push({ list, members });
          // A list shows its head only, so its members are learnt by claiming them all and releasing them again.
          for (let ref = table.claimGrantReference(list); ref !== undefined; ref = table.claimGrantReference(list)) members.push(ref);
          expect(members).toHaveLength(count);
          for (const ref of members.toReversed()) table.releaseGrantReference(list, ref);
          for (const ref of members) this.takeOut(ref, 'listed');
        });
        return;
      case 'claim': {
        const list = this.lists[pick % Math.max(this.lists.length, 1)];
        if (list === undefined) return;
        const ref = table.claimGrantReference(list.list);
        expect(ref).toBe(list.members.shift());
        if (ref !== undefined) this.move(ref, 'claimed');
        return;
      }
      case 'release': {
        const list = this.lists[pick % Math.max(this.lists.length, 1)];
        const ref = this.pick('claimed', pick);
        if (list === undefined || ref === undefined) return;
        table.releaseGrantReference(list.list, ref);
        list.members.unshift(ref);
        this.move(ref, 'listed');
        return;
      }
      case 'free': {
        const ref = this.pick('claimed', pick);
        if (ref === undefined) return;
        table.freeGrantReference(ref);
        this.giveBack(ref);
        return;
      }
      case 'freeList': {
        if (this.lists.length === 0) return;
        const [list] = this.lists.splice(pick % this.lists.length, 1);
        table.freeGrantReferences(list!.list);
        for (const ref of list!.members) this.giveBack(ref);
        return;
      }
      case 'allocSeq':
        this.unlessExhausted(() => {
          const first = table.allocGrantReferenceSeq(count);
          for (let ref = first; ref < first + count; ref++) this.takeOut(ref as Gref, 'claimed');
        });
        return;
      case 'freeSeq': {
        const first = this.pick('claimed', pick);
        if (first === undefined) return;
        let end = first + 1;
        while (end < first + count && this.out.get(end)?.place === 'claimed') end++;
        table.freeGrantReferenceSeq(first, end - first);
        for (let ref = first; ref < end; ref++) this.giveBack(ref as Gref);
        return;
      }
      case 'grant':
        this.unlessExhausted(() => {
          const peer = PEERS[pick % PEERS.length]!;
          const page = this.nextPage++;
          const ref = table.grantForeignAccess({ peer, gfn: (page % this.mappable) as Gfn, readonly: pick % 2 === 0 });
          this.takeOut(ref, 'granted', peer, page);
        });
        return;
      case 'publish': {
        const ref = this.pick('claimed', pick);
        if (ref === undefined) return;
        const out = this.out.get(ref)!;
        out.peer = PEERS[pick % PEERS.length]!;
        out.page = this.nextPage++;
        table.publish(ref, out.peer, (out.page % this.mappable) as Gfn, pick % 2 === 0);
        this.move(ref, 'granted');
        return;
      }
      case 'tryEnd': {
        const ref = this.pick('granted', pick);
        if (ref === undefined) return;
        if (this.expectEnd(ref, table.tryEnd(ref))) this.move(ref, 'claimed');
        return;
      }
      case 'tryEndForeignAccess': {
        const ref = this.pick('granted', pick);
        if (ref === undefined) return;
        if (this.expectEnd(ref, table.tryEndForeignAccess(ref))) this.giveBack(ref);
        return;
      }
      case 'endForeignAccess': {
        const ref = this.pick('granted', pick);
        if (ref === undefined) return;
        const page = this.out.get(ref)!.page;
        if (this.expectEnd(ref, table.endForeignAccess(ref, (1000 + page) as Gfn))) {
          expect(this.fixture.pages.get(1000 + page)).toBe(0);
          this.giveBack(ref);
        } else {
          expect(this.fixture.pages.get(1000 + page)).toBe(1);
          this.move(ref, this.recordFits ? 'deferred' : 'leaked');
        }
        return;
      }
      case 'peerMaps': {
        const ref = this.pick(pick % 5 === 0 ? 'deferred' : 'granted', pick);
        if (ref === undefined) return;
        const { peer } = this.out.get(ref)!;
        try {
          this.mappings.push([ref, peer, this.fixture.mapAs(peer, ref, true)]);
        } catch {
          // A deferred version 2 entry is closed; a forged type is refused.
        }
        return;
      }
      case 'peerUnmaps': {
        if (this.mappings.length === 0) return;
        const [mapping] = this.mappings.splice(pick % this.mappings.length, 1);
        this.fixture.unmapAs(mapping![1], mapping![2]);
        // The hypervisor takes the last reader's bit away, a made-up one with it.
        if (guest.pins(mapping![0]) === 0) {
          guest.changeFlags(mapping![0], 0, IN_USE);
          this.forged.delete(mapping![0]);
        }
        return;
      }
      case 'peerFlips': {
        const ref = this.pick(pick % 3 === 0 ? 'deferred' : 'granted', pick);
        if (ref === undefined) return;
        if (pick % 2 === 0) {
          guest.changeFlags(ref, pick % 4 === 0 ? 8 : 16, 0);
          this.forged.add(ref);
        } else if (guest.pins(ref) === 0) {
          guest.changeFlags(ref, 0, IN_USE);
          this.forged.delete(ref);
        }
        // Cache attributes and other bits that mean nothing to an end.
        if (table.version === 1) guest.changeFlags(ref, (pick >>> 3) & 0xe0, (pick >>> 6) & 0xe0);
        return;
      }
      case 'growthFails':
        guest.refuseGrowth = pick % 3 === 0 ? -1 : 0;
        return;
      case 'recordFails':
        this.recordFits = pick % 4 !== 0;
        return;
      case 'requestCallback': {
        const { id, callback } = this.callbacks[pick % 4]!;
        // One that waits already keeps its old count, so nothing happens.
        const waits = this.waiting.has(id);
        this.waiting.add(id);
        table.requestFreeCallback(callback, count);
        expect(this.waiting.has(id)).toBe(waits || table.free < count);
        return;
      }
      case 'cancelCallback': {
        const { id, callback } = this.callbacks[pick % 4]!;
        expect(table.cancelFreeCallback(callback)).toBe(this.waiting.delete(id));
        return;
      }
      case 'advance': {
        const before = [...this.byPlace.deferred];
        clock.advance(pick % 3000);
        const left = new Set<number>(table.deferredReferences());
        for (const ref of before) {
          if (left.has(ref)) continue;
          this.expectUnmapped(ref);
          expect(this.fixture.pages.get(1000 + this.out.get(ref)!.page)).toBe(0);
          this.giveBack(ref);
          this.seen.add('freed later');
        }
        return;
      }
    }
  }

  private unlessExhausted(call: () => void): void {
    try {
      call();
    } catch (error) {
      if (!(error instanceof GrantError) || error.refusal.code !== 'exhausted') throw error;
      this.seen.add(error.refusal.status === undefined ? 'exhausted' : 'no frame');
    }
  }

  private expectEnd(ref: Gref, ended: boolean): boolean {
    const used = this.fixture.guest.pins(ref) > 0 || this.forged.has(ref);
    expect(ended).toBe(!used);
    this.seen.add(ended ? 'ended' : 'busy');
    return ended;
  }

  private expectUnmapped(ref: number): void {
    if (this.fixture.guest.pins(ref) > 0) throw new Error(`reference ${ref} came back while it is mapped`);
  }

  private takeOut(ref: Gref, place: Place, peer: DomId = PEERS[0]!, page = -1): void {
    if (ref < 8 || ref >= this.fixture.table.entries || this.out.has(ref)) throw new Error(`reference ${ref} was handed out twice`);
    this.expectUnmapped(ref);
    this.out.set(ref, { place, peer, page });
    this.byPlace[place].push(ref);
  }

  private giveBack(ref: Gref): void {
    this.expectUnmapped(ref);
    const { place } = this.out.get(ref)!;
    this.byPlace[place].splice(this.byPlace[place].indexOf(ref), 1);
    this.out.delete(ref);
  }

  private move(ref: Gref, place: Place): void {
    const out = this.out.get(ref)!;
    this.seen.add(place);
    this.byPlace[out.place].splice(this.byPlace[out.place].indexOf(ref), 1);
    out.place = place;
    this.byPlace[place].push(ref);
  }

  private pick(place: Place, pick: number): Gref | undefined {
    return this.byPlace[place][pick % Math.max(this.byPlace[place].length, 1)];
  }

  private called(id: number): void {
    this.seen.add('called');
    if (!this.waiting.delete(id)) throw new Error(`callback ${id} was called without waiting`);
  }
}
