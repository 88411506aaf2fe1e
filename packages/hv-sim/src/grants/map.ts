import { InvariantError, invariant } from '@paravirt/event-bus/contract';
import type { MapOp } from '@paravirt/gnttab';
import { BY_GRANT as GRANT_UNMAP, BY_REPLACE as REPLACEMENT } from '../memory/address-space.ts';
import type { Frames } from '../memory/frames.ts';
import type { Pulse } from '../time/pulse.ts';
import * as codes from './codes.ts';
import { ACTIVE } from './grant-table.ts';
import type { DeviceUnmapOp } from './hypercalls.ts';
import type { GrantWorld, Party } from './party.ts';
import { setInUse, settleInUse } from './pin.ts';
import { mapRun, unmapRun } from './runs.ts';

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
  HOST_MAP,
  HOST_READ,
  HOST_WRITE,
  NO_SPACE,
  OKAY,
  PERMISSION_DENIED,
  PIN_FULL,
  READING,
  READONLY,
  WRITE_PINS,
  WRITING,
} = codes;
const BY_GRANT = GRANT_UNMAP;
const BY_REPLACE = REPLACEMENT;

const { shift: ACTIVE_SHIFT, mfn: MFN, holder: HOLDER } = ACTIVE;

const KINDS = DEVICE_MAP | HOST_MAP;

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

  /** Carries out a batch, and notes each element: the common kind in runs, everything else one by one. */
  mapBatch(mapper: Party, ops: readonly MapOp[], count: number, pulse: Pulse): void {
    const { parties, policy } = this.#world;
    for (let i = 0; i < count; ) {
      const granter = parties[ops[i]!.domid];
      if (granter !== undefined && granter.grants.plain === 1 && granter.id === ops[i]!.domid && policy.mayMap === undefined) {
        const done = mapRun(this.#frames, mapper, granter, ops, i, count, pulse);
        if (done > i) {
          i = done;
          continue;
        }
      }
      const op = ops[i]!;
      op.status = this.map(mapper, op);
      pulse.note(op.ref, op.status);
      i++;
    }
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

  /** Carries out a batch, as `mapBatch` does. */
  unmapBatch(mapper: Party, ops: readonly DeviceUnmapOp[], count: number, pulse: Pulse): void {
    const { parties } = this.#world;
    const { maptrack: track } = mapper;
    for (let i = 0; i < count; ) {
      const op = ops[i]!;
      const { handle, vfn, mfn } = op;
      if (handle >= 0 && handle < track.size && (handle | 0) === handle) {
        const granter = parties[track.domidOf(handle)];
        if (granter !== undefined && granter.grants.plain === 1 && granter.id === track.domidOf(handle)) {
          const done = unmapRun(this.#frames, mapper, granter, ops, i, count, pulse);
          if (done > i) {
            i = done;
            continue;
          }
        }
      }
      // Without a frame named, an address of 0 stands for the device mapping.
      if (mfn === undefined) op.status = this.unmap(mapper, handle, vfn, vfn === 0, -1, 0);
      else op.status = this.unmap(mapper, handle, vfn, mfn !== 0, mfn, 0);
      pulse.note(handle, op.status);
      i++;
    }
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
