import type { EventBus } from '@paravirt/event-bus';
import type { DomId } from '@paravirt/event-bus/contract';
import type { StoreEvents } from './events.ts';
import { ALL, newNode, type Perm, READ, type StoreNode } from './node.ts';
import { parentPath } from './paths.ts';
import type { Session } from './session.ts';
import { LiveSpace } from './spaces.ts';
import type { StoreLimits } from './types.ts';
import { type Watch, WatchIndex } from './watches.ts';

/** What the store knows of a domain. */
export interface DomainRecord {
  readonly domid: number;
  /** The store's generation when the domain was first heard of. */
  readonly born: number;
  introduced: boolean;
  target: number;
  nodes: number;
  watches: number;
  readonly sessions: Set<Session>;
}

const SPECIAL = ['@introduceDomain', '@releaseDomain'] as const;
export const DEFAULT_LIMITS: StoreLimits = {
  nodes: 1000,
  nodeBytes: 2048,
  watches: 128,
  transactions: 10,
  transactionNodes: 1024,
  permissions: 5,
  pathChars: 2048,
  outstanding: 20,
  events: 1024,
};

/** The tree, the domains, the watches, and who may what. Sessions ask; nothing here answers to a guest. */
export class StoreCore {
  readonly live: LiveSpace = new LiveSpace();
  readonly watches: WatchIndex = new WatchIndex();
  readonly domains: Map<number, DomainRecord> = new Map();
  readonly limits: StoreLimits;
  readonly privileged: number;
  readonly bus: EventBus<StoreEvents> | undefined;
  readonly conflict: ((domid: DomId) => boolean) | undefined;
  /** Who may hear the special watches. */
  readonly special: Map<string, readonly Perm[]> = new Map();
  #sessions = 0;

  constructor(
    limits: StoreLimits,
    privileged: number,
    bus: EventBus<StoreEvents> | undefined,
    conflict: ((domid: DomId) => boolean) | undefined,
  ) {
    this.limits = limits;
    this.privileged = privileged;
    this.bus = bus;
    this.conflict = conflict;
    for (const path of SPECIAL) this.special.set(path, [{ domid: privileged, mask: 0 }]);
    const root = newNode([{ domid: privileged, mask: 0 }], 0);
    this.live.put('/', root);
    this.domain(privileged).introduced = true;
    this.count(privileged, 1);
  }

  domain(domid: number): DomainRecord {
    let record = this.domains.get(domid);
    if (record === undefined) {
      this.live.generation += 1;
      record = { domid, born: this.live.generation, introduced: false, target: -1, nodes: 0, watches: 0, sessions: new Set() };
      this.domains.set(domid, record);
    }
    return record;
  }

  nextSession(): number {
    return this.#sessions++;
  }

  count(owner: number, nodes: number): void {
    this.domain(owner).nodes += nodes;
  }

  /** What `domain` may do under `perms`, given at generation `permsAt`. @see xenstored, perm_for_conn */
  mask(domain: DomainRecord, perms: readonly Perm[], permsAt: number): number {
    const { domid, target } = domain;
    const owner = perms[0]!;
    if (domid === this.privileged || owner.domid === domid || owner.domid === target) return ALL;
    for (let i = 1; i < perms.length; i += 1) {
      const perm = perms[i]!;
      if ((perm.domid === domid && domain.born <= permsAt) || perm.domid === target) return perm.mask;
    }
    return owner.mask;
  }

  /** Whether a domain may hear of a change at `path`: it may read the node as it was or as it is, or the node above. */
  mayHear(domain: DomainRecord, path: string, before: StoreNode | undefined): boolean {
    if (domain.domid === this.privileged) return true;
    const special = this.special.get(path);
    if (special !== undefined) return (this.mask(domain, special, Number.MAX_SAFE_INTEGER) & READ) !== 0;
    if (before !== undefined && (this.mask(domain, before.perms, before.permsAt) & READ) !== 0) return true;
    const now = this.live.get(path);
    if (now !== undefined && (this.mask(domain, now.perms, now.permsAt) & READ) !== 0) return true;
    const parent = this.live.get(parentPath(path));
    return parent !== undefined && (this.mask(domain, parent.perms, parent.permsAt) & READ) !== 0;
  }

  /** Tells the watches that a change at `path` concerns. `before`: the node as it was, where it changed hands or went. */
  fire(path: string, exact: boolean, before?: StoreNode): void {
    this.watches.match(path, exact, (watch: Watch) => {
      if (!watch.gone && this.mayHear(watch.session.domain, path, before)) watch.session.tell(watch, path);
    });
  }

  introduce(domid: number): void {
    const domain = this.domain(domid);
    if (domain.introduced) return;
    domain.introduced = true;
    if (this.bus?.observed('store:introduced')) this.bus.emit('store:introduced', { domid: domid as DomId });
    this.fire('@introduceDomain', false);
  }

  release(domid: number): void {
    const domain = this.domains.get(domid);
    if (domain === undefined || domid === this.privileged) return;
    for (const session of domain.sessions) session.close();
    if (domain.nodes > 0) for (const path of this.#ownedRoots(domid)) this.removeTree(path);
    for (const [path, perms] of this.special) {
      const left = perms.filter((perm, i) => i === 0 || perm.domid !== domid);
      this.special.set(path, left);
    }
    this.domains.delete(domid);
    for (const other of this.domains.values()) if (other.target === domid) other.target = -1;
    if (!domain.introduced) return;
    if (this.bus?.observed('store:released')) this.bus.emit('store:released', { domid: domid as DomId });
    this.fire('@releaseDomain', false);
  }

  /** Takes a node and all below it out of the live tree, outside any session. */
  removeTree(path: string): void {
    const node = this.live.get(path);
    if (node === undefined) return;
    for (const name of node.children ?? []) this.#removeBelow(`${path}/${name}`);
    this.#drop(path, node, false);
    const above = parentPath(path);
    const parent = this.live.get(above);
    if (parent !== undefined) unlink(this.live.edit(above, parent), path);
  }

  #removeBelow(path: string): void {
    const node = this.live.get(path);
    if (node === undefined) return;
    for (const name of node.children ?? []) this.#removeBelow(`${path}/${name}`);
    this.#drop(path, node, true);
  }

  #drop(path: string, node: StoreNode, exact: boolean): void {
    this.fire(path, exact, node);
    this.live.delete(path);
    this.count(node.perms[0]!.domid, -1);
  }

  /** The topmost nodes that a domain owns. */
  #ownedRoots(domid: number): string[] {
    const roots: string[] = [];
    const stack = ['/'];
    for (let path = stack.pop(); path !== undefined; path = stack.pop()) {
      const node = this.live.get(path)!;
      if (node.perms[0]!.domid === domid && path !== '/') roots.push(path);
      else for (const name of node.children ?? []) stack.push(path === '/' ? `/${name}` : `${path}/${name}`);
    }
    return roots;
  }
}

/** Adds the last name of `path` to its parent. */
export function link(parent: StoreNode, path: string): void {
  const name = path.slice(path.lastIndexOf('/') + 1);
  parent.children ??= new Set();
  // A transaction may have found the node missing, and the one above later, when it was there: it will not commit.
  if (parent.children.has(name)) return;
  parent.children.add(name);
  parent.childBytes += name.length + 1;
}

export function unlink(parent: StoreNode, path: string): void {
  const name = path.slice(path.lastIndexOf('/') + 1);
  if (parent.children?.delete(name)) parent.childBytes -= name.length + 1;
}
