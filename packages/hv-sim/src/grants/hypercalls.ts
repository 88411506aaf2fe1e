import type { EventBus } from '@paravirt/event-bus';
import type { DomId, GrantHandle, Gref } from '@paravirt/event-bus/contract';
import type { CopyOp, GrantHypercalls, MapOp, MemoryFrame, UnmapOp } from '@paravirt/gnttab';
import { DOMID, errnoOf, GNTTAB } from '@paravirt/xen-abi';
import type { HvEvents } from '../events.ts';
import { type Frames, PAGE } from '../memory/frames.ts';
import type { Pulse } from '../time/pulse.ts';
import * as codes from './codes.ts';
import type { GrantCopies } from './copy.ts';
import type { GrantMaps } from './map.ts';
import type { GrantWorld, Party } from './party.ts';
import { growTable, setVersion, swapRefs, type TableFrames } from './version.ts';

// Plain constants of this module: an imported one is loaded at each use.
const { BAD_DOMAIN, GENERAL_ERROR, OKAY, PERMISSION_DENIED } = codes;

/** An unmap that may also name the device mapping. @see gnttab_unmap_grant_ref, dev_bus_addr */
export interface DeviceUnmapOp extends UnmapOp {
  /** The frame that the device mapping leads to; 0 leaves it. Without this field a `vfn` of 0 stands for the device mapping. */
  mfn?: number;
}

/** An unmap that puts another of the caller's pages in place. @see gnttab_unmap_and_replace */
export interface ReplaceOp extends UnmapOp {
  /** The page whose ordinary mapping moves to `vfn`. */
  newVfn: number;
}

/** @see gnttab_swap_grant_ref */
export interface SwapOp {
  refA: number;
  refB: number;
  /** Out: a GNTST_* value. */
  status: number;
}

/** A domain's grant hypercalls: what a grant table needs, and the rest of the interface. */
export interface DomainGrantHypercalls extends GrantHypercalls {
  /** As `unmap`, and puts the caller's page at `newVfn` in the mapping's place. @returns as `unmap`. @see GNTTABOP_unmap_and_replace */
  unmapAndReplace(ops: readonly ReplaceOp[], count: number): number;
  /** Exchanges pairs of the domain's own entries; a pair in use has the status `eagain`. @see GNTTABOP_swap_grant_ref */
  swapRefs(ops: readonly SwapOp[], count: number): number;
  /** @returns 1 or 2, or a negative errno: -ESRCH no such domain, -EPERM not allowed. */
  getVersion(domid: number): number;
  /**
   * Checks its arguments and does nothing: memory is coherent here.
   * @returns 0 or a negative errno, as the original. @see GNTTABOP_cache_flush
   */
  cacheFlush(mfn: number, offset: number, bytes: number, op: number): number;
  /** As `setupTable` for `domid` (a privileged domain may name another). `gfns` gets where the table's owner finds the frames. */
  setupTableOf(domid: number, frames: number, gfns: number[]): number;
  /** As `querySize` for `domid`. */
  querySizeOf(domid: number, out: { frames: number; maxFrames: number }): number;
  /** As `getStatusFrames` for `domid`, as `setupTableOf`. */
  getStatusFramesOf(domid: number, frames: number, gfns: number[]): number;
}

/** What one domain's hypercalls are made of. */
export interface HypercallParts {
  readonly party: Party;
  readonly world: GrantWorld;
  readonly maps: GrantMaps;
  readonly copies: GrantCopies;
  readonly frames: Frames;
  readonly bus: EventBus<HvEvents>;
  readonly pulse: Pulse;
  /** Where the tables' frames come from, by domain. */
  tableFrames(party: Party): TableFrames;
  /** False once the domain is dead: then every batch is refused with -ESRCH, and nothing is carried out. Renews views that grew. */
  alive(): boolean;
}

const DEAD = -errnoOf('ESRCH');

/** Hypercalls straight into the core. Fault filters wrap this object behind the same interface. */
export class Hypercalls implements DomainGrantHypercalls {
  readonly #party: Party;
  readonly #parts: HypercallParts;
  readonly #maps: GrantMaps;
  readonly #copies: GrantCopies;
  readonly #bus: EventBus<HvEvents>;
  readonly #pulse: Pulse;
  readonly #alive: () => boolean;

  constructor(parts: HypercallParts) {
    this.#parts = parts;
    this.#party = parts.party;
    this.#maps = parts.maps;
    this.#copies = parts.copies;
    this.#bus = parts.bus;
    this.#pulse = parts.pulse;
    this.#alive = parts.alive;
  }

  map(ops: readonly MapOp[], count: number): number {
    if (!this.#alive()) return DEAD;
    const party = this.#party;
    if (!this.#bus.observed('hv:mapped')) {
      this.#maps.mapBatch(party, ops, count, this.#pulse);
      return 0;
    }
    for (let i = 0; i < count; i++) {
      const op = ops[i]!;
      const status = this.#maps.map(party, op);
      op.status = status;
      this.#pulse.note(op.ref, status);
      if (status === OKAY) {
        this.#bus.emit('hv:mapped', {
          mapper: party.id as DomId,
          granter: op.domid as DomId,
          gref: op.ref as Gref,
          handle: op.handle as GrantHandle,
          vfn: op.vfn,
          mfn: op.mfn,
          flags: op.flags,
        });
      }
    }
    return 0;
  }

  unmap(ops: readonly DeviceUnmapOp[], count: number): number {
    if (!this.#alive()) return DEAD;
    if (!this.#bus.observed('hv:unmapped')) {
      this.#maps.unmapBatch(this.#party, ops, count, this.#pulse);
      return 0;
    }
    for (let i = 0; i < count; i++) {
      const op = ops[i]!;
      const { mfn } = op;
      if (mfn === undefined) op.status = this.#unmap(op.handle, op.vfn, op.vfn === 0, -1, 0, true);
      else op.status = this.#unmap(op.handle, op.vfn, mfn !== 0, mfn, 0, true);
    }
    return 0;
  }

  unmapAndReplace(ops: readonly ReplaceOp[], count: number): number {
    if (!this.#alive()) return DEAD;
    const told = this.#bus.observed('hv:unmapped');
    for (let i = 0; i < count; i++) {
      const op = ops[i]!;
      op.status = this.#unmap(op.handle, op.vfn, false, -1, op.newVfn, told);
    }
    return 0;
  }

  #unmap(handle: number, vfn: number, device: boolean, deviceMfn: number, replacement: number, told: boolean): number {
    const maps = this.#maps;
    const status = maps.unmap(this.#party, handle, vfn, device, deviceMfn, replacement);
    this.#pulse.note(handle, status);
    if (told && status === OKAY) {
      this.#bus.emit('hv:unmapped', {
        mapper: this.#party.id as DomId,
        granter: maps.lastGranter as DomId,
        gref: maps.lastRef as Gref,
        handle: handle as GrantHandle,
        vfn,
        mfn: maps.lastMfn,
      });
    }
    return status;
  }

  copy(ops: readonly CopyOp[], count: number): number {
    if (!this.#alive()) return DEAD;
    const told = this.#bus.observed('hv:copied');
    for (let i = 0; i < count; i++) {
      const op = ops[i]!;
      const status = this.#copies.copy(this.#party, op);
      op.status = status;
      this.#pulse.note(op.bytes, status);
      if (told && status === OKAY) this.#bus.emit('hv:copied', { by: this.#party.id as DomId, bytes: op.bytes });
    }
    return 0;
  }

  swapRefs(ops: readonly SwapOp[], count: number): number {
    if (!this.#alive()) return DEAD;
    for (let i = 0; i < count; i++) {
      const op = ops[i]!;
      op.status = swapRefs(this.#party.grants, op.refA >>> 0, op.refB >>> 0);
      this.#pulse.note(op.refA, op.status);
    }
    return 0;
  }

  /** The table that `domid` names, or a status: only a privileged domain names another. */
  #target(domid: number): Party | number {
    if (domid === DOMID.SELF || domid === this.#party.id) return this.#party;
    const party = this.#parts.world.parties[domid];
    if (party === undefined) return BAD_DOMAIN;
    return this.#party.privileged ? party : PERMISSION_DENIED;
  }

  #grow(party: Party, frames: number): number {
    if (!this.#alive()) return BAD_DOMAIN;
    const wanted = frames >>> 0;
    if (wanted !== frames) return GENERAL_ERROR;
    const { frames: memory } = this.#parts;
    const status = growTable(party.grants, wanted, this.#parts.tableFrames(party), memory);
    this.#pulse.note(frames, status);
    return status;
  }

  setupTable(frames: number, out: MemoryFrame[]): number {
    const { grants } = this.#party;
    const status = this.#grow(this.#party, frames);
    if (status !== OKAY) return status;
    for (let i = 0; i < grants.frames; i++) out[i] = this.#parts.frames.frame(grants.sharedMfn[i]!);
    return OKAY;
  }

  setupTableOf(domid: number, frames: number, gfns: number[]): number {
    const party = this.#target(domid);
    if (typeof party === 'number') return party;
    const status = this.#grow(party, frames);
    if (status !== OKAY) return status;
    for (let i = 0; i < frames; i++) gfns[i] = party.memory.grantGfn + i;
    return OKAY;
  }

  querySize(out: { frames: number; maxFrames: number }): number {
    return this.querySizeOf(DOMID.SELF, out);
  }

  querySizeOf(domid: number, out: { frames: number; maxFrames: number }): number {
    const party = this.#target(domid);
    if (typeof party === 'number') return party;
    out.frames = party.grants.frames;
    out.maxFrames = party.grants.framesMax;
    return OKAY;
  }

  setVersion(version: 1 | 2): number {
    if (!this.#alive()) return DEAD;
    const { grants } = this.#party;
    const result = setVersion(grants, version, this.#parts.tableFrames(this.#party), this.#parts.frames);
    this.#pulse.note(version, result);
    return result;
  }

  getVersion(domid: number): number {
    const party = this.#target(domid);
    if (typeof party === 'number') return party === BAD_DOMAIN ? -errnoOf('ESRCH') : -errnoOf('EPERM');
    return party.grants.version;
  }

  getStatusFrames(frames: number, out: MemoryFrame[]): number {
    const { grants } = this.#party;
    if (frames >>> 0 !== frames || frames > grants.statusFrames) return GENERAL_ERROR;
    for (let i = 0; i < frames; i++) out[i] = this.#parts.frames.frame(grants.statusMfn[i]!);
    return OKAY;
  }

  getStatusFramesOf(domid: number, frames: number, gfns: number[]): number {
    const party = this.#target(domid);
    if (typeof party === 'number') return party;
    if (frames > party.grants.statusFrames) return GENERAL_ERROR;
    for (let i = 0; i < frames; i++) gfns[i] = party.memory.statusGfn + i;
    return OKAY;
  }

  cacheFlush(mfn: number, offset: number, bytes: number, op: number): number {
    const known = GNTTAB.CACHE_CLEAN | GNTTAB.CACHE_INVAL;
    if (offset >= PAGE || bytes > PAGE || offset + bytes > PAGE || (op & ~known) !== 0) return -errnoOf('EINVAL');
    if (bytes === 0 || op === 0) return 0;
    const { frames } = this.#parts;
    if (!frames.valid(mfn)) return -errnoOf('EINVAL');
    const owner = frames.owner[mfn]!;
    if (owner === this.#party.id) return 0;
    const granter = owner < 0 ? undefined : this.#parts.world.parties[owner];
    if (granter === undefined) return -errnoOf('EPERM');
    const { grants } = granter;
    for (let ref = 0; ref < grants.entries; ref++) {
      if (grants.pinOf(ref) !== 0 && grants.mfnOf(ref) === mfn && grants.holderOf(ref) === this.#party.id) return 0;
    }
    return -errnoOf('EPERM');
  }
}
