/** Commands of the event-channel hypercall. @see event_channel.h, EVTCHNOP_* */
export const EVTCHNOP = {
  bind_interdomain: 0,
  bind_virq: 1,
  bind_pirq: 2,
  close: 3,
  send: 4,
  status: 5,
  alloc_unbound: 6,
  bind_ipi: 7,
  bind_vcpu: 8,
  unmask: 9,
  reset: 10,
  init_control: 11,
  expand_array: 12,
  set_priority: 13,
} as const;

/** States of a port. @see event_channel.h, EVTCHNSTAT_* */
export const EVTCHNSTAT = {
  closed: 0,
  unbound: 1,
  interdomain: 2,
  pirq: 3,
  virq: 4,
  ipi: 5,
} as const;

/** The FIFO event-channel interface. @see event_channel.h, EVTCHN_FIFO_* */
export const EVTCHN_FIFO = {
  PRIORITY_MAX: 0,
  PRIORITY_DEFAULT: 7,
  PRIORITY_MIN: 15,
  MAX_QUEUES: 16,
  PENDING: 31,
  MASKED: 30,
  LINKED: 29,
  BUSY: 28,
  LINK_BITS: 17,
  LINK_MASK: 131071,
  NR_CHANNELS: 131072,
} as const;

/** Flag of EVTCHNOP_bind_pirq. @see event_channel.h */
export const BIND_PIRQ__WILL_SHARE = 1;

/** Virtual interrupts. @see xen.h, VIRQ_* */
export const VIRQ = {
  TIMER: 0,
  DEBUG: 1,
  CONSOLE: 2,
  DOM_EXC: 3,
  TBUF: 4,
  DEBUGGER: 6,
  XENOPROF: 7,
  CON_RING: 8,
  PCPU_STATE: 9,
  MEM_EVENT: 10,
  ARGO: 11,
  ENOMEM: 12,
  XENPMU: 13,
  ARCH_0: 16,
  ARCH_1: 17,
  ARCH_2: 18,
  ARCH_3: 19,
  ARCH_4: 20,
  ARCH_5: 21,
  ARCH_6: 22,
  ARCH_7: 23,
} as const;

/** Ports of the two-level interface, by target: bits of a word squared. @see event_channel.h, EVTCHN_2L_NR_CHANNELS */
export const EVTCHN_2L_NR_CHANNELS = { x86_64: 4096, x86_32: 1024, arm64: 4096 } as const;

/** vCPUs whose `vcpu_info` stands in `shared_info`, by target. @see arch-x86/xen.h, arch-arm.h, XEN_LEGACY_MAX_VCPUS */
export const XEN_LEGACY_MAX_VCPUS = { x86_64: 32, x86_32: 32, arm64: 1 } as const;

/** An `EVTCHNSTAT` value. */
export type PortStatus = (typeof EVTCHNSTAT)[keyof typeof EVTCHNSTAT];
