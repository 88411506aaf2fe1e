import { copyNode, type StoreNode } from './node.ts';

/** Nodes as one request sees them: the live tree, or a transaction's view of it. */
export interface Space {
  /** 0 for the live tree. */
  readonly id: number;
  get(path: string): StoreNode | undefined;
  /** The node at `path`, which is there, for changing: a copy where someone else may still look at it. */
  edit(path: string, node: StoreNode): StoreNode;
  put(path: string, node: StoreNode): void;
  delete(path: string): void;
}

/** The tree: a flat map of absolute paths, so that a read costs one lookup. */
export class LiveSpace implements Space {
  readonly id = 0;
  readonly nodes: Map<string, StoreNode> = new Map();
  generation = 0;

  get(path: string): StoreNode | undefined {
    return this.nodes.get(path);
  }

  edit(path: string, node: StoreNode): StoreNode {
    let own = node;
    if (node.frozen) {
      own = copyNode(node);
      this.nodes.set(path, own);
    }
    own.generation = ++this.generation;
    return own;
  }

  put(path: string, node: StoreNode): void {
    node.generation = ++this.generation;
    this.nodes.set(path, node);
  }

  delete(path: string): void {
    this.nodes.delete(path);
  }
}

/** What a transaction knows of one path. */
export interface Touched {
  /** As it was at the first look; undefined: there was none. */
  readonly seen: StoreNode | undefined;
  now: StoreNode | undefined;
  modified: boolean;
  /** A change here tells watches at commit: all at or above, or only those at the very path. */
  fires: false | 'all' | 'exact';
}

/**
 * A transaction: what it touched, in the order of touching. It sees the tree as it was when it looked, and commits only when all
 * it looked at is still the same. A node that changed since is another object, because seen ones are frozen.
 */
export class TransactionSpace implements Space {
  readonly id: number;
  readonly touched: Map<string, Touched> = new Map();
  /** Nodes gained and lost by owner, to be booked at commit. */
  readonly owned: Map<number, number> = new Map();
  readonly #live: LiveSpace;

  constructor(id: number, live: LiveSpace) {
    this.id = id;
    this.#live = live;
  }

  get(path: string): StoreNode | undefined {
    return this.touch(path).now;
  }

  edit(path: string, node: StoreNode): StoreNode {
    const touched = this.touch(path);
    const own = node === touched.seen ? copyNode(node) : node;
    touched.now = own;
    touched.modified = true;
    return own;
  }

  put(path: string, node: StoreNode): void {
    const touched = this.touch(path);
    touched.now = node;
    touched.modified = true;
  }

  delete(path: string): void {
    const touched = this.touch(path);
    touched.now = undefined;
    touched.modified = true;
  }

  touch(path: string): Touched {
    let touched = this.touched.get(path);
    if (touched === undefined) {
      const seen = this.#live.get(path);
      if (seen !== undefined) seen.frozen = true;
      touched = { seen, now: seen, modified: false, fires: false };
      this.touched.set(path, touched);
    }
    return touched;
  }

  get conflicting(): boolean {
    for (const [path, { seen }] of this.touched) if (this.#live.get(path) !== seen) return true;
    return false;
  }

  /** Makes its changes the tree's. */
  apply(): void {
    for (const [path, { seen, now, modified }] of this.touched) {
      if (!modified) continue;
      if (now !== undefined) this.#live.put(path, now);
      else if (seen !== undefined) this.#live.delete(path);
    }
  }
}
