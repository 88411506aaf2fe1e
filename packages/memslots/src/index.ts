export { type ErrnoName, type MemslotsCheck, MemslotsError, type MemslotsRefusal } from './errors.ts';
export type { MemslotsEvents } from './events.ts';
export { type Backing, createGuestMemory, type GuestMemory } from './guest-memory.ts';
export { fromLayout, type LayoutRow, pcLayout } from './layout.ts';
export { createMemslots } from './memslots.ts';
export { type MemslotsDeps, memslots } from './plugin.ts';
export type { SlotSnapshot } from './snapshot.ts';
export {
  type AddressSpaceView,
  type ChangeKind,
  type DirtyPages,
  HVA_BAD,
  HVA_RO_BAD,
  type HvaHit,
  type HvaProt,
  LOG_DIRTY_PAGES,
  type MemoryRegion,
  type Memslots,
  type MemslotsHooks,
  type MemslotsOptions,
  PAGE_SIZE,
  type PendingChange,
  READONLY,
  type Slot,
  type SlotChange,
  type U64,
} from './types.ts';
