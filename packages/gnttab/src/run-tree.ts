/** References in a leaf. */
export const LEAF_BITS = 9;
const LEAF_REFS = 1 << LEAF_BITS;
/** Words of 32 bits in a leaf's bitmap. */
const LEAF_WORDS = LEAF_REFS / 32;

/**
 * Where the runs of free references are: a tree whose nodes know the longest run in their span, and the runs at its two ends.
 * A reference is free while its byte in `state` is 0. Whoever changes bytes notes the leaf with `note`; a search first reads
 * the noted leaves again, each by way of a bitmap, and their ancestors. So what never asks for a run never pays for one.
 */
export class RunTree {
  /** One byte a reference; what is beyond the table must not be 0. Renewed by `reserve`. */
  state: Uint8Array = new Uint8Array(0);
  /** The same bytes, four at a time. */
  quads: Int32Array = new Int32Array(0);
  /** The bitmap of the leaf that was read last. */
  private readonly bits: Int32Array = new Int32Array(LEAF_WORDS);
  private stale: Uint8Array = new Uint8Array(0);
  private staleLeaves: Uint32Array = new Uint32Array(0);
  private staleCount = 0;
  private leaves = 0;
  /** Leaves of the complete tree, a power of two; node `leaves + i` is leaf `i`, node 1 the root. */
  private width = 0;
  private prefix: Uint32Array = new Uint32Array(0);
  private suffix: Uint32Array = new Uint32Array(0);
  private best: Uint32Array = new Uint32Array(0);

  /** Bytes held. */
  get bytes(): number {
    return (
      this.state.byteLength +
      this.stale.byteLength +
      this.staleLeaves.byteLength +
      this.prefix.byteLength +
      this.suffix.byteLength +
      this.best.byteLength
    );
  }

  /** Makes room for references below `refs`, whose bytes become `fill`. Either done whole or throws with nothing changed. */
  reserve(refs: number, fill: number): void {
    const leaves = (refs + LEAF_REFS - 1) >>> LEAF_BITS;
    if (leaves <= this.leaves) return;
    let width = Math.max(this.width, 1);
    while (width < leaves) width *= 2;
    const state = new Uint8Array(leaves * LEAF_REFS).fill(fill, this.state.length);
    const stale = new Uint8Array(leaves);
    const staleLeaves = new Uint32Array(leaves);
    const wider = width !== this.width;
    const nodes = wider ? 2 * width : 0;
    const prefix = new Uint32Array(nodes);
    const suffix = new Uint32Array(nodes);
    const best = new Uint32Array(nodes);
    state.set(this.state);
    stale.set(this.stale);
    staleLeaves.set(this.staleLeaves.subarray(0, this.staleCount));
    if (wider) {
      prefix.set(this.prefix.subarray(this.width), width);
      suffix.set(this.suffix.subarray(this.width), width);
      best.set(this.best.subarray(this.width), width);
      this.prefix = prefix;
      this.suffix = suffix;
      this.best = best;
      this.width = width;
    }
    this.state = state;
    this.quads = new Int32Array(state.buffer);
    this.stale = stale;
    this.staleLeaves = staleLeaves;
    this.leaves = leaves;
    if (wider) this.combineAll();
  }

  /** Notes that bytes of `from` to `to - 1` have changed. */
  noteRange(from: number, to: number): void {
    for (let leaf = from >>> LEAF_BITS; leaf <= (to - 1) >>> LEAF_BITS; leaf++) this.note(leaf);
  }

  /** The lowest start of `count` members in a row, or -1. */
  firstFit(count: number): number {
    this.refresh();
    const { prefix, suffix, best, width } = this;
    if (best[1]! < count) return -1;
    let node = 1;
    let base = 0;
    let half = (width * LEAF_REFS) / 2;
    while (node < width) {
      node *= 2;
      if (best[node]! < count) {
        if (suffix[node]! + prefix[node + 1]! >= count) return base + half - suffix[node]!;
        node++;
        base += half;
      }
      half /= 2;
    }
    return this.firstFitInLeaf(base, count);
  }

  /** Length of the longest run. */
  longest(): number {
    this.refresh();
    return this.best[1]!;
  }

  /** The highest member, or -1. */
  highest(): number {
    this.refresh();
    const { best, width } = this;
    if (best[1] === 0) return -1;
    let node = 1;
    while (node < width) {
      node = 2 * node + 1;
      if (best[node] === 0) node--;
    }
    let ref = (node - width + 1) * LEAF_REFS - 1;
    while (this.state[ref] !== 0) ref--;
    return ref;
  }

  /** The first of the members in a row that end with the member `last`. */
  startOfRun(last: number): number {
    this.refresh();
    const { state } = this;
    const floor = last & -LEAF_REFS;
    let start = last;
    while (start > floor && state[start - 1] === 0) start--;
    return start > floor ? start : start - this.runBefore(start >>> LEAF_BITS);
  }

  /**
   * The lowest member from `from` on, or -1. Leaves that were empty at the last search are passed over, so the caller must not
   * look for members that joined since.
   */
  next(from: number): number {
    const { state } = this;
    let leaf = from >>> LEAF_BITS;
    let ref = from;
    while (leaf >= 0 && leaf < this.leaves) {
      for (const end = (leaf + 1) * LEAF_REFS; ref < end; ref++) if (state[ref] === 0) return ref;
      leaf = this.nextLeaf(leaf);
      ref = leaf * LEAF_REFS;
    }
    return -1;
  }

  /** Reads the whole table again. */
  reset(): void {
    this.stale.fill(0);
    this.staleCount = 0;
    for (let leaf = 0; leaf < this.leaves; leaf++) this.measure(leaf);
    this.combineAll();
  }

  /** Brings every noted leaf and its ancestors up to date. */
  refresh(): void {
    const count = this.staleCount;
    if (count === 0) return;
    this.staleCount = 0;
    const { stale, staleLeaves, width } = this;
    const all = count * 8 > width;
    for (let i = 0; i < count; i++) {
      const leaf = staleLeaves[i]!;
      stale[leaf] = 0;
      this.measure(leaf);
      if (!all) this.combineAbove(width + leaf);
    }
    if (all) this.combineAll();
  }

  /** Notes that bytes of a leaf have changed. */
  note(leaf: number): void {
    if (this.stale[leaf] !== 0) return;
    this.stale[leaf] = 1;
    this.staleLeaves[this.staleCount++] = leaf;
  }

  /** Reads a leaf's bytes into the bitmap. */
  private read(leaf: number): void {
    const { bits, quads } = this;
    let quad = leaf * (LEAF_REFS / 4);
    for (let word = 0; word < LEAF_WORDS; word++) {
      let value = 0;
      for (let shift = 0; shift < 32; shift += 4) {
        // Bytes are far below 128, so the addition carries into the top bit of each byte that is not 0 and no further; the
        // product then moves the four bits side by side to the top.
        const used = ((quads[quad++]! + 0x7f7f_7f7f) >>> 7) & 0x0101_0101;
        value |= ((Math.imul(used, 0x1020_4080) >>> 28) ^ 15) << shift;
      }
      bits[word] = value;
    }
  }

  /** Reads a leaf into its node. */
  private measure(leaf: number): void {
    this.read(leaf);
    const { bits } = this;
    let prefix = -1;
    let run = 0;
    let best = 0;
    for (let word = 0; word < LEAF_WORDS; word++) {
      let value = bits[word]!;
      if (value === -1) {
        run += 32;
        continue;
      }
      const low = 31 - Math.clz32(~value & (value + 1));
      run += low;
      if (prefix < 0) prefix = run;
      if (run > best) best = run;
      run = Math.clz32(~value);
      // Each turn shortens every run by one member, so the turns count the longest.
      for (let length = 1; value !== 0; length++) {
        if (length > best) best = length;
        value &= value << 1;
      }
    }
    if (run > best) best = run;
    const node = this.width + leaf;
    this.prefix[node] = prefix < 0 ? LEAF_REFS : prefix;
    this.suffix[node] = run;
    this.best[node] = best;
  }

  private combineAbove(leafNode: number): void {
    const { prefix, suffix, best } = this;
    let half = LEAF_REFS;
    for (let node = leafNode >>> 1; node >= 1; node >>>= 1) {
      const left = 2 * node;
      const leftPrefix = prefix[left]!;
      const rightSuffix = suffix[left + 1]!;
      const across = suffix[left]! + prefix[left + 1]!;
      const p = leftPrefix === half ? half + prefix[left + 1]! : leftPrefix;
      const s = rightSuffix === half ? half + suffix[left]! : rightSuffix;
      const b = Math.max(best[left]!, best[left + 1]!, across);
      if (prefix[node] === p && suffix[node] === s && best[node] === b) return;
      prefix[node] = p;
      suffix[node] = s;
      best[node] = b;
      half *= 2;
    }
  }

  private combineAll(): void {
    const { prefix, suffix, best } = this;
    let half = LEAF_REFS;
    for (let from = this.width >>> 1; from >= 1; from >>>= 1) {
      for (let node = from; node < 2 * from; node++) {
        const left = 2 * node;
        const across = suffix[left]! + prefix[left + 1]!;
        prefix[node] = prefix[left] === half ? half + prefix[left + 1]! : prefix[left]!;
        suffix[node] = suffix[left + 1] === half ? half + suffix[left]! : suffix[left + 1]!;
        best[node] = Math.max(best[left]!, best[left + 1]!, across);
      }
      half *= 2;
    }
  }

  private firstFitInLeaf(base: number, count: number): number {
    const { state } = this;
    for (let ref = base, run = 0; ; ref++) {
      run = state[ref] === 0 ? run + 1 : 0;
      if (run === count) return ref - count + 1;
    }
  }

  /** Length of the run that ends right before `leaf`. */
  private runBefore(leaf: number): number {
    if (leaf === 0) return 0;
    const { suffix, width } = this;
    let node = width + leaf - 1;
    let span = LEAF_REFS;
    let run = suffix[node]!;
    if (run < span) return run;
    while (node > 1) {
      if ((node & 1) === 1) {
        const before = suffix[node - 1]!;
        run += before;
        if (before < span) return run;
      }
      node >>>= 1;
      span *= 2;
    }
    return run;
  }

  /** The next leaf after `leaf` that had a member at the last search, or -1. */
  private nextLeaf(leaf: number): number {
    const { best, width } = this;
    let node = width + leaf;
    while (node > 1) {
      if ((node & 1) === 0 && best[node + 1]! > 0) {
        node++;
        while (node < width) {
          node *= 2;
          if (best[node] === 0) node++;
        }
        return node - width;
      }
      node >>>= 1;
    }
    return -1;
  }
}
