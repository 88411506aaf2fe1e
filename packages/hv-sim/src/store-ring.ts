import type { DomId } from '@paravirt/event-bus/contract';
import { STORE_RING } from './boot.ts';
import type { DomainCore } from './domain.ts';
import type { RingServer } from './services.ts';
import type { XenStore } from './store/types.ts';

/** Serves a domain's store ring: the wire's bytes in its page. */
export function openStoreRing(store: XenStore, core: DomainCore, notify: () => void): RingServer {
  return store.openRing(core.id as DomId, core.boot[STORE_RING]!, notify);
}
