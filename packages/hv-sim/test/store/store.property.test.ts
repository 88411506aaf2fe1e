import { type DomId, domId } from '@paravirt/event-bus/contract';
import type { StoreAccess, StorePermission, StoreTransaction } from '@paravirt/hv-sim';
import { createStore, StoreError } from '@paravirt/hv-sim';
import fc from 'fast-check';
import { expect, it } from 'vitest';

const RUNS = process.env['PARAVIRT_FULL'] ? 20_000 : 300;

/** A node of the plain model. `stamp` changes with everything that a transaction would notice. */
interface ModelNode {
  value: string;
  perms: StorePermission[];
  children: string[];
  stamp: number;
}

const parent = (path: string): string => path.slice(0, Math.max(1, path.lastIndexOf('/')));
const base = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
const below = (path: string, name: string): string => (path === '/' ? `/${name}` : `${path}/${name}`);

/** A tree as a request sees it: the live one, or a transaction's, which copies a node when it first looks. */
class View {
  readonly live: Map<string, ModelNode>;
  readonly seen: Map<string, { stamp: number; node: ModelNode | undefined; changed: boolean }> | undefined;
  constructor(live: Map<string, ModelNode>, transaction: boolean) {
    this.live = live;
    this.seen = transaction ? new Map() : undefined;
  }
  get(path: string): ModelNode | undefined {
    if (this.seen === undefined) return this.live.get(path);
    if (!this.seen.has(path)) {
      const node = this.live.get(path);
      this.seen.set(path, { stamp: node?.stamp ?? 0, node: node && { ...node, children: node.children.slice() }, changed: false });
    }
    return this.seen.get(path)!.node;
  }
  set(path: string, node: ModelNode | undefined): void {
    if (this.seen !== undefined) {
      this.get(path);
      Object.assign(this.seen.get(path)!, { node, changed: true });
    } else if (node === undefined) this.live.delete(path);
    else this.live.set(path, node);
  }
}

/** The rules written plainly, with a fresh node for every change. */
class Model {
  tree = new Map<string, ModelNode>();
  /** Open transactions, by domain and number. */
  transactions = new Map<string, View>();
  #stamps = 0;

  constructor() {
    this.tree.set('/', this.#node({ value: '', perms: [{ domid: domId(0), access: 'none' }], children: [] }));
  }

  #node(node: Omit<ModelNode, 'stamp'>): ModelNode {
    this.#stamps += 1;
    return { ...node, stamp: this.#stamps };
  }

  may(domid: number, node: ModelNode, right: 'read' | 'write' | 'own'): boolean {
    if (domid === 0 || node.perms[0]!.domid === domid) return true;
    if (right === 'own') return false;
    const named = node.perms.slice(1).find((perm) => perm.domid === domid) ?? node.perms[0]!;
    return named.access === 'both' || named.access === right;
  }

  /** Looks a path up for a right: the node, or the error. */
  #find(view: View, domid: number, path: string, right: 'read' | 'write' | 'own'): ModelNode | string {
    const node = view.get(path);
    if (node !== undefined) return this.may(domid, node, right) ? node : 'EACCES';
    for (let at = path; at !== '/'; ) {
      at = parent(at);
      const above = view.get(at);
      if (above !== undefined) return this.may(domid, above, right === 'own' ? 'write' : right) ? 'ENOENT' : 'EACCES';
    }
    return 'ENOENT';
  }

  view(domid: number, id: number): View | undefined {
    return id === 0 ? new View(this.tree, false) : this.transactions.get(`${domid}/${id}`);
  }

  read(domid: number, path: string, id: number): string {
    const view = this.view(domid, id);
    if (view === undefined) return 'ENOENT!';
    const found = this.#find(view, domid, path, 'read');
    return typeof found === 'string' ? (found === 'ENOENT' ? 'nothing' : `${found}!`) : `=${found.value}`;
  }

  list(domid: number, path: string, id: number): string {
    const view = this.view(domid, id);
    if (view === undefined) return 'ENOENT!';
    const found = this.#find(view, domid, path, 'read');
    return typeof found === 'string' ? (found === 'ENOENT' ? '' : `${found}!`) : found.children.join(',');
  }

  /** @param value undefined makes the node without a value unless it is there. */
  write(domid: number, path: string, value: string | undefined, id: number): string {
    const view = this.view(domid, id);
    if (view === undefined) return 'ENOENT!';
    const found = this.#find(view, domid, path, 'write');
    if (found === 'EACCES') return 'EACCES!';
    if (typeof found !== 'string') {
      if (value !== undefined) view.set(path, this.#node({ ...found, value }));
      return 'ok';
    }
    const missing: string[] = [];
    let at = path;
    for (; view.get(at) === undefined; at = parent(at)) missing.unshift(at);
    const perms = view.get(at)!.perms.slice();
    if (domid !== 0) perms[0] = { ...perms[0]!, domid: domId(domid) };
    for (const made of missing) {
      const above = view.get(parent(made))!;
      view.set(parent(made), this.#node({ ...above, children: [...new Set([...above.children, base(made)])] }));
      view.set(made, this.#node({ value: made === path ? (value ?? '') : '', perms, children: [] }));
    }
    return 'ok';
  }

  remove(domid: number, path: string, id: number): string {
    const view = this.view(domid, id);
    if (view === undefined) return 'ENOENT!';
    const found = this.#find(view, domid, path, 'write');
    if (found === 'ENOENT') return view.get(parent(path)) === undefined ? 'ENOENT!' : 'ok';
    if (typeof found === 'string') return `${found}!`;
    if (path === '/') return 'EINVAL!';
    const drop = (at: string): void => {
      for (const name of view.get(at)?.children ?? []) drop(below(at, name));
      view.set(at, undefined);
    };
    const above = view.get(parent(path));
    // Found missing before another made both.
    if (above === undefined) return 'EINVAL!';
    drop(path);
    view.set(parent(path), this.#node({ ...above, children: above.children.filter((name) => name !== base(path)) }));
    return 'ok';
  }

  setPerms(domid: number, path: string, perms: StorePermission[], id: number): string {
    const view = this.view(domid, id);
    if (view === undefined) return 'ENOENT!';
    const found = this.#find(view, domid, path, 'own');
    if (typeof found === 'string') return `${found}!`;
    if (domid !== 0 && perms[0]!.domid !== found.perms[0]!.domid) return 'EPERM!';
    view.set(path, this.#node({ ...found, perms }));
    return 'ok';
  }

  commit(domid: number, id: number): string {
    const view = this.transactions.get(`${domid}/${id}`);
    if (view === undefined) return 'ENOENT!';
    this.transactions.delete(`${domid}/${id}`);
    for (const [path, { stamp }] of view.seen!) if ((this.tree.get(path)?.stamp ?? 0) !== stamp) return 'again';
    for (const [path, { node, changed }] of view.seen!) {
      if (changed && node === undefined) this.tree.delete(path);
      else if (changed) this.tree.set(path, this.#node(node!));
    }
    return 'ok';
  }
}

const who = fc.nat(2);
const path = fc
  .array(fc.constantFrom('a', 'b', 'c'), { minLength: 0, maxLength: 3 })
  .map((names) => (names.length === 0 ? '/' : `/${names.join('/')}`));
const access = fc.constantFrom<StoreAccess>('none', 'read', 'write', 'both');
const perms = fc.array(fc.record({ domid: fc.nat(2).map(domId), access }), { minLength: 1, maxLength: 3 });
/** 0: outside a transaction; otherwise the n-th of the domain's, if it is open. */
const inside = fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.integer({ min: 1, max: 2 }));
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant('write' as const), who, path, value: fc.constantFrom('1', '2'), inside }) },
  fc.record({ op: fc.constantFrom('mkdir' as const, 'remove' as const), who, path, inside }),
  { weight: 2, arbitrary: fc.record({ op: fc.constantFrom('read' as const, 'list' as const), who, path, inside }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('perms' as const), who, path, perms, inside }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('begin' as const), who }) },
  fc.record({ op: fc.constantFrom('commit' as const, 'abort' as const), who, inside: fc.integer({ min: 1, max: 2 }) }),
);

function attempt(act: () => unknown, show: (result: never) => string = () => 'ok'): string {
  try {
    return show(act() as never);
  } catch (error) {
    if (error instanceof StoreError) return `${error.refusal.errno}!`;
    throw error;
  }
}

/**
 * Goal: values, rights, errors and conflicts follow the rules, whoever asks. Method: random requests of the privileged domain
 * and two others, in and out of transactions, against the model; after each the trees and what each domain owns are compared.
 */
it(`agrees with a plain tree, whatever three domains do (${RUNS} runs)`, () => {
  let committed = 0;
  let refused = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 100, size: 'max' }), (steps) => {
      const store = createStore({ enqueue: () => undefined });
      const model = new Model();
      const connections = [0, 1, 2].map((domid) => store.connect(domId(domid)));
      connections[0]!.remove('/tool');
      const open = new Map<string, StoreTransaction>();
      for (const s of steps) {
        const own = connections[s.who]!;
        if (s.op === 'begin') {
          const id = [1, 2].find((n) => !open.has(`${s.who}/${n}`));
          if (id === undefined) continue;
          open.set(`${s.who}/${id}`, own.begin());
          model.transactions.set(`${s.who}/${id}`, new View(model.tree, true));
          continue;
        }
        const key = `${s.who}/${s.inside}`;
        const transaction = s.inside === 0 ? undefined : (open.get(key) ?? { id: 999 });
        let ours: string;
        let expected: string;
        switch (s.op) {
          case 'commit':
            ours = attempt(
              () => own.commit(transaction!),
              (done: boolean) => (done ? 'ok' : 'again'),
            );
            expected = model.commit(s.who, s.inside);
            open.delete(key);
            if (ours === 'ok') committed += 1;
            else if (ours === 'again') refused += 1;
            break;
          case 'abort':
            ours = attempt(() => own.abort(transaction!));
            expected = model.transactions.delete(key) ? 'ok' : 'ENOENT!';
            open.delete(key);
            break;
          case 'read':
            ours = attempt(
              () => own.read(s.path, transaction),
              (value: string | undefined) => (value === undefined ? 'nothing' : `=${value}`),
            );
            expected = model.read(s.who, s.path, s.inside);
            break;
          case 'list':
            ours = attempt(
              () => own.list(s.path, transaction),
              (names: string[]) => names.join(','),
            );
            expected = model.list(s.who, s.path, s.inside);
            break;
          case 'write':
            ours = attempt(() => own.write(s.path, s.value, transaction));
            expected = model.write(s.who, s.path, s.value, s.inside);
            break;
          case 'mkdir':
            ours = attempt(() => own.mkdir(s.path, transaction));
            expected = model.write(s.who, s.path, undefined, s.inside);
            break;
          case 'remove':
            ours = attempt(() => own.remove(s.path, transaction));
            expected = model.remove(s.who, s.path, s.inside);
            break;
          case 'perms':
            ours = attempt(() => own.setPermissions(s.path, s.perms, transaction));
            expected = model.setPerms(s.who, s.path, s.perms, s.inside);
            break;
        }
        expect(ours, JSON.stringify(s)).toBe(expected);
        const letters = { none: 'n', read: 'r', write: 'w', both: 'b' } as const;
        const plain = [...model.tree]
          .filter(([name]) => name !== '/')
          .map(([name, node]) => `${name} = "${node.value}"   (${node.perms.map((perm) => letters[perm.access] + perm.domid).join(',')})`);
        expect(store.export({ permissions: true }).split('\n').slice(0, -1).sort()).toEqual(plain.sort());
        const owned = [0, 1, 2].map((domid) => [...model.tree.values()].filter((node) => node.perms[0]!.domid === domid).length);
        expect([0, 1, 2].map((domid) => store.usage(domid as DomId).nodes)).toEqual(owned);
      }
    }),
    { numRuns: RUNS },
  );
  // The steps are such that both come about.
  expect(Math.min(committed, refused)).toBeGreaterThan(RUNS / 10);
}, 600_000);
