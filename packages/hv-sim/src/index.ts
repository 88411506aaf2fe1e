export { HvError, type HvRefusal, type UnmapCause, type Unmapped } from './errors.ts';
export type { HvEvents } from './events.ts';
export { type FaultCount, type FaultKind, FaultPlan, type FaultRequest } from './faults/plan.ts';
export type { DeviceUnmapOp, DomainGrantHypercalls, ReplaceOp, SwapOp } from './grants/hypercalls.ts';
export type { GrantPolicy } from './grants/party.ts';
export type { Ledger, LedgerEntry } from './ledger.ts';
export { createMachine, expectNoLeaks } from './machine.ts';
export type { MemorySource } from './memory/frames.ts';
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
