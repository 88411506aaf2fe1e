import { invariant } from '@paravirt/event-bus/contract';
import type { CopyOp, CopyPtr } from '@paravirt/gnttab';
import { DOMID } from '@paravirt/xen-abi';
import { type Frames, PAGE as PAGE_BYTES } from '../memory/frames.ts';
import * as codes from './codes.ts';
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
    if (table.atomic || ref >= table.entries || table.pin[ref] !== 0) return SLOW;
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
    this.#hold(mfn, readonly);
    return OKAY;
  }

  /** Pins a reference for a copy by `domid`. A transitive entry is followed once: what it leads to may not be `transitive` again. */
  #acquire(granter: Party, ref: number, domid: number, readonly: boolean, side: Side, transitive: boolean): number {
    const table = granter.grants;
    if (ref >= table.entries) return BAD_GNTREF;
    const pin = table.pin[ref]!;
    if (pin !== 0 && (table.domid[ref] !== domid || (pin & PIN_FULL) !== 0)) return GENERAL_ERROR;
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
          table.domid[ref] = domid;
          table.mfn[ref] = side.mfn;
          table.gfn[ref] = -1;
          table.start[ref] = side.start;
          table.length[ref] = side.length;
          // Always: a transitive grant must not be mapped.
          table.subPage[ref] = 1;
          table.transDomid[ref] = side.farParty!.id;
          table.transRef[ref] = side.farRef;
          table.pinned++;
        }
      } else if (pin === 0) {
        const sub = table.version === 2 && (flags & SUB_PAGE) !== 0;
        const gfn = table.version === 1 ? u32[word + 1]! : u32[word + 3]! * 0x1_0000_0000 + u32[word + 2]!;
        const extent = u32[word + 1]!;
        const mfn = granter.memory.mfnOf(gfn, !readonly);
        if (mfn < 0) {
          this.#settle(granter, ref, 0);
          return BAD_PAGE;
        }
        table.domid[ref] = domid;
        table.mfn[ref] = mfn;
        table.gfn[ref] = gfn;
        table.start[ref] = sub ? extent & 0xffff : 0;
        table.length[ref] = sub ? extent >>> 16 : PAGE;
        table.subPage[ref] = sub ? 1 : 0;
        table.transDomid[ref] = -1;
        table.pinned++;
      }
    } else if (table.transDomid[ref]! >= 0) {
      // Pinned through a transitive entry: the far end is pinned once more for this copy.
      const followed = this.#follow(granter, ref, domid, readonly, side, table.transDomid[ref]!, table.transRef[ref]!);
      if (followed !== OKAY) return followed;
    }
    table.pin[ref] = pin + (readonly ? HOST_READ : HOST_WRITE);
    side.ref = ref;
    side.party = granter;
    side.mfn = table.mfn[ref]!;
    side.gfn = table.gfn[ref]!;
    side.start = table.start[ref]!;
    side.length = table.length[ref]!;
    this.#hold(side.mfn, readonly);
    return OKAY;
  }

  /** Where a transitive entry leads: one step, to another domain, whose own entry must grant to the middle one. */
  #follow(middle: Party, ref: number, domid: number, readonly: boolean, side: Side, farDomid: number, farRef: number): number {
    if (farDomid === middle.id) return GENERAL_ERROR;
    const far = this.#world.parties[farDomid];
    if (far === undefined) return GENERAL_ERROR;
    const table = far.grants;
    if (farRef >= table.entries) return BAD_GNTREF;
    if (table.pin[farRef] !== 0 && table.transDomid[farRef]! >= 0) return GENERAL_ERROR;
    const status = this.#acquire(far, farRef, middle.id, readonly, side, false);
    if (status !== OKAY) return status;
    const near = middle.grants;
    if (
      near.pin[ref] !== 0 &&
      (near.domid[ref] !== domid || near.mfn[ref] !== side.mfn || near.start[ref] !== side.start || near.length[ref] !== side.length)
    ) {
      this.#unpin(far, farRef, readonly);
      return GENERAL_ERROR;
    }
    side.farParty = far;
    side.farRef = farRef;
    return OKAY;
  }

  #hold(mfn: number, readonly: boolean): void {
    this.#frames.refs[mfn]!++;
    if (!readonly) this.#frames.writers[mfn]!++;
  }

  #drop(mfn: number, readonly: boolean): void {
    if (!readonly) this.#frames.writers[mfn]!--;
    this.#frames.put(mfn);
  }

  /** After a refusal: flags as the pins that stood before want them. */
  #settle(granter: Party, ref: number, pin: number): void {
    const table = granter.grants;
    if (pin === 0) table.lower(ref, 0x18);
    else if ((pin & WRITE_PINS) === 0) table.lower(ref, 0x10);
  }

  #unpin(granter: Party, ref: number, readonly: boolean): void {
    const table = granter.grants;
    const mfn = table.mfn[ref]!;
    const pin = table.pin[ref]!;
    invariant(pin !== 0, () => `reference ${ref} of domain ${granter.id} is released and not pinned`);
    table.pin[ref] = pin - (readonly ? HOST_READ : HOST_WRITE);
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
