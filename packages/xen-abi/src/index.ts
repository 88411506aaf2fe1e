export {
  BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_SEGMENTS_PER_INDIRECT_PAGE,
  BlockRequest,
  BlockResponse,
  readIndirectSegments,
  type Segments,
  writeIndirectSegment,
} from './blkif.ts';
export {
  BLKIF_DISCARD_SECURE,
  BLKIF_OP,
  BLKIF_RSP,
  type BlkifOp,
  type BlkifOpName,
  type BlkifRsp,
  blkifOpName,
  VDISK,
} from './blkif-constants.ts';
export { DOMID, HYPERVISOR, SIF } from './domain-constants.ts';
export { type Errno, type ErrnoName, errnoName, errnoOf, XEN_ERRNO, XEN_ERRNO_INTERNAL } from './errno.ts';
export { XenAbiError, type XenAbiRefusal } from './errors.ts';
export {
  BIND_PIRQ__WILL_SHARE,
  EVTCHN_2L_NR_CHANNELS,
  EVTCHN_FIFO,
  EVTCHNOP,
  EVTCHNSTAT,
  type PortStatus,
  VIRQ,
  XEN_LEGACY_MAX_VCPUS,
} from './event-constants.ts';
export {
  GNTCOPY,
  GNTMAP,
  GNTST,
  GNTTAB,
  GNTTABOP,
  type GrantStatus,
  type GrantStatusName,
  GTF,
  grantStatusMessage,
  grantStatusName,
} from './grant-constants.ts';
export {
  GRANT_STATUS_PER_FRAME,
  GRANT_V1_BYTES,
  GRANT_V1_PER_FRAME,
  GRANT_V2_BYTES,
  GRANT_V2_PER_FRAME,
  type GrantV2Arm,
  grantDomid,
  grantFlags,
  grantHeader,
  grantStatus,
  grantV1Frame,
  grantV2Arm,
  grantV2Frame,
  grantV2FrameHi,
  grantV2FrameLo,
  grantV2Length,
  grantV2PageOffset,
  grantV2TransDomid,
  grantV2TransGref,
  setGrantFlags,
  setGrantStatus,
  writeGrantV1,
  writeGrantV2FullPage,
  writeGrantV2SubPage,
  writeGrantV2Transitive,
} from './grant-entry.ts';
export { ABIS, type Abi, checkAbi, highHalf, joinHalves, type MemoryPage, type MemoryViews, PAGE_BYTES, pagesOfBytes } from './memory.ts';
export { BackRing, FrontRing } from './ring.ts';
export { type SharedInfoOffsets, sharedInfoOffsets } from './shared-info.ts';
export { RING_HEADER_BYTES, RING_PAGES_MAX, type RingGeometry, ringGeometry, SharedRing } from './shared-ring.ts';
export {
  XEN_IO_PROTO_ABI,
  XENBUS_STATE,
  XENSTORE,
  type XenbusState,
  type XenbusStateName,
  XS_TYPE,
  XSD_ERRORS,
  type XsdError,
  type XsTypeName,
  xenbusStateName,
  xsTypeName,
} from './store-constants.ts';
