import type { DomId } from '@paravirt/event-bus/contract';
import { XENSTORE } from '@paravirt/xen-abi';
import type { StoreCore } from './core.ts';
import { type StoreErrno, StoreError } from './errors.ts';
import { EventQueue } from './event-queue.ts';
import { fromPermission, type Perm, type StoreNode, toPermission } from './node.ts';
import { homePath } from './paths.ts';
import { Session } from './session.ts';
import { bytesToText, isAscii, textToBytes } from './text.ts';
import type { StoreConnection, StoreOptions, StorePermission, StoreTransaction, WatchHandler } from './types.ts';
import type { Watch } from './watches.ts';

/** The store as objects: a session whose refusals are exceptions and whose events come from the run queue. */
export class ObjectConnection implements StoreConnection {
  readonly domid: DomId;
  readonly home: string;
  readonly session: Session;
  readonly events: EventQueue;
  readonly #core: StoreCore;
  readonly #handlers = new Map<Watch, WatchHandler>();
  #tokens = 0;

  constructor(core: StoreCore, domid: DomId, enqueue: StoreOptions['enqueue']) {
    this.domid = domid;
    this.home = homePath(domid);
    this.#core = core;
    this.events = new EventQueue(core.limits.events);
    let scheduled = false;
    const deliver = (): void => {
      const event = this.events.shift();
      scheduled = this.events.length > 0;
      if (scheduled) enqueue(deliver, domid);
      if (event !== undefined) this.#handlers.get(event.watch)?.(event.told);
    };
    const tell = (watch: Watch, path: string): void => {
      if (!this.events.push(watch, path) || scheduled) return;
      scheduled = true;
      enqueue(deliver, domid);
    };
    this.session = new Session(
      core,
      domid,
      tell,
      () => this.events.length,
      () => {
        this.#handlers.clear();
        this.events.prune();
      },
    );
  }

  read(path: string, transaction?: StoreTransaction): string | undefined {
    const node = this.session.read(path, transaction === undefined ? 0 : transaction.id);
    if (node !== undefined) return node.ascii ? node.value : bytesToText(node.value);
    return this.#absent('read', path, transaction);
  }

  write(path: string, value: string, transaction?: StoreTransaction): void {
    const bytes = textToBytes(value);
    if (bytes === undefined) this.#throw('write', path, 'EINVAL');
    // What no message could carry, as the original's library refuses it.
    if (path.length + 1 + bytes.length > XENSTORE.PAYLOAD_MAX) this.#throw('write', path, 'E2BIG');
    if (!this.session.write(path, bytes, isAscii(bytes), transaction?.id ?? 0)) this.#throw('write', path);
  }

  list(path: string, transaction?: StoreTransaction): readonly string[] {
    const node = this.session.read(path, transaction?.id ?? 0) ?? this.#absent('directory', path, transaction);
    return node?.children === null || node === undefined ? [] : [...node.children];
  }

  remove(path: string, transaction?: StoreTransaction): void {
    if (!this.session.remove(path, transaction?.id ?? 0)) this.#throw('rm', path);
  }

  mkdir(path: string, transaction?: StoreTransaction): void {
    if (!this.session.mkdir(path, transaction?.id ?? 0)) this.#throw('mkdir', path);
  }

  exists(path: string, transaction?: StoreTransaction): boolean {
    return (this.session.read(path, transaction?.id ?? 0) ?? this.#absent('read', path, transaction)) !== undefined;
  }

  getPermissions(path: string, transaction?: StoreTransaction): readonly StorePermission[] {
    const node: StoreNode | undefined = this.session.read(path, transaction?.id ?? 0);
    return node === undefined ? this.#throw('get_perms', path) : node.perms.map(toPermission);
  }

  setPermissions(path: string, permissions: readonly StorePermission[], transaction?: StoreTransaction): void {
    const perms = permissions.map(fromPermission);
    if (perms.includes(undefined)) this.#throw('set_perms', path, 'EINVAL');
    if (!this.session.setPerms(path, perms as Perm[], transaction?.id ?? 0)) this.#throw('set_perms', path);
  }

  begin(): StoreTransaction {
    const id = this.session.begin();
    return id === 0 ? this.#throw('transaction_start', 'a transaction') : { id };
  }

  commit({ id }: StoreTransaction): boolean {
    if (this.session.end(id, true)) return true;
    return this.session.errno === 'EAGAIN' ? false : this.#throw('transaction_end', `transaction ${id}`);
  }

  abort({ id }: StoreTransaction): void {
    if (!this.session.end(id, false)) this.#throw('transaction_end', `transaction ${id}`);
  }

  watch(path: string, handler: WatchHandler, token?: string): { unsubscribe(): void } {
    const watch = this.session.watch(path, token ?? `${this.#tokens++}`);
    if (watch === undefined) return this.#throw('watch', path);
    this.#handlers.set(watch, handler);
    this.session.tell(watch, watch.path);
    return {
      unsubscribe: () => {
        this.session.unwatch(watch);
        this.#handlers.delete(watch);
        this.events.prune();
      },
    };
  }

  resetWatches(): void {
    this.session.reset();
    this.#handlers.clear();
    this.events.prune();
  }

  getDomainPath(domid: DomId): string {
    return homePath(domid);
  }

  isDomainIntroduced(domid: DomId): boolean {
    if (!this.session.privileged) this.#throw('is_domain_introduced', `domain ${domid}`, 'EACCES');
    return this.#core.domains.get(domid)?.introduced === true;
  }

  introduceDomain(domid: DomId): void {
    if (!this.session.privileged) this.#throw('introduce', `domain ${domid}`, 'EACCES');
    this.#core.introduce(domid);
  }

  releaseDomain(domid: DomId): void {
    const subject = `domain ${domid}`;
    if (!this.session.privileged) this.#throw('release', subject, 'EACCES');
    if (domid === this.#core.privileged) this.#throw('release', subject, 'EINVAL');
    if (this.#core.domains.get(domid)?.introduced !== true) this.#throw('release', subject, 'ENOENT');
    this.#core.release(domid);
  }

  close(): void {
    this.session.close();
  }

  /** Nothing there is no error to an object's user; a transaction that is not there is. */
  #absent(operation: string, path: string, transaction: StoreTransaction | undefined): undefined {
    if (this.session.errno !== 'ENOENT') this.#throw(operation, path);
    if (transaction !== undefined && !this.session.transactions.has(transaction.id))
      this.#throw(operation, `transaction ${transaction.id}`);
    return undefined;
  }

  #throw(operation: string, subject: string, errno: StoreErrno = this.session.errno): never {
    throw new StoreError({ errno, operation, domid: this.domid, subject: subject.length > 200 ? `${subject.slice(0, 200)}...` : subject });
  }
}
