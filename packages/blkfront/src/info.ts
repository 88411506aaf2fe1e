import { BLKIF_MAX_SEGMENTS_PER_REQUEST } from '@paravirt/xen-abi';
import type { Features } from './features.ts';
import type { Transport } from './handshake.ts';
import type { BlkInfo, Protocol } from './types.ts';

/** What a connection settled beside the backend's features and the transport. */
export interface Agreed {
  readonly slots: number;
  readonly maxSegments: number;
  readonly persistent: boolean;
  readonly protocol: Protocol;
}

/** What the device is, from all that was said and agreed when it connected. */
export function infoOf(features: Features, transport: Transport, agreed: Agreed): BlkInfo {
  const { sectors, sectorBytes, physicalSectorBytes, readonly, removable, cdrom, discardGranularity, discardAlignment } = features;
  const { slots, maxSegments, persistent, protocol } = agreed;
  return {
    sectors,
    sectorBytes,
    physicalSectorBytes,
    readonly,
    removable,
    cdrom,
    trusted: transport.trusted,
    queues: transport.queues,
    ringPages: transport.ringPages,
    slots,
    maxSegments,
    // A buffer that starts on any granule of its first page still spans no more pages than there are segments.
    maxSectors: (maxSegments - 1) * 8 + sectorBytes / 512,
    indirect: maxSegments > BLKIF_MAX_SEGMENTS_PER_REQUEST,
    persistent,
    flush: features.flush ? 'flush' : features.barrier ? 'barrier' : 'none',
    discard: features.discard,
    discardSecure: features.secure,
    discardGranularity,
    discardAlignment,
    protocol,
  };
}
