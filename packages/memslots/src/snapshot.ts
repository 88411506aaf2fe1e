import type { AddressSpace } from './address-space.ts';
import { refuse } from './errors.ts';
import type { UndoRecord } from './journal.ts';
import { gfnOf, INVALID } from './region.ts';
import { HVA_BAD, HVA_RO_BAD, PAGE_SIZE, READONLY, type Slot, type U64 } from './types.ts';

/** A record without the way to the next, which would keep the whole journal alive. */
type Undone = Omit<UndoRecord, 'next'>;

/** Up to so many records are put into place one by one; more are sorted. */
const FEW = 16;
/** Shared by all that have seen no change; never written. */
const NOTHING: Map<number, Undone> = new Map();

/** The slots of one address space as they were when it was taken. */
export interface SlotSnapshot {
  readonly asId: number;
  /** Generation of the set it shows; negative when taken in the middle of an installation. */
  readonly generation: number;
  readonly usedSlots: number;
  /** Id of the slot that contains the frame, or -1. */
  gfnToMemslot(gfn: U64): number;
  /** Host address for writing, `HVA_BAD` or `HVA_RO_BAD`. */
  gfnToHva(gfn: U64): number;
  /** The slot with this id, or `null`. */
  slot(id: number): Slot | null;
  /** From highest frame to lowest. */
  slots(): IterableIterator<Slot>;
  /** The slots that meet frames `[start, end)`, ascending. */
  slotsIn(start: number, end: number): IterableIterator<Slot>;
  /** Ends its claim on the journal; reading it afterwards is refused (`bad-argument`). Not calling it is safe, and costs each change a small object. */
  release(): void;
}

/**
 * What snapshots of one moment share. It copies nothing: it reads what the journal gained since it last looked, keeps the first record of every id, and shows
 * the live slots but for those.
 */
export class Moment {
  readonly generation: number;
  readonly usedSlots: number;
  readonly live: AddressSpace;
  /** Snapshots that were not released. */
  holders = 0;
  #seen: UndoRecord;
  #undone: Map<number, Undone> = NOTHING;
  /** Those of `#undone` that were present, by first frame. */
  #before: Undone[] = [];
  /** Those that nobody asked for since. */
  #unsorted: Undone[] = [];

  /** `taken` is the journal's newest record now. */
  constructor(live: AddressSpace, taken: UndoRecord) {
    this.live = live;
    this.generation = live.generation;
    this.usedSlots = live.usedSlots;
    this.#seen = taken;
  }

  /** Reads the journal up to now. */
  catchUp(): void {
    let node = this.#seen;
    while (node.next !== null) {
      node = node.next;
      if (this.#undone.has(node.id)) continue;
      if (this.#undone === NOTHING) this.#undone = new Map();
      const { next: _, ...undone } = node;
      this.#undone.set(node.id, undone);
      if (undone.present) this.#unsorted.push(undone);
    }
    this.#seen = node;
  }

  /** {@link catchUp}, and `#before` in order. */
  #sort(): void {
    this.catchUp();
    const unsorted = this.#unsorted;
    if (unsorted.length === 0) return;
    if (unsorted.length <= FEW) for (const undone of unsorted) this.#before.splice(this.#after(undone.base), 0, undone);
    else this.#before = [...this.#before, ...unsorted].sort((a, b) => a.base - b.base);
    this.#unsorted = [];
  }

  slot(id: number): Slot | null {
    this.catchUp();
    const undone = this.#undone.get(id);
    if (undone !== undefined) return undone.present ? this.plain(undone) : null;
    const row = this.live.rowOf(id);
    return row === 0 ? null : this.live.slotOf(row);
  }

  plain({ id, base, end, flags, hostAddress }: Undone): Slot {
    return { id, asId: this.live.asId, baseGfn: base, pages: end - base, flags: flags & ~INVALID, userspaceAddr: hostAddress };
  }

  find(gfn: number): Undone | undefined {
    this.#sort();
    const live = this.live;
    const row = live.find(gfn);
    if (row !== 0 && !this.#undone.has(live.ids[row]!)) {
      const at = row * 3;
      const { data, ids, flags } = live;
      return { id: ids[row]!, present: true, base: data[at]!, end: data[at + 1]!, hostAddress: live.hostOf(row), flags: flags[row]! };
    }
    const before = this.#before[this.#after(gfn) - 1];
    return before !== undefined && gfn < before.end ? before : undefined;
  }

  /** How many of `#before` begin at or below the frame. */
  #after(gfn: number): number {
    let low = 0;
    let high = this.#before.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#before[middle]!.base <= gfn) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The highest slot that begins below the frame. */
  nextBelow(gfn: number): Slot | null {
    this.#sort();
    const live = this.live;
    let row = live.rowBelow(gfn);
    while (row !== 0 && this.#undone.has(live.ids[row]!)) row = live.rowBelow(live.data[row * 3]!);
    const before = this.#before[this.#after(gfn - 1) - 1] ?? (gfn === Number.POSITIVE_INFINITY ? this.#before.at(-1) : undefined);
    if (before !== undefined && (row === 0 || before.base > live.data[row * 3]!)) return this.plain(before);
    return row === 0 ? null : live.slotOf(row);
  }

  /** The lowest slot that begins in `[from, end)`. */
  nextFrom(from: number, end: number): Slot | null {
    this.#sort();
    const live = this.live;
    let row = live.rowFrom(from);
    while (row !== 0 && this.#undone.has(live.ids[row]!)) row = live.rowFrom(live.data[row * 3]! + 1);
    const before = this.#before[this.#after(from - 1)];
    if (before !== undefined && (row === 0 || before.base < live.data[row * 3]!)) return before.base < end ? this.plain(before) : null;
    return row === 0 || live.data[row * 3]! >= end ? null : live.slotOf(row);
  }
}

/** One holder's view of a {@link Moment}. */
export class HeldSnapshot implements SlotSnapshot {
  readonly asId: number;
  readonly generation: number;
  readonly usedSlots: number;
  #moment: Moment | null;

  constructor(moment: Moment) {
    this.asId = moment.live.asId;
    this.generation = moment.generation;
    this.usedSlots = moment.usedSlots;
    this.#moment = moment;
    moment.holders += 1;
  }

  release(): void {
    const moment = this.#moment;
    if (moment === null) return;
    this.#moment = null;
    moment.holders -= 1;
    if (moment.holders === 0) moment.live.journal.forget(moment);
  }

  gfnToMemslot(gfn: U64): number {
    return this.#held().find(gfnOf(gfn, 'gfn'))?.id ?? -1;
  }

  gfnToHva(gfn: U64): number {
    const frame = gfnOf(gfn, 'gfn');
    const found = this.#held().find(frame);
    if (found === undefined || (found.flags & INVALID) !== 0) return HVA_BAD;
    if ((found.flags & READONLY) !== 0) return HVA_RO_BAD;
    return found.hostAddress + (frame - found.base) * PAGE_SIZE;
  }

  slot(id: number): Slot | null {
    return this.#held().slot(id);
  }

  *slots(): Generator<Slot, undefined, undefined> {
    let below = Number.POSITIVE_INFINITY;
    for (;;) {
      const slot = this.#held().nextBelow(below);
      if (slot === null) return;
      below = slot.baseGfn;
      yield slot;
    }
  }

  *slotsIn(start: number, end: number): Generator<Slot, undefined, undefined> {
    const holder = this.#held().find(start);
    let from = start;
    if (holder !== undefined && start < end) {
      from = holder.end;
      yield this.#held().plain(holder);
    }
    for (;;) {
      const slot = this.#held().nextFrom(from, end);
      if (slot === null) return;
      from = slot.baseGfn + slot.pages;
      yield slot;
    }
  }

  #held(): Moment {
    return this.#moment ?? refuse('bad-argument', 'snapshot', 'released', 'one that was not released');
  }
}
