import { invariant } from '@paravirt/event-bus/contract';
import { errnoOf, GNTTAB } from '@paravirt/xen-abi';
import type { Frames } from '../memory/frames.ts';
import { BAD_GNTREF, EAGAIN, GENERAL_ERROR, OKAY, PERMIT_ACCESS, READING, TRANSITIVE, TYPE_MASK, WRITING } from './codes.ts';
import type { GrantTable } from './grant-table.ts';

/** Where the frames of a table come from and go, and where its owner sees them. */
export interface TableFrames {
  /** A zeroed frame for shared or status frame number `index`, placed in the owner's memory; -1 when there is none. */
  take(kind: 'shared' | 'status', index: number): number;
  /** Takes a frame out of the owner's memory and frees it. */
  give(kind: 'shared' | 'status', index: number, mfn: number): void;
}

/**
 * Makes the table at least `frames` long. Status frames come with it under version 2.
 * @returns GNTST_okay or GNTST_general_error; on refusal nothing stays.
 */
export function growTable(table: GrantTable, frames: number, source: TableFrames, memory: Frames): number {
  if (frames > table.framesMax) return GENERAL_ERROR;
  if (frames <= table.frames) return OKAY;
  if (table.version === 2 && !growStatus(table, table.statusFramesFor(frames), source, memory)) return GENERAL_ERROR;
  const fresh: number[] = [];
  while (table.frames + fresh.length < frames) {
    const mfn = source.take('shared', table.frames + fresh.length);
    if (mfn < 0) {
      for (let i = fresh.length - 1; i >= 0; i--) source.give('shared', table.frames + i, fresh[i]!);
      shrinkStatus(table, table.version === 2 ? table.statusFramesFor(table.frames) : 0, source);
      return GENERAL_ERROR;
    }
    fresh.push(mfn);
  }
  for (const mfn of fresh) table.addShared(mfn, memory);
  return OKAY;
}

function growStatus(table: GrantTable, wanted: number, source: TableFrames, memory: Frames): boolean {
  const before = table.statusFrames;
  while (table.statusFrames < wanted) {
    const mfn = source.take('status', table.statusFrames);
    if (mfn < 0) {
      shrinkStatus(table, before, source);
      return false;
    }
    table.addStatus(mfn, memory);
  }
  return true;
}

function shrinkStatus(table: GrantTable, wanted: number, source: TableFrames): void {
  while (table.statusFrames > wanted) {
    const at = --table.statusFrames;
    table.statusViews.length = at;
    source.give('status', at, table.statusMfn[at]!);
  }
}

/**
 * Whether a status frame is referenced by anything but the table: mapped in an address space or held. Such a frame must not be
 * freed by a switch of version.
 */
export function statusInUse(table: GrantTable, memory: Frames): boolean {
  for (let i = 0; i < table.statusFrames; i++) if (memory.refsOf(table.statusMfn[i]!) > 1) return true;
  return false;
}

/**
 * Switches the layout. Entries but the reserved ones are gone after it; those keep what the other layout can express.
 * @returns 0, -EINVAL (no such version), -EBUSY (an entry past the reserved ones is in use, or a status frame is), -ERANGE (a
 * reserved entry cannot be expressed), -ENOMEM (no status frames); on refusal nothing changes.
 * @see xen/common/grant_table.c, gnttab_set_version
 */
export function setVersion(
  table: GrantTable,
  version: number,
  source: TableFrames,
  memory: Frames,
  busy: typeof statusInUse = statusInUse,
): number {
  if (version !== 1 && version !== 2) return -errnoOf('EINVAL');
  if (version === table.version) return 0;
  const reserved = Math.min(GNTTAB.NR_RESERVED_ENTRIES, table.entries);
  for (let ref = reserved; ref < table.entries; ref++) if (table.pinOf(ref) !== 0) return -errnoOf('EBUSY');
  const kept = new Uint32Array(reserved * 2);
  if (version === 2) {
    if (!growStatus(table, table.statusFramesFor(table.frames), source, memory)) return -errnoOf('ENOMEM');
    for (let ref = 0; ref < reserved; ref++) {
      const at = table.wordOf(ref);
      const { u32 } = table.viewsOf(ref);
      kept[ref * 2] = u32[at]!;
      kept[ref * 2 + 1] = u32[at + 1]!;
    }
  } else {
    for (let ref = 0; ref < reserved; ref++) {
      const at = table.wordOf(ref);
      const { u32 } = table.viewsOf(ref);
      const header = u32[at]!;
      const type = header & TYPE_MASK;
      if (type === TRANSITIVE || (type === PERMIT_ACCESS && u32[at + 3] !== 0)) return -errnoOf('ERANGE');
      if (type !== PERMIT_ACCESS) continue;
      kept[ref * 2] = header | table.inUseOf(ref);
      kept[ref * 2 + 1] = u32[at + 2]!;
    }
    if (busy(table, memory)) return -errnoOf('EBUSY');
    shrinkStatus(table, 0, source);
  }
  for (let frame = 0; frame < table.frames; frame++) memory.clear(table.sharedMfn[frame]!);
  table.version = version;
  table.countEntries();
  for (let ref = 0; ref < reserved; ref++) {
    const at = table.wordOf(ref);
    const { u32 } = table.viewsOf(ref);
    const header = kept[ref * 2]!;
    if (version === 1) {
      u32[at + 1] = kept[ref * 2 + 1]!;
      u32[at] = header;
    } else {
      u32[at + 2] = kept[ref * 2 + 1]!;
      u32[at] = header & ~(READING | WRITING);
      table.raise(ref, header & (READING | WRITING));
    }
  }
  return 0;
}

/** Exchanges two entries that nobody has pinned. @see xen/common/grant_table.c, swap_grant_ref */
export function swapRefs(table: GrantTable, a: number, b: number): number {
  if (a >= table.entries || b >= table.entries) return BAD_GNTREF;
  if (a === b) return OKAY;
  if (table.pinOf(a) !== 0 || table.pinOf(b) !== 0) return EAGAIN;
  const words = table.version === 1 ? 2 : 4;
  const viewsA = table.viewsOf(a);
  const viewsB = table.viewsOf(b);
  const atA = table.wordOf(a);
  const atB = table.wordOf(b);
  for (let i = 0; i < words; i++) {
    const word = viewsA.u32[atA + i]!;
    viewsA.u32[atA + i] = viewsB.u32[atB + i]!;
    viewsB.u32[atB + i] = word;
  }
  if (table.version === 2) {
    const statusA = table.inUseOf(a);
    const statusB = table.inUseOf(b);
    table.lower(a, 0xffff);
    table.lower(b, 0xffff);
    table.raise(a, statusB);
    table.raise(b, statusA);
  }
  return OKAY;
}

/** The table's owner is gone for good: every frame goes back. */
export function dropTable(table: GrantTable, memory: Frames): void {
  invariant(table.pinned === 0, () => `a grant table with ${table.pinned} pinned references is dropped`);
  const give = (mfn: number): void => {
    memory.giveUp(mfn, memory.owner[mfn]!);
  };
  for (let i = 0; i < table.frames; i++) give(table.sharedMfn[i]!);
  for (let i = 0; i < table.statusFrames; i++) give(table.statusMfn[i]!);
  table.frames = 0;
  table.statusFrames = 0;
  table.entries = 0;
}
