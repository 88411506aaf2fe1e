/** References in a leaf: 16 words of the bitmap. */
const LEAF_BITS = 9;
const LEAF_REFS = 1 << LEAF_BITS;
const LEAF_WORDS = LEAF_REFS / 32;

/**
 * The set of free references, and where its runs are: a bitmap, and a tree whose nodes know the longest run in their span, and
 * the runs at its two ends. Setting and clearing touch the bitmap only and note the leaf; a search first brings the noted
 * leaves and their ancestors up to date. So what never asks for a run never pays for one.
 */
export class RunTree {
  private bits: Int32Array = new Int32Array(0);
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
      this.bits.byteLength +
      this.stale.byteLength +
      this.staleLeaves.byteLength +
      this.prefix.byteLength +
      this.suffix.byteLength +
      this.best.byteLength
    );
  }

  /** Makes room for references below `refs`; all new ones are absent. Either done whole or throws with nothing changed. */
  reserve(refs: number): void {
    const leaves = (refs + LEAF_REFS - 1) >>> LEAF_BITS;
    if (leaves <= this.leaves) return;
    let width = Math.max(this.width, 1);
    while (width < leaves) width *= 2;
    const bits = new Int32Array(leaves * LEAF_WORDS);
    const stale = new Uint8Array(leaves);
    const staleLeaves = new Uint32Array(leaves);
    const wider = width !== this.width;
    const nodes = wider ? 2 * width : 0;
    const prefix = new Uint32Array(nodes);
    const suffix = new Uint32Array(nodes);
    const best = new Uint32Array(nodes);
    bits.set(this.bits);
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
    this.bits = bits;
    this.stale = stale;
    this.staleLeaves = staleLeaves;
    this.leaves = leaves;
    if (wider) this.combineAll();
  }

  has(ref: number): boolean {
    return (this.bits[ref >>> 5]! & (1 << (ref & 31))) !== 0;
  }

  add(ref: number): void {
    this.bits[ref >>> 5]! |= 1 << (ref & 31);
    const leaf = ref >>> LEAF_BITS;
    if (this.stale[leaf] === 0) this.note(leaf);
  }

  remove(ref: number): void {
    this.bits[ref >>> 5]! &= ~(1 << (ref & 31));
    const leaf = ref >>> LEAF_BITS;
    if (this.stale[leaf] === 0) this.note(leaf);
  }

  /** Adds `from` to `to - 1`. */
  addRange(from: number, to: number): void {
    this.writeRange(from, to, true);
  }

  /** Removes `from` to `to - 1`. */
  removeRange(from: number, to: number): void {
    this.writeRange(from, to, false);
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
    const first = (node - width) * LEAF_WORDS;
    let word = first + LEAF_WORDS - 1;
    while (this.bits[word] === 0) word--;
    return word * 32 + 31 - Math.clz32(this.bits[word]!);
  }

  /** The first of the members in a row that end with the member `last`. */
  startOfRun(last: number): number {
    this.refresh();
    const floor = (last >>> LEAF_BITS) * LEAF_WORDS;
    let word = last >>> 5;
    // Shifting the bits above `last` out leaves the run's end in the top bits.
    const shift = 31 - (last & 31);
    let ones = Math.clz32(~(this.bits[word]! << shift));
    if (ones < 32 - shift) return last - ones + 1;
    let start = word * 32;
    while (--word >= floor) {
      ones = Math.clz32(~this.bits[word]!);
      start -= ones;
      if (ones < 32) return start;
    }
    return start - this.runBefore(start >>> LEAF_BITS);
  }

  /**
   * The lowest member from `from` on, or -1. Leaves that were empty at the last search are passed over, so the caller must not
   * look for members that joined since.
   */
  next(from: number): number {
    let leaf = from >>> LEAF_BITS;
    let word = from >>> 5;
    if (leaf >= this.leaves) return -1;
    let bits = this.bits[word]! & (-1 << (from & 31));
    for (;;) {
      const end = (leaf + 1) * LEAF_WORDS;
      for (;;) {
        if (bits !== 0) return word * 32 + 31 - Math.clz32(bits & -bits);
        if (++word === end) break;
        bits = this.bits[word]!;
      }
      leaf = this.nextLeaf(leaf);
      if (leaf < 0) return -1;
      word = leaf * LEAF_WORDS;
      bits = this.bits[word]!;
    }
  }

  /** Empties the set. */
  clear(): void {
    this.bits.fill(0);
    this.stale.fill(0);
    this.staleCount = 0;
    this.prefix.fill(0);
    this.suffix.fill(0);
    this.best.fill(0);
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

  private note(leaf: number): void {
    this.stale[leaf] = 1;
    this.staleLeaves[this.staleCount++] = leaf;
  }

  private writeRange(from: number, to: number, member: boolean): void {
    if (from >= to) return;
    for (let leaf = from >>> LEAF_BITS; leaf <= (to - 1) >>> LEAF_BITS; leaf++) if (this.stale[leaf] === 0) this.note(leaf);
    const { bits } = this;
    const last = (to - 1) >>> 5;
    const head = -1 << (from & 31);
    const tail = -1 >>> (31 - ((to - 1) & 31));
    for (let word = from >>> 5; word <= last; word++) {
      let mask = -1;
      if (word === from >>> 5) mask &= head;
      if (word === last) mask &= tail;
      if (member) bits[word]! |= mask;
      else bits[word]! &= ~mask;
    }
  }

  /** Reads a leaf's sixteen words into its node. */
  private measure(leaf: number): void {
    const { bits } = this;
    const first = leaf * LEAF_WORDS;
    let prefix = -1;
    let run = 0;
    let best = 0;
    for (let word = first; word < first + LEAF_WORDS; word++) {
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
    const { bits } = this;
    let run = 0;
    for (let ref = base; ; ) {
      const word = bits[ref >>> 5]!;
      if (word === -1) {
        run += 32;
        ref += 32;
        if (run >= count) return ref - run;
        continue;
      }
      // Runs inside one word: skip absent members, then count those present, until the word ends.
      let at = 0;
      while (at < 32) {
        const rest = word >>> at;
        if (rest === 0) {
          run = 0;
          break;
        }
        const gap = 31 - Math.clz32(rest & -rest);
        if (gap > 0) run = 0;
        at += gap;
        const ones = Math.min(31 - Math.clz32(~(word >>> at) & -~(word >>> at)), 32 - at);
        run += ones;
        at += ones;
        if (run >= count) return ref + at - run;
      }
      ref += 32;
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
