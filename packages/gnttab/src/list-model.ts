/** Ends a list of the model. */
const END = 0xffff_ffff;
/** The anchor's values besides a reference's own cell. */
const NO_ANCHOR = -1;
const HEAD_CELL = -2;

/**
 * The allocator as Linux has it: one linked list through a cell per reference, a bitmap of what is free, and a walk over the
 * whole table to find references in a row. Slow and plain on purpose: a model to test against and a baseline to measure against.
 * It checks nothing, and where the original has no defined behaviour `undefinedFor` and `undefinedSeqFor` say so beforehand.
 */
export class ListModel {
  link: Uint32Array;
  bitmap: Uint32Array;
  freeHead: number = END;
  freeCount = 0;
  lastFree: number = END;
  anchor: number = NO_ANCHOR;
  size = 0;
  frames = 0;
  readonly perFrame: number;
  readonly maxFrames: number;
  readonly reserved: number;

  constructor(options: { readonly frames: number; readonly maxFrames: number; readonly perFrame: number; readonly reserved: number }) {
    const { frames, maxFrames, perFrame, reserved } = options;
    this.perFrame = perFrame;
    this.maxFrames = maxFrames;
    this.reserved = reserved;
    this.link = new Uint32Array(maxFrames * perFrame);
    this.bitmap = new Uint32Array(Math.ceil((maxFrames * perFrame) / 32));
    this.size = frames * perFrame;
    this.frames = frames;
    for (let ref = reserved; ref < this.size; ref++) {
      this.link[ref] = ref + 1 < this.size ? ref + 1 : END;
      this.mark(ref);
    }
    this.freeHead = reserved;
    this.freeCount = this.size - reserved;
    this.lastFree = this.size - 1;
    this.anchor = HEAD_CELL;
  }

  /** Whether the reference is free. */
  isFree(ref: number): boolean {
    return (this.bitmap[ref >>> 5]! & (1 << (ref & 31))) !== 0;
  }

  /** Length of the run at the table's end that the original serves consecutive requests from. O(run). */
  get seqAvailable(): number {
    if (this.lastFree === END || this.anchor === NO_ANCHOR) return 0;
    const first = this.anchored();
    return first === END ? 0 : this.lastFree - first + 1;
  }

  /** Whether the original's answer to a request for `count` singles is undefined now. */
  undefinedFor(count: number): boolean {
    return count < 1 || (this.freeCount < count && this.endIsLost());
  }

  /** Whether the original's answer to a request for `count` in a row may be undefined now. */
  undefinedSeqFor(count: number): boolean {
    if (count === 1) return this.undefinedFor(1);
    return count < 1 || count % this.perFrame === 0;
  }

  /** Frees one reference; reserved ones are ignored. */
  put(ref: number): void {
    if (ref < this.reserved) return;
    this.link[ref] = this.freeHead;
    this.freeHead = ref;
    if (this.freeCount === 0) this.lastFree = ref;
    if (this.anchor === HEAD_CELL) this.anchor = ref;
    this.freeCount++;
    this.mark(ref);
  }

  /** Frees references in a row, the last first, so that `first` is the next to be handed out. */
  putSeq(first: number, count: number): void {
    for (let ref = first + count - 1; ref >= first; ref--) this.put(ref);
  }

  /** The head of a list of `count`, or -1. */
  take(count: number): number {
    if (this.freeCount < count && !this.expand(count - this.freeCount)) return -1;
    const head = this.freeHead;
    let ref = head;
    for (let left = count; ; left--) {
      this.unmark(ref);
      if (this.anchor === ref) this.anchor = HEAD_CELL;
      if (left === 1) break;
      ref = this.link[ref]!;
    }
    this.freeHead = this.link[ref]!;
    this.link[ref] = END;
    this.freeCount -= count;
    if (this.freeCount === 0) {
      this.lastFree = END;
      this.anchor = NO_ANCHOR;
    }
    return head;
  }

  /** The first of `count` in a row, or -1. */
  takeSeq(count: number): number {
    if (this.freeCount < count && !this.expand(count - this.freeCount)) return -1;
    if (this.seqAvailable < count) {
      const found = this.rebuild(count);
      if (found >= 0) return found;
      if (!this.expand(count - this.seqAvailable)) return -1;
    }
    const first = this.anchored();
    this.setAnchored(this.link[first + count - 1]!);
    this.freeCount -= count;
    if (this.freeCount === 0) this.anchor = NO_ANCHOR;
    for (let ref = first; ref < first + count; ref++) this.unmark(ref);
    return first;
  }

  /** The free references in the list's order. */
  inOrder(): number[] {
    const all: number[] = [];
    for (let ref = this.freeHead; ref !== END; ref = this.link[ref]!) all.push(ref);
    return all;
  }

  /** Whether `lastFree` does not name the end of the list, so that new frames would be attached in the wrong place. */
  private endIsLost(): boolean {
    return this.freeCount > 0 && (!this.isFree(this.lastFree) || this.link[this.lastFree] !== END);
  }

  private mark(ref: number): void {
    this.bitmap[ref >>> 5]! |= 1 << (ref & 31);
  }

  private unmark(ref: number): void {
    this.bitmap[ref >>> 5]! &= ~(1 << (ref & 31));
  }

  private anchored(): number {
    return this.anchor === HEAD_CELL ? this.freeHead : this.link[this.anchor]!;
  }

  private setAnchored(value: number): void {
    if (this.anchor === HEAD_CELL) this.freeHead = value;
    else this.link[this.anchor] = value;
  }

  private expand(needed: number): boolean {
    const frames = Math.ceil(needed / this.perFrame);
    if (this.frames + frames > this.maxFrames) return false;
    const start = this.size;
    const end = start + frames * this.perFrame;
    for (let ref = start; ref < end; ref++) {
      this.link[ref] = ref + 1 < end ? ref + 1 : END;
      this.mark(ref);
    }
    if (this.freeCount === 0) {
      this.freeHead = start;
      this.anchor = HEAD_CELL;
    } else this.link[this.lastFree] = start;
    this.freeCount += end - start;
    this.lastFree = end - 1;
    if (this.anchor === NO_ANCHOR) this.anchor = start;
    this.frames += frames;
    this.size = end;
    return true;
  }

  private rebuild(count: number): number {
    const { size } = this;
    let found = -1;
    let cell = HEAD_CELL;
    this.anchor = HEAD_CELL;
    const write = (value: number): void => {
      if (cell === HEAD_CELL) this.freeHead = value;
      else this.link[cell] = value;
    };
    for (let ref = 0; ref < size; ) {
      if (!this.isFree(ref)) {
        ref++;
        continue;
      }
      let from = ref;
      let to = ref + 1;
      while (to < size && this.isFree(to)) to++;
      ref = to;
      if (found < 0 && to - from >= count) {
        found = from;
        for (let taken = from; taken < from + count; taken++) this.unmark(taken);
        this.freeCount -= count;
        from += count;
        if (from === to) continue;
      }
      for (let member = from; member < to; member++) {
        write(member);
        cell = member;
      }
      this.lastFree = to - 1;
      if (to < size) this.anchor = to - 1;
    }
    write(END);
    if (this.lastFree !== size - 1) this.anchor = NO_ANCHOR;
    return found;
  }
}
