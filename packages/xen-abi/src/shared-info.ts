import { type Abi, checkAbi } from './memory.ts';

/** Where the words of event channels stand in the shared-info page and in a `vcpu_info`; all in bytes but `wordBits`. */
export interface SharedInfoOffsets {
  /** Bytes of `shared_info`. */
  readonly bytes: number;
  /** Bits of a pending or mask word: 64, or 32 on x86_32. */
  readonly wordBits: 32 | 64;
  /** Ports of the two-level interface: `wordBits` squared. */
  readonly ports: number;
  readonly evtchnPending: number;
  readonly evtchnMask: number;
  /** Bytes from one `vcpu_info` to the next; the first is at 0. */
  readonly vcpuInfoBytes: number;
  /** How many `vcpu_info` stand in the page. */
  readonly vcpus: number;
  /** Inside a `vcpu_info`: u8, not 0 when an upcall is due. */
  readonly upcallPending: number;
  /** Inside a `vcpu_info`: u8, not 0 while upcalls are masked (on arm64 padding). */
  readonly upcallMask: number;
  /** Inside a `vcpu_info`: one word that selects pending words. */
  readonly pendingSel: number;
  /** Inside a `vcpu_info`: `vcpu_time_info`, 32 bytes. */
  readonly time: number;
  /** Wall clock: version, seconds, nanoseconds, u32 each. */
  readonly wcVersion: number;
  readonly wcSec: number;
  readonly wcNsec: number;
  readonly wcSecHi: number;
}

const X86_64: SharedInfoOffsets = {
  bytes: 3136,
  wordBits: 64,
  ports: 4096,
  evtchnPending: 2048,
  evtchnMask: 2560,
  vcpuInfoBytes: 64,
  vcpus: 32,
  upcallPending: 0,
  upcallMask: 1,
  pendingSel: 8,
  time: 32,
  wcVersion: 3072,
  wcSec: 3076,
  wcNsec: 3080,
  wcSecHi: 3084,
};

const X86_32: SharedInfoOffsets = {
  bytes: 2344,
  wordBits: 32,
  ports: 1024,
  evtchnPending: 2048,
  evtchnMask: 2176,
  vcpuInfoBytes: 64,
  vcpus: 32,
  upcallPending: 0,
  upcallMask: 1,
  pendingSel: 4,
  time: 32,
  wcVersion: 2304,
  wcSec: 2308,
  wcNsec: 2312,
  wcSecHi: 2340,
};

const ARM64: SharedInfoOffsets = {
  bytes: 1088,
  wordBits: 64,
  ports: 4096,
  evtchnPending: 48,
  evtchnMask: 560,
  vcpuInfoBytes: 48,
  vcpus: 1,
  upcallPending: 0,
  upcallMask: 1,
  pendingSel: 8,
  time: 16,
  wcVersion: 1072,
  wcSec: 1076,
  wcNsec: 1080,
  wcSecHi: 1084,
};

/** The offsets of one target. @throws {XenAbiError} `bad-abi`. @see xen.h, shared_info and vcpu_info */
export function sharedInfoOffsets(abi: Abi): SharedInfoOffsets {
  checkAbi(abi);
  return abi === 'x86_64' ? X86_64 : abi === 'x86_32' ? X86_32 : ARM64;
}
