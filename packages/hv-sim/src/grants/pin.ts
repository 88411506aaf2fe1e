import * as codes from './codes.ts';
import { ACTIVE, type GrantTable } from './grant-table.ts';

// Plain constants of this module: an imported one is loaded at each use.
const { GENERAL_ERROR, GTF_READONLY, OKAY, PERMIT_ACCESS, READING, SUB_PAGE, TRANSITIVE, TYPE_MASK, WRITE_PINS, WRITING } = codes;
const { shift: SHIFT } = ACTIVE;

/** How often an entry that changes under our eyes is tried again. */
const RETRIES = 5;

/**
 * Checks a shared entry for `domid` and marks it in use. With no pin yet the type and the domain must fit; with one the active
 * entry has been checked, and only a write to a read-only entry is refused.
 * @param mapping a mapping takes whole pages only; a copy takes sub-page and, under version 2, transitive entries too.
 * @see xen/common/grant_table.c, _set_status_v1 and _set_status_v2
 */
export function setInUse(table: GrantTable, ref: number, domid: number, readonly: boolean, mapping: boolean): number {
  return table.version === 1 ? setInUseV1(table, ref, domid, readonly, mapping) : setInUseV2(table, ref, domid, readonly, mapping);
}

function setInUseV1(table: GrantTable, ref: number, domid: number, readonly: boolean, mapping: boolean): number {
  const { u32 } = table.sharedViews[ref >>> 9]!;
  const at = table.sharedWord[ref >>> 9]! + (ref & 511) * 2;
  const mask = mapping ? TYPE_MASK | SUB_PAGE : TYPE_MASK;
  const unpinned = table.active[ref << SHIFT] === 0;
  let seen = u32[at]!;
  for (let tries = 0; tries < RETRIES; tries++) {
    if (unpinned && ((seen & mask) !== PERMIT_ACCESS || seen >>> 16 !== domid)) return GENERAL_ERROR;
    if (!readonly && (seen & GTF_READONLY) !== 0) return GENERAL_ERROR;
    const wanted = readonly ? seen | READING : seen | READING | WRITING;
    if (!table.atomic) {
      u32[at] = wanted;
      return OKAY;
    }
    const found = Atomics.compareExchange(u32, at, seen, wanted);
    if (found === seen) return OKAY;
    seen = found;
  }
  return GENERAL_ERROR;
}

function setInUseV2(table: GrantTable, ref: number, domid: number, readonly: boolean, mapping: boolean): number {
  const { u32 } = table.sharedViews[ref >>> 8]!;
  const at = table.sharedWord[ref >>> 8]! + (ref & 255) * 4;
  const unpinned = table.active[ref << SHIFT] === 0;
  const before = u32[at]!;
  if (unpinned && !fitsV2(before, domid, mapping)) return GENERAL_ERROR;
  if (!readonly && (before & GTF_READONLY) !== 0) return GENERAL_ERROR;
  table.raise(ref, readonly ? READING : READING | WRITING);
  // The owner may have changed the entry before it could see the status; what is checked last is what counts.
  const after = u32[at]!;
  const spoilt = !readonly && (after & GTF_READONLY) !== 0;
  if (unpinned) {
    if (spoilt || !fitsV2(after, domid, mapping)) {
      table.lower(ref, READING | WRITING);
      return GENERAL_ERROR;
    }
  } else if (spoilt) {
    if ((table.active[ref << SHIFT]! & WRITE_PINS) === 0) table.lower(ref, WRITING);
    return GENERAL_ERROR;
  }
  return OKAY;
}

function fitsV2(header: number, domid: number, mapping: boolean): boolean {
  if (header >>> 16 !== domid) return false;
  const type = header & TYPE_MASK;
  if (mapping) return type === PERMIT_ACCESS && (header & SUB_PAGE) === 0;
  return type === PERMIT_ACCESS || type === TRANSITIVE;
}

/**
 * Clears the in-use flags that no pin stands for any more: the two are equal at every moment.
 * Counts device pins like host pins.
 */
export function settleInUse(table: GrantTable, ref: number): void {
  const pin = table.active[ref << SHIFT]!;
  if (pin === 0) {
    table.lower(ref, READING | WRITING);
    table.pinned--;
  } else if ((pin & WRITE_PINS) === 0) table.lower(ref, WRITING);
}
