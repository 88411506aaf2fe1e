import type { Struct, StructLayout } from './codec.ts';

/** Fields of `vcpu_time_info`. */
export interface VcpuTimeInfoFields {
  version: number;
  pad0: number;
  tsc_timestamp: bigint;
  system_time: bigint;
  tsc_to_system_mul: number;
  tsc_shift: number;
  flags: number;
  pad1: Uint8Array;
}

const VCPU_TIME_INFO_X86_64: StructLayout = {
  size: 32,
  align: 8,
  fields: {
    version: ['u32', 0],
    pad0: ['u32', 4],
    tsc_timestamp: ['u64', 8],
    system_time: ['u64', 16],
    tsc_to_system_mul: ['u32', 24],
    tsc_shift: ['s8', 28],
    flags: ['u8', 29],
    pad1: ['u8', 30, 2],
  },
};

const VCPU_TIME_INFO_X86_32: StructLayout = {
  size: 32,
  align: 4,
  fields: {
    version: ['u32', 0],
    pad0: ['u32', 4],
    tsc_timestamp: ['u64', 8],
    system_time: ['u64', 16],
    tsc_to_system_mul: ['u32', 24],
    tsc_shift: ['s8', 28],
    flags: ['u8', 29],
    pad1: ['u8', 30, 2],
  },
};

/** A vCPU's time. @see xen.h */
export const VCPU_TIME_INFO: Struct<VcpuTimeInfoFields> = {
  name: 'vcpu_time_info',
  layouts: { x86_64: VCPU_TIME_INFO_X86_64, x86_32: VCPU_TIME_INFO_X86_32, arm64: VCPU_TIME_INFO_X86_64 },
};

/** Fields of `vcpu_info`. */
export interface VcpuInfoFields {
  evtchn_upcall_pending: number;
  evtchn_upcall_mask?: number;
  evtchn_pending_sel: bigint;
  arch: Uint8Array;
  time: VcpuTimeInfoFields;
  pad0?: number;
}

const VCPU_INFO_X86_64: StructLayout = {
  size: 64,
  align: 8,
  fields: {
    evtchn_upcall_pending: ['u8', 0],
    evtchn_upcall_mask: ['u8', 1],
    evtchn_pending_sel: ['u64', 8],
    arch: ['bytes', 16, 16],
    time: [VCPU_TIME_INFO, 32],
  },
};

const VCPU_INFO_X86_32: StructLayout = {
  size: 64,
  align: 4,
  fields: {
    evtchn_upcall_pending: ['u8', 0],
    evtchn_upcall_mask: ['u8', 1],
    evtchn_pending_sel: ['u32', 4],
    arch: ['bytes', 8, 24],
    time: [VCPU_TIME_INFO, 32],
  },
};

const VCPU_INFO_ARM64: StructLayout = {
  size: 48,
  align: 8,
  fields: {
    evtchn_upcall_pending: ['u8', 0],
    pad0: ['u8', 1],
    evtchn_pending_sel: ['u64', 8],
    arch: ['bytes', 16, 0],
    time: [VCPU_TIME_INFO, 16],
  },
};

/** A vCPU's words in shared info. @see xen.h */
export const VCPU_INFO: Struct<VcpuInfoFields> = {
  name: 'vcpu_info',
  layouts: { x86_64: VCPU_INFO_X86_64, x86_32: VCPU_INFO_X86_32, arm64: VCPU_INFO_ARM64 },
};

/** Fields of `shared_info`. */
export interface SharedInfoFields {
  vcpu_info: VcpuInfoFields[];
  evtchn_pending: bigint[];
  evtchn_mask: bigint[];
  wc_version: number;
  wc_sec: number;
  wc_nsec: number;
  wc_sec_hi?: number;
  'arch.max_pfn'?: bigint;
  'arch.pfn_to_mfn_frame_list_list'?: bigint;
  'arch.nmi_reason'?: bigint;
  'arch.p2m_cr3'?: bigint;
  'arch.p2m_vaddr'?: bigint;
  'arch.p2m_generation'?: bigint;
  'arch.wc_sec_hi'?: number;
  arch?: Uint8Array;
}

const SHARED_INFO_X86_64: StructLayout = {
  size: 3136,
  align: 8,
  fields: {
    vcpu_info: [VCPU_INFO, 0, 32],
    evtchn_pending: ['u64', 2048, 64],
    evtchn_mask: ['u64', 2560, 64],
    wc_version: ['u32', 3072],
    wc_sec: ['u32', 3076],
    wc_nsec: ['u32', 3080],
    wc_sec_hi: ['u32', 3084],
    'arch.max_pfn': ['u64', 3088],
    'arch.pfn_to_mfn_frame_list_list': ['u64', 3096],
    'arch.nmi_reason': ['u64', 3104],
    'arch.p2m_cr3': ['u64', 3112],
    'arch.p2m_vaddr': ['u64', 3120],
    'arch.p2m_generation': ['u64', 3128],
  },
};

const SHARED_INFO_X86_32: StructLayout = {
  size: 2344,
  align: 4,
  fields: {
    vcpu_info: [VCPU_INFO, 0, 32],
    evtchn_pending: ['u32', 2048, 32],
    evtchn_mask: ['u32', 2176, 32],
    wc_version: ['u32', 2304],
    wc_sec: ['u32', 2308],
    wc_nsec: ['u32', 2312],
    'arch.max_pfn': ['u32', 2316],
    'arch.pfn_to_mfn_frame_list_list': ['u32', 2320],
    'arch.nmi_reason': ['u32', 2324],
    'arch.p2m_cr3': ['u32', 2328],
    'arch.p2m_vaddr': ['u32', 2332],
    'arch.p2m_generation': ['u32', 2336],
    'arch.wc_sec_hi': ['u32', 2340],
  },
};

const SHARED_INFO_ARM64: StructLayout = {
  size: 1088,
  align: 8,
  fields: {
    vcpu_info: [VCPU_INFO, 0, 1],
    evtchn_pending: ['u64', 48, 64],
    evtchn_mask: ['u64', 560, 64],
    wc_version: ['u32', 1072],
    wc_sec: ['u32', 1076],
    wc_nsec: ['u32', 1080],
    wc_sec_hi: ['u32', 1084],
    arch: ['bytes', 1088, 0],
  },
};

/** The shared-info page. @see xen.h */
export const SHARED_INFO: Struct<SharedInfoFields> = {
  name: 'shared_info',
  layouts: { x86_64: SHARED_INFO_X86_64, x86_32: SHARED_INFO_X86_32, arm64: SHARED_INFO_ARM64 },
};

/** Fields of `start_info`. */
export interface StartInfoFields {
  magic: Uint8Array;
  nr_pages: bigint;
  shared_info: bigint;
  flags: number;
  store_mfn: bigint;
  store_evtchn: number;
  'console.domU.mfn': bigint;
  'console.domU.evtchn': number;
  'console.dom0.info_off': number;
  'console.dom0.info_size': number;
  pt_base: bigint;
  nr_pt_frames: bigint;
  mfn_list: bigint;
  mod_start: bigint;
  mod_len: bigint;
  cmd_line: Uint8Array;
  first_p2m_pfn: bigint;
  nr_p2m_frames: bigint;
}

const START_INFO_X86_64: StructLayout = {
  size: 1168,
  align: 8,
  fields: {
    magic: ['u8', 0, 32],
    nr_pages: ['u64', 32],
    shared_info: ['u64', 40],
    flags: ['u32', 48],
    store_mfn: ['u64', 56],
    store_evtchn: ['u32', 64],
    'console.domU.mfn': ['u64', 72],
    'console.domU.evtchn': ['u32', 80],
    'console.dom0.info_off': ['u32', 72],
    'console.dom0.info_size': ['u32', 76],
    pt_base: ['u64', 88],
    nr_pt_frames: ['u64', 96],
    mfn_list: ['u64', 104],
    mod_start: ['u64', 112],
    mod_len: ['u64', 120],
    cmd_line: ['s8', 128, 1024],
    first_p2m_pfn: ['u64', 1152],
    nr_p2m_frames: ['u64', 1160],
  },
};

const START_INFO_X86_32: StructLayout = {
  size: 1112,
  align: 4,
  fields: {
    magic: ['u8', 0, 32],
    nr_pages: ['u32', 32],
    shared_info: ['u32', 36],
    flags: ['u32', 40],
    store_mfn: ['u32', 44],
    store_evtchn: ['u32', 48],
    'console.domU.mfn': ['u32', 52],
    'console.domU.evtchn': ['u32', 56],
    'console.dom0.info_off': ['u32', 52],
    'console.dom0.info_size': ['u32', 56],
    pt_base: ['u32', 60],
    nr_pt_frames: ['u32', 64],
    mfn_list: ['u32', 68],
    mod_start: ['u32', 72],
    mod_len: ['u32', 76],
    cmd_line: ['s8', 80, 1024],
    first_p2m_pfn: ['u32', 1104],
    nr_p2m_frames: ['u32', 1108],
  },
};

/** What a PV guest is started with; x86 only. @see xen.h */
export const START_INFO: Struct<StartInfoFields> = {
  name: 'start_info',
  layouts: { x86_64: START_INFO_X86_64, x86_32: START_INFO_X86_32, arm64: null },
};
