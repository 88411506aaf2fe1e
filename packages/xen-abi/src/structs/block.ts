import type { Struct, StructLayout } from './codec.ts';

/** Fields of `blkif_request_segment`. */
export interface BlkifRequestSegmentFields {
  gref: number;
  first_sect: number;
  last_sect: number;
}

const BLKIF_REQUEST_SEGMENT_LAYOUT: StructLayout = {
  size: 8,
  align: 4,
  fields: { gref: ['u32', 0], first_sect: ['u8', 4], last_sect: ['u8', 5] },
};

/** One segment of a direct request or an indirect page. @see io/blkif.h */
export const BLKIF_REQUEST_SEGMENT: Struct<BlkifRequestSegmentFields> = {
  name: 'blkif_request_segment',
  layouts: { x86_64: BLKIF_REQUEST_SEGMENT_LAYOUT, x86_32: BLKIF_REQUEST_SEGMENT_LAYOUT, arm64: BLKIF_REQUEST_SEGMENT_LAYOUT },
};

/** Fields of `blkif_request`. */
export interface BlkifRequestFields {
  operation: number;
  nr_segments: number;
  handle: number;
  id: bigint;
  sector_number: bigint;
  seg: BlkifRequestSegmentFields[];
}

const BLKIF_REQUEST_X86_64: StructLayout = {
  size: 112,
  align: 8,
  fields: {
    operation: ['u8', 0],
    nr_segments: ['u8', 1],
    handle: ['u16', 2],
    id: ['u64', 8],
    sector_number: ['u64', 16],
    seg: [BLKIF_REQUEST_SEGMENT, 24, 11],
  },
};

const BLKIF_REQUEST_X86_32: StructLayout = {
  size: 108,
  align: 4,
  fields: {
    operation: ['u8', 0],
    nr_segments: ['u8', 1],
    handle: ['u16', 2],
    id: ['u64', 4],
    sector_number: ['u64', 12],
    seg: [BLKIF_REQUEST_SEGMENT, 20, 11],
  },
};

/** A direct block request. @see io/blkif.h */
export const BLKIF_REQUEST: Struct<BlkifRequestFields> = {
  name: 'blkif_request',
  layouts: { x86_64: BLKIF_REQUEST_X86_64, x86_32: BLKIF_REQUEST_X86_32, arm64: BLKIF_REQUEST_X86_64 },
};

/** Fields of `blkif_request_discard`. */
export interface BlkifRequestDiscardFields {
  operation: number;
  flag: number;
  handle: number;
  id: bigint;
  sector_number: bigint;
  nr_sectors: bigint;
}

const BLKIF_REQUEST_DISCARD_X86_64: StructLayout = {
  size: 32,
  align: 8,
  fields: {
    operation: ['u8', 0],
    flag: ['u8', 1],
    handle: ['u16', 2],
    id: ['u64', 8],
    sector_number: ['u64', 16],
    nr_sectors: ['u64', 24],
  },
};

const BLKIF_REQUEST_DISCARD_X86_32: StructLayout = {
  size: 28,
  align: 4,
  fields: {
    operation: ['u8', 0],
    flag: ['u8', 1],
    handle: ['u16', 2],
    id: ['u64', 4],
    sector_number: ['u64', 12],
    nr_sectors: ['u64', 20],
  },
};

/** A discard request. @see io/blkif.h */
export const BLKIF_REQUEST_DISCARD: Struct<BlkifRequestDiscardFields> = {
  name: 'blkif_request_discard',
  layouts: { x86_64: BLKIF_REQUEST_DISCARD_X86_64, x86_32: BLKIF_REQUEST_DISCARD_X86_32, arm64: BLKIF_REQUEST_DISCARD_X86_64 },
};

/** Fields of `blkif_request_indirect`. */
export interface BlkifRequestIndirectFields {
  operation: number;
  indirect_op: number;
  nr_segments: number;
  id: bigint;
  sector_number: bigint;
  handle: number;
  indirect_grefs: number[];
}

const BLKIF_REQUEST_INDIRECT_X86_64: StructLayout = {
  size: 64,
  align: 8,
  fields: {
    operation: ['u8', 0],
    indirect_op: ['u8', 1],
    nr_segments: ['u16', 2],
    id: ['u64', 8],
    sector_number: ['u64', 16],
    handle: ['u16', 24],
    indirect_grefs: ['u32', 28, 8],
  },
};

const BLKIF_REQUEST_INDIRECT_X86_32: StructLayout = {
  size: 64,
  align: 4,
  fields: {
    operation: ['u8', 0],
    indirect_op: ['u8', 1],
    nr_segments: ['u16', 2],
    id: ['u64', 4],
    sector_number: ['u64', 12],
    handle: ['u16', 20],
    indirect_grefs: ['u32', 24, 8],
  },
};

/** An indirect request. @see io/blkif.h */
export const BLKIF_REQUEST_INDIRECT: Struct<BlkifRequestIndirectFields> = {
  name: 'blkif_request_indirect',
  layouts: { x86_64: BLKIF_REQUEST_INDIRECT_X86_64, x86_32: BLKIF_REQUEST_INDIRECT_X86_32, arm64: BLKIF_REQUEST_INDIRECT_X86_64 },
};

/** Fields of `blkif_response`. */
export interface BlkifResponseFields {
  id: bigint;
  operation: number;
  status: number;
}

const BLKIF_RESPONSE_X86_64: StructLayout = { size: 16, align: 8, fields: { id: ['u64', 0], operation: ['u8', 8], status: ['s16', 10] } };

const BLKIF_RESPONSE_X86_32: StructLayout = { size: 12, align: 4, fields: { id: ['u64', 0], operation: ['u8', 8], status: ['s16', 10] } };

/** A block response. @see io/blkif.h */
export const BLKIF_RESPONSE: Struct<BlkifResponseFields> = {
  name: 'blkif_response',
  layouts: { x86_64: BLKIF_RESPONSE_X86_64, x86_32: BLKIF_RESPONSE_X86_32, arm64: BLKIF_RESPONSE_X86_64 },
};

/** Fields of `blkif_sring`. */
export interface BlkifSringFields {
  req_prod: number;
  req_event: number;
  rsp_prod: number;
  rsp_event: number;
  'pvt.pvt_pad': Uint8Array;
  __pad: Uint8Array;
}

const BLKIF_SRING_X86_64: StructLayout = {
  size: 64,
  align: 8,
  fields: {
    req_prod: ['u32', 0],
    req_event: ['u32', 4],
    rsp_prod: ['u32', 8],
    rsp_event: ['u32', 12],
    'pvt.pvt_pad': ['u8', 16, 4],
    __pad: ['u8', 20, 44],
  },
};

const BLKIF_SRING_X86_32: StructLayout = {
  size: 64,
  align: 4,
  fields: {
    req_prod: ['u32', 0],
    req_event: ['u32', 4],
    rsp_prod: ['u32', 8],
    rsp_event: ['u32', 12],
    'pvt.pvt_pad': ['u8', 16, 4],
    __pad: ['u8', 20, 44],
  },
};

/** The header of a block ring; the slots follow. @see io/ring.h, DEFINE_RING_TYPES */
export const BLKIF_SRING: Struct<BlkifSringFields> = {
  name: 'blkif_sring',
  layouts: { x86_64: BLKIF_SRING_X86_64, x86_32: BLKIF_SRING_X86_32, arm64: BLKIF_SRING_X86_64 },
};

/** Fields of `blkif_sring_entry`. */
export interface BlkifSringEntryFields {
  req: BlkifRequestFields;
  rsp: BlkifResponseFields;
}

const BLKIF_SRING_ENTRY_X86_64: StructLayout = { size: 112, align: 8, fields: { req: [BLKIF_REQUEST, 0], rsp: [BLKIF_RESPONSE, 0] } };

const BLKIF_SRING_ENTRY_X86_32: StructLayout = { size: 108, align: 4, fields: { req: [BLKIF_REQUEST, 0], rsp: [BLKIF_RESPONSE, 0] } };

/** A slot of a block ring: a request or a response. @see io/ring.h */
export const BLKIF_SRING_ENTRY: Struct<BlkifSringEntryFields> = {
  name: 'blkif_sring_entry',
  layouts: { x86_64: BLKIF_SRING_ENTRY_X86_64, x86_32: BLKIF_SRING_ENTRY_X86_32, arm64: BLKIF_SRING_ENTRY_X86_64 },
};
