import type { SlotChange } from './types.ts';

/** Facts of this package. */
export interface MemslotsEvents {
  /** After a change was published: what the slot was and is, and the generation that publishes it. */
  'memslots:changed': SlotChange;
}
