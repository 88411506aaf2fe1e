/** Reserved domain numbers. @see xen.h, DOMID_* */
export const DOMID = {
  FIRST_RESERVED: 0x7ff0,
  SELF: 0x7ff0,
  IO: 0x7ff1,
  XEN: 0x7ff2,
  COW: 0x7ff3,
  INVALID: 0x7ff4,
  ANY: 0x7ff5,
  IDLE: 0x7fff,
  MASK: 0x7fff,
} as const;

/** Hypercall numbers. @see xen.h, __HYPERVISOR_* */
export const HYPERVISOR = {
  memory_op: 12,
  xen_version: 17,
  grant_table_op: 20,
  sched_op: 29,
  event_channel_op: 32,
  hvm_op: 34,
  vcpu_op: 24,
} as const;

/** Flags of `start_info`. @see xen.h, SIF_* */
export const SIF = {
  PRIVILEGED: 1,
  INITDOMAIN: 2,
  MULTIBOOT_MOD: 4,
  MOD_START_PFN: 8,
  VIRT_P2M_4TOOLS: 0x10,
  PM_MASK: 0xff00,
} as const;
