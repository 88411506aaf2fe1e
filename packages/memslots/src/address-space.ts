import { invariant } from '@paravirt/event-bus/contract';
import { DirtyLog } from './dirty-log.ts';
import { HvaIndex } from './hva-index.ts';
import { Journal } from './journal.ts';
import { INVALID } from './region.ts';
import { grown, growTo, hintScale, SlotIndex } from './slot-index.ts';
import { type AddressSpaceView, LOG_DIRTY_PAGES, PAGE_SIZE, READONLY, type Slot } from './types.ts';

const ID_PAGE_BITS = 8;
const NO_IDS = new Uint16Array(1 << ID_PAGE_BITS);
const HINTS_MAX = 1 << 16;

/**
 * The slots of one address space: a row of numbers for each, two sorted indexes over them, and two caches in front.
 *
 * Hints are never invalidated: they are only believed after a look at the bounds of the row they name, and the bounds of a row that is given back are empty.
 * So a hint can be stale, and cannot be wrong. The slot in steady use is a copy, in front of them, which every change of that slot empties.
 */
export class AddressSpace implements AddressSpaceView {
  readonly asId: number;
  generation: number;
  /** By row, three a row: first frame, end frame, host address; the address is `-4096 - address`, exact up to 2^64, while nothing may be written there. Row 0 is no slot and contains nothing. */
  data: Float64Array;
  flags: Uint8Array;
  /** Id by row; of rows given back, the next free one. */
  ids: Uint16Array;
  readonly index: SlotIndex;
  readonly hostIndex: HvaIndex;
  /** What changes replaced, for snapshots. */
  readonly journal: Journal;
  usedSlots = 0;

  // A copy of the slot in steady use. What the fields hold at first is no small integer, so that they hold doubles from the start.
  #last = 0;
  #seen = 0;
  #lastBase: number = Number.POSITIVE_INFINITY;
  #lastEnd: number = Number.NEGATIVE_INFINITY;
  #lastHost = -0.5;
  /** Rows by the high bits of a frame. */
  #hints: Uint16Array = new Uint16Array(1);
  #hintMask = 0;
  #hintScale = 0.5;
  #tunings = 0;

  readonly #slotsMax: number;
  readonly #rowOfId: Uint16Array[];
  #freeRow = 0;
  #rowsMade = 1;
  /** By row: index into the logs, 0 for none. Made with the first dirty log. */
  #logOfRow: Uint16Array = new Uint16Array(0);
  #logs: (DirtyLog | undefined)[] = [undefined];
  readonly #freeLogs: number[] = [];

  constructor(asId: number, slotsMax: number) {
    this.asId = asId;
    this.generation = asId;
    this.#slotsMax = slotsMax;
    this.data = Float64Array.of(Number.POSITIVE_INFINITY, 0, -PAGE_SIZE);
    this.flags = Uint8Array.of(READONLY | INVALID);
    this.ids = new Uint16Array(1);
    this.#rowOfId = Array.from({ length: (slotsMax + 255) >>> ID_PAGE_BITS }, () => NO_IDS);
    this.journal = new Journal(this);
    this.index = new SlotIndex(slotsMax);
    this.hostIndex = new HvaIndex(slotsMax, this);
  }

  translate(gfn: number): number {
    if (gfn >= this.#lastBase && gfn < this.#lastEnd) {
      return this.#lastHost < 0 ? -1 : this.#lastHost + (gfn - this.#lastBase) * PAGE_SIZE;
    }
    const at = this.#search(gfn) * 3;
    const { data } = this;
    const host = data[at + 2]!;
    return host < 0 ? -1 : host + (gfn - data[at]!) * PAGE_SIZE;
  }

  translateRead(gfn: number): number {
    const row = this.find(gfn);
    if ((this.flags[row]! & INVALID) !== 0) return -1;
    return this.hostOf(row) + (gfn - this.data[row * 3]!) * PAGE_SIZE;
  }

  lookup(gfn: number): number {
    const row = this.find(gfn);
    return row === 0 ? -1 : this.ids[row]!;
  }

  /** Row of the slot that contains the frame; 0 when there is none. */
  find(gfn: number): number {
    if (gfn >= this.#lastBase && gfn < this.#lastEnd) return this.#last;
    return this.#search(gfn);
  }

  /** {@link find} past the slot found last. */
  #search(gfn: number): number {
    const { data } = this;
    const bucket = (gfn * this.#hintScale) & this.#hintMask;
    const row = this.#hints[bucket]!;
    const at = row * 3;
    if (!(gfn >= data[at]! && gfn < data[at + 1]!)) return this.#searchIndex(gfn, bucket);
    if (row === this.#seen) this.#keep(row);
    else this.#seen = row;
    return row;
  }

  /** {@link find} past the hints. */
  #searchIndex(gfn: number, bucket: number): number {
    const position = this.index.blockOf(gfn);
    if (position < 0) return 0;
    const row = this.index.rows[this.index.entryIn(position, gfn)]!;
    if (gfn >= this.data[row * 3 + 1]!) return 0;
    this.#hints[bucket] = row;
    return row;
  }

  /** Makes it the slot found last. Only the second find in a row does so: one stray access does not push out a slot in steady use. */
  #keep(row: number): void {
    const at = row * 3;
    this.#last = row;
    this.#lastBase = this.data[at]!;
    this.#lastEnd = this.data[at + 1]!;
    this.#lastHost = this.data[at + 2]!;
  }

  /** The slot in steady use is a copy, so every change of that slot empties it. */
  #forget(row: number): void {
    if (row !== this.#last) return;
    this.#last = 0;
    this.#lastBase = Number.POSITIVE_INFINITY;
    this.#lastEnd = Number.NEGATIVE_INFINITY;
    this.#lastHost = -1;
  }

  /** Host address of a row, whatever it may be used for. */
  hostOf(row: number): number {
    const host = this.data[row * 3 + 2]!;
    return host < 0 ? -PAGE_SIZE - host : host;
  }

  /** Row with this id; 0 when there is none. */
  rowOf(id: number): number {
    return this.#rowOfId[id >>> ID_PAGE_BITS]?.[id & ((1 << ID_PAGE_BITS) - 1)] ?? 0;
  }

  pagesOf(row: number): number {
    return this.data[row * 3 + 1]! - this.data[row * 3]!;
  }

  hostEnd(row: number): number {
    const at = row * 3;
    return this.hostOf(row) / PAGE_SIZE + (this.data[at + 1]! - this.data[at]!);
  }

  /** The row with the highest first frame below the frame; 0 when there is none. */
  rowBelow(gfn: number): number {
    const position = this.index.blockOf(Math.min(gfn - 1, Number.MAX_VALUE));
    return position < 0 ? 0 : this.index.rows[this.index.entryIn(position, Math.min(gfn - 1, Number.MAX_VALUE))]!;
  }

  /** The row with the lowest first frame at or above the frame; 0 when there is none. */
  rowFrom(gfn: number): number {
    const at = this.index.firstFrom(gfn);
    return at < 0 ? 0 : this.index.rows[at]!;
  }

  /** Id of a slot other than row `except` that meets frames `[base, end)`; -1 when there is none. */
  overlapping(base: number, end: number, except: number): number {
    const position = this.index.blockOf(end - 1);
    if (position < 0) return -1;
    let at = this.index.entryIn(position, end - 1);
    // Slots do not overlap, so among those that begin before `end` the last one also ends last: it alone decides.
    if (this.index.rows[at] === except) {
      at = this.index.previous(position, at);
      if (at < 0) return -1;
    }
    const row = this.index.rows[at]!;
    return this.data[row * 3 + 1]! > base ? this.ids[row]! : -1;
  }

  slotOf(row: number): Slot {
    const at = row * 3;
    const baseGfn = this.data[at]!;
    return {
      id: this.ids[row]!,
      asId: this.asId,
      baseGfn,
      pages: this.data[at + 1]! - baseGfn,
      flags: this.flags[row]! & ~INVALID,
      userspaceAddr: this.hostOf(row),
    };
  }

  insert(id: number, base: number, pages: number, hostAddress: number, flags: number): number {
    const row = this.#takeRow();
    if (this.journal.active) this.journal.record(id, 0);
    const at = row * 3;
    this.data[at] = base;
    this.data[at + 1] = base + pages;
    this.data[at + 2] = (flags & READONLY) === 0 ? hostAddress : -PAGE_SIZE - hostAddress;
    this.flags[row] = flags;
    this.ids[row] = id;
    const page = id >>> ID_PAGE_BITS;
    if (this.#rowOfId[page] === NO_IDS) this.#rowOfId[page] = new Uint16Array(1 << ID_PAGE_BITS);
    this.#rowOfId[page]![id & ((1 << ID_PAGE_BITS) - 1)] = row;
    this.index.insert(base, row);
    this.hostIndex.insert(hostAddress / PAGE_SIZE, row);
    this.usedSlots += 1;
    this.#changed();
    return row;
  }

  remove(row: number): void {
    const id = this.ids[row]!;
    if (this.journal.active) this.journal.record(id, row);
    this.setLog(row, undefined);
    const at = row * 3;
    this.index.remove(this.data[at]!, row);
    this.hostIndex.remove(this.hostOf(row) / PAGE_SIZE, row);
    this.#forget(row);
    this.data[at] = Number.POSITIVE_INFINITY;
    this.data[at + 1] = 0;
    this.data[at + 2] = -PAGE_SIZE;
    this.flags[row] = READONLY | INVALID;
    this.#rowOfId[id >>> ID_PAGE_BITS]![id & ((1 << ID_PAGE_BITS) - 1)] = 0;
    this.ids[row] = this.#freeRow;
    this.#freeRow = row;
    this.usedSlots -= 1;
    this.#changed();
  }

  move(row: number, base: number, flags: number): void {
    if (this.journal.active) this.journal.record(this.ids[row]!, row);
    const at = row * 3;
    const pages = this.data[at + 1]! - this.data[at]!;
    this.index.remove(this.data[at]!, row);
    this.#forget(row);
    this.data[at] = base;
    this.data[at + 1] = base + pages;
    this.#flag(row, flags);
    this.index.insert(base, row);
    this.#changed();
  }

  setFlags(row: number, flags: number): void {
    if (this.journal.active) this.journal.record(this.ids[row]!, row);
    this.#forget(row);
    this.#flag(row, flags);
  }

  #flag(row: number, flags: number): void {
    const hostAddress = this.hostOf(row);
    this.flags[row] = flags;
    this.data[row * 3 + 2] = (flags & (READONLY | INVALID)) === 0 ? hostAddress : -PAGE_SIZE - hostAddress;
  }

  logOf(row: number): DirtyLog | undefined {
    return row < this.#logOfRow.length ? this.#logs[this.#logOfRow[row]!] : undefined;
  }

  setLog(row: number, log: DirtyLog | undefined): void {
    if (row >= this.#logOfRow.length) {
      if (log === undefined) return;
      this.#logOfRow = grown(this.#logOfRow, this.ids.length);
    }
    const had = this.#logOfRow[row]!;
    if (had !== 0) {
      this.#logs[had] = undefined;
      this.#freeLogs.push(had);
    }
    this.#logOfRow[row] = 0;
    if (log === undefined) return;
    const slot = this.#freeLogs.pop() ?? this.#logs.length;
    this.#logs[slot] = log;
    this.#logOfRow[row] = slot;
  }

  newLog(row: number, allSet: boolean): void {
    this.setLog(row, new DirtyLog(this.pagesOf(row), allSet));
  }

  mark(gfn: number): void {
    const row = this.find(gfn);
    if ((this.flags[row]! & LOG_DIRTY_PAGES) === 0) return;
    this.logOf(row)?.mark(gfn - this.data[row * 3]!);
  }

  bytes(): { tables: number; dirtyLogs: number } {
    let tables = this.data.byteLength + this.flags.byteLength + this.ids.byteLength + this.#logOfRow.byteLength;
    tables += this.#hints.byteLength;
    tables += this.index.bytes() + this.hostIndex.bytes();
    for (const page of this.#rowOfId) if (page !== NO_IDS) tables += page.byteLength;
    let dirtyLogs = 0;
    for (const log of this.#logs) dirtyLogs += log?.held ?? 0;
    return { tables, dirtyLogs };
  }

  #takeRow(): number {
    if (this.#freeRow !== 0) {
      const row = this.#freeRow;
      this.#freeRow = this.ids[row]!;
      return row;
    }
    const row = this.#rowsMade;
    invariant(row <= this.#slotsMax, () => `${row} rows for ${this.#slotsMax} slots`);
    this.#rowsMade += 1;
    if (row >= this.ids.length) {
      const rows = growTo(row + 1, this.ids.length, this.#slotsMax + 1);
      this.data = grown(this.data, rows * 3);
      this.flags = grown(this.flags, rows);
      this.ids = grown(this.ids, rows);
    }
    return row;
  }

  /** Chooses the width of the hints anew where the index has done so. */
  #changed(): void {
    if (this.index.tunings === this.#tunings) return;
    this.#tunings = this.index.tunings;
    let hints = 1;
    while (hints * 3 < this.index.size * 4 && hints < HINTS_MAX) hints *= 2;
    if (hints !== this.#hints.length) this.#hints = new Uint16Array(hints);
    this.#hintMask = hints - 1;
    this.#hintScale = hintScale(this.index.span, hints);
  }
}
