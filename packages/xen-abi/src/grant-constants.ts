/** Flags of a grant entry; the two lowest bits are its type. @see grant_table.h, GTF_* */
export const GTF = {
  invalid: 0,
  permit_access: 1,
  accept_transfer: 2,
  transitive: 3,
  type_mask: 3,
  readonly: 4,
  reading: 8,
  writing: 0x10,
  PWT: 0x20,
  PCD: 0x40,
  PAT: 0x80,
  sub_page: 0x100,
  transfer_committed: 4,
  transfer_completed: 8,
} as const;

/** Status of a grant operation: 0 or negative. @see grant_table.h, GNTST_* */
export const GNTST = {
  okay: 0,
  general_error: -1,
  bad_domain: -2,
  bad_gntref: -3,
  bad_handle: -4,
  bad_virt_addr: -5,
  bad_dev_addr: -6,
  no_device_space: -7,
  permission_denied: -8,
  bad_page: -9,
  bad_copy_arg: -10,
  address_too_big: -11,
  eagain: -12,
  no_space: -13,
} as const;

/** Flags of a mapping. @see grant_table.h, GNTMAP_* */
export const GNTMAP = {
  device_map: 1,
  host_map: 2,
  readonly: 4,
  application_map: 8,
  contains_pte: 0x10,
  guest_avail_mask: 0xffff0000,
} as const;

/** Flags of a copy: which sides are references. @see grant_table.h, GNTCOPY_* */
export const GNTCOPY = {
  source_gref: 1,
  dest_gref: 2,
} as const;

/** Commands of the grant-table hypercall. @see grant_table.h, GNTTABOP_* */
export const GNTTABOP = {
  map_grant_ref: 0,
  unmap_grant_ref: 1,
  setup_table: 2,
  dump_table: 3,
  transfer: 4,
  copy: 5,
  query_size: 6,
  unmap_and_replace: 7,
  set_version: 8,
  get_status_frames: 9,
  get_version: 10,
  swap_grant_ref: 11,
  cache_flush: 12,
} as const;

/** Reserved references and cache operations. @see grant_table.h, GNTTAB_* */
export const GNTTAB = {
  NR_RESERVED_ENTRIES: 8,
  RESERVED_CONSOLE: 0,
  RESERVED_XENSTORE: 1,
  CACHE_CLEAN: 1,
  CACHE_INVAL: 2,
  CACHE_SOURCE_GREF: 0x80000000,
} as const;

/** A `GNTST` value. */
export type GrantStatus = (typeof GNTST)[keyof typeof GNTST];
/** The name of a `GNTST` value, as the header has it. */
export type GrantStatusName = `GNTST_${keyof typeof GNTST}`;

const STATUS_NAMES: readonly GrantStatusName[] = [
  'GNTST_okay',
  'GNTST_general_error',
  'GNTST_bad_domain',
  'GNTST_bad_gntref',
  'GNTST_bad_handle',
  'GNTST_bad_virt_addr',
  'GNTST_bad_dev_addr',
  'GNTST_no_device_space',
  'GNTST_permission_denied',
  'GNTST_bad_page',
  'GNTST_bad_copy_arg',
  'GNTST_address_too_big',
  'GNTST_eagain',
  'GNTST_no_space',
];

const STATUS_MESSAGES: readonly string[] = [
  'okay',
  'undefined error',
  'unrecognised domain id',
  'invalid grant reference',
  'invalid mapping handle',
  'invalid virtual address',
  'invalid device address',
  'no spare translation slot in the I/O MMU',
  'permission denied',
  'bad page',
  'copy arguments cross page boundary',
  'page address size too large',
  'operation not done; try again',
  'out of space',
];

/** `GNTST_bad_gntref` for -3, say; `undefined` where the number is no status. */
export function grantStatusName(status: number): GrantStatusName | undefined {
  return STATUS_NAMES[-status];
}

/** The header's message for a status; `undefined` where the number is no status. @see grant_table.h, GNTTABOP_error_msgs */
export function grantStatusMessage(status: number): string | undefined {
  return STATUS_MESSAGES[-status];
}
