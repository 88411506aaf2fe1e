import type { Struct, StructLayout } from './codec.ts';

/** Fields of `grant_entry_v1`. */
export interface GrantEntryV1Fields {
  flags: number;
  domid: number;
  frame: number;
}

const GRANT_ENTRY_V1_LAYOUT: StructLayout = { size: 8, align: 4, fields: { flags: ['u16', 0], domid: ['u16', 2], frame: ['u32', 4] } };

/** A version 1 grant entry. @see grant_table.h */
export const GRANT_ENTRY_V1: Struct<GrantEntryV1Fields> = {
  name: 'grant_entry_v1',
  layouts: { x86_64: GRANT_ENTRY_V1_LAYOUT, x86_32: GRANT_ENTRY_V1_LAYOUT, arm64: GRANT_ENTRY_V1_LAYOUT },
};

/** Fields of `grant_entry_header`. */
export interface GrantEntryHeaderFields {
  flags: number;
  domid: number;
}

const GRANT_ENTRY_HEADER_LAYOUT: StructLayout = { size: 4, align: 2, fields: { flags: ['u16', 0], domid: ['u16', 2] } };

/** What every version 2 entry starts with. @see grant_table.h */
export const GRANT_ENTRY_HEADER: Struct<GrantEntryHeaderFields> = {
  name: 'grant_entry_header',
  layouts: { x86_64: GRANT_ENTRY_HEADER_LAYOUT, x86_32: GRANT_ENTRY_HEADER_LAYOUT, arm64: GRANT_ENTRY_HEADER_LAYOUT },
};

/** Fields of `grant_entry_v2`. */
export interface GrantEntryV2Fields {
  'hdr.flags': number;
  'hdr.domid': number;
  'full_page.pad0': number;
  'full_page.frame': bigint;
  'sub_page.page_off': number;
  'sub_page.length': number;
  'sub_page.frame': bigint;
  'transitive.trans_domid': number;
  'transitive.pad0': number;
  'transitive.gref': number;
  __spacer: number[];
}

const GRANT_ENTRY_V2_X86_64: StructLayout = {
  size: 16,
  align: 8,
  fields: {
    'hdr.flags': ['u16', 0],
    'hdr.domid': ['u16', 2],
    'full_page.pad0': ['u32', 4],
    'full_page.frame': ['u64', 8],
    'sub_page.page_off': ['u16', 4],
    'sub_page.length': ['u16', 6],
    'sub_page.frame': ['u64', 8],
    'transitive.trans_domid': ['u16', 4],
    'transitive.pad0': ['u16', 6],
    'transitive.gref': ['u32', 8],
    __spacer: ['u32', 0, 4],
  },
};

const GRANT_ENTRY_V2_X86_32: StructLayout = {
  size: 16,
  align: 4,
  fields: {
    'hdr.flags': ['u16', 0],
    'hdr.domid': ['u16', 2],
    'full_page.pad0': ['u32', 4],
    'full_page.frame': ['u64', 8],
    'sub_page.page_off': ['u16', 4],
    'sub_page.length': ['u16', 6],
    'sub_page.frame': ['u64', 8],
    'transitive.trans_domid': ['u16', 4],
    'transitive.pad0': ['u16', 6],
    'transitive.gref': ['u32', 8],
    __spacer: ['u32', 0, 4],
  },
};

/** A version 2 grant entry, all arms. @see grant_table.h */
export const GRANT_ENTRY_V2: Struct<GrantEntryV2Fields> = {
  name: 'grant_entry_v2',
  layouts: { x86_64: GRANT_ENTRY_V2_X86_64, x86_32: GRANT_ENTRY_V2_X86_32, arm64: GRANT_ENTRY_V2_X86_64 },
};
