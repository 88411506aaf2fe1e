import type { Store, StoreTransaction, WatchHandler } from '../types.ts';

interface Watch {
  readonly path: string;
  readonly home: string;
  readonly given: string;
  readonly handler: WatchHandler;
  live: boolean;
}

interface Open {
  readonly id: number;
  readonly base: number;
  readonly seen: Set<string>;
  readonly writes: Map<string, string | undefined>;
}

/** One change, as a trace lists it: `transaction` is 0 outside of one. */
export interface StoreChange {
  readonly by: number;
  readonly path: string;
  /** undefined: removed. */
  readonly value: string | undefined;
  readonly transaction: number;
}

/** A store of one folder tree with transactions and watches. Permissions are not modelled. */
export class FakeStore {
  readonly nodes: Map<string, string> = new Map();
  /** Everything that was changed, in order of commit. */
  readonly log: StoreChange[] = [];
  /** So many commits to come fail with EAGAIN. */
  conflicts = 0;
  /** Paths that a connection may not read. */
  readonly hidden: Set<string> = new Set();
  private readonly changed: Map<string, number> = new Map();
  private readonly watches: Set<Watch> = new Set();
  private readonly enqueue: (item: () => void) => void;
  private version = 0;
  private nextId = 1;
  /** Transactions not ended. */
  openTransactions = 0;

  constructor(enqueue: (item: () => void) => void) {
    this.enqueue = enqueue;
  }

  /** Watches that a domain has registered. */
  watchesOf(domid: number): number {
    return [...this.watches].filter((watch) => watch.home === `/local/domain/${domid}`).length;
  }

  /** A domain's connection; relative paths start at its home. */
  connect(domid: number): Store {
    const home = `/local/domain/${domid}`;
    const absolute = (path: string): string => (path.startsWith('/') ? path : `${home}/${path}`);
    const open = new Map<number, Open>();
    const transactionOf = (transaction: StoreTransaction | undefined): Open | undefined => {
      if (transaction === undefined) return undefined;
      const found = open.get(transaction.id);
      if (found === undefined) throw new Error('EINVAL: no such transaction');
      return found;
    };
    return {
      read: (path, transaction) => {
        const full = absolute(path);
        if (this.hidden.has(full)) throw new Error(`EACCES: ${full}`);
        const t = transactionOf(transaction);
        t?.seen.add(full);
        return t?.writes.has(full) ? t.writes.get(full) : this.nodes.get(full);
      },
      write: (path, value, transaction) => {
        const full = absolute(path);
        const t = transactionOf(transaction);
        if (t === undefined) this.apply(domid, full, value, 0);
        else t.writes.set(full, value);
      },
      list: (path, transaction) => {
        const full = `${absolute(path)}/`;
        const t = transactionOf(transaction);
        const names = new Set<string>();
        for (const node of this.nodes.keys()) if (node.startsWith(full)) names.add(node.slice(full.length).split('/')[0]!);
        for (const [node, value] of t?.writes ?? []) {
          if (!node.startsWith(full) || value === undefined) continue;
          names.add(node.slice(full.length).split('/')[0]!);
        }
        return [...names];
      },
      remove: (path, transaction) => {
        const full = absolute(path);
        const t = transactionOf(transaction);
        for (const node of [...this.nodes.keys()]) {
          if (node !== full && !node.startsWith(`${full}/`)) continue;
          if (t === undefined) this.apply(domid, node, undefined, 0);
          else t.writes.set(node, undefined);
        }
      },
      mkdir: (path) => {
        const full = absolute(path);
        if (!this.nodes.has(full)) this.apply(domid, full, '', 0);
      },
      begin: () => {
        const t: Open = { id: this.nextId++, base: this.version, seen: new Set(), writes: new Map() };
        open.set(t.id, t);
        this.openTransactions++;
        return { id: t.id };
      },
      commit: (transaction) => {
        const t = transactionOf(transaction)!;
        open.delete(t.id);
        this.openTransactions--;
        const stale = [...t.seen, ...t.writes.keys()].some((path) => (this.changed.get(path) ?? 0) > t.base);
        if (this.conflicts > 0) {
          this.conflicts--;
          return false;
        }
        if (stale) return false;
        for (const [path, value] of t.writes) this.apply(domid, path, value, t.id);
        return true;
      },
      abort: (transaction) => {
        if (open.delete(transaction.id)) this.openTransactions--;
      },
      watch: (path, handler) => {
        const watch: Watch = { path: absolute(path), home, given: path, handler, live: true };
        this.watches.add(watch);
        this.enqueue(() => {
          if (watch.live) handler(path);
        });
        return {
          unsubscribe: () => {
            watch.live = false;
            this.watches.delete(watch);
          },
        };
      },
    };
  }

  private apply(by: number, path: string, value: string | undefined, transaction: number): void {
    if (value === undefined) {
      if (!this.nodes.delete(path)) return;
    } else this.nodes.set(path, value);
    this.changed.set(path, ++this.version);
    this.log.push({ by, path, value, transaction });
    for (const watch of this.watches) {
      if (path !== watch.path && !path.startsWith(`${watch.path}/`)) continue;
      this.enqueue(() => {
        if (watch.live) watch.handler(watch.given.startsWith('/') ? path : path.slice(watch.home.length + 1));
      });
    }
  }
}
