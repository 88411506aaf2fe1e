import { type DomId, domId } from '@paravirt/event-bus/contract';
import { gnttab } from '@paravirt/gnttab';
import type { Domain, Machine } from '@paravirt/hv-sim';
import { addConsole, type ConsbackDeps, type Consfront, type ConsfrontDeps } from '../src/index.ts';

export const DOM0: DomId = domId(0);

/** What a guest's console needs; its grant table counts pages. */
export function frontDeps(guest: Domain): ConsfrontDeps {
  const grants = guest.use(gnttab({ owner: guest.id }), {
    hypercalls: guest.hypercalls,
    scheduler: guest.scheduler,
    pages: guest.pageUse,
  });
  return { grants, pages: guest.pages, events: guest.events, store: guest.store };
}

export function backDeps(dom0: Domain): ConsbackDeps {
  const { hypercalls, addresses, addressSpace, events, store } = dom0;
  return { hypercalls, addresses, addressSpace, events, store };
}

/** Two domains, with both folders of a console in the store. */
export function twoDomains(machine: Machine): { dom0: Domain; guest: Domain } {
  const dom0 = machine.createDomain({ id: 0, pages: 64 });
  const guest = machine.createDomain({ pages: 64 });
  addConsole(dom0.store, { frontend: guest.id, backend: DOM0 });
  return { dom0, guest };
}

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
export const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** Writes all of it, now or as room comes. */
export function writeAll(end: Pick<Consfront, 'write' | 'onRoom'>, bytes: Uint8Array): void {
  let rest = bytes;
  const go = (): void => {
    rest = rest.subarray(end.write(rest));
  };
  end.onRoom(go);
  go();
}
