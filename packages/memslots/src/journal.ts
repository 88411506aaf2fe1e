import type { AddressSpace } from './address-space.ts';
import { HeldSnapshot, Moment, type SlotSnapshot } from './snapshot.ts';

/** What one id was before one change: an entry of the journal. */
export interface UndoRecord {
  readonly id: number;
  /** Whether the id was in use at all. */
  readonly present: boolean;
  readonly base: number;
  readonly end: number;
  readonly hostAddress: number;
  readonly flags: number;
  next: UndoRecord | null;
}

/** Records between two rounds that let every moment take in what there is. */
const ROUND = 1024;
const START: Omit<UndoRecord, 'next'> = { id: -1, present: false, base: 0, end: 0, hostAddress: 0, flags: 0 };

/**
 * What changes replaced, for the snapshots of an address space: a list of which only the newest record is held here and older ones by their readers, so that
 * what nobody needs any more is simply unreachable. While there is no snapshot nothing is recorded.
 */
export class Journal {
  /** Whether changes have to be recorded. */
  active = false;
  readonly #live: AddressSpace;
  #newest: UndoRecord = { ...START, next: null };
  #recorded = 0;
  /** The moment that is still now, which the next snapshot shares. */
  #now: Moment | null = null;
  /** Moments since the last round. */
  #recent: Moment[] = [];
  /** Older ones; weak, because forgetting a snapshot without releasing it is allowed. */
  #older: WeakRef<Moment>[] = [];

  constructor(live: AddressSpace) {
    this.#live = live;
  }

  /** Keeps what `id` was before a change: the slot of `row`, or none where `row` is 0. Called while {@link active}. */
  record(id: number, row: number): void {
    const { data, flags } = this.#live;
    const at = row * 3;
    const hostAddress = this.#live.hostOf(row);
    const record = { id, present: row !== 0, base: data[at]!, end: data[at + 1]!, hostAddress, flags: flags[row]!, next: null };
    this.#newest.next = record;
    this.#newest = record;
    this.#now = null;
    this.#recorded += 1;
    if (this.#recorded % ROUND === 0) this.#round();
  }

  snapshot(): SlotSnapshot {
    // The number of a set may change without a record, between two hooks.
    if (this.#now === null || this.#now.generation !== this.#live.generation) {
      this.#now = new Moment(this.#live, this.#newest);
      this.#recent.push(this.#now);
      this.active = true;
    }
    return new HeldSnapshot(this.#now);
  }

  /** The last holder of `moment` released it. */
  forget(moment: Moment): void {
    if (this.#now === moment) this.#now = null;
    const at = this.#recent.lastIndexOf(moment);
    if (at >= 0) this.#recent.splice(at, 1);
    else this.#older = this.#older.filter((other) => other.deref() !== moment);
    this.#rest();
  }

  /** Lets every moment take in the journal, so that one which is kept and never read holds a record a slot and not one a change. */
  #round(): void {
    this.#now = null;
    const older: WeakRef<Moment>[] = [];
    for (const reference of this.#older) {
      const moment = reference.deref();
      if (moment === undefined) continue;
      moment.catchUp();
      older.push(reference);
    }
    for (const moment of this.#recent) {
      moment.catchUp();
      older.push(new WeakRef(moment));
    }
    this.#older = older;
    this.#recent = [];
    this.#rest();
  }

  #rest(): void {
    if (this.#recent.length === 0 && this.#older.length === 0) this.active = false;
  }
}
