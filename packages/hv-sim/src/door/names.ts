/** Hypercalls by number, for a refusal that says what was asked. @see xen/include/public/xen.h, __HYPERVISOR_* */
const NAMES: readonly (string | undefined)[] = [
  'set_trap_table',
  'mmu_update',
  'set_gdt',
  'stack_switch',
  'set_callbacks',
  'fpu_taskswitch',
  'sched_op_compat',
  'platform_op',
  'set_debugreg',
  'get_debugreg',
  'update_descriptor',
  undefined,
  'memory_op',
  'multicall',
  'update_va_mapping',
  'set_timer_op',
  'event_channel_op_compat',
  'xen_version',
  'console_io',
  'physdev_op_compat',
  'grant_table_op',
  'vm_assist',
  'update_va_mapping_otherdomain',
  'iret',
  'vcpu_op',
  'set_segment_base',
  'mmuext_op',
  'xsm_op',
  'nmi_op',
  'sched_op',
  'callback_op',
  'xenoprof_op',
  'event_channel_op',
  'physdev_op',
  'hvm_op',
  'sysctl',
  'domctl',
  'kexec_op',
  'tmem_op',
  'argo_op',
  'xenpmu_op',
  'dm_op',
  'hypfs_op',
];

/** `mmu_update` for 1, say; `hypercall 99` where the number has no name. */
export function hypercallName(number: number): string {
  return NAMES[number] ?? `hypercall ${number}`;
}

/** Numbers that the door carries out. @see xen.h, __HYPERVISOR_* */
export const CALLS = {
  memory_op: 12,
  set_timer_op: 15,
  console_io: 18,
  grant_table_op: 20,
  sched_op: 29,
  event_channel_op: 32,
} as const;
