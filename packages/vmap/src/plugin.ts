import type { EventBus } from '@paravirt/event-bus';
import type { Plugin } from '@paravirt/event-bus/contract';
import type { VmapEvents } from './events.ts';
import type { CompatOptions, PageAllocator, PageTable, StrictOptions, Vmap } from './types.ts';
import { createVmap } from './vmap.ts';

/** What the allocator is attached to. */
export interface VmapDeps {
  readonly bus: EventBus<VmapEvents>;
  readonly pageTable: PageTable;
  readonly pages: PageAllocator;
}

/** What is known before: regions and mode. */
export type VmapPluginOptions = Omit<StrictOptions, keyof VmapDeps> | Omit<CompatOptions, keyof VmapDeps>;

/** The allocator as a plugin. Detaching unmaps and gives back everything it holds. */
export function vmap(options: Omit<StrictOptions, keyof VmapDeps>): Plugin<VmapDeps, Vmap>;
export function vmap(options: Omit<CompatOptions, keyof VmapDeps>): Plugin<VmapDeps, Vmap<null>>;
export function vmap(options: VmapPluginOptions): Plugin<VmapDeps, Vmap> | Plugin<VmapDeps, Vmap<null>> {
  return {
    name: 'vmap',
    requires: ['bus', 'pageTable', 'pages'],
    attach(deps: VmapDeps) {
      const { bus, pageTable, pages } = deps;
      const api = createVmap({ ...options, bus, pageTable, pages } as StrictOptions);
      return { api, detach: () => api.close() };
    },
  };
}
