import { GNTMAP, GNTST, GTF } from '@paravirt/xen-abi';

/*
 * The header's numbers under names that the hot path reads as plain constants.
 */
export const OKAY: number = GNTST.okay;
export const GENERAL_ERROR: number = GNTST.general_error;
export const BAD_DOMAIN: number = GNTST.bad_domain;
export const BAD_GNTREF: number = GNTST.bad_gntref;
export const BAD_HANDLE: number = GNTST.bad_handle;
export const BAD_VIRT_ADDR: number = GNTST.bad_virt_addr;
export const BAD_DEV_ADDR: number = GNTST.bad_dev_addr;
export const PERMISSION_DENIED: number = GNTST.permission_denied;
export const BAD_PAGE: number = GNTST.bad_page;
export const BAD_COPY_ARG: number = GNTST.bad_copy_arg;
export const EAGAIN: number = GNTST.eagain;
export const NO_SPACE: number = GNTST.no_space;

export const DEVICE_MAP: number = GNTMAP.device_map;
export const HOST_MAP: number = GNTMAP.host_map;
export const READONLY: number = GNTMAP.readonly;
/** Forms of mapping that belong to guests with page tables of their own making. */
export const FOREIGN_FORMS: number = GNTMAP.application_map | GNTMAP.contains_pte;

export const PERMIT_ACCESS: number = GTF.permit_access;
export const TRANSITIVE: number = GTF.transitive;
export const TYPE_MASK: number = GTF.type_mask;
export const GTF_READONLY: number = GTF.readonly;
export const READING: number = GTF.reading;
export const WRITING: number = GTF.writing;
export const SUB_PAGE: number = GTF.sub_page;

/** Counts of pins in one word, 8 bits each, as the hypervisor's dump prints them. @see xen/common/grant_table.c, GNTPIN_* */
export const HOST_WRITE = 1;
export const HOST_READ = 0x100;
export const DEVICE_WRITE = 0x1_0000;
export const DEVICE_READ = 0x100_0000;
/** Any pin that allows writing. */
export const WRITE_PINS = 0xff00ff;
/** Set as soon as one of the four counts is half full: then nothing more is pinned. */
export const PIN_FULL = 0x8080_8080;
