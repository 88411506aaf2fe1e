export {
  type BlkCapabilities,
  type BlkDevInfo,
  type BlkQueueConf,
  type BlkQueueInfo,
  blkDev,
  type ConfiguredBlkDev,
  hasMore,
  isNotReady,
  isSuccessful,
  type RunningBlkDev,
  STATUS,
  type UnconfiguredBlkDev,
} from './blkdev.ts';
export { BLKREQ, BLKREQ_STATE, type BlkReq } from './blkdev-requests.ts';
export { BlockDevice, type DiscardOptions, type WaitOptions, type WriteOptions } from './block-device.ts';
export type { BlkBuffer } from './buffers.ts';
export { Device } from './device.ts';
export { BlkfrontError, type BlkfrontRefusal, ERRNO } from './errors.ts';
export type { BlkfrontEvents } from './events.ts';
export { type GrantTableForDevice, grantsOf } from './grants.ts';
export { GrefPool } from './gref-pool.ts';
export { blkfront } from './plugin.ts';
export type { Completion } from './queue-parts.ts';
export type { RangeChunk, RangeOptions } from './ranges.ts';
export {
  type AbortSignalLike,
  type BlkfrontOptions,
  type BlkfrontSurroundings,
  type BlkInfo,
  type DeviceState,
  type FlushKind,
  type Grants,
  type GuestPages,
  type OnDone,
  OP,
  type Op,
  type PoolFigures,
  type Protocol,
  type QueueFigures,
  type Store,
  type StoreTransaction,
  type WaitFor,
  type WatchHandler,
} from './types.ts';
