import { invariant } from '@paravirt/event-bus/contract';
import type { CopyOp, CopyPtr } from '@paravirt/gnttab';
import { DOMID } from '@paravirt/xen-abi';
import { type Frames, PAGE as PAGE_BYTES } from '../memory/frames.ts';
import * as codes from './codes.ts';
import { ACTIVE } from './grant-table.ts';
import type { GrantWorld, Party } from './party.ts';
import { setInUse, settleInUse } from './pin.ts';

// Plain constants of this module: an imported one is loaded at each use.
const {
  BAD_COPY_ARG,
  BAD_DOMAIN,
  BAD_GNTREF,
  BAD_PAGE,
  GENERAL_ERROR,
  GTF_READONLY,
  HOST_READ,
  HOST_WRITE,
  OKAY,
  PERMISSION_DENIED,
  PERMIT_ACCESS,
  PIN_FULL,
  READING,
  SUB_PAGE,
  TRANSITIVE,
  TYPE_MASK,
  WRITE_PINS,
  WRITING,
} = codes;
const { shift: SHIFT, mfn: MFN, holder: HOLDER, inPart: IN_PART, gfnLo: GFN_LO, gfnHi: GFN_HI } = ACTIVE;
const { extent: EXTENT, farDomid: FAR_DOMID, farRef: FAR_REF } = ACTIVE;
const PAGE = PAGE_BYTES;
const SELF = DOMID.SELF;

/** No status and no frame: the side has to be pinned. */
const SLOW = -1000;

/** One side of a copy while it is under way: what is held and what of the page may be touched. */
class Side {
  party: Party | undefined = undefined;
  mfn = -1;
  gfn = -1;
  start = 0;
  length = 0;
  /** The reference that is pinned, or -1 for a frame of the caller's own. */
  ref = -1;
  /** A transitive grant holds a second pin, of the granter it leads to. */
  farParty: Party | undefined = undefined;
  farRef = -1;
}

/**
 * Copies between frames and references. Each side is pinned like a mapping while the bytes move and released before the status
 * is known to the caller, in the reverse order.
 * @see xen/common/grant_table.c, gnttab_copy_one, acquire_grant_for_copy
 */
export class GrantCopies {
  readonly #world: GrantWorld;
  readonly #frames: Frames;
  readonly #source: Side = new Side();
  readonly #dest: Side = new Side();
  /** Whose page, and which, the last `#peek` found. */
  #peekedParty: Party | undefined = undefined;
  #peekedGfn = -1;

  constructor(world: GrantWorld, frames: Frames) {
    this.#world = world;
    this.#frames = frames;
  }

  /** Carries out one element. @returns its status; no byte moves unless it is 0. */
  copy(caller: Party, op: CopyOp): number {
    const bytes = op.bytes;
    // Nothing to move: nothing is looked at, pinned or refused.
    if (bytes === 0) return OKAY;
    const { mayCopy } = this.#world.policy;
    const from = mayCopy === undefined ? this.#peek(caller, op.source, true) : SLOW;
    if (from !== SLOW) {
      const to = this.#peek(caller, op.dest, false);
      if (to !== SLOW) return this.#moveWhole(op, from, to);
    }
    return this.#copySlow(caller, op);
  }

  /**
   * What a side leads to when nobody has it pinned and nobody can look at the table meanwhile: then the pin of a copy, set and
   * cleared within the call, is seen by no one, and the checks alone remain. The flags end as the pin would leave them.
   * @returns the frame, or `SLOW` where the pin matters or something is refused: what refuses first is decided the long way.
   */
  #peek(caller: Party, ptr: CopyPtr, readonly: boolean): number {
    const { domid } = ptr;
    const own = domid === SELF;
    if (!ptr.isRef) {
      if (!own && domid !== caller.id) return SLOW;
      this.#peekedParty = caller;
      this.#peekedGfn = ptr.frameOrRef;
      const mfn = caller.memory.mfnOf(ptr.frameOrRef, !readonly);
      return mfn < 0 ? SLOW : mfn;
    }
    const granter = own ? caller : this.#world.parties[domid];
    if (granter === undefined) return SLOW;
    const table = granter.grants;
    const ref = ptr.frameOrRef >>> 0;
    if (table.atomic || ref >= table.entries || table.active[ref << SHIFT] !== 0) return SLOW;
    const { u32 } = table.viewsOf(ref);
    const word = table.wordOf(ref);
    const header = u32[word]!;
    if ((header & (TYPE_MASK | SUB_PAGE)) !== PERMIT_ACCESS || header >>> 16 !== caller.id) return SLOW;
    if (!readonly && (header & GTF_READONLY) !== 0) return SLOW;
    const gfn = table.version === 1 ? u32[word + 1]! : u32[word + 3]! * 0x1_0000_0000 + u32[word + 2]!;
    const mfn = granter.memory.mfnOf(gfn, !readonly);
    if (mfn < 0) return SLOW;
    if ((table.inUseOf(ref) & (READING | WRITING)) !== 0) table.lower(ref, READING | WRITING);
    this.#peekedParty = granter;
    this.#peekedGfn = gfn;
    return mfn;
  }

  #moveWhole(op: CopyOp, from: number, to: number): number {
    const { bytes } = op;
    const fromOffset = op.source.offset;
    const toOffset = op.dest.offset;
    if (!(fromOffset >= 0 && toOffset >= 0 && bytes > 0 && fromOffset + bytes <= PAGE && toOffset + bytes <= PAGE)) return BAD_COPY_ARG;
    this.#frames.copyBytes(to, toOffset, from, fromOffset, bytes);
    this.#peekedParty!.memory.markDirty(this.#peekedGfn);
    return OKAY;
  }

  #copySlow(caller: Party, op: CopyOp): number {
    const source = this.#source;
    const dest = this.#dest;
    let status = this.#lookUp(caller, op.source, source);
    if (status === OKAY) status = this.#lookUp(caller, op.dest, dest);
    if (status !== OKAY) return status;
    const { mayCopy } = this.#world.policy;
    if (mayCopy !== undefined && !mayCopy(caller.id, source.party!.id, dest.party!.id)) return PERMISSION_DENIED;
    status = this.#claim(caller, op.source, source, true);
    if (status !== OKAY) return status;
    status = this.#claim(caller, op.dest, dest, false);
    if (status === OKAY) {
      status = this.#move(op.source.offset, op.dest.offset, op.bytes);
      this.#release(dest, false);
    }
    this.#release(source, true);
    return status;
  }

  #lookUp(caller: Party, ptr: CopyPtr, side: Side): number {
    // A frame by its number is the caller's own.
    if (!ptr.isRef && ptr.domid !== SELF && ptr.domid !== caller.id) return PERMISSION_DENIED;
    side.party = ptr.domid === SELF ? caller : this.#world.parties[ptr.domid];
    return side.party === undefined ? BAD_DOMAIN : OKAY;
  }

  #claim(caller: Party, ptr: CopyPtr, side: Side, readonly: boolean): number {
    const party = side.party!;
    side.farParty = undefined;
    if (ptr.isRef) return this.#acquire(party, ptr.frameOrRef >>> 0, caller.id, readonly, side, true);
    const mfn = party.memory.mfnOf(ptr.frameOrRef, !readonly);
    if (mfn < 0) return BAD_PAGE;
    side.mfn = mfn;
    side.gfn = ptr.frameOrRef;
    side.ref = -1;
    side.start = 0;
    side.length = PAGE;
    this.#frames.hold(mfn, readonly);
    return OKAY;
  }

  /** Pins a reference for a copy by `domid`. A transitive entry is followed once: what it leads to may not be `transitive` again. */
  #acquire(granter: Party, ref: number, domid: number, readonly: boolean, side: Side, transitive: boolean): number {
    const table = granter.grants;
    if (ref >= table.entries) return BAD_GNTREF;
    const { active } = table;
    const at = ref << SHIFT;
    const pin = active[at]!;
    if (pin !== 0 && ((active[at | HOLDER]! & 0xffff) !== domid || (pin & PIN_FULL) !== 0)) return GENERAL_ERROR;
    const fresh = pin === 0 || (!readonly && (pin & WRITE_PINS) === 0);
    if (fresh) {
      const status = setInUse(table, ref, domid, readonly, false);
      if (status !== OKAY) return status;
      const word = table.wordOf(ref);
      const { u32 } = table.viewsOf(ref);
      const flags = u32[word]! & 0xffff;
      if (table.version === 2 && (flags & TYPE_MASK) === TRANSITIVE) {
        const followed = transitive
          ? this.#follow(granter, ref, domid, readonly, side, u32[word + 1]! & 0xffff, u32[word + 2]!)
          : GENERAL_ERROR;
        if (followed !== OKAY) {
          this.#settle(granter, ref, pin);
          return followed;
        }
        if (pin === 0) {
          table.activate(ref, domid, side.mfn, 0);
          active[at | GFN_LO] = -1;
          active[at | GFN_HI] = -1;
          // Always in part: a transitive grant must not be mapped.
          active[at | HOLDER] = domid | IN_PART;
          active[at | EXTENT] = side.start | (side.length << 16);
          active[at | FAR_DOMID] = side.farParty!.id;
          active[at | FAR_REF] = side.farRef;
        }
      } else if (pin === 0) {
        const gfn = table.frameOf(ref);
        const mfn = granter.memory.mfnOf(gfn, !readonly);
        if (mfn < 0) {
          this.#settle(granter, ref, 0);
          return BAD_PAGE;
        }
        table.activate(ref, domid, mfn, gfn);
        if (table.version === 2 && (flags & SUB_PAGE) !== 0) {
          active[at | HOLDER] = domid | IN_PART;
          active[at | EXTENT] = u32[word + 1]!;
          active[at | FAR_DOMID] = -1;
        }
      }
    } else if ((active[at | HOLDER]! & IN_PART) !== 0 && active[at | FAR_DOMID]! >= 0) {
      // Pinned through a transitive entry: the far end is pinned once more for this copy.
      const followed = this.#follow(granter, ref, domid, readonly, side, active[at | FAR_DOMID]!, active[at | FAR_REF]! >>> 0);
      if (followed !== OKAY) return followed;
    }
    active[at] = pin + (readonly ? HOST_READ : HOST_WRITE);
    const inPart = (active[at | HOLDER]! & IN_PART) !== 0;
    side.ref = ref;
    side.party = granter;
    side.mfn = active[at | MFN]!;
    side.gfn = table.gfnOf(ref);
    side.start = inPart ? active[at | EXTENT]! & 0xffff : 0;
    side.length = inPart ? active[at | EXTENT]! >>> 16 : PAGE;
    this.#frames.hold(side.mfn, readonly);
    return OKAY;
  }

  /** Where a transitive entry leads: one step, to another domain, whose own entry must grant to the middle one. */
  #follow(middle: Party, ref: number, domid: number, readonly: boolean, side: Side, farDomid: number, farRef: number): number {
    if (farDomid === middle.id) return GENERAL_ERROR;
    const far = this.#world.parties[farDomid];
    if (far === undefined) return GENERAL_ERROR;
    const table = far.grants;
    if (farRef >= table.entries) return BAD_GNTREF;
    const end = farRef << SHIFT;
    const chained = table.active[end] !== 0 && (table.active[end | HOLDER]! & IN_PART) !== 0 && table.active[end | FAR_DOMID]! >= 0;
    if (chained) return GENERAL_ERROR;
    const status = this.#acquire(far, farRef, middle.id, readonly, side, false);
    if (status !== OKAY) return status;
    const near = middle.grants.active;
    const at = ref << SHIFT;
    const holder = near[at | HOLDER]!;
    const extent = (holder & IN_PART) !== 0 ? near[at | EXTENT]! : PAGE << 16;
    const same = (holder & 0xffff) === domid && near[at | MFN] === side.mfn && extent === (side.start | (side.length << 16));
    if (near[at] !== 0 && !same) {
      this.#unpin(far, farRef, readonly);
      return GENERAL_ERROR;
    }
    side.farParty = far;
    side.farRef = farRef;
    return OKAY;
  }

  #drop(mfn: number, readonly: boolean): void {
    this.#frames.drop(mfn, readonly);
  }

  /** After a refusal: flags as the pins that stood before want them. */
  #settle(granter: Party, ref: number, pin: number): void {
    const table = granter.grants;
    if (pin === 0) table.lower(ref, 0x18);
    else if ((pin & WRITE_PINS) === 0) table.lower(ref, 0x10);
  }

  #unpin(granter: Party, ref: number, readonly: boolean): void {
    const table = granter.grants;
    const { active } = table;
    const at = ref << SHIFT;
    const mfn = active[at | MFN]!;
    const pin = active[at]!;
    invariant(pin !== 0, () => `reference ${ref} of domain ${granter.id} is released and not pinned`);
    active[at] = pin - (readonly ? HOST_READ : HOST_WRITE);
    settleInUse(table, ref);
    this.#drop(mfn, readonly);
  }

  #release(side: Side, readonly: boolean): void {
    if (side.ref < 0) {
      this.#drop(side.mfn, readonly);
      return;
    }
    this.#unpin(side.party!, side.ref, readonly);
    if (side.farParty !== undefined) this.#unpin(side.farParty, side.farRef, readonly);
  }

  #move(sourceOffset: number, destOffset: number, bytes: number): number {
    const source = this.#source;
    const dest = this.#dest;
    if (!(sourceOffset >= 0 && destOffset >= 0 && bytes > 0 && sourceOffset + bytes <= PAGE && destOffset + bytes <= PAGE))
      return BAD_COPY_ARG;
    if (sourceOffset < source.start || sourceOffset + bytes > source.start + source.length) return GENERAL_ERROR;
    if (destOffset < dest.start || destOffset + bytes > dest.start + dest.length) return GENERAL_ERROR;
    this.#frames.copyBytes(dest.mfn, destOffset, source.mfn, sourceOffset, bytes);
    (dest.farParty ?? dest.party!).memory.markDirty(dest.gfn);
    return OKAY;
  }
}
