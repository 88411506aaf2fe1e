import type { DomId } from '@paravirt/event-bus/contract';
import type { MemoryPage } from '@paravirt/xen-abi';
import { ObjectConnection } from './connection.ts';
import { DEFAULT_LIMITS, StoreCore } from './core.ts';
import { StoreError } from './errors.ts';
import { listTree } from './listing.ts';
import { isNodePath } from './paths.ts';
import type { DomainActs } from './requests.ts';
import { RingConnection } from './ring-connection.ts';
import type { StoreConnection, StoreOptions, StoreRingConnection, StoreUsage, XenStore } from './types.ts';

class Store implements XenStore {
  readonly core: StoreCore;
  readonly #enqueue: StoreOptions['enqueue'];
  readonly #rings = new Map<number, RingConnection>();
  /** What the toolstack asks over the wire. */
  readonly #acts: DomainActs = {
    introduce: (domid) => {
      // Introducing a domain again is how its kernel gets a fresh connection.
      if (this.isIntroduced(domid as DomId)) this.#rings.get(domid)?.reset();
      this.introduce(domid as DomId);
    },
    release: (domid) => {
      if (!this.isIntroduced(domid as DomId)) return false;
      this.release(domid as DomId);
      return true;
    },
    isIntroduced: (domid) => this.isIntroduced(domid as DomId),
    setTarget: (domid, target) => this.setTarget(domid as DomId, target as DomId),
  };

  constructor({ enqueue, limits = {}, privileged = 0 as DomId, bus, conflict }: StoreOptions) {
    this.#enqueue = enqueue;
    this.core = new StoreCore({ ...DEFAULT_LIMITS, ...limits }, privileged, bus, conflict);
    // What the original's store has from the start.
    const tools = this.connect(privileged);
    tools.mkdir('/tool/xenstored');
    tools.close();
  }

  get nodeCount(): number {
    return this.core.live.nodes.size;
  }

  connect(domid: DomId): StoreConnection {
    return new ObjectConnection(this.core, domid, this.#enqueue);
  }

  openRing(domid: DomId, page: MemoryPage, notify: () => void): StoreRingConnection {
    const ring = new RingConnection(this.core, domid, page, this.#acts, notify, () => {
      if (this.#rings.get(domid) === ring) this.#rings.delete(domid);
    });
    this.#rings.set(domid, ring);
    return ring;
  }

  introduce(domid: DomId): void {
    this.core.introduce(domid);
  }

  release(domid: DomId): void {
    this.core.release(domid);
  }

  isIntroduced(domid: DomId): boolean {
    return this.core.domains.get(domid)?.introduced === true;
  }

  setTarget(domid: DomId, target: DomId): void {
    this.core.domain(domid).target = target;
  }

  export({ path = '/', permissions = false }: { path?: string; permissions?: boolean } = {}): string {
    const { live, limits, privileged } = this.core;
    if (live.get(path) === undefined) {
      const errno = isNodePath(path, limits.pathChars) ? 'ENOENT' : 'EINVAL';
      throw new StoreError({ errno, operation: 'export', domid: privileged, subject: path });
    }
    return listTree(live, path, permissions);
  }

  usage(domid: DomId): StoreUsage {
    const domain = this.core.domains.get(domid);
    if (domain === undefined) return { nodes: 0, watches: 0, transactions: 0, connections: 0, events: 0 };
    let transactions = 0;
    let events = 0;
    for (const session of domain.sessions) {
      transactions += session.transactions.size;
      events += session.waiting;
    }
    return { nodes: domain.nodes, watches: domain.watches, transactions, connections: domain.sessions.size, events };
  }
}

/**
 * Makes a store (xenstore, as xenstored of Xen 4.17 keeps it) with the root and `/tool/xenstored`. Reads and writes are plain
 * calls; watch events come through `enqueue`, one a piece of work.
 *
 * @example
 * const store = createStore({ enqueue: (work) => queue.push(work) });
 * const tools = store.connect(domId(0));
 * tools.write('/local/domain/1/name', 'guest');
 */
export function createStore(options: StoreOptions): XenStore {
  return new Store(options);
}
