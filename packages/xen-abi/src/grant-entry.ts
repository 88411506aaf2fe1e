import { highHalf, joinHalves, type MemoryViews } from './memory.ts';

/** Bytes of a version 1 entry. */
export const GRANT_V1_BYTES = 8;
/** Bytes of a version 2 entry. */
export const GRANT_V2_BYTES = 16;
/** Version 1 entries in a frame of 4096 bytes. */
export const GRANT_V1_PER_FRAME = 512;
/** Version 2 entries in a frame. */
export const GRANT_V2_PER_FRAME = 256;
/** Status words (u16) in a status frame. */
export const GRANT_STATUS_PER_FRAME = 2048;

/*
 * Everything below takes the views of the memory and the entry's byte offset in them, a multiple of 4. An entry is read and
 * written in place: `flags` of both versions stand at the same offset, and so does `domid`.
 */

/** Flags of an entry of either version. */
export function grantFlags(views: MemoryViews, at: number): number {
  return views.u16[at >>> 1]!;
}

/** Sets the flags of an entry of either version and nothing else. */
export function setGrantFlags(views: MemoryViews, at: number, flags: number): void {
  views.u16[at >>> 1] = flags;
}

/** The domain that an entry of either version grants to. */
export function grantDomid(views: MemoryViews, at: number): number {
  return views.u16[(at >>> 1) + 1]!;
}

/** Flags in the low and domid in the high half: one read, as the hypervisor takes them. */
export function grantHeader(views: MemoryViews, at: number): number {
  return views.u32[at >>> 2]!;
}

/** The frame of a version 1 entry: 32 bits. */
export function grantV1Frame(views: MemoryViews, at: number): number {
  return views.u32[(at >>> 2) + 1]!;
}

/**
 * Writes a version 1 entry, flags last, so that a reader never meets a half-made one.
 * @see grant_table.h, "Introducing a valid entry into the grant table"
 */
export function writeGrantV1(views: MemoryViews, at: number, flags: number, domid: number, frame: number): void {
  views.u32[(at >>> 2) + 1] = frame;
  views.u16[(at >>> 1) + 1] = domid;
  views.u16[at >>> 1] = flags;
}

/**
 * The frame of a version 2 full-page or sub-page entry: 64 bits; `Infinity` above 2^53 - 1 (see `grantV2FrameLo` and `Hi`).
 */
export function grantV2Frame(views: MemoryViews, at: number): number {
  const word = (at >>> 2) + 2;
  return joinHalves(views.u32[word]!, views.u32[word + 1]!);
}

/** The frame's low half as it stands in memory. */
export function grantV2FrameLo(views: MemoryViews, at: number): number {
  return views.u32[(at >>> 2) + 2]!;
}

/** The frame's high half as it stands in memory. */
export function grantV2FrameHi(views: MemoryViews, at: number): number {
  return views.u32[(at >>> 2) + 3]!;
}

/** First byte of a version 2 sub-page entry. */
export function grantV2PageOffset(views: MemoryViews, at: number): number {
  return views.u16[(at >>> 1) + 2]!;
}

/** Bytes of a version 2 sub-page entry. */
export function grantV2Length(views: MemoryViews, at: number): number {
  return views.u16[(at >>> 1) + 3]!;
}

/** The domain a version 2 transitive entry refers to. */
export function grantV2TransDomid(views: MemoryViews, at: number): number {
  return views.u16[(at >>> 1) + 2]!;
}

/** The reference of that domain. */
export function grantV2TransGref(views: MemoryViews, at: number): number {
  return views.u32[(at >>> 2) + 2]!;
}

/** Writes a version 2 full-page entry, flags last. `frame` is a whole number up to 2^53 - 1. */
export function writeGrantV2FullPage(views: MemoryViews, at: number, flags: number, domid: number, frame: number): void {
  const word = at >>> 2;
  views.u32[word + 1] = 0;
  views.u32[word + 2] = frame;
  views.u32[word + 3] = highHalf(frame);
  views.u16[(at >>> 1) + 1] = domid;
  views.u16[at >>> 1] = flags;
}

/** Writes a version 2 sub-page entry, flags last; `flags` must hold GTF_sub_page. */
export function writeGrantV2SubPage(
  views: MemoryViews,
  at: number,
  flags: number,
  domid: number,
  frame: number,
  pageOffset: number,
  length: number,
): void {
  const word = at >>> 2;
  views.u16[(at >>> 1) + 2] = pageOffset;
  views.u16[(at >>> 1) + 3] = length;
  views.u32[word + 2] = frame;
  views.u32[word + 3] = highHalf(frame);
  views.u16[(at >>> 1) + 1] = domid;
  views.u16[at >>> 1] = flags;
}

/** Writes a version 2 transitive entry, flags last; the type in `flags` must be GTF_transitive. */
export function writeGrantV2Transitive(
  views: MemoryViews,
  at: number,
  flags: number,
  domid: number,
  transDomid: number,
  transGref: number,
): void {
  const word = at >>> 2;
  views.u16[(at >>> 1) + 2] = transDomid;
  views.u16[(at >>> 1) + 3] = 0;
  views.u32[word + 2] = transGref;
  views.u32[word + 3] = 0;
  views.u16[(at >>> 1) + 1] = domid;
  views.u16[at >>> 1] = flags;
}

/** The status word (GTF_reading, GTF_writing) at byte offset `at` of a version 2 status frame: 2 bytes a reference. */
export function grantStatus(views: MemoryViews, at: number): number {
  return views.u16[at >>> 1]!;
}

/** Sets a status word. */
export function setGrantStatus(views: MemoryViews, at: number, status: number): void {
  views.u16[at >>> 1] = status;
}

/** Which form a version 2 entry has, by its flags. */
export type GrantV2Arm = 'invalid' | 'full_page' | 'sub_page' | 'accept_transfer' | 'transitive';

/** Names the form of a version 2 entry. @param flags GTF_* bits. */
export function grantV2Arm(flags: number): GrantV2Arm {
  const type = flags & 3;
  if (type === 0) return 'invalid';
  if (type === 2) return 'accept_transfer';
  if (type === 3) return 'transitive';
  return (flags & 0x100) !== 0 ? 'sub_page' : 'full_page';
}
