import type { DomId } from '@paravirt/event-bus/contract';
import { CONSOLE_RING, STORE_RING } from './boot.ts';
import type { DomainCore } from './domain.ts';
import type { StoreConnection, StorePermission } from './store/types.ts';

/**
 * What a toolstack writes into the store about a domain that it makes, and takes away with it. Nodes that the domain only reads
 * are domain 0's; in `data` and `error` the domain may write.
 * @see the store of a Xen 4.17 host, `/local/domain/6`
 */
export class Toolstack {
  readonly #tools: StoreConnection;

  constructor(tools: StoreConnection) {
    this.#tools = tools;
  }

  announce(core: DomainCore): void {
    const { id } = core;
    const home = `/local/domain/${id}`;
    const readable: StorePermission[] = [
      { domid: 0 as DomId, access: 'none' },
      { domid: id as DomId, access: 'read' },
    ];
    const own: StorePermission[] = [{ domid: id as DomId, access: 'none' }];
    const tools = this.#tools;
    tools.mkdir(home);
    // What is made below inherits from here on.
    tools.setPermissions(home, id === 0 ? own : readable);
    for (const [key, value] of [
      ['name', core.name],
      ['domid', String(id)],
      ['store/port', String(core.storePort)],
      ['store/ring-ref', String(core.memory.specialGfn + STORE_RING)],
      ['console/port', String(core.consolePort)],
      ['console/ring-ref', String(core.memory.specialGfn + CONSOLE_RING)],
    ] as const) {
      tools.write(`${home}/${key}`, value);
    }
    for (const folder of ['device', 'control']) tools.mkdir(`${home}/${folder}`);
    for (const folder of ['data', 'error']) {
      tools.mkdir(`${home}/${folder}`);
      tools.setPermissions(`${home}/${folder}`, own);
    }
  }

  withdraw(domid: number): void {
    this.#tools.remove(`/local/domain/${domid}`);
  }
}
