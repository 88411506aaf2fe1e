import type { MapOp } from '@paravirt/gnttab';
import { BY_GRANT as GRANT_UNMAP, PAGE_WORDS } from '../memory/address-space.ts';
import { COUNTS, type Frames } from '../memory/frames.ts';
import { KNOWN } from '../memory/guest-memory.ts';
import { mixed, type Pulse } from '../time/pulse.ts';
import * as codes from './codes.ts';
import { ACTIVE } from './grant-table.ts';
import type { DeviceUnmapOp } from './hypercalls.ts';
import { HANDLE } from './maptrack.ts';
import type { Party } from './party.ts';

/*
 * What nearly all mappings are: a whole page of a version 1 entry that nobody has pinned, for the processor alone, at an address of the
 * window. Here they are made and ended many at a time, each checked whole before anything of it is changed; the first one that is
 * anything else ends the run, and goes the long way of `GrantMaps`, of which this is a short cut. The loops call nothing that is not put
 * in place: only then does the compiler keep what it knows of a dozen arrays from one turn to the next.
 */

// Plain constants of this module: an imported one is loaded at each use.
const {
  DEVICE_MAP,
  FOREIGN_FORMS,
  GTF_READONLY,
  HOST_MAP,
  HOST_READ,
  HOST_WRITE,
  OKAY,
  PERMIT_ACCESS,
  READING,
  READONLY,
  SUB_PAGE,
  TYPE_MASK,
  WRITING,
} = codes;
const { shift: COUNTS_SHIFT, writers: WRITERS, mapped: MAPPED } = COUNTS;
const { shift: PAGE_SHIFT, gone: GONE, when: WHEN, flagBits: FLAG_BITS, present: PRESENT, writable: WRITABLE } = PAGE_WORDS;
const { shift: ACTIVE_SHIFT, mfn: MFN, holder: HOLDER, gfnLo: GFN_LO, gfnHi: GFN_HI } = ACTIVE;
const { shift: HANDLE_SHIFT, ref: REF, next: NEXT, vfn: VFN, domidShift: DOMID_SHIFT } = HANDLE;
const { shift: KNOWN_SHIFT, page: KNOWN_PAGE } = KNOWN;
const PRESENT_GRANT: number = PAGE_WORDS.present | PAGE_WORDS.grant;
const GONE_BY_GRANT: number = GRANT_UNMAP << 16;
const KINDS = DEVICE_MAP | HOST_MAP;
const FORMS = KINDS | FOREIGN_FORMS;
/** What of an entry's flags decides whether it may be mapped. */
const ENTRY_MASK = TYPE_MASK | SUB_PAGE;
const GFN_MAX = 0x7fff_ffff;

/**
 * Maps `ops[from..count)` of `granter`, which has a plain table, as far as they are of the common kind.
 * @returns the first that is not, or `count`.
 */
export function mapRun(
  frames: Frames,
  mapper: Party,
  granter: Party,
  ops: readonly MapOp[],
  from: number,
  count: number,
  pulse: Pulse,
): number {
  const { maptrack: track, space, id } = mapper;
  const { id: domid, grants: table, memory } = granter;
  if (!memory.knowsNow()) return from;
  const { active, entries } = table;
  const { near, nearPages } = space;
  const { counts } = frames;
  const { known, knownMask, backing } = memory;
  const { words: handles } = track;
  let handle = track.head;
  let { hash } = pulse;
  let frame = 0;
  let { u32 } = table.firstViews;
  let base = table.firstWord;
  let i = from;
  for (; i < count; i++) {
    const op = ops[i]!;
    const { ref, vfn, flags } = op;
    if (op.domid !== domid || (flags & FORMS) !== HOST_MAP || handle < 0) break;
    if (!(ref >= 0 && ref < entries && vfn > 0 && vfn < nearPages && (vfn | 0) === vfn)) break;
    const at = ref << ACTIVE_SHIFT;
    const page = vfn << PAGE_SHIFT;
    const held = handle << HANDLE_SHIFT;
    if (active[at] !== 0 || (near[page]! & PRESENT) !== 0 || handles[held] !== 0) break;
    if (ref >>> 9 !== frame) {
      frame = ref >>> 9;
      u32 = table.sharedViews[frame]!.u32;
      base = table.sharedWord[frame]!;
    }
    const word = base + ((ref & 511) << 1);
    const header = u32[word]!;
    const readonly = flags & READONLY;
    if ((header & ENTRY_MASK) !== PERMIT_ACCESS || header >>> 16 !== id || (readonly === 0 && (header & GTF_READONLY) !== 0)) break;
    const gfn = u32[word + 1]!;
    const place = (gfn & knownMask) << KNOWN_SHIFT;
    if (gfn > GFN_MAX || known[place] !== gfn) break;
    const mfn = backing[known[place | KNOWN_PAGE]!]!;
    if (mfn < 0) break;
    const counted = mfn << COUNTS_SHIFT;
    counts[counted] = counts[counted]! + 1;
    counts[counted | MAPPED] = counts[counted | MAPPED]! + 1;
    active[at | MFN] = mfn;
    active[at | HOLDER] = id;
    active[at | GFN_LO] = gfn;
    active[at | GFN_HI] = 0;
    if (readonly !== 0) {
      u32[word] = header | READING;
      active[at] = HOST_READ;
      near[page] = (mfn << FLAG_BITS) | PRESENT_GRANT;
    } else {
      u32[word] = header | READING | WRITING;
      active[at] = HOST_WRITE;
      counts[counted | WRITERS] = counts[counted | WRITERS]! + 1;
      near[page] = (mfn << FLAG_BITS) | PRESENT_GRANT | WRITABLE;
    }
    handles[held] = HOST_MAP | readonly | (domid << DOMID_SHIFT);
    handles[held | REF] = ref;
    handles[held | VFN] = vfn;
    op.handle = handle;
    op.mfn = mfn;
    op.status = OKAY;
    handle = handles[held | NEXT]!;
    hash = mixed(hash, ref, OKAY);
  }
  const done = i - from;
  track.took(handle, done);
  table.pinned += done;
  space.pages += done;
  pulse.hash = hash;
  return i;
}

/** Ends the mappings `ops[from..count)` as far as they are what `mapRun` makes, of one granter. @returns as `mapRun`. */
export function unmapRun(
  frames: Frames,
  mapper: Party,
  granter: Party,
  ops: readonly DeviceUnmapOp[],
  from: number,
  count: number,
  pulse: Pulse,
): number {
  const { maptrack: track, space, id } = mapper;
  const { id: domid, grants: table, memory } = granter;
  if (memory.logging) return from;
  const { active } = table;
  const { near, nearPages } = space;
  const { counts } = frames;
  const { words: handles, size } = track;
  const step = pulse.steps;
  let { tail } = track;
  let { hash } = pulse;
  let frame = 0;
  let { u16 } = table.firstViews;
  let base = table.firstWord;
  let i = from;
  for (; i < count; i++) {
    const op = ops[i]!;
    const { handle, vfn } = op;
    // A queue of free handles that is empty has no tail to be linked to.
    if (!(handle >= 0 && handle < size && (handle | 0) === handle && vfn > 0 && vfn < nearPages) || tail < 0) break;
    const held = handle << HANDLE_SHIFT;
    const flags = handles[held]!;
    if ((flags & KINDS) !== HOST_MAP || flags >>> DOMID_SHIFT !== domid || handles[held | VFN] !== vfn) break;
    const ref = handles[held | REF]!;
    const at = ref << ACTIVE_SHIFT;
    const page = vfn << PAGE_SHIFT;
    const readonly = flags & READONLY;
    const mfn = active[at | MFN]!;
    const counted = mfn << COUNTS_SHIFT;
    if (active[at] !== (readonly !== 0 ? HOST_READ : HOST_WRITE) || counts[counted]! <= 1) break;
    if (near[page] !== ((mfn << FLAG_BITS) | (readonly !== 0 ? PRESENT_GRANT : PRESENT_GRANT | WRITABLE))) break;
    near[page] = mfn << FLAG_BITS;
    near[page | GONE] = GONE_BY_GRANT | id;
    near[page | WHEN] = step;
    active[at] = 0;
    if (ref >>> 9 !== frame) {
      frame = ref >>> 9;
      u16 = table.sharedViews[frame]!.u16;
      base = table.sharedWord[frame]!;
    }
    const half = (base + ((ref & 511) << 1)) << 1;
    // The other bits as the guest has them by now.
    u16[half] = u16[half]! & ~(READING | WRITING);
    counts[counted] = counts[counted]! - 1;
    counts[counted | MAPPED] = counts[counted | MAPPED]! - 1;
    if (readonly === 0) counts[counted | WRITERS] = counts[counted | WRITERS]! - 1;
    handles[held] = 0;
    handles[held | NEXT] = -1;
    handles[(tail << HANDLE_SHIFT) | NEXT] = handle;
    tail = handle;
    op.status = OKAY;
    hash = mixed(hash, handle, OKAY);
  }
  const done = i - from;
  track.gave(tail, done);
  table.pinned -= done;
  space.pages -= done;
  pulse.hash = hash;
  return i;
}
