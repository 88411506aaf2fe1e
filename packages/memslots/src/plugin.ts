import type { EventBus } from '@paravirt/event-bus';
import type { Plugin } from '@paravirt/event-bus/contract';
import type { MemslotsEvents } from './events.ts';
import { createMemslots } from './memslots.ts';
import type { Memslots, MemslotsOptions } from './types.ts';

/** What the plugin asks of its host. */
export interface MemslotsDeps {
  readonly bus: EventBus<MemslotsEvents>;
}

/**
 * The memory slots as a plugin: facts go to the host's bus. Detaching deletes every slot, internal ones too, by the usual steps:
 * whoever holds a translation is told to drop it, and no generation it kept is current any more.
 */
export function memslots(options: Omit<MemslotsOptions, 'bus'> = {}): Plugin<MemslotsDeps, Memslots> {
  return {
    name: 'memslots',
    requires: ['bus'],
    attach({ bus }) {
      const api = createMemslots({ ...options, bus });
      const detach = (): void => {
        for (let asId = 0; asId < api.options.addressSpaces; asId++) {
          for (const { id } of api.slots(asId)) api.setMemoryRegion({ slot: id, asId, guestPhysAddr: 0, memorySize: 0, userspaceAddr: 0 });
        }
      };
      return { api, detach };
    },
  };
}
