import type { Struct, StructLayout } from './codec.ts';

/** Fields of `gnttab_map_grant_ref`. */
export interface GnttabMapGrantRefFields {
  host_addr: bigint;
  flags: number;
  ref: number;
  dom: number;
  status: number;
  handle: number;
  dev_bus_addr: bigint;
}

const GNTTAB_MAP_GRANT_REF_X86_64: StructLayout = {
  size: 32,
  align: 8,
  fields: {
    host_addr: ['u64', 0],
    flags: ['u32', 8],
    ref: ['u32', 12],
    dom: ['u16', 16],
    status: ['s16', 18],
    handle: ['u32', 20],
    dev_bus_addr: ['u64', 24],
  },
};

const GNTTAB_MAP_GRANT_REF_X86_32: StructLayout = {
  size: 32,
  align: 4,
  fields: {
    host_addr: ['u64', 0],
    flags: ['u32', 8],
    ref: ['u32', 12],
    dom: ['u16', 16],
    status: ['s16', 18],
    handle: ['u32', 20],
    dev_bus_addr: ['u64', 24],
  },
};

/** GNTTABOP_map_grant_ref. @see grant_table.h */
export const GNTTAB_MAP_GRANT_REF: Struct<GnttabMapGrantRefFields> = {
  name: 'gnttab_map_grant_ref',
  layouts: { x86_64: GNTTAB_MAP_GRANT_REF_X86_64, x86_32: GNTTAB_MAP_GRANT_REF_X86_32, arm64: GNTTAB_MAP_GRANT_REF_X86_64 },
};

/** Fields of `gnttab_unmap_grant_ref`. */
export interface GnttabUnmapGrantRefFields {
  host_addr: bigint;
  dev_bus_addr: bigint;
  handle: number;
  status: number;
}

const GNTTAB_UNMAP_GRANT_REF_X86_64: StructLayout = {
  size: 24,
  align: 8,
  fields: { host_addr: ['u64', 0], dev_bus_addr: ['u64', 8], handle: ['u32', 16], status: ['s16', 20] },
};

const GNTTAB_UNMAP_GRANT_REF_X86_32: StructLayout = {
  size: 24,
  align: 4,
  fields: { host_addr: ['u64', 0], dev_bus_addr: ['u64', 8], handle: ['u32', 16], status: ['s16', 20] },
};

/** GNTTABOP_unmap_grant_ref. @see grant_table.h */
export const GNTTAB_UNMAP_GRANT_REF: Struct<GnttabUnmapGrantRefFields> = {
  name: 'gnttab_unmap_grant_ref',
  layouts: { x86_64: GNTTAB_UNMAP_GRANT_REF_X86_64, x86_32: GNTTAB_UNMAP_GRANT_REF_X86_32, arm64: GNTTAB_UNMAP_GRANT_REF_X86_64 },
};

/** Fields of `gnttab_unmap_and_replace`. */
export interface GnttabUnmapAndReplaceFields {
  host_addr: bigint;
  new_addr: bigint;
  handle: number;
  status: number;
}

const GNTTAB_UNMAP_AND_REPLACE_X86_64: StructLayout = {
  size: 24,
  align: 8,
  fields: { host_addr: ['u64', 0], new_addr: ['u64', 8], handle: ['u32', 16], status: ['s16', 20] },
};

const GNTTAB_UNMAP_AND_REPLACE_X86_32: StructLayout = {
  size: 24,
  align: 4,
  fields: { host_addr: ['u64', 0], new_addr: ['u64', 8], handle: ['u32', 16], status: ['s16', 20] },
};

/** GNTTABOP_unmap_and_replace. @see grant_table.h */
export const GNTTAB_UNMAP_AND_REPLACE: Struct<GnttabUnmapAndReplaceFields> = {
  name: 'gnttab_unmap_and_replace',
  layouts: { x86_64: GNTTAB_UNMAP_AND_REPLACE_X86_64, x86_32: GNTTAB_UNMAP_AND_REPLACE_X86_32, arm64: GNTTAB_UNMAP_AND_REPLACE_X86_64 },
};

/** Fields of `gnttab_setup_table`. */
export interface GnttabSetupTableFields {
  dom: number;
  nr_frames: number;
  status: number;
  frame_list: bigint;
}

const GNTTAB_SETUP_TABLE_X86_64: StructLayout = {
  size: 24,
  align: 8,
  fields: { dom: ['u16', 0], nr_frames: ['u32', 4], status: ['s16', 8], frame_list: ['ptr', 16] },
};

const GNTTAB_SETUP_TABLE_X86_32: StructLayout = {
  size: 16,
  align: 4,
  fields: { dom: ['u16', 0], nr_frames: ['u32', 4], status: ['s16', 8], frame_list: ['ptr', 12] },
};

/** GNTTABOP_setup_table. @see grant_table.h */
export const GNTTAB_SETUP_TABLE: Struct<GnttabSetupTableFields> = {
  name: 'gnttab_setup_table',
  layouts: { x86_64: GNTTAB_SETUP_TABLE_X86_64, x86_32: GNTTAB_SETUP_TABLE_X86_32, arm64: GNTTAB_SETUP_TABLE_X86_64 },
};

/** Fields of `gnttab_dump_table`. */
export interface GnttabDumpTableFields {
  dom: number;
  status: number;
}

const GNTTAB_DUMP_TABLE_LAYOUT: StructLayout = { size: 4, align: 2, fields: { dom: ['u16', 0], status: ['s16', 2] } };

/** GNTTABOP_dump_table. @see grant_table.h */
export const GNTTAB_DUMP_TABLE: Struct<GnttabDumpTableFields> = {
  name: 'gnttab_dump_table',
  layouts: { x86_64: GNTTAB_DUMP_TABLE_LAYOUT, x86_32: GNTTAB_DUMP_TABLE_LAYOUT, arm64: GNTTAB_DUMP_TABLE_LAYOUT },
};

/** Fields of `gnttab_transfer`. */
export interface GnttabTransferFields {
  mfn: bigint;
  domid: number;
  ref: number;
  status: number;
}

const GNTTAB_TRANSFER_X86_64: StructLayout = {
  size: 24,
  align: 8,
  fields: { mfn: ['u64', 0], domid: ['u16', 8], ref: ['u32', 12], status: ['s16', 16] },
};

const GNTTAB_TRANSFER_X86_32: StructLayout = {
  size: 16,
  align: 4,
  fields: { mfn: ['u32', 0], domid: ['u16', 4], ref: ['u32', 8], status: ['s16', 12] },
};

/** GNTTABOP_transfer. @see grant_table.h */
export const GNTTAB_TRANSFER: Struct<GnttabTransferFields> = {
  name: 'gnttab_transfer',
  layouts: { x86_64: GNTTAB_TRANSFER_X86_64, x86_32: GNTTAB_TRANSFER_X86_32, arm64: GNTTAB_TRANSFER_X86_64 },
};

/** Fields of `gnttab_copy`. */
export interface GnttabCopyFields {
  'source.u.ref': number;
  'source.u.gmfn': bigint;
  'source.domid': number;
  'source.offset': number;
  'dest.u.ref': number;
  'dest.u.gmfn': bigint;
  'dest.domid': number;
  'dest.offset': number;
  len: number;
  flags: number;
  status: number;
}

const GNTTAB_COPY_X86_64: StructLayout = {
  size: 40,
  align: 8,
  fields: {
    'source.u.ref': ['u32', 0],
    'source.u.gmfn': ['u64', 0],
    'source.domid': ['u16', 8],
    'source.offset': ['u16', 10],
    'dest.u.ref': ['u32', 16],
    'dest.u.gmfn': ['u64', 16],
    'dest.domid': ['u16', 24],
    'dest.offset': ['u16', 26],
    len: ['u16', 32],
    flags: ['u16', 34],
    status: ['s16', 36],
  },
};

const GNTTAB_COPY_X86_32: StructLayout = {
  size: 24,
  align: 4,
  fields: {
    'source.u.ref': ['u32', 0],
    'source.u.gmfn': ['u32', 0],
    'source.domid': ['u16', 4],
    'source.offset': ['u16', 6],
    'dest.u.ref': ['u32', 8],
    'dest.u.gmfn': ['u32', 8],
    'dest.domid': ['u16', 12],
    'dest.offset': ['u16', 14],
    len: ['u16', 16],
    flags: ['u16', 18],
    status: ['s16', 20],
  },
};

/** GNTTABOP_copy. @see grant_table.h */
export const GNTTAB_COPY: Struct<GnttabCopyFields> = {
  name: 'gnttab_copy',
  layouts: { x86_64: GNTTAB_COPY_X86_64, x86_32: GNTTAB_COPY_X86_32, arm64: GNTTAB_COPY_X86_64 },
};

/** Fields of `gnttab_query_size`. */
export interface GnttabQuerySizeFields {
  dom: number;
  nr_frames: number;
  max_nr_frames: number;
  status: number;
}

const GNTTAB_QUERY_SIZE_LAYOUT: StructLayout = {
  size: 16,
  align: 4,
  fields: { dom: ['u16', 0], nr_frames: ['u32', 4], max_nr_frames: ['u32', 8], status: ['s16', 12] },
};

/** GNTTABOP_query_size. @see grant_table.h */
export const GNTTAB_QUERY_SIZE: Struct<GnttabQuerySizeFields> = {
  name: 'gnttab_query_size',
  layouts: { x86_64: GNTTAB_QUERY_SIZE_LAYOUT, x86_32: GNTTAB_QUERY_SIZE_LAYOUT, arm64: GNTTAB_QUERY_SIZE_LAYOUT },
};

/** Fields of `gnttab_set_version`. */
export interface GnttabSetVersionFields {
  version: number;
}

const GNTTAB_SET_VERSION_LAYOUT: StructLayout = { size: 4, align: 4, fields: { version: ['u32', 0] } };

/** GNTTABOP_set_version. @see grant_table.h */
export const GNTTAB_SET_VERSION: Struct<GnttabSetVersionFields> = {
  name: 'gnttab_set_version',
  layouts: { x86_64: GNTTAB_SET_VERSION_LAYOUT, x86_32: GNTTAB_SET_VERSION_LAYOUT, arm64: GNTTAB_SET_VERSION_LAYOUT },
};

/** Fields of `gnttab_get_status_frames`. */
export interface GnttabGetStatusFramesFields {
  nr_frames: number;
  dom: number;
  status: number;
  frame_list: bigint;
}

const GNTTAB_GET_STATUS_FRAMES_X86_64: StructLayout = {
  size: 16,
  align: 8,
  fields: { nr_frames: ['u32', 0], dom: ['u16', 4], status: ['s16', 6], frame_list: ['ptr', 8] },
};

const GNTTAB_GET_STATUS_FRAMES_X86_32: StructLayout = {
  size: 12,
  align: 4,
  fields: { nr_frames: ['u32', 0], dom: ['u16', 4], status: ['s16', 6], frame_list: ['ptr', 8] },
};

/** GNTTABOP_get_status_frames. @see grant_table.h */
export const GNTTAB_GET_STATUS_FRAMES: Struct<GnttabGetStatusFramesFields> = {
  name: 'gnttab_get_status_frames',
  layouts: { x86_64: GNTTAB_GET_STATUS_FRAMES_X86_64, x86_32: GNTTAB_GET_STATUS_FRAMES_X86_32, arm64: GNTTAB_GET_STATUS_FRAMES_X86_64 },
};

/** Fields of `gnttab_get_version`. */
export interface GnttabGetVersionFields {
  dom: number;
  pad: number;
  version: number;
}

const GNTTAB_GET_VERSION_LAYOUT: StructLayout = { size: 8, align: 4, fields: { dom: ['u16', 0], pad: ['u16', 2], version: ['u32', 4] } };

/** GNTTABOP_get_version. @see grant_table.h */
export const GNTTAB_GET_VERSION: Struct<GnttabGetVersionFields> = {
  name: 'gnttab_get_version',
  layouts: { x86_64: GNTTAB_GET_VERSION_LAYOUT, x86_32: GNTTAB_GET_VERSION_LAYOUT, arm64: GNTTAB_GET_VERSION_LAYOUT },
};

/** Fields of `gnttab_swap_grant_ref`. */
export interface GnttabSwapGrantRefFields {
  ref_a: number;
  ref_b: number;
  status: number;
}

const GNTTAB_SWAP_GRANT_REF_LAYOUT: StructLayout = {
  size: 12,
  align: 4,
  fields: { ref_a: ['u32', 0], ref_b: ['u32', 4], status: ['s16', 8] },
};

/** GNTTABOP_swap_grant_ref. @see grant_table.h */
export const GNTTAB_SWAP_GRANT_REF: Struct<GnttabSwapGrantRefFields> = {
  name: 'gnttab_swap_grant_ref',
  layouts: { x86_64: GNTTAB_SWAP_GRANT_REF_LAYOUT, x86_32: GNTTAB_SWAP_GRANT_REF_LAYOUT, arm64: GNTTAB_SWAP_GRANT_REF_LAYOUT },
};

/** Fields of `gnttab_cache_flush`. */
export interface GnttabCacheFlushFields {
  'a.dev_bus_addr': bigint;
  'a.ref': number;
  offset: number;
  length: number;
  op: number;
}

const GNTTAB_CACHE_FLUSH_X86_64: StructLayout = {
  size: 16,
  align: 8,
  fields: { 'a.dev_bus_addr': ['u64', 0], 'a.ref': ['u32', 0], offset: ['u16', 8], length: ['u16', 10], op: ['u32', 12] },
};

const GNTTAB_CACHE_FLUSH_X86_32: StructLayout = {
  size: 16,
  align: 4,
  fields: { 'a.dev_bus_addr': ['u64', 0], 'a.ref': ['u32', 0], offset: ['u16', 8], length: ['u16', 10], op: ['u32', 12] },
};

/** GNTTABOP_cache_flush. @see grant_table.h */
export const GNTTAB_CACHE_FLUSH: Struct<GnttabCacheFlushFields> = {
  name: 'gnttab_cache_flush',
  layouts: { x86_64: GNTTAB_CACHE_FLUSH_X86_64, x86_32: GNTTAB_CACHE_FLUSH_X86_32, arm64: GNTTAB_CACHE_FLUSH_X86_64 },
};
