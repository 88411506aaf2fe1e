import { refuse } from './errors.ts';
import { LOG_DIRTY_PAGES, type MemoryRegion, PAGE_SIZE, READONLY, type U64 } from './types.ts';

/** KVM_MEMSLOT_INVALID, beside the two user flags: the slot is on its way out or to another place. */
export const INVALID = 4;
/** Frames of a 64-bit byte space. */
const FRAMES = 0x10_0000_0000_0000;
const PAGE_MASK = PAGE_SIZE - 1;
const BYTES = 1n << 64n;
const MISALIGNED = -1;

/** The limits that checks 1 to 7 and 9 compare with. */
export interface Limits {
  readonly userMemSlots: number;
  readonly memSlotsNum: number;
  readonly addressSpaces: number;
  readonly maxPagesPerSlot: number;
  /** Exclusive end of host user addresses, in frames. */
  readonly hostFrames: number;
  readonly maxGfn: number | null;
}

/** A region in frames, after the checks that need no slots; one object, filled again by every call. */
export interface CheckedRegion {
  id: number;
  asId: number;
  flags: number;
  gfn: number;
  pages: number;
  hostFrame: number;
}

function bytesOf(value: unknown, argument: string): bigint {
  try {
    const bytes = BigInt(value as bigint);
    if (bytes >= 0n && bytes < BYTES) return bytes;
  } catch {
    // Not a number of any kind: refused below like one out of range.
  }
  return refuse('bad-argument', argument, value, 'a whole number from 0 to 2^53, or a bigint or 0x... string below 2^64');
}

/** Whole, not negative, exact. */
const isExact = (value: number): boolean => value >= 0 && value <= 2 ** 53 && Math.floor(value) === value;

/** An address or size in pages, or -1 where it is not a multiple of the page size. */
function framesOf(value: U64, argument: string): number {
  if (typeof value === 'number') {
    if (isExact(value)) return (value & PAGE_MASK) === 0 ? value / PAGE_SIZE : MISALIGNED;
    return refuse('bad-argument', argument, value, 'a whole number from 0 to 2^53, or a bigint or 0x... string below 2^64');
  }
  const bytes = bytesOf(value, argument);
  return (bytes & 4095n) === 0n ? Number(bytes >> 12n) : MISALIGNED;
}

/** The page an address lies in; with `up`, the first page that begins at or after it. */
export function frameAt(value: U64, argument: string, up: boolean): number {
  if (typeof value === 'number' && isExact(value)) return up ? Math.ceil(value / PAGE_SIZE) : Math.floor(value / PAGE_SIZE);
  const bytes = bytesOf(value, argument);
  return Number((up ? bytes + 4095n : bytes) >> 12n);
}

/** A frame number any 64 bits may hold, as a number: exact below 2^53, above that still above every slot. */
export function gfnOf(value: U64, argument: string): number {
  if (typeof value === 'number' && isExact(value)) return value;
  return Number(bytesOf(value, argument));
}

/** A byte address as its frame and the byte in it. */
export function splitAddress(value: U64, argument: string): { gfn: number; offset: number } {
  if (typeof value === 'number' && isExact(value)) return { gfn: Math.floor(value / PAGE_SIZE), offset: value & PAGE_MASK };
  const bytes = bytesOf(value, argument);
  return { gfn: Number(bytes >> 12n), offset: Number(bytes & 4095n) };
}

/** Whether `start < end`, of any kind. */
export function isBelow(start: U64, end: U64): boolean {
  if (typeof start === 'number' && typeof end === 'number') return start < end;
  return bytesOf(start, 'start') < bytesOf(end, 'end');
}

/** A whole number in `[0, max]`, or a refusal. */
export function wholeOf(value: number, argument: string, max: number): number {
  if (value >= 0 && value <= max && Math.floor(value) === value) return value;
  return refuse('bad-argument', argument, value, `a whole number from 0 to ${max}`);
}

/**
 * Checks 1 to 7 in their order, into `out`. `user` is false for the host's own entry, which leaves out the first.
 * @throws {MemslotsError} the first that fails; before them `bad-argument` for what is no number of its kind at all.
 * @see Linux virt/kvm/kvm_main.c, kvm_vm_ioctl_set_memory_region and __kvm_set_memory_region
 */
export function checkRegion(region: MemoryRegion, limits: Limits, user: boolean, out: CheckedRegion): void {
  const id = wholeOf(region.slot, 'slot', 0xffff);
  const asId = region.asId === undefined ? 0 : wholeOf(region.asId, 'asId', 0xffff);
  const flags = region.flags === undefined ? 0 : wholeOf(region.flags, 'flags', 0xffff_ffff);
  const gfn = framesOf(region.guestPhysAddr, 'guestPhysAddr');
  const pages = framesOf(region.memorySize, 'memorySize');
  const hostFrame = framesOf(region.userspaceAddr, 'userspaceAddr');
  if (user && id >= limits.userMemSlots) refuse('slot-limit', 'slot', id, `an id below ${limits.userMemSlots}`);
  if ((flags & ~(LOG_DIRTY_PAGES | READONLY)) !== 0)
    refuse('flags', 'flags', `0x${flags.toString(16)}`, 'bits 1 (log dirty pages) and 2 (read-only)');
  if (pages === MISALIGNED) refuse('size-alignment', 'memorySize', region.memorySize, 'a multiple of 4096');
  if (gfn === MISALIGNED) refuse('gpa-alignment', 'guestPhysAddr', region.guestPhysAddr, 'a multiple of 4096');
  if (hostFrame === MISALIGNED) refuse('hva-alignment', 'userspaceAddr', region.userspaceAddr, 'a multiple of 4096');
  if (hostFrame + pages > limits.hostFrames) {
    const most = `a range that ends at or below 0x${(BigInt(limits.hostFrames) << 12n).toString(16)}`;
    refuse('hva-range', 'userspaceAddr', region.userspaceAddr, most);
  }
  if (asId >= limits.addressSpaces) refuse('address-space', 'asId', asId, `an address space below ${limits.addressSpaces}`);
  if (id >= limits.memSlotsNum) refuse('address-space', 'slot', id, `an id below ${limits.memSlotsNum}`);
  if (gfn + pages >= FRAMES && pages !== 0) refuse('gpa-wrap', 'guestPhysAddr', region.guestPhysAddr, 'a range that ends below 2^64');
  out.id = id;
  out.asId = asId;
  out.flags = flags;
  out.gfn = gfn;
  out.pages = pages;
  out.hostFrame = hostFrame;
}
