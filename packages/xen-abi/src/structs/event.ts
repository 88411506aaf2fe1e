import type { Struct, StructLayout } from './codec.ts';

/** Fields of `evtchn_alloc_unbound`. */
export interface EvtchnAllocUnboundFields {
  dom: number;
  remote_dom: number;
  port: number;
}

const EVTCHN_ALLOC_UNBOUND_LAYOUT: StructLayout = {
  size: 8,
  align: 4,
  fields: { dom: ['u16', 0], remote_dom: ['u16', 2], port: ['u32', 4] },
};

/** EVTCHNOP_alloc_unbound. @see event_channel.h */
export const EVTCHN_ALLOC_UNBOUND: Struct<EvtchnAllocUnboundFields> = {
  name: 'evtchn_alloc_unbound',
  layouts: { x86_64: EVTCHN_ALLOC_UNBOUND_LAYOUT, x86_32: EVTCHN_ALLOC_UNBOUND_LAYOUT, arm64: EVTCHN_ALLOC_UNBOUND_LAYOUT },
};

/** Fields of `evtchn_bind_interdomain`. */
export interface EvtchnBindInterdomainFields {
  remote_dom: number;
  remote_port: number;
  local_port: number;
}

const EVTCHN_BIND_INTERDOMAIN_LAYOUT: StructLayout = {
  size: 12,
  align: 4,
  fields: { remote_dom: ['u16', 0], remote_port: ['u32', 4], local_port: ['u32', 8] },
};

/** EVTCHNOP_bind_interdomain. @see event_channel.h */
export const EVTCHN_BIND_INTERDOMAIN: Struct<EvtchnBindInterdomainFields> = {
  name: 'evtchn_bind_interdomain',
  layouts: { x86_64: EVTCHN_BIND_INTERDOMAIN_LAYOUT, x86_32: EVTCHN_BIND_INTERDOMAIN_LAYOUT, arm64: EVTCHN_BIND_INTERDOMAIN_LAYOUT },
};

/** Fields of `evtchn_bind_virq`. */
export interface EvtchnBindVirqFields {
  virq: number;
  vcpu: number;
  port: number;
}

const EVTCHN_BIND_VIRQ_LAYOUT: StructLayout = { size: 12, align: 4, fields: { virq: ['u32', 0], vcpu: ['u32', 4], port: ['u32', 8] } };

/** EVTCHNOP_bind_virq. @see event_channel.h */
export const EVTCHN_BIND_VIRQ: Struct<EvtchnBindVirqFields> = {
  name: 'evtchn_bind_virq',
  layouts: { x86_64: EVTCHN_BIND_VIRQ_LAYOUT, x86_32: EVTCHN_BIND_VIRQ_LAYOUT, arm64: EVTCHN_BIND_VIRQ_LAYOUT },
};

/** Fields of `evtchn_bind_pirq`. */
export interface EvtchnBindPirqFields {
  pirq: number;
  flags: number;
  port: number;
}

const EVTCHN_BIND_PIRQ_LAYOUT: StructLayout = { size: 12, align: 4, fields: { pirq: ['u32', 0], flags: ['u32', 4], port: ['u32', 8] } };

/** EVTCHNOP_bind_pirq. @see event_channel.h */
export const EVTCHN_BIND_PIRQ: Struct<EvtchnBindPirqFields> = {
  name: 'evtchn_bind_pirq',
  layouts: { x86_64: EVTCHN_BIND_PIRQ_LAYOUT, x86_32: EVTCHN_BIND_PIRQ_LAYOUT, arm64: EVTCHN_BIND_PIRQ_LAYOUT },
};

/** Fields of `evtchn_bind_ipi`. */
export interface EvtchnBindIpiFields {
  vcpu: number;
  port: number;
}

const EVTCHN_BIND_IPI_LAYOUT: StructLayout = { size: 8, align: 4, fields: { vcpu: ['u32', 0], port: ['u32', 4] } };

/** EVTCHNOP_bind_ipi. @see event_channel.h */
export const EVTCHN_BIND_IPI: Struct<EvtchnBindIpiFields> = {
  name: 'evtchn_bind_ipi',
  layouts: { x86_64: EVTCHN_BIND_IPI_LAYOUT, x86_32: EVTCHN_BIND_IPI_LAYOUT, arm64: EVTCHN_BIND_IPI_LAYOUT },
};

/** Fields of `evtchn_close`. */
export interface EvtchnCloseFields {
  port: number;
}

const EVTCHN_CLOSE_LAYOUT: StructLayout = { size: 4, align: 4, fields: { port: ['u32', 0] } };

/** EVTCHNOP_close. @see event_channel.h */
export const EVTCHN_CLOSE: Struct<EvtchnCloseFields> = {
  name: 'evtchn_close',
  layouts: { x86_64: EVTCHN_CLOSE_LAYOUT, x86_32: EVTCHN_CLOSE_LAYOUT, arm64: EVTCHN_CLOSE_LAYOUT },
};

/** Fields of `evtchn_send`. */
export interface EvtchnSendFields {
  port: number;
}

const EVTCHN_SEND_LAYOUT: StructLayout = { size: 4, align: 4, fields: { port: ['u32', 0] } };

/** EVTCHNOP_send. @see event_channel.h */
export const EVTCHN_SEND: Struct<EvtchnSendFields> = {
  name: 'evtchn_send',
  layouts: { x86_64: EVTCHN_SEND_LAYOUT, x86_32: EVTCHN_SEND_LAYOUT, arm64: EVTCHN_SEND_LAYOUT },
};

/** Fields of `evtchn_status`. */
export interface EvtchnStatusFields {
  dom: number;
  port: number;
  status: number;
  vcpu: number;
  'u.unbound.dom': number;
  'u.interdomain.dom': number;
  'u.interdomain.port': number;
  'u.pirq': number;
  'u.virq': number;
}

const EVTCHN_STATUS_LAYOUT: StructLayout = {
  size: 24,
  align: 4,
  fields: {
    dom: ['u16', 0],
    port: ['u32', 4],
    status: ['u32', 8],
    vcpu: ['u32', 12],
    'u.unbound.dom': ['u16', 16],
    'u.interdomain.dom': ['u16', 16],
    'u.interdomain.port': ['u32', 20],
    'u.pirq': ['u32', 16],
    'u.virq': ['u32', 16],
  },
};

/** EVTCHNOP_status. @see event_channel.h */
export const EVTCHN_STATUS: Struct<EvtchnStatusFields> = {
  name: 'evtchn_status',
  layouts: { x86_64: EVTCHN_STATUS_LAYOUT, x86_32: EVTCHN_STATUS_LAYOUT, arm64: EVTCHN_STATUS_LAYOUT },
};

/** Fields of `evtchn_bind_vcpu`. */
export interface EvtchnBindVcpuFields {
  port: number;
  vcpu: number;
}

const EVTCHN_BIND_VCPU_LAYOUT: StructLayout = { size: 8, align: 4, fields: { port: ['u32', 0], vcpu: ['u32', 4] } };

/** EVTCHNOP_bind_vcpu. @see event_channel.h */
export const EVTCHN_BIND_VCPU: Struct<EvtchnBindVcpuFields> = {
  name: 'evtchn_bind_vcpu',
  layouts: { x86_64: EVTCHN_BIND_VCPU_LAYOUT, x86_32: EVTCHN_BIND_VCPU_LAYOUT, arm64: EVTCHN_BIND_VCPU_LAYOUT },
};

/** Fields of `evtchn_unmask`. */
export interface EvtchnUnmaskFields {
  port: number;
}

const EVTCHN_UNMASK_LAYOUT: StructLayout = { size: 4, align: 4, fields: { port: ['u32', 0] } };

/** EVTCHNOP_unmask. @see event_channel.h */
export const EVTCHN_UNMASK: Struct<EvtchnUnmaskFields> = {
  name: 'evtchn_unmask',
  layouts: { x86_64: EVTCHN_UNMASK_LAYOUT, x86_32: EVTCHN_UNMASK_LAYOUT, arm64: EVTCHN_UNMASK_LAYOUT },
};

/** Fields of `evtchn_reset`. */
export interface EvtchnResetFields {
  dom: number;
}

const EVTCHN_RESET_LAYOUT: StructLayout = { size: 2, align: 2, fields: { dom: ['u16', 0] } };

/** EVTCHNOP_reset. @see event_channel.h */
export const EVTCHN_RESET: Struct<EvtchnResetFields> = {
  name: 'evtchn_reset',
  layouts: { x86_64: EVTCHN_RESET_LAYOUT, x86_32: EVTCHN_RESET_LAYOUT, arm64: EVTCHN_RESET_LAYOUT },
};

/** Fields of `evtchn_init_control`. */
export interface EvtchnInitControlFields {
  control_gfn: bigint;
  offset: number;
  vcpu: number;
  link_bits: number;
  _pad: Uint8Array;
}

const EVTCHN_INIT_CONTROL_X86_64: StructLayout = {
  size: 24,
  align: 8,
  fields: { control_gfn: ['u64', 0], offset: ['u32', 8], vcpu: ['u32', 12], link_bits: ['u8', 16], _pad: ['u8', 17, 7] },
};

const EVTCHN_INIT_CONTROL_X86_32: StructLayout = {
  size: 24,
  align: 4,
  fields: { control_gfn: ['u64', 0], offset: ['u32', 8], vcpu: ['u32', 12], link_bits: ['u8', 16], _pad: ['u8', 17, 7] },
};

/** EVTCHNOP_init_control. @see event_channel.h */
export const EVTCHN_INIT_CONTROL: Struct<EvtchnInitControlFields> = {
  name: 'evtchn_init_control',
  layouts: { x86_64: EVTCHN_INIT_CONTROL_X86_64, x86_32: EVTCHN_INIT_CONTROL_X86_32, arm64: EVTCHN_INIT_CONTROL_X86_64 },
};

/** Fields of `evtchn_expand_array`. */
export interface EvtchnExpandArrayFields {
  array_gfn: bigint;
}

const EVTCHN_EXPAND_ARRAY_X86_64: StructLayout = { size: 8, align: 8, fields: { array_gfn: ['u64', 0] } };

const EVTCHN_EXPAND_ARRAY_X86_32: StructLayout = { size: 8, align: 4, fields: { array_gfn: ['u64', 0] } };

/** EVTCHNOP_expand_array. @see event_channel.h */
export const EVTCHN_EXPAND_ARRAY: Struct<EvtchnExpandArrayFields> = {
  name: 'evtchn_expand_array',
  layouts: { x86_64: EVTCHN_EXPAND_ARRAY_X86_64, x86_32: EVTCHN_EXPAND_ARRAY_X86_32, arm64: EVTCHN_EXPAND_ARRAY_X86_64 },
};

/** Fields of `evtchn_set_priority`. */
export interface EvtchnSetPriorityFields {
  port: number;
  priority: number;
}

const EVTCHN_SET_PRIORITY_LAYOUT: StructLayout = { size: 8, align: 4, fields: { port: ['u32', 0], priority: ['u32', 4] } };

/** EVTCHNOP_set_priority. @see event_channel.h */
export const EVTCHN_SET_PRIORITY: Struct<EvtchnSetPriorityFields> = {
  name: 'evtchn_set_priority',
  layouts: { x86_64: EVTCHN_SET_PRIORITY_LAYOUT, x86_32: EVTCHN_SET_PRIORITY_LAYOUT, arm64: EVTCHN_SET_PRIORITY_LAYOUT },
};

/** Fields of `evtchn_op`. */
export interface EvtchnOpFields {
  cmd: number;
  u: Uint8Array;
}

const EVTCHN_OP_LAYOUT: StructLayout = { size: 28, align: 4, fields: { cmd: ['u32', 0], u: ['bytes', 4, 24] } };

/** The event-channel hypercall of old: a command and its argument. @see event_channel.h */
export const EVTCHN_OP: Struct<EvtchnOpFields> = {
  name: 'evtchn_op',
  layouts: { x86_64: EVTCHN_OP_LAYOUT, x86_32: EVTCHN_OP_LAYOUT, arm64: EVTCHN_OP_LAYOUT },
};

/** Fields of `evtchn_fifo_control_block`. */
export interface EvtchnFifoControlBlockFields {
  ready: number;
  _rsvd: number;
  head: number[];
}

const EVTCHN_FIFO_CONTROL_BLOCK_LAYOUT: StructLayout = {
  size: 72,
  align: 4,
  fields: { ready: ['u32', 0], _rsvd: ['u32', 4], head: ['u32', 8, 16] },
};

/** A vCPU's control block of the FIFO interface. @see event_channel.h */
export const EVTCHN_FIFO_CONTROL_BLOCK: Struct<EvtchnFifoControlBlockFields> = {
  name: 'evtchn_fifo_control_block',
  layouts: { x86_64: EVTCHN_FIFO_CONTROL_BLOCK_LAYOUT, x86_32: EVTCHN_FIFO_CONTROL_BLOCK_LAYOUT, arm64: EVTCHN_FIFO_CONTROL_BLOCK_LAYOUT },
};
