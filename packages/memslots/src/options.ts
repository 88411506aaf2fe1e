import { refuse } from './errors.ts';
import { frameAt, type Limits, wholeOf } from './region.ts';
import { type Memslots, type MemslotsOptions, PAGE_SIZE } from './types.ts';

/** Ids in all: rows are numbered in 16 bits, and one number means none. */
const IDS_MAX = 0xfffe;

/** Fills in KVM's values on x86-64 and checks the rest. */
export function resolveOptions(options: MemslotsOptions): { resolved: Memslots['options']; limits: Limits } {
  const userMemSlots = wholeOf(options.userMemSlots ?? 32764, 'userMemSlots', IDS_MAX);
  const internalSlots = wholeOf(options.internalSlots ?? 3, 'internalSlots', IDS_MAX - userMemSlots);
  const addressSpaces = wholeOf(options.addressSpaces ?? 2, 'addressSpaces', 256);
  if (addressSpaces === 0) refuse('bad-argument', 'addressSpaces', addressSpaces, 'at least one');
  const maxPagesPerSlot = wholeOf(options.maxPagesPerSlot ?? 0x7fff_ffff, 'maxPagesPerSlot', 0x7fff_ffff);
  // What lies between pages at the end of the range is no use to a slot.
  const hostFrames = frameAt(options.userAddrLimit ?? 0x7fff_ffff_f000, 'userAddrLimit', false);
  const userAddrLimit = hostFrames * PAGE_SIZE;
  const maxGfn = options.maxGfn === undefined || options.maxGfn === null ? null : wholeOf(options.maxGfn, 'maxGfn', 2 ** 52);
  const manualDirtyLogProtect = options.manualDirtyLogProtect ?? 0;
  if (![0, 1, 3].includes(manualDirtyLogProtect)) refuse('bad-argument', 'manualDirtyLogProtect', manualDirtyLogProtect, '0, 1 or 3');
  const name = options.name ?? 'memslots';
  return {
    resolved: { userMemSlots, internalSlots, addressSpaces, maxPagesPerSlot, userAddrLimit, maxGfn, manualDirtyLogProtect, name },
    limits: { userMemSlots, memSlotsNum: userMemSlots + internalSlots, addressSpaces, maxPagesPerSlot, hostFrames, maxGfn },
  };
}
