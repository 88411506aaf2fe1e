import type { Plugin } from '@paravirt/event-bus/contract';
import type { GrantTable, GrantTableDeps, GrantTableOptions } from './api.ts';
import { createGrantTable } from './table.ts';

/**
 * A domain's grant table as a plugin. `bus` and `pages` may be left out of the dependencies. Detaching closes the table.
 * @throws {GrantError} from `attach`, as `createGrantTable`.
 */
export function gnttab(options: GrantTableOptions = {}): Plugin<GrantTableDeps, GrantTable> {
  return {
    name: 'gnttab',
    requires: ['hypercalls', 'scheduler'],
    attach(deps) {
      const api = createGrantTable(options, deps);
      return { api, detach: () => api.close() };
    },
  };
}
