import type { EventBus } from '@paravirt/event-bus';
import type { Observable } from 'rxjs';
import type { MemslotsEvents } from './events.ts';
import type { SlotSnapshot } from './snapshot.ts';

/**
 * A 64-bit quantity a caller hands in for checking: a whole number up to 2^53, any unsigned 64-bit `bigint`, or the same as `0x...`.
 * Calls that only translate are free of allocation when given a number.
 */
export type U64 = number | bigint | `0x${string}`;

/** KVM_MEM_LOG_DIRTY_PAGES: the slot has a dirty log. */
export const LOG_DIRTY_PAGES = 1;
/** KVM_MEM_READONLY: guests read the slot; a write translation refuses it. */
export const READONLY = 2;
/** Bytes of a page: guest frame numbers are addresses divided by this. */
export const PAGE_SIZE = 4096;
/** What {@link Memslots.gfnToHva} returns where there is no memory (KVM_HVA_ERR_BAD). */
export const HVA_BAD = -1;
/** What {@link Memslots.gfnToHva} returns for a read-only slot (KVM_HVA_ERR_RO_BAD). */
export const HVA_RO_BAD = -2;

/** What a call did to a slot; `none` is a call without effect (the region is already exactly so). */
export type ChangeKind = 'create' | 'delete' | 'move' | 'flags' | 'none';

/** The argument of KVM_SET_USER_MEMORY_REGION, every field in its own unit: bytes, not pages. */
export interface MemoryRegion {
  /** Slot id, 0 to 65535 accepted for checking; see {@link MemslotsOptions.userMemSlots}. */
  readonly slot: number;
  /** Address space, 0 unless given. */
  readonly asId?: number;
  /** Bits {@link LOG_DIRTY_PAGES} and {@link READONLY}; none unless given. */
  readonly flags?: number;
  /** Guest physical address in bytes. */
  readonly guestPhysAddr: U64;
  /** Bytes; 0 deletes the slot. */
  readonly memorySize: U64;
  /** Host virtual address in bytes. */
  readonly userspaceAddr: U64;
}

/** One slot as plain data: a copy, never a view of the live tables. */
export interface Slot {
  readonly id: number;
  readonly asId: number;
  /** First guest frame number. */
  readonly baseGfn: number;
  /** Number of frames. */
  readonly pages: number;
  /** Bits {@link LOG_DIRTY_PAGES} and {@link READONLY}. */
  readonly flags: number;
  /** Host virtual address of the first byte. */
  readonly userspaceAddr: number;
}

/** A change of the slots as an observer sees it: the fact `memslots:changed`. */
export interface SlotChange {
  /** The table's name ({@link MemslotsOptions.name}). */
  readonly source: string;
  readonly asId: number;
  readonly kind: Exclude<ChangeKind, 'none'>;
  /** The slot before; `null` for `create`. */
  readonly old: Slot | null;
  /** The slot after; `null` for `delete`. */
  readonly new: Slot | null;
  /** Generation of the address space once the change was published. */
  readonly generation: number;
}

/** What a preparation step is asked about: the slot as it is (`null` for `create`) and as it shall be (`null` for `delete`). */
export interface PendingChange {
  readonly asId: number;
  readonly kind: Exclude<ChangeKind, 'none'>;
  readonly old: Slot | null;
  readonly new: Slot | null;
}

/**
 * The steps of a change as direct calls, in KVM's order. They stand where an architecture's own work stands in KVM
 * (kvm_arch_flush_shadow_memslot, kvm_arch_prepare_memory_region, kvm_arch_commit_memory_region). A step may look up and translate;
 * a change from inside a step is refused (`busy`). A step that throws undoes the change like a refusal of `prepare`, and its error goes on to the caller;
 * from the last publication on the change stands, and what is left to be told is told before the error goes on.
 */
export interface MemslotsHooks {
  /** A set is made current; the generation reads as an update in progress: `-1 - old`. Argument: the old generation. */
  install?(asId: number, generation: number): void;
  /** The same set now has its new generation. */
  generation?(asId: number, generation: number): void;
  /** The slot is marked invalid: whoever holds a translation of it drops it now. Its frames still find the slot, and translate to nothing. */
  flush?(asId: number, slot: Slot): void;
  /** May refuse: return a negative errno. Returning 0 or nothing lets the change pass. */
  // biome-ignore lint/suspicious/noConfusingVoidType: a hook that returns nothing is the usual one
  prepare?(change: PendingChange): number | void;
  /** The change is published. */
  commit?(change: PendingChange): void;
}

/** Limits of the host. Every one has KVM's value on x86-64 unless given. */
export interface MemslotsOptions {
  /** Ids open to user space: 0 to `userMemSlots - 1`. 509 before Linux 5.15, 32764 since; 32764 unless given. */
  readonly userMemSlots?: number;
  /** Ids above those, for the host itself ({@link Memslots.setMemoryRegion}); 3 unless given. */
  readonly internalSlots?: number;
  /** Address spaces; 2 unless given (the second is system-management mode). At most 256. */
  readonly addressSpaces?: number;
  /** Most pages of one slot; 0x7fffffff unless given. */
  readonly maxPagesPerSlot?: number;
  /**
   * Exclusive end of host user addresses, in bytes; 0x7ffffffff000 unless given. Addresses above 2^53 stay exact as numbers, being multiples of 4096,
   * as long as no byte offset is added to them.
   */
  readonly userAddrLimit?: U64;
  /** Highest guest frame number a slot may contain; `null` (no cap, as before Linux 5.17) unless given. */
  readonly maxGfn?: number | null;
  /**
   * KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: 0 = reading the dirty log clears it; 1 = it is cleared explicitly; 3 = as 1, and a new dirty log starts all ones.
   * 0 unless given.
   */
  readonly manualDirtyLogProtect?: 0 | 1 | 3;
  /** Direct calls during a change. */
  readonly hooks?: MemslotsHooks;
  /** Where `memslots:changed` is emitted; a bus of its own unless given. */
  readonly bus?: EventBus<MemslotsEvents>;
  /** Tells this table's facts from another's on one bus; `memslots` unless given. */
  readonly name?: string;
}

/** Where {@link Memslots.gfnToHvaProt} writes its answer. */
export interface HvaProt {
  /** Host address, or {@link HVA_BAD}. */
  hva: number;
  /** Whether a write translation would succeed too. */
  writable: boolean;
}

/** One hit of {@link Memslots.hvaRange}: frames `firstGfn` to `endGfn` (exclusive) of slot `id`. */
export interface HvaHit {
  readonly asId: number;
  readonly id: number;
  readonly firstGfn: number;
  readonly endGfn: number;
}

/** A dirty log as it was read. */
export interface DirtyPages {
  /** Bytes of the bitmap in the ABI: 8 * ceil(pages / 64). */
  readonly bytes: number;
  /** Pages of the slot. */
  readonly pages: number;
  /** The dirty pages as maximal runs `[first page of the slot, count]`, ascending. */
  readonly runs: readonly (readonly [first: number, count: number])[];
}

/** One address space, for whoever translates often: the hot calls without a lookup of the space. */
export interface AddressSpaceView {
  readonly asId: number;
  /** @see Memslots.generation */
  readonly generation: number;
  /** Slots in use. */
  readonly usedSlots: number;
  /** @see Memslots.translate */
  translate(gfn: number): number;
  /** @see Memslots.translateRead */
  translateRead(gfn: number): number;
  /** @see Memslots.lookup */
  lookup(gfn: number): number;
}

/** The memory slots of one virtual machine. */
export interface Memslots {
  readonly options: Readonly<Required<Omit<MemslotsOptions, 'hooks' | 'bus' | 'userAddrLimit'>> & { userAddrLimit: number }>;

  /**
   * Creates, deletes, moves or changes the flags of a slot, with KVM's checks in KVM's order.
   * Cost O(log n), free of allocation on numbers when nobody listens.
   * @returns what was done.
   * @throws {MemslotsError} the first check that failed, with its errno; nothing changed, but for the generation when preparation failed (+4 on delete and move).
   * @see Linux virt/kvm/kvm_main.c, __kvm_set_memory_region (5.10, 6.12)
   */
  setUserMemoryRegion(region: MemoryRegion): ChangeKind;
  /** The host's own entry: as {@link setUserMemoryRegion}, and internal ids are accepted. */
  setMemoryRegion(region: MemoryRegion): ChangeKind;
  /** {@link setUserMemoryRegion} in frames instead of bytes. */
  createSlot(slot: { id: number; asId?: number; baseGfn: number; pages: number; userspaceAddr: number; flags?: number }): void;
  /** Deletes a slot. @throws {MemslotsError} `delete-absent` (EINVAL) and the checks of the id. */
  deleteSlot(id: number, asId?: number): void;
  /** Moves a slot to another base. @returns `none` when it is there already. @throws {MemslotsError} `no-slot`, `overlap`, ... */
  moveSlot(id: number, baseGfn: number, asId?: number): ChangeKind;
  /** Changes the log flag of a slot. @throws {MemslotsError} `no-slot`; `changed-readonly` when the read-only bit differs. */
  setFlags(id: number, flags: number, asId?: number): ChangeKind;

  /**
   * Host address behind a frame for writing, or -1: no slot, a read-only slot, a slot being deleted or moved. The hottest call: no allocation,
   * no check of the arguments beyond their meaning (a frame no slot can hold is a miss). Cost O(1) expected, O(log n) at worst.
   */
  translate(asId: number, gfn: number): number;
  /** As {@link translate} for reading: read-only slots translate too. */
  translateRead(asId: number, gfn: number): number;
  /** Id of the slot that contains the frame, or -1. A slot being deleted or moved is still found, as in KVM. */
  lookup(asId: number, gfn: number): number;
  /** One address space for repeated use. @throws {MemslotsError} `bad-argument` for a space that does not exist. */
  space(asId: number): AddressSpaceView;
  /**
   * Number of the published slot set; grows with every publication by the number of address spaces. Whoever caches a translation keeps this beside it and
   * uses the translation only while it is equal. Between `install` and `generation` it is negative, `-1 - old`: equal to no published one.
   */
  generation(asId: number): number;
  /** Slots in use in an address space. */
  usedSlots(asId: number): number;

  /** {@link lookup} for any 64-bit frame number. */
  gfnToMemslot(asId: number, gfn: U64): number;
  /** Host address for writing, {@link HVA_BAD} or {@link HVA_RO_BAD}. */
  gfnToHva(asId: number, gfn: U64): number;
  /** Host address for reading and whether it is writable, into `out` (a fresh object unless given). @returns `out`. */
  gfnToHvaProt(asId: number, gfn: U64, out?: HvaProt): HvaProt;
  /** Whether a slot of user space contains the frame and is not being deleted or moved. */
  isVisibleGfn(asId: number, gfn: U64): boolean;
  /** Every slot, of all address spaces, whose host range meets `[start, end)` in bytes; space 0 first, from highest frame to lowest. Cost O(log n + hits). */
  hvaRange(start: U64, end: U64): HvaHit[];
  /** {@link hvaRange} without building a list, in no particular order inside a space. `visit` must not change slots. */
  forEachInHvaRange(start: U64, end: U64, visit: (asId: number, id: number, firstGfn: number, endGfn: number) => void): void;

  /** Sets the page's bit when its slot has a dirty log. No allocation once the log's page of bits exists. */
  markPageDirty(asId: number, gfn: number): void;
  /** Reads a dirty log; clears it where `manualDirtyLogProtect` is 0. @throws {MemslotsError} `address-space`, `slot-limit` (EINVAL), `no-slot`, `no-dirty-log` (ENOENT). */
  getDirtyLog(id: number, asId?: number): DirtyPages;
  /** {@link getDirtyLog} into the ABI's bitmap, bit 0 of byte 0 being page 0. @throws {MemslotsError} also `bitmap-size`. @returns dirty pages. */
  readDirtyBitmap(id: number, asId: number, bitmap: Uint8Array): number;
  /**
   * Clears bits; `runs` are relative to `firstPage`, as the caller's bitmap is.
   * @throws {MemslotsError} in KVM's order: `address-space`, `slot-limit`, `first-page` (EINVAL), `no-slot`, `no-dirty-log` (ENOENT), `page-range` (EINVAL).
   */
  clearDirtyLog(range: { slot: number; asId?: number; firstPage: U64; numPages: number; runs: Iterable<readonly [number, number]> }): void;

  /** The slot with this id, or `null`. */
  slot(id: number, asId?: number): Slot | null;
  /** All slots of an address space from highest frame to lowest, as they were when the walk began. */
  slots(asId?: number): IterableIterator<Slot>;
  /** The slots that meet frames `[start, end)`, ascending, as they were when the walk began. */
  slotsIn(start: number, end: number, asId?: number): IterableIterator<Slot>;
  /** A view of an address space that no later change reaches. Taking it costs O(1); later changes cost it one small record each. */
  snapshot(asId?: number): SlotSnapshot;
  /** Facts of this table, live: (old, new, kind, generation). */
  changes(): Observable<SlotChange>;
  /** The map as text, one row a slot: range, size, slot, flags. */
  describe(asId?: number): string;
  /** Bytes of the tables in use, dirty bitmaps apart: what the table itself allocated. */
  memoryBytes(): { tables: number; dirtyLogs: number };
}
