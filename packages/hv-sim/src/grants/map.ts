import { InvariantError, invariant } from '@paravirt/event-bus/contract';
import type { MapOp } from '@paravirt/gnttab';
import { BY_GRANT as GRANT_UNMAP, PAGE_WORDS, BY_REPLACE as REPLACEMENT } from '../memory/address-space.ts';
import { COUNTS, type Frames } from '../memory/frames.ts';
import { mixed, type Pulse } from '../time/pulse.ts';
import * as codes from './codes.ts';
import { ACTIVE } from './grant-table.ts';
import type { DeviceUnmapOp } from './hypercalls.ts';
import type { GrantWorld, Party } from './party.ts';
import { setInUse, settleInUse } from './pin.ts';

// Plain constants of this module: an imported one is loaded at each use.
const {
  BAD_DEV_ADDR,
  BAD_DOMAIN,
  BAD_GNTREF,
  BAD_HANDLE,
  BAD_PAGE,
  BAD_VIRT_ADDR,
  DEVICE_MAP,
  DEVICE_READ,
  DEVICE_WRITE,
  FOREIGN_FORMS,
  GENERAL_ERROR,
  GTF_READONLY,
  HOST_MAP,
  HOST_READ,
  HOST_WRITE,
  NO_SPACE,
  OKAY,
  PERMISSION_DENIED,
  PERMIT_ACCESS,
  PIN_FULL,
  READING,
  READONLY,
  SUB_PAGE,
  TYPE_MASK,
  WRITE_PINS,
  WRITING,
} = codes;
const BY_GRANT = GRANT_UNMAP;
const BY_REPLACE = REPLACEMENT;

const { shift: COUNTS_SHIFT, writers: WRITERS, mapped: MAPPED } = COUNTS;
const { shift: PAGE_SHIFT, gone: GONE, when: WHEN, flagBits: FLAG_BITS, present: PRESENT, writable: WRITABLE } = PAGE_WORDS;
const PRESENT_GRANT: number = PAGE_WORDS.present | PAGE_WORDS.grant;
const GONE_BY_GRANT: number = GRANT_UNMAP << 16;
/** No status: an element that is not done yet. */
const UNDONE = 1;
const { shift: ACTIVE_SHIFT, mfn: MFN, holder: HOLDER, gfnLo: GFN_LO, gfnHi: GFN_HI } = ACTIVE;

const KINDS = DEVICE_MAP | HOST_MAP;
const FORMS = KINDS | FOREIGN_FORMS;
/** What of an entry's flags decides whether it may be mapped. */
const ENTRY_MASK = TYPE_MASK | SUB_PAGE;

/**
 * Maps and unmaps. A mapping is a handle of the mapper; for each of its two kinds (host, device) it holds one pin of the active
 * entry, one reference to the frame and, if writable, one write reference. Every way out of a refusal undoes exactly what was done.
 * @see xen/common/grant_table.c, map_grant_ref, unmap_common
 */
export class GrantMaps {
  readonly #world: GrantWorld;
  readonly #frames: Frames;
  /** Facts of the last successful map or unmap, for those who tell about it. */
  lastGranter = 0;
  lastRef = 0;
  lastMfn = 0;

  constructor(world: GrantWorld, frames: Frames) {
    this.#world = world;
    this.#frames = frames;
  }

  /**
   * Carries out a batch, and notes each element. What nearly all mappings are is done in one go: a whole page of a version 1 entry that
   * nobody has pinned, for the processor alone, at an address of the window. What is anything else, or is refused, goes the long way, of
   * which this is a short cut: nothing is changed before all is checked.
   */
  mapBatch(mapper: Party, ops: readonly MapOp[], count: number, pulse: Pulse): void {
    const { parties, policy } = this.#world;
    const { maptrack: track, space, id } = mapper;
    const { counts } = this.#frames;
    let { near } = space;
    let from = -1;
    let granter = mapper;
    let table = mapper.grants;
    let { active } = table;
    let entries = 0;
    let frame = -1;
    let { u32 } = this.#frames.banks[0]!.views;
    let base = 0;
    let { hash } = pulse;
    for (let i = 0; i < count; i++) {
      const op = ops[i]!;
      const { domid, ref, vfn, flags } = op;
      if (domid !== from) {
        from = domid;
        granter = parties[domid] ?? mapper;
        table = granter.grants;
        active = table.active;
        // Nobody's, and not plain: no reference is below 0, so each goes the long way.
        frame = -1;
        entries = table.plain === 1 && granter.id === domid && policy.mayMap === undefined ? table.entries : 0;
      }
      const at = ref << ACTIVE_SHIFT;
      const page = vfn << PAGE_SHIFT;
      let status = UNDONE;
      if (
        (flags & FORMS) === HOST_MAP &&
        ref >= 0 &&
        ref < entries &&
        vfn > 0 &&
        vfn < space.nearPages &&
        (vfn | 0) === vfn &&
        active[at] === 0 &&
        (near[page]! & PRESENT) === 0
      ) {
        const readonly = (flags & READONLY) !== 0;
        if (ref >>> 9 !== frame) {
          frame = ref >>> 9;
          u32 = table.sharedViews[frame]!.u32;
          base = table.sharedWord[frame]!;
        }
        const word = base + ((ref & 511) << 1);
        const header = u32[word]!;
        if ((header & ENTRY_MASK) === PERMIT_ACCESS && header >>> 16 === id && (readonly || (header & GTF_READONLY) === 0)) {
          const gfn = u32[word + 1]!;
          const mfn = granter.memory.mfnOf(gfn, !readonly);
          const handle = mfn < 0 ? -1 : track.take();
          if (handle >= 0) {
            const counted = mfn << COUNTS_SHIFT;
            counts[counted] = counts[counted]! + 1;
            counts[counted | MAPPED] = counts[counted | MAPPED]! + 1;
            active[at | MFN] = mfn;
            active[at | HOLDER] = id;
            active[at | GFN_LO] = gfn;
            active[at | GFN_HI] = 0;
            if (readonly) {
              u32[word] = header | READING;
              active[at] = HOST_READ;
              near[page] = (mfn << FLAG_BITS) | PRESENT_GRANT;
            } else {
              u32[word] = header | READING | WRITING;
              active[at] = HOST_WRITE;
              counts[counted | WRITERS] = counts[counted | WRITERS]! + 1;
              near[page] = (mfn << FLAG_BITS) | PRESENT_GRANT | WRITABLE;
            }
            table.pinned++;
            space.pages++;
            track.set(handle, flags & (HOST_MAP | READONLY), domid, ref, vfn);
            op.handle = handle;
            op.mfn = mfn;
            status = OKAY;
          }
        }
      }
      if (status !== OKAY) {
        pulse.hash = hash;
        status = this.map(mapper, op);
        hash = pulse.hash;
        // It may have grown the window.
        near = space.near;
      }
      op.status = status;
      hash = mixed(hash, ref, status);
    }
    pulse.hash = hash;
  }

  /** Carries out one element. @returns its status; `handle` and `mfn` of `op` are written when it is 0. */
  map(mapper: Party, op: MapOp): number {
    const { flags } = op;
    if ((flags & KINDS) === 0) return BAD_GNTREF;
    if ((flags & FOREIGN_FORMS) !== 0) return GENERAL_ERROR;
    const granter = this.#world.parties[op.domid];
    if (granter === undefined) return BAD_DOMAIN;
    const { mayMap } = this.#world.policy;
    if (mayMap !== undefined && !mayMap(mapper.id, granter.id)) return PERMISSION_DENIED;
    const vfn = op.vfn;
    if ((flags & HOST_MAP) !== 0 && !(vfn > 0 && vfn < 0x10_0000_0000_0000 && Math.floor(vfn) === vfn)) return BAD_VIRT_ADDR;
    const track = mapper.maptrack;
    const handle = track.take();
    if (handle < 0) return NO_SPACE;
    const status = this.#pinAndPlace(mapper, granter, op, vfn);
    if (status !== OKAY) {
      track.give(handle);
      return status;
    }
    track.set(handle, flags & (KINDS | READONLY), op.domid, op.ref, vfn);
    op.handle = handle;
    op.mfn = this.lastMfn;
    return OKAY;
  }

  #pinAndPlace(mapper: Party, granter: Party, op: MapOp, vfn: number): number {
    const table = granter.grants;
    const ref = op.ref >>> 0;
    if (ref >= table.entries) return BAD_GNTREF;
    const { active } = table;
    const at = ref << ACTIVE_SHIFT;
    const readonly = (op.flags & READONLY) !== 0;
    const pin = active[at]!;
    // A holder with the bit for a part is not the mapper.
    if (pin !== 0 && (active[at | HOLDER] !== mapper.id || (pin & PIN_FULL) !== 0)) return GENERAL_ERROR;
    if (pin === 0 || (!readonly && (pin & WRITE_PINS) === 0)) {
      const status = setInUse(table, ref, mapper.id, readonly, true);
      if (status !== OKAY) return status;
      if (pin === 0) {
        const gfn = table.frameOf(ref);
        const mfn = granter.memory.mfnOf(gfn, !readonly);
        if (mfn < 0) {
          table.lower(ref, READING | WRITING);
          return BAD_PAGE;
        }
        table.activate(ref, mapper.id, mfn, gfn);
      }
    }
    const mfn = active[at | MFN]!;
    if ((op.flags & HOST_MAP) !== 0 && !mapper.space.mapGrant(vfn, mfn, !readonly)) {
      if (pin === 0) table.pinned--;
      settleAfterRefusal(table, ref);
      return BAD_VIRT_ADDR;
    }
    let pins = pin;
    if ((op.flags & HOST_MAP) !== 0) {
      pins += readonly ? HOST_READ : HOST_WRITE;
      this.#frames.hold(mfn, readonly);
    }
    if ((op.flags & DEVICE_MAP) !== 0) {
      pins += readonly ? DEVICE_READ : DEVICE_WRITE;
      this.#frames.hold(mfn, readonly);
    }
    active[at] = pins;
    this.lastMfn = mfn;
    return OKAY;
  }

  /** Carries out a batch, as `mapBatch` does: in one go the end of what that does in one go. */
  unmapBatch(mapper: Party, ops: readonly DeviceUnmapOp[], count: number, pulse: Pulse): void {
    const { parties } = this.#world;
    const { maptrack: track, space, id } = mapper;
    const { counts } = this.#frames;
    const { near } = space;
    const step = pulse.steps;
    let from = -1;
    let granter = mapper;
    let table = mapper.grants;
    let { active } = table;
    let frame = -1;
    let { u16 } = this.#frames.banks[0]!.views;
    let base = 0;
    let { hash } = pulse;
    for (let i = 0; i < count; i++) {
      const op = ops[i]!;
      const { handle, vfn } = op;
      const flags = (handle | 0) === handle && handle >= 0 && handle < track.size ? track.flagsOf(handle) : 0;
      let status = UNDONE;
      if ((flags & KINDS) === HOST_MAP && vfn > 0 && vfn < space.nearPages && vfn === track.vfnOf(handle)) {
        const domid = track.domidOf(handle);
        if (domid !== from) {
          from = domid;
          frame = -1;
          granter = parties[domid] ?? mapper;
          table = granter.grants;
          active = table.active;
        }
        const ref = track.refOf(handle);
        const at = ref << ACTIVE_SHIFT;
        const page = vfn << PAGE_SHIFT;
        const readonly = (flags & READONLY) !== 0;
        const mfn = active[at | MFN]!;
        const counted = mfn << COUNTS_SHIFT;
        const entry = (mfn << FLAG_BITS) | (readonly ? PRESENT_GRANT : PRESENT_GRANT | WRITABLE);
        if (
          table.plain === 1 &&
          granter.id === domid &&
          active[at] === (readonly ? HOST_READ : HOST_WRITE) &&
          counts[counted]! > 1 &&
          near[page] === entry
        ) {
          near[page] = mfn << FLAG_BITS;
          near[page | GONE] = GONE_BY_GRANT | id;
          near[page | WHEN] = step;
          space.pages--;
          active[at] = 0;
          table.pinned--;
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
          if (!readonly) {
            counts[counted | WRITERS] = counts[counted | WRITERS]! - 1;
            if (granter.memory.logging) granter.memory.markDirty(table.gfnOf(ref));
          }
          track.give(handle);
          status = OKAY;
        }
      }
      if (status !== OKAY) {
        const { mfn } = op;
        pulse.hash = hash;
        // Without a frame named, an address of 0 stands for the device mapping.
        if (mfn === undefined) status = this.unmap(mapper, handle, vfn, vfn === 0, -1, 0);
        else status = this.unmap(mapper, handle, vfn, mfn !== 0, mfn, 0);
        hash = pulse.hash;
      }
      op.status = status;
      hash = mixed(hash, handle, status);
    }
    pulse.hash = hash;
  }

  /**
   * Takes one mapping apart, wholly or in part.
   * @param vfn where the host mapping stands, or 0 to leave it.
   * @param device whether the device mapping goes; `deviceMfn` is then the frame that the caller names, or -1 for none named.
   * @param replacement a page whose ordinary mapping moves to `vfn`, or 0.
   */
  unmap(mapper: Party, handle: number, vfn: number, device: boolean, deviceMfn: number, replacement: number): number {
    const track = mapper.maptrack;
    if (handle >>> 0 !== handle || handle >= track.size) return BAD_HANDLE;
    const flags = track.flagsOf(handle);
    if (flags === 0) return BAD_HANDLE;
    const granter = this.#world.parties[track.domidOf(handle)];
    if (granter === undefined) return BAD_DOMAIN;
    const table = granter.grants;
    const ref = track.refOf(handle);
    const mfn = table.mfnOf(ref);
    const readonly = flags & READONLY;
    let done = 0;
    if (device && (flags & DEVICE_MAP) !== 0) {
      if (deviceMfn >= 0 && deviceMfn !== mfn) return BAD_DEV_ADDR;
      done = DEVICE_MAP;
    }
    if (vfn !== 0 && (flags & HOST_MAP) !== 0) {
      if (vfn !== track.vfnOf(handle)) return GENERAL_ERROR;
      if (replacement !== 0 && !mapper.space.holdsOrdinary(replacement)) return GENERAL_ERROR;
      const gone = mapper.space.unmapGrant(vfn, mfn, replacement === 0 ? BY_GRANT : BY_REPLACE);
      if (!gone) broken('the page table lacks the page of handle', handle, mapper.id);
      if (replacement !== 0) {
        const moved = mapper.space.moveEntry(replacement, vfn);
        invariant(moved, () => `page ${replacement} of domain ${mapper.id} could not take the place of page ${vfn}`);
      }
      done |= HOST_MAP;
    }
    // Nothing asked for was there: that is no error, and nothing is counted down.
    if (done === 0) return OKAY;
    this.lastGranter = granter.id;
    this.lastRef = ref;
    this.lastMfn = mfn;
    const left = flags & ~done;
    this.#unpin(granter, ref, mfn, done, readonly !== 0);
    if ((left & KINDS) === 0) track.give(handle);
    else track.keep(handle, left);
    return OKAY;
  }

  /** The pins go first, then the references: while a pin stands its frame is held. */
  #unpin(granter: Party, ref: number, mfn: number, done: number, readonly: boolean): void {
    const table = granter.grants;
    const at = ref << ACTIVE_SHIFT;
    const before = table.active[at]!;
    let drops = 0;
    let pins = before;
    if ((done & HOST_MAP) !== 0) {
      const one = readonly ? HOST_READ : HOST_WRITE;
      if ((before & (one * 0xff)) === 0) broken('no such host pin of reference', ref, granter.id);
      pins -= one;
      drops++;
    }
    if ((done & DEVICE_MAP) !== 0) {
      const one = readonly ? DEVICE_READ : DEVICE_WRITE;
      if ((before & (one * 0xff)) === 0) broken('no such device pin of reference', ref, granter.id);
      pins -= one;
      drops++;
    }
    table.active[at] = pins;
    settleInUse(table, ref);
    if (!readonly) granter.memory.markDirty(table.gfnOf(ref));
    while (drops-- > 0) this.#frames.drop(mfn, readonly);
  }

  /** The mapper dies: every handle it holds is taken apart. */
  releaseAll(mapper: Party): void {
    const track = mapper.maptrack;
    for (let handle = 0; handle < track.size; handle++) {
      const flags = track.flagsOf(handle);
      if (flags === 0) continue;
      const vfn = (flags & HOST_MAP) !== 0 ? track.vfnOf(handle) : 0;
      const status = this.unmap(mapper, handle, vfn, true, -1, 0);
      invariant(status === OKAY, () => `handle ${handle} of dying domain ${mapper.id} could not be released: ${status}`);
    }
  }
}

/** Outside the hot path, which makes no closure for a message that is never read. */
function broken(what: string, number: number, domid: number): never {
  throw new InvariantError(`${what} ${number} of domain ${domid}`);
}

/** A refused pin leaves the flags as the remaining pins want them. */
function settleAfterRefusal(table: Party['grants'], ref: number): void {
  const pin = table.active[ref << ACTIVE_SHIFT]!;
  if (pin === 0) table.lower(ref, READING | WRITING);
  else if ((pin & WRITE_PINS) === 0) table.lower(ref, WRITING);
}
