/** Nodes of one chunk of 1,024 leaves, eight to a parent: 1,024 leaves, 128, 16 and 2. */
const BASE: readonly number[] = [0, 1024, 1152, 1168];
const COUNT: readonly number[] = [1024, 128, 16, 2];
const CHUNK_NODES = 1170;
const EMPTY: Uint32Array = new Uint32Array(CHUNK_NODES);

/**
 * The largest number of each run of leaves, to find the first leaf that is large enough. A leaf stands for one word of 32 pages.
 * Leaves lie in chunks made when first written. Costs: `update` O(log8 leaves), and O(1) when no maximum changes; `find` O(log8 leaves).
 */
export class GapTree {
  readonly #chunks: Uint32Array[];
  /** `#above[0]` has the maximum of each chunk, `#above[k]` of eight nodes under it. */
  readonly #above: Uint32Array[] = [];

  /** @param leaves their number, at most 2^27. */
  constructor(leaves: number) {
    let count = Math.ceil(leaves / 1024);
    this.#chunks = new Array<Uint32Array>(count).fill(EMPTY);
    this.#above.push(new Uint32Array(count));
    while (count > 1) {
      count = Math.ceil(count / 8);
      this.#above.push(new Uint32Array(count));
    }
  }

  get(leaf: number): number {
    return this.#chunks[leaf >>> 10]![leaf & 1023]!;
  }

  update(leaf: number, value: number): void {
    const which = leaf >>> 10;
    let chunk = this.#chunks[which]!;
    let at = leaf & 1023;
    let old = chunk[at]!;
    if (old === value) return;
    if (chunk === EMPTY) {
      chunk = new Uint32Array(CHUNK_NODES);
      this.#chunks[which] = chunk;
    }
    chunk[at] = value;
    let now = value;
    for (let k = 1; k < 4; k++) {
      const first = BASE[k - 1]! + (at & ~7);
      at >>>= 3;
      const node = BASE[k]! + at;
      const was = chunk[node]!;
      if (now <= was) {
        if (old !== was) return;
        now = maximum(chunk, first, first + 8);
        if (now === was) return;
      }
      old = was;
      chunk[node] = now;
    }
    this.#raise(which, Math.max(chunk[1168]!, chunk[1169]!));
  }

  #raise(which: number, value: number): void {
    let at = which;
    let now = value;
    let old = this.#above[0]![at]!;
    if (old === now) return;
    this.#above[0]![at] = now;
    for (let k = 1; k < this.#above.length; k++) {
      const under = this.#above[k - 1]!;
      const first = at & ~7;
      at >>>= 3;
      const level = this.#above[k]!;
      const was = level[at]!;
      if (now <= was) {
        if (old !== was) return;
        now = maximum(under, first, Math.min(first + 8, under.length));
        if (now === was) return;
      }
      old = was;
      level[at] = now;
    }
  }

  /** The first leaf at or after `from` that is at least `need` (above 0), or -1. */
  find(from: number, need: number): number {
    let which = from >>> 10;
    if (which >= this.#chunks.length) return -1;
    const chunk = this.#chunks[which]!;
    if (this.#above[0]![which]! >= need) {
      let at = from & 1023;
      for (let k = 0; k < 4; k++) {
        const end = Math.min((at | 7) + 1, COUNT[k]!);
        for (; at < end; at++) if (chunk[BASE[k]! + at]! >= need) return which * 1024 + descend(chunk, k, at, need);
        at >>>= 3;
      }
    }
    which++;
    for (let k = 0; k < this.#above.length; k++) {
      const level = this.#above[k]!;
      const end = Math.min((which | 7) + 1, level.length);
      for (; which < end; which++) {
        if (level[which]! < need) continue;
        for (let down = k - 1; down >= 0; down--) {
          which <<= 3;
          while (this.#above[down]![which]! < need) which++;
        }
        const found = this.#chunks[which]!;
        return which * 1024 + descend(found, 3, found[1168]! >= need ? 0 : 1, need);
      }
      if (which >= level.length) return -1;
      which >>>= 3;
    }
    return -1;
  }
}

function maximum(nodes: Uint32Array, from: number, to: number): number {
  let max = 0;
  for (let i = from; i < to; i++) if (nodes[i]! > max) max = nodes[i]!;
  return max;
}

/** The first leaf under node `at` of level `k` that is at least `need`; the node is. */
function descend(chunk: Uint32Array, k: number, at: number, need: number): number {
  let node = at;
  for (let level = k - 1; level >= 0; level--) {
    node <<= 3;
    while (chunk[BASE[level]! + node]! < need) node++;
  }
  return node;
}
