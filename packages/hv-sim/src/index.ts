export { type ServeOptions, type ServingHost, serveDisks } from './blkback/disk-host.ts';
export { BlkbackError, type BlkbackRefusal } from './blkback/errors.ts';
export type { BlkbackEvents } from './blkback/events.ts';
export { blkback } from './blkback/plugin.ts';
export {
  type AttachedDisk,
  type AttachOptions,
  attachDisk,
  type Detaching,
  type DiskHost,
  detachDisk,
  deviceName,
  type NodePermission,
  type ToolstackStore,
} from './blkback/toolstack.ts';
export type {
  AddressSource,
  BackendStore,
  BackendTransaction,
  Blkback,
  BlkbackCounters,
  BlkbackDeps,
  BlkbackDevice,
  BlkbackOptions,
  GrantMapper,
  LocatedPage,
  MappedMemory,
} from './blkback/types.ts';
export { type CowDisk, type CowDiskOptions, cowDisk } from './disks/cow-disk.ts';
export { DISK_ERRNO, type Disk, type DiskWaiter, LATER, type ResizableDisk } from './disks/disk.ts';
export { DiskError, type DiskRefusal } from './disks/errors.ts';
export { type CorruptOptions, corruptFilter } from './disks/filters/corrupt.ts';
export { type DelayFilter, type DelayOptions, delayFilter } from './disks/filters/delay.ts';
export { type ErrorOptions, type ErrorRule, errorFilter } from './disks/filters/error.ts';
export { type DiskFaultCount, type DiskFaultRule, type DiskFilter, type DiskOp, diskFaults } from './disks/filters/filter.ts';
export { readonlyFilter } from './disks/filters/readonly.ts';
export { type DiskStats, type OpStats, type StatsFilter, statsFilter } from './disks/filters/stats.ts';
export { type TornOptions, tornFilter } from './disks/filters/torn.ts';
export {
  type PowerCut,
  type Survivors,
  type VolatileCacheFilter,
  type VolatileCacheOptions,
  volatileCacheFilter,
} from './disks/filters/volatile-cache.ts';
export { type MemoryDisk, type MemoryDiskOptions, memoryDisk } from './disks/memory-disk.ts';
export { type NullDiskOptions, nullDisk } from './disks/null-disk.ts';
export { HvError, type HvRefusal, type UnmapCause, type Unmapped } from './errors.ts';
export type { HvEvents } from './events.ts';
export {
  checkDeterminism,
  explore,
  type FailedRun,
  formatSchedule,
  parseSchedule,
  type RunRecord,
  replay,
  type Scenario,
  type ScenarioRun,
} from './explore.ts';
export { type FaultCount, type FaultKind, FaultPlan, type FaultRequest } from './faults/plan.ts';
export type { DeviceUnmapOp, DomainGrantHypercalls, ReplaceOp, SwapOp } from './grants/hypercalls.ts';
export type { GrantPolicy } from './grants/party.ts';
export type { Ledger, LedgerEntry } from './ledger.ts';
export { createMachine, expectNoLeaks } from './machine.ts';
export type { MemorySource } from './memory/frames.ts';
export { type StoreErrno, StoreError, type StoreRefusal } from './store/errors.ts';
export type { StoreEvents } from './store/events.ts';
export { createStore } from './store/store.ts';
export type {
  StoreAccess,
  StoreConnection,
  StoreLimits,
  StoreOptions,
  StorePermission,
  StoreRingConnection,
  StoreTransaction,
  StoreUsage,
  WatchHandler,
  XenStore,
} from './store/types.ts';
export type { TimeSource } from './time/clock.ts';
export { createRandom, type Random } from './time/random.ts';
export type { RunOrder } from './time/run-queue.ts';
export type {
  Domain,
  DomainAddresses,
  DomainMemory,
  DomainOptions,
  DomainPages,
  DomainPageUse,
  DomainSpace,
  DomainState,
  Drive,
  ExternalWork,
  Machine,
  MachineEvents,
  MachineOptions,
} from './types.ts';
