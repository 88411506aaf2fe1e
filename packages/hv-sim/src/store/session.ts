import type { DomId } from '@paravirt/event-bus/contract';
import { type DomainRecord, link, type StoreCore, unlink } from './core.ts';
import type { StoreErrno } from './errors.ts';
import { newNode, OWNER, type Perm, READ, recordBytes, type StoreNode, spellPerm, WRITE } from './node.ts';
import { homePath, isNodePath, isWatchPath, parentPath } from './paths.ts';
import { type Space, TransactionSpace } from './spaces.ts';
import type { Watch } from './watches.ts';

const SLASH = 47;
const AT = 64;
const ABSOLUTES_MAX = 256;

/** How a session hears of its watches: an object's queue, or a ring. */
export type Tell = (watch: Watch, path: string) => void;

/**
 * What one connection may ask. An operation that is refused gives undefined or false and leaves the error's name in `errno`:
 * on the wire a refusal is an everyday answer, not worth an exception.
 */
export class Session {
  readonly core: StoreCore;
  readonly domain: DomainRecord;
  readonly order: number;
  readonly home: string;
  readonly tell: Tell;
  /** How many events wait for the connection; kept by whoever tells them. */
  readonly #waiting: () => number;
  readonly watches: Set<Watch> = new Set();
  readonly transactions: Map<number, TransactionSpace> = new Map();
  errno: StoreErrno = 'EINVAL';
  closed = false;
  #lastTransaction = 0;
  /** Relative paths made absolute: joining and hashing a string costs several times the lookup that it is for. */
  readonly #absolutes = new Map<string, string>();
  readonly #onClose: () => void;

  constructor(core: StoreCore, domid: number, tell: Tell, waiting: () => number, onClose: () => void) {
    this.core = core;
    this.domain = core.domain(domid);
    this.order = core.nextSession();
    this.home = homePath(domid);
    this.tell = tell;
    this.#waiting = waiting;
    this.#onClose = onClose;
    this.domain.sessions.add(this);
  }

  get privileged(): boolean {
    return this.domain.domid === this.core.privileged;
  }

  get waiting(): number {
    return this.#waiting();
  }

  /** The live tree or a transaction's view. ENOENT: there is no such transaction. */
  space(transaction: number): Space | undefined {
    if (this.closed) return this.#refuse('EIO');
    return transaction === 0 ? this.core.live : (this.transactions.get(transaction) ?? this.#refuse('ENOENT'));
  }

  absolute(path: string): string {
    const first = path.charCodeAt(0);
    if (first === SLASH || first === AT) return path;
    let absolute = this.#absolutes.get(path);
    if (absolute === undefined) {
      absolute = `${this.home}/${path}`;
      if (this.#absolutes.size === ABSOLUTES_MAX) this.#absolutes.clear();
      this.#absolutes.set(path, absolute);
    }
    return absolute;
  }

  /** The node at `path` if the domain has `mask` on it. */
  find(space: Space, path: string, mask: number): StoreNode | undefined {
    const node = space.get(path);
    if (node !== undefined) {
      if ((this.core.mask(this.domain, node.perms, node.permsAt) & mask) === mask) return this.#touched(space) ? node : undefined;
      return this.#refuse('EACCES');
    }
    if (!isNodePath(path, this.core.limits.pathChars)) return this.#refuse('EINVAL');
    // Who may not look there is not told that there is nothing.
    for (let at = path; at !== '/'; ) {
      at = parentPath(at);
      const above = space.get(at);
      if (above !== undefined) {
        const may = (this.core.mask(this.domain, above.perms, above.permsAt) & mask) !== 0;
        return this.#refuse(!may ? 'EACCES' : this.#touched(space) ? 'ENOENT' : 'ENOSPC');
      }
    }
    return this.#refuse('ENOENT');
  }

  /** A readable node. */
  read(path: string, transaction: number): StoreNode | undefined {
    const space = transaction === 0 && !this.closed ? this.core.live : this.space(transaction);
    return space === undefined ? undefined : this.find(space, this.absolute(path), READ);
  }

  write(given: string, value: string, ascii: boolean, transaction: number): boolean {
    const space = this.space(transaction);
    if (space === undefined) return false;
    const path = this.absolute(given);
    const node = this.find(space, path, WRITE);
    if (node === undefined) {
      if (this.errno !== 'ENOENT' || !this.#create(space, path, value, ascii)) return false;
    } else {
      if (this.#tooBig(recordBytes(node) - node.value.length + value.length)) return this.#fail('ENOSPC');
      const own = space.edit(path, node);
      own.value = value;
      own.ascii = ascii;
    }
    this.#changed('write', path, value, transaction);
    this.#fire(space, path, false, undefined);
    return true;
  }

  mkdir(given: string, transaction: number): boolean {
    const space = this.space(transaction);
    if (space === undefined) return false;
    const path = this.absolute(given);
    if (this.find(space, path, WRITE) === undefined) {
      if (this.errno !== 'ENOENT' || !this.#create(space, path, '', true)) return false;
      this.#changed('mkdir', path, undefined, transaction);
      this.#fire(space, path, false, undefined);
    } else this.#changed('mkdir', path, undefined, transaction);
    return true;
  }

  remove(given: string, transaction: number): boolean {
    const space = this.space(transaction);
    if (space === undefined) return false;
    const path = this.absolute(given);
    const node = this.find(space, path, WRITE);
    if (node === undefined) {
      // What is not there is removed already, provided there is a place for it.
      if (this.errno !== 'ENOENT' || space.get(parentPath(path)) === undefined) return false;
      this.#changed('rm', path, undefined, transaction);
      return true;
    }
    if (path === '/') return this.#fail('EINVAL');
    const above = parentPath(path);
    const parent = space.get(above);
    // A transaction may have found the node above missing before another made both: it will not commit.
    if (parent === undefined) return this.#fail('EINVAL');
    this.#removeBelow(space, path, node);
    this.#drop(space, path, node, false);
    unlink(space.edit(above, parent), path);
    this.#changed('rm', path, undefined, transaction);
    return true;
  }

  setPerms(given: string, perms: readonly Perm[], transaction: number): boolean {
    const space = this.space(transaction);
    if (space === undefined) return false;
    if (perms.length === 0) return this.#fail('EINVAL');
    if (!this.privileged && perms.length > this.core.limits.permissions) return this.#fail('ENOSPC');
    if (given.startsWith('@')) return this.#setSpecial(given, perms);
    const path = this.absolute(given);
    const node = this.find(space, path, WRITE | OWNER);
    if (node === undefined) return false;
    const owner = perms[0]!.domid;
    const was = node.perms[0]!.domid;
    if (!this.privileged && owner !== was) return this.#fail('EPERM');
    if (this.#tooBig(recordBytes(node) + 8 * (perms.length - node.perms.length))) return this.#fail('ENOSPC');
    for (const { domid } of perms) this.core.domain(domid);
    const before = { ...node };
    const own = space.edit(path, node);
    own.perms = perms;
    own.permsAt = this.core.live.generation;
    if (owner !== was) {
      this.#own(space, was, -1);
      this.#own(space, owner, 1);
    }
    this.#changed('set-perms', path, perms.map(spellPerm).join(','), transaction);
    this.#fire(space, path, false, before);
    return true;
  }

  /** A new transaction's id, or 0. */
  begin(): number {
    if (this.closed) return this.#refuse('EIO') ?? 0;
    const { transactions } = this.core.limits;
    if (!this.privileged && this.transactions.size >= transactions) return this.#refuse('ENOSPC') ?? 0;
    do {
      this.#lastTransaction = (this.#lastTransaction + 1) >>> 0 || 1;
    } while (this.transactions.has(this.#lastTransaction));
    this.transactions.set(this.#lastTransaction, new TransactionSpace(this.#lastTransaction, this.core.live));
    return this.#lastTransaction;
  }

  end(id: number, commit: boolean): boolean {
    if (this.closed) return this.#fail('EIO');
    const transaction = this.transactions.get(id);
    if (transaction === undefined) return this.#fail('ENOENT');
    this.transactions.delete(id);
    const { core } = this;
    const domid = this.domain.domid as DomId;
    const conflict = commit && (transaction.conflicting || core.conflict?.(domid) === true);
    const done = commit && !conflict;
    if (done) {
      if (!this.#withinQuota(transaction)) return this.#fail('ENOSPC');
      transaction.apply();
      for (const [owner, nodes] of transaction.owned) core.count(owner, nodes);
    }
    if (core.bus?.observed('store:ended')) core.bus.emit('store:ended', { domid, transaction: id, committed: done, conflict });
    if (done) {
      for (const [path, { seen, fires }] of transaction.touched) if (fires !== false) core.fire(path, fires === 'exact', seen);
    }
    return conflict ? this.#fail('EAGAIN') : true;
  }

  /** Registers a watch and tells it of its path. */
  watch(given: string, token: string): Watch | undefined {
    if (this.closed) return this.#refuse('EIO');
    const { core, domain } = this;
    const path = this.absolute(given);
    if (!isWatchPath(path, core.limits.pathChars)) return this.#refuse('EINVAL');
    for (const other of this.watches) if (other.path === path && other.token === token) return this.#refuse('EEXIST');
    if (!this.privileged && domain.watches >= core.limits.watches) return this.#refuse('E2BIG');
    const watch = core.watches.add(this, path, path === given ? 0 : this.home.length + 1, token);
    this.watches.add(watch);
    domain.watches += 1;
    return watch;
  }

  findWatch(given: string, token: string): Watch | undefined {
    const path = this.absolute(given);
    for (const watch of this.watches) if (watch.path === path && watch.token === token) return watch;
    return this.#refuse('ENOENT');
  }

  unwatch(watch: Watch): void {
    if (!this.watches.delete(watch)) return;
    this.core.watches.remove(watch);
    this.domain.watches -= 1;
  }

  reset(): void {
    for (const watch of this.watches) this.unwatch(watch);
    this.transactions.clear();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.reset();
    this.domain.sessions.delete(this);
    this.#onClose();
  }

  #refuse(errno: StoreErrno): undefined {
    this.errno = errno;
    return undefined;
  }

  #fail(errno: StoreErrno): false {
    this.errno = errno;
    return false;
  }

  /** Whether a transaction may have looked at one node more. */
  #touched(space: Space): boolean {
    if (space.id === 0 || this.privileged) return true;
    return (space as TransactionSpace).touched.size <= this.core.limits.transactionNodes || this.#fail('ENOSPC');
  }

  #tooBig(bytes: number): boolean {
    return !this.privileged && bytes >= this.core.limits.nodeBytes;
  }

  #owned(space: Space, domid: number): number {
    const booked = this.core.domains.get(domid)?.nodes ?? 0;
    return space.id === 0 ? booked : booked + ((space as TransactionSpace).owned.get(domid) ?? 0);
  }

  #own(space: Space, owner: number, nodes: number): void {
    if (space.id === 0) this.core.count(owner, nodes);
    else {
      const { owned } = space as TransactionSpace;
      owned.set(owner, (owned.get(owner) ?? 0) + nodes);
    }
  }

  /** Another transaction may have filled the quota since this one asked. */
  #withinQuota(transaction: TransactionSpace): boolean {
    const { domid } = this.domain;
    return this.privileged || (transaction.owned.get(domid) ?? 0) <= 0 || this.#owned(transaction, domid) <= this.core.limits.nodes;
  }

  /** Makes a node and what is missing above it, or nothing. Rights were checked where the path begins to be missing. */
  #create(space: Space, path: string, value: string, ascii: boolean): boolean {
    const { core, domain } = this;
    const missing = [path];
    let above = parentPath(path);
    while (space.get(above) === undefined) {
      missing.push(above);
      above = parentPath(above);
    }
    const parent = space.get(above)!;
    const perms = this.#inherited(parent);
    const owner = perms[0]!.domid;
    if (!this.privileged) {
      if (this.#owned(space, domain.domid) + missing.length > core.limits.nodes) return this.#fail('ENOSPC');
      const nameBytes = missing.at(-1)!.length - (above === '/' ? 0 : above.length);
      if (this.#tooBig(recordBytes(parent) + nameBytes)) return this.#fail('ENOSPC');
      const longest = Math.max(value.length, ...missing.slice(0, -1).map((below, i) => below.length - missing[i + 1]!.length));
      if (this.#tooBig(24 + 8 * perms.length + longest)) return this.#fail('ENOSPC');
    }
    let higher = space.edit(above, parent);
    for (let i = missing.length - 1; i >= 0; i -= 1) {
      const node = newNode(perms, core.live.generation);
      if (i === 0) {
        node.value = value;
        node.ascii = ascii;
      }
      link(higher, missing[i]!);
      space.put(missing[i]!, node);
      higher = node;
    }
    this.#own(space, owner, missing.length);
    return true;
  }

  /** The permissions of a new node: those of the one above, owned by whoever makes it unless that is the privileged domain. */
  #inherited(parent: StoreNode): readonly Perm[] {
    const { core, domain } = this;
    const valid = parent.perms.every((perm, i) => i === 0 || this.#current(perm, parent.permsAt));
    const perms = valid ? parent.perms : parent.perms.filter((perm, i) => i === 0 || this.#current(perm, parent.permsAt));
    const owner = perms[0]!;
    if (domain.domid === core.privileged || owner.domid === domain.domid) return perms;
    return [{ domid: domain.domid, mask: owner.mask }, ...perms.slice(1)];
  }

  /** Whether the domain that a permission names is still the one that was meant. */
  #current(perm: Perm, permsAt: number): boolean {
    const domain = this.core.domains.get(perm.domid);
    return domain !== undefined && domain.born <= permsAt;
  }

  #removeBelow(space: Space, path: string, node: StoreNode): void {
    for (const name of node.children ?? []) {
      const below = `${path}/${name}`;
      const child = space.get(below);
      if (child === undefined) continue;
      this.#removeBelow(space, below, child);
      this.#drop(space, below, child, true);
    }
  }

  #drop(space: Space, path: string, node: StoreNode, exact: boolean): void {
    // While the node still shows who may hear of it.
    this.#fire(space, path, exact, node);
    space.delete(path);
    this.#own(space, node.perms[0]!.domid, -1);
  }

  #setSpecial(path: string, perms: readonly Perm[]): boolean {
    if (!this.privileged) return this.#fail('EACCES');
    if (!this.core.special.has(path)) return this.#fail('EINVAL');
    this.core.special.set(path, perms);
    return true;
  }

  #fire(space: Space, path: string, exact: boolean, before: StoreNode | undefined): void {
    if (space.id === 0) this.core.fire(path, exact, before);
    else (space as TransactionSpace).touch(path).fires = exact ? 'exact' : 'all';
  }

  #changed(change: 'write' | 'mkdir' | 'rm' | 'set-perms', path: string, value: string | undefined, transaction: number): void {
    const { bus } = this.core;
    if (!bus?.observed('store:changed')) return;
    const fact = { domid: this.domain.domid as DomId, change, path, transaction };
    bus.emit('store:changed', value === undefined ? fact : { ...fact, value });
  }
}
