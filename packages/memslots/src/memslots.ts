import { createEventBus, type EventBus } from '@paravirt/event-bus';
import { filter, type Observable } from 'rxjs';
import { AddressSpace } from './address-space.ts';
import { describeSlots } from './describe.ts';
import type { DirtyLog } from './dirty-log.ts';
import { refuse, shown } from './errors.ts';
import type { MemslotsEvents } from './events.ts';
import { resolveOptions } from './options.ts';
import { Publisher } from './publisher.ts';
import { type CheckedRegion, checkRegion, frameAt, gfnOf, INVALID, isBelow, type Limits, wholeOf } from './region.ts';
import type { SlotSnapshot } from './snapshot.ts';
import {
  type AddressSpaceView,
  type ChangeKind,
  type DirtyPages,
  HVA_BAD,
  HVA_RO_BAD,
  type HvaHit,
  type HvaProt,
  LOG_DIRTY_PAGES,
  type MemoryRegion,
  type Memslots,
  type MemslotsOptions,
  PAGE_SIZE,
  type PendingChange,
  READONLY,
  type Slot,
  type SlotChange,
  type U64,
} from './types.ts';

class MemslotsTable implements Memslots {
  readonly options: Memslots['options'];
  readonly #limits: Limits;
  readonly #spaces: AddressSpace[] = [];
  readonly #publisher: Publisher;
  readonly #bus: EventBus<MemslotsEvents>;
  readonly #region: CheckedRegion = { id: 0, asId: 0, flags: 0, gfn: 0, pages: 0, hostFrame: 0 };
  /** Room for the rows of a query; one list for each query inside another's visits. */
  readonly #hitLists: number[][] = [];

  constructor(options: MemslotsOptions) {
    const { resolved, limits } = resolveOptions(options);
    this.options = resolved;
    this.#limits = limits;
    this.#bus = options.bus ?? createEventBus<MemslotsEvents>();
    this.#publisher = new Publisher(options.hooks ?? {}, this.#bus, resolved);
    for (let asId = 0; asId < limits.addressSpaces; asId++) this.#spaces.push(new AddressSpace(asId, limits.memSlotsNum));
  }

  // Changes

  setUserMemoryRegion(region: MemoryRegion): ChangeKind {
    checkRegion(region, this.#limits, true, this.#region);
    return this.#set(this.#region);
  }

  setMemoryRegion(region: MemoryRegion): ChangeKind {
    checkRegion(region, this.#limits, false, this.#region);
    return this.#set(this.#region);
  }

  createSlot(slot: { id: number; asId?: number; baseGfn: number; pages: number; userspaceAddr: number; flags?: number }): void {
    const { id, asId = 0, baseGfn, pages, userspaceAddr, flags = 0 } = slot;
    wholeOf(pages, 'pages', 2 ** 52);
    if (pages === 0) refuse('bad-argument', 'pages', pages, 'at least one page');
    if (this.#existing(id, asId) !== 0) refuse('bad-argument', 'id', id, 'an id that is not in use');
    this.setUserMemoryRegion({
      slot: id,
      asId,
      flags,
      guestPhysAddr: bytes(baseGfn, 'baseGfn'),
      memorySize: bytes(pages, 'pages'),
      userspaceAddr,
    });
  }

  deleteSlot(id: number, asId = 0): void {
    this.setUserMemoryRegion({ slot: id, asId, flags: 0, guestPhysAddr: 0, memorySize: 0, userspaceAddr: 0 });
  }

  moveSlot(id: number, baseGfn: number, asId = 0): ChangeKind {
    return this.#alter(id, asId, { base: bytes(baseGfn, 'baseGfn') });
  }

  setFlags(id: number, flags: number, asId = 0): ChangeKind {
    return this.#alter(id, asId, { flags });
  }

  #existing(id: number, asId: number): number {
    wholeOf(id, 'id', 0xffff);
    return id < this.#limits.memSlotsNum ? this.#space(asId).rowOf(id) : 0;
  }

  #alter(id: number, asId: number, { base, flags }: { base?: U64; flags?: number }): ChangeKind {
    const row = this.#existing(id, asId);
    if (row === 0) refuse('no-slot', 'id', id, 'the id of a slot in use');
    const slot = this.#space(asId).slotOf(row);
    return this.setMemoryRegion({
      slot: id,
      asId,
      flags: flags ?? slot.flags,
      guestPhysAddr: base ?? bytes(slot.baseGfn, 'baseGfn'),
      memorySize: bytes(slot.pages, 'pages'),
      userspaceAddr: bytes(slot.userspaceAddr / PAGE_SIZE, 'userspaceAddr'),
    });
  }

  /** Checks 8 to 11, then the change. */
  #set({ id, asId, flags, gfn, pages, hostFrame }: CheckedRegion): ChangeKind {
    if (this.#publisher.busy) refuse('busy', 'slot', id, 'no change from inside another (hooks only look)');
    const space = this.#spaces[asId]!;
    const row = space.rowOf(id);
    if (pages === 0) {
      if (row === 0) refuse('delete-absent', 'slot', id, 'the id of a slot in use');
      this.#replace('delete', space, row, 0, 0);
      return 'delete';
    }
    const { maxPagesPerSlot } = this.#limits;
    if (pages > maxPagesPerSlot) refuse('too-many-pages', 'memorySize', pages, `at most ${maxPagesPerSlot} pages`);
    if (row === 0) {
      this.#checkOverlap(space, gfn, pages, 0);
      this.#create(space, id, gfn, pages, hostFrame * PAGE_SIZE, flags);
      return 'create';
    }
    const at = row * 3;
    const hostAddress = space.hostOf(row);
    if (hostFrame * PAGE_SIZE !== hostAddress) {
      refuse('changed-hva', 'userspaceAddr', BigInt(hostFrame * PAGE_SIZE), `what the slot has, ${shown(BigInt(hostAddress))}`);
    }
    if (pages !== space.pagesOf(row)) refuse('changed-size', 'memorySize', pages, `what the slot has, ${space.pagesOf(row)} pages`);
    const old = space.flags[row]!;
    if (((old ^ flags) & READONLY) !== 0) refuse('changed-readonly', 'flags', flags, `the read-only bit the slot has, ${old & READONLY}`);
    if (gfn !== space.data[at]!) {
      this.#checkOverlap(space, gfn, pages, row);
      this.#replace('move', space, row, gfn, flags);
      return 'move';
    }
    if (old === flags) return 'none';
    this.#setFlags(space, row, flags);
    return 'flags';
  }

  #checkOverlap(space: AddressSpace, gfn: number, pages: number, except: number): void {
    const other = space.overlapping(gfn, gfn + pages, except);
    if (other >= 0) refuse('overlap', 'guestPhysAddr', gfn * PAGE_SIZE, `frames no other slot has; slot ${other} has some`, { other });
  }

  #create(space: AddressSpace, id: number, gfn: number, pages: number, hostAddress: number, flags: number): void {
    let change: PendingChange | null = null;
    if (this.#publisher.told()) {
      const { asId } = space;
      change = { asId, kind: 'create', old: null, new: { id, asId, baseGfn: gfn, pages, flags, userspaceAddr: hostAddress } };
      this.#publisher.prepare(change);
    }
    this.#checkCap(gfn, pages);
    const row = space.insert(id, gfn, pages, hostAddress, flags);
    this.#fitLog(space, row, flags);
    this.#publisher.finish(space, change);
  }

  #setFlags(space: AddressSpace, row: number, flags: number): void {
    let change: PendingChange | null = null;
    if (this.#publisher.told()) {
      const old = space.slotOf(row);
      change = { asId: space.asId, kind: 'flags', old, new: { ...old, flags } };
      this.#publisher.prepare(change);
    }
    space.setFlags(row, flags);
    this.#fitLog(space, row, flags);
    this.#publisher.finish(space, change);
  }

  /** Delete and move: the old slot is published as invalid first, then what comes after it, or the old slot again. */
  #replace(kind: 'delete' | 'move', space: AddressSpace, row: number, gfn: number, flags: number): void {
    if (!this.#publisher.told()) {
      // Nobody can look between the two publications, so the slot need not be marked for them; they are used up either way.
      space.generation += 2 * this.#spaces.length;
      if (kind === 'move') this.#checkCap(gfn, space.pagesOf(row));
      this.#remake(kind, space, row, gfn, flags);
      return;
    }
    const had = space.flags[row]!;
    const old = space.slotOf(row);
    const change: PendingChange = { asId: space.asId, kind, old, new: kind === 'delete' ? null : { ...old, baseGfn: gfn, flags } };
    space.setFlags(row, had | INVALID);
    try {
      this.#publisher.publish(space);
      this.#publisher.flush(change);
      this.#publisher.prepare(change);
      if (kind === 'move') this.#checkCap(gfn, space.pagesOf(row));
    } catch (error) {
      space.setFlags(row, had);
      this.#publisher.publish(space);
      throw error;
    }
    this.#remake(kind, space, row, gfn, flags);
    this.#publisher.finish(space, change);
  }

  #remake(kind: 'delete' | 'move', space: AddressSpace, row: number, gfn: number, flags: number): void {
    if (kind === 'delete') space.remove(row);
    else {
      space.move(row, gfn, flags);
      this.#fitLog(space, row, flags);
    }
  }

  /** The cap stands in the preparation step, where the architecture's checks are: an overlap wins over it. */
  #checkCap(gfn: number, pages: number): void {
    const { maxGfn } = this.#limits;
    if (maxGfn !== null && gfn + pages - 1 > maxGfn)
      refuse('max-gfn', 'guestPhysAddr', gfn * PAGE_SIZE, `a last frame of at most ${maxGfn}`);
  }

  /** A slot has a dirty log exactly when it is flagged so; one it has stays. */
  #fitLog(space: AddressSpace, row: number, flags: number): void {
    const has = space.logOf(row) !== undefined;
    if ((flags & LOG_DIRTY_PAGES) === 0) {
      if (has) space.setLog(row, undefined);
    } else if (!has) space.newLog(row, this.options.manualDirtyLogProtect === 3);
  }

  // Lookups

  translate(asId: number, gfn: number): number {
    const space = this.#spaces[asId];
    return space === undefined ? this.#noSpace(asId) : space.translate(gfn);
  }

  translateRead(asId: number, gfn: number): number {
    const space = this.#spaces[asId];
    return space === undefined ? this.#noSpace(asId) : space.translateRead(gfn);
  }

  lookup(asId: number, gfn: number): number {
    const space = this.#spaces[asId];
    return space === undefined ? this.#noSpace(asId) : space.lookup(gfn);
  }

  space(asId: number): AddressSpaceView {
    return this.#space(asId);
  }

  generation(asId: number): number {
    return this.#space(asId).generation;
  }

  usedSlots(asId: number): number {
    return this.#space(asId).usedSlots;
  }

  gfnToMemslot(asId: number, gfn: U64): number {
    return this.#space(asId).lookup(gfnOf(gfn, 'gfn'));
  }

  gfnToHva(asId: number, gfn: U64): number {
    const frame = gfnOf(gfn, 'gfn');
    const space = this.#space(asId);
    const row = space.find(frame);
    const flags = space.flags[row]!;
    if (row === 0 || (flags & INVALID) !== 0) return HVA_BAD;
    if ((flags & READONLY) !== 0) return HVA_RO_BAD;
    return space.translate(frame);
  }

  gfnToHvaProt(asId: number, gfn: U64, out: HvaProt = { hva: HVA_BAD, writable: false }): HvaProt {
    const frame = gfnOf(gfn, 'gfn');
    const space = this.#space(asId);
    const row = space.find(frame);
    out.hva = space.translateRead(frame);
    out.writable = (space.flags[row]! & (READONLY | INVALID)) === 0;
    return out;
  }

  isVisibleGfn(asId: number, gfn: U64): boolean {
    const space = this.#space(asId);
    const row = space.find(gfnOf(gfn, 'gfn'));
    return row !== 0 && (space.flags[row]! & INVALID) === 0 && space.ids[row]! < this.#limits.userMemSlots;
  }

  hvaRange(start: U64, end: U64): HvaHit[] {
    const hits: HvaHit[] = [];
    this.forEachInHvaRange(start, end, (asId, id, firstGfn, endGfn) => hits.push({ asId, id, firstGfn, endGfn }));
    return hits.sort((a, b) => a.asId - b.asId || b.firstGfn - a.firstGfn);
  }

  forEachInHvaRange(start: U64, end: U64, visit: (asId: number, id: number, firstGfn: number, endGfn: number) => void): void {
    const first = frameAt(start, 'start', false);
    const stop = frameAt(end, 'end', true);
    if (!isBelow(start, end)) return;
    const hits = this.#hitLists.pop() ?? [];
    try {
      for (const space of this.#spaces) {
        if (space.usedSlots === 0) continue;
        const found = space.hostIndex.query(first, stop, hits);
        for (let i = 0; i < found; i++) {
          const row = hits[i]!;
          const base = space.data[row * 3]!;
          const host = space.hostOf(row) / PAGE_SIZE;
          visit(space.asId, space.ids[row]!, base + Math.max(0, first - host), base + Math.min(space.pagesOf(row), stop - host));
        }
      }
    } finally {
      this.#hitLists.push(hits);
    }
  }

  // Dirty logs

  markPageDirty(asId: number, gfn: number): void {
    this.#space(asId).mark(gfn);
  }

  getDirtyLog(id: number, asId = 0): DirtyPages {
    const log = this.#log(this.#logRow(id, asId), id, asId);
    const runs: [number, number][] = [];
    log.forEachRun((first, count) => runs.push([first, count]));
    if (this.options.manualDirtyLogProtect === 0) log.clearAll();
    return { bytes: log.bytes, pages: log.pages, runs };
  }

  readDirtyBitmap(id: number, asId: number, bitmap: Uint8Array): number {
    const log = this.#log(this.#logRow(id, asId), id, asId);
    if (bitmap.length < log.bytes) refuse('bitmap-size', 'bitmap', bitmap.length, `at least ${log.bytes} bytes`);
    const dirty = log.writeTo(bitmap);
    if (this.options.manualDirtyLogProtect === 0) log.clearAll();
    return dirty;
  }

  clearDirtyLog(range: { slot: number; asId?: number; firstPage: U64; numPages: number; runs: Iterable<readonly [number, number]> }): void {
    const { slot, asId = 0, runs } = range;
    const firstPage = gfnOf(range.firstPage, 'firstPage');
    const numPages = wholeOf(range.numPages, 'numPages', 0xffff_ffff);
    const row = this.#logRow(slot, asId);
    // Looked at before it was rounded: any 64-bit number may come.
    const misplaced = typeof range.firstPage === 'number' ? firstPage % 64 !== 0 : (BigInt(range.firstPage) & 63n) !== 0n;
    if (misplaced) refuse('first-page', 'firstPage', range.firstPage, 'a multiple of 64');
    const log = this.#log(row, slot, asId);
    const rest = log.pages - firstPage;
    if (rest < 0) refuse('page-range', 'firstPage', range.firstPage, `at most the slot's ${log.pages} pages`);
    if (numPages > rest || (numPages < rest && numPages % 64 !== 0)) {
      refuse('page-range', 'numPages', numPages, `a multiple of 64 below ${rest}, or ${rest}: what is left of the slot`);
    }
    // The caller's bitmap is read in whole words, as in KVM: bits past its end are no pages of the slot.
    const words = Math.ceil(numPages / 64) * 64;
    const checked: [number, number][] = [];
    for (const [first, count] of runs) {
      checked.push([wholeOf(first, 'runs', words), wholeOf(count, 'runs', words)]);
      if (first + count > words) refuse('bad-argument', 'runs', `[${first}, ${count}]`, `bits below ${words}`);
    }
    for (const [first, count] of checked) log.clear(firstPage + first, Math.min(log.pages, firstPage + first + count));
  }

  #logRow(id: number, asId: number): number {
    wholeOf(id, 'slot', 0xffff);
    wholeOf(asId, 'asId', 0xffff);
    if (asId >= this.#limits.addressSpaces) refuse('address-space', 'asId', asId, `an address space below ${this.#limits.addressSpaces}`);
    if (id >= this.#limits.userMemSlots) refuse('slot-limit', 'slot', id, `an id below ${this.#limits.userMemSlots}`);
    return this.#spaces[asId]!.rowOf(id);
  }

  #log(row: number, id: number, asId: number): DirtyLog {
    if (row === 0) refuse('no-slot', 'slot', id, 'the id of a slot in use');
    return this.#spaces[asId]!.logOf(row) ?? refuse('no-dirty-log', 'slot', id, 'a slot whose dirty pages are logged');
  }

  // Views

  slot(id: number, asId = 0): Slot | null {
    const row = this.#existing(id, asId);
    return row === 0 ? null : this.#space(asId).slotOf(row);
  }

  *slots(asId = 0): Generator<Slot, undefined, undefined> {
    const snapshot = this.snapshot(asId);
    try {
      yield* snapshot.slots();
    } finally {
      snapshot.release();
    }
  }

  *slotsIn(start: number, end: number, asId = 0): Generator<Slot, undefined, undefined> {
    const snapshot = this.snapshot(asId);
    try {
      yield* snapshot.slotsIn(start, end);
    } finally {
      snapshot.release();
    }
  }

  snapshot(asId = 0): SlotSnapshot {
    return this.#space(asId).journal.snapshot();
  }

  changes(): Observable<SlotChange> {
    const { name } = this.options;
    return this.#bus.on('memslots:changed').pipe(filter(({ source }) => source === name));
  }

  describe(asId = 0): string {
    return describeSlots(this.slots(asId));
  }

  memoryBytes(): { tables: number; dirtyLogs: number } {
    const sum = { tables: 0, dirtyLogs: 0 };
    for (const space of this.#spaces) {
      const { tables, dirtyLogs } = space.bytes();
      sum.tables += tables;
      sum.dirtyLogs += dirtyLogs;
    }
    return sum;
  }

  #space(asId: number): AddressSpace {
    return this.#spaces[asId] ?? this.#noSpace(asId);
  }

  #noSpace(asId: number): never {
    return refuse('bad-argument', 'asId', asId, `an address space below ${this.#limits.addressSpaces}`);
  }
}

/** Frames as bytes: a bigint where a number would not be exact. */
function bytes(frames: number, argument: string): U64 {
  wholeOf(frames, argument, 2 ** 52);
  return frames < 2 ** 41 ? frames * PAGE_SIZE : BigInt(frames) << 12n;
}

/**
 * The memory slots of one virtual machine, empty.
 * @throws {MemslotsError} `bad-argument` for a limit out of range.
 */
export function createMemslots(options: MemslotsOptions = {}): Memslots {
  return new MemslotsTable(options);
}
