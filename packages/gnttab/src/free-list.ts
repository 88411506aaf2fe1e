import { InvariantError } from '@paravirt/event-bus/contract';
import { LEAF_BITS, RunTree } from './run-tree.ts';

/** Ends every list in here: a small negative number, so that links, heads and counts all stay machine integers. */
export const END = -1;

/** Where a reference is; one byte each. Small numbers, of which only `free` is 0: the tree of runs reads them four at a time. */
export const STATE = { free: 0, listed: 1, claimed: 2, granted: 3, busy: 4, deferred: 5, leaked: 6, reserved: 7, absent: 8 } as const;

/** What the free list needs of the table around it. */
export interface FreeListHost {
  /** Provides the memory for a table of `frames` frames. */
  addFrames(frames: number): boolean;
  /** The table has grown; the references that made it necessary are not yet taken out. */
  grown(): void;
  /** The list was put in order for `count` in a row; `first` is -1 when there was no place. */
  rebuilt(count: number, first: number): void;
}

/** Names a run by its first reference, and gives the first reference of a run's name: a number below `END`. */
function runAt(value: number): number {
  return -2 - value;
}

export interface FreeListShape {
  readonly entriesPerFrame: number;
  readonly frames: number;
  readonly maxFrames: number;
  readonly reserved: number;
}

/*
 * The tail run: the members in a row at the end of the list and of the table that consecutive requests are cut from. Without
 * one (`none`, `empty`, `usedUp`) nothing can be cut, and the three differ in what the next growth does. Behind `none` the
 * first new reference stays out of the run, behind the others it does not. `usedUp` is a run that a request took to its last
 * member while others are free: Linux then loses sight of where the list ends, and a request in a row has to search even
 * when it has just grown the table by enough.
 */
const ANCHOR = { none: 0, empty: 1, usedUp: 2, run: 3 } as const;

/**
 * The free references, in the order in which Linux hands them out.
 *
 * Linux keeps a linked list and rebuilds it in ascending order to find references in a row. So the list is at any time a stack
 * of what was freed since the last rebuild, followed by the other free references in ascending order: the stack is linked
 * through `link`, the rest needs no links at all, a rebuild drops the stack, and what it looks for is a question to the tree
 * of runs. While the stack is empty every free reference belongs to the rest, so the set of free references serves for both.
 *
 * What was freed in a row is one element of the stack, however long. A single is named by its reference, a run by `runAt` of its
 * first; `link` of the first reference names the element below, and that of a run's second holds the length.
 */
export class FreeList {
  /** Next reference of the list a reference is in. Of a granted one: the peer's domid, since no list holds it. */
  link: Int32Array = new Int32Array(0);
  /** `STATE` of each reference. */
  state: Uint8Array = new Uint8Array(0);
  size = 0;
  frames = 0;
  freeCount = 0;
  private readonly host: FreeListHost;
  private readonly tree: RunTree = new RunTree();
  private entriesPerFrame = 0;
  private maxFrames = 0;
  private top: number = END;
  /** Where Linux would attach new frames; decides what a rebuild and a growth make of the tail run. */
  private lastFree: number = END;
  private anchor: number = ANCHOR.none;
  private tailStart = 0;
  /** The leaf that was noted last, until the tree reads it again: most changes follow one in the same leaf. */
  private noted = -1;
  /** No member of the rest is below. */
  private restFrom = 0;

  constructor(host: FreeListHost) {
    this.host = host;
  }

  /** A fresh table: everything free but the reserved references, in ascending order, all of it tail run. */
  reset(shape: FreeListShape): void {
    const size = shape.entriesPerFrame * shape.frames;
    this.reserveMemory(size, shape.entriesPerFrame * shape.maxFrames);
    this.state.fill(STATE.absent);
    this.state.fill(STATE.reserved, 0, shape.reserved);
    this.state.fill(STATE.free, shape.reserved, size);
    this.tree.reset();
    this.noted = -1;
    this.entriesPerFrame = shape.entriesPerFrame;
    this.frames = shape.frames;
    this.maxFrames = shape.maxFrames;
    this.size = size;
    this.freeCount = size - shape.reserved;
    this.top = END;
    this.lastFree = size - 1;
    this.anchor = ANCHOR.run;
    this.tailStart = shape.reserved;
    this.restFrom = 0;
  }

  get limit(): number {
    return this.maxFrames;
  }

  /** Bytes held, the entries themselves not counted. */
  get bytes(): number {
    return this.link.byteLength + this.tree.bytes;
  }

  get seqAvailable(): number {
    return this.anchor === ANCHOR.run ? this.lastFree - this.tailStart + 1 : 0;
  }

  longestRun(): number {
    this.noted = -1;
    return this.tree.longest();
  }

  /** The first of `from` to `to - 1` that is not claimed, or -1. */
  firstUnclaimed(from: number, to: number): number {
    const { state } = this;
    const { quads } = this.tree;
    let ref = from;
    for (; ref < to && (ref & 3) !== 0; ref++) if (state[ref] !== STATE.claimed) return ref;
    while (ref + 4 <= to && quads[ref >> 2] === STATE.claimed * 0x0101_0101) ref += 4;
    for (; ref < to; ref++) if (state[ref] !== STATE.claimed) return ref;
    return -1;
  }

  /** Frees one reference, which must be out and not below the reserved ones. */
  put(ref: number): void {
    this.link[ref] = this.top;
    this.top = ref;
    this.state[ref] = STATE.free;
    if (ref >>> LEAF_BITS !== this.noted) this.note(ref);
    if (this.freeCount++ === 0) this.lastFree = ref;
  }

  /** Frees one reference if it is claimed. */
  putClaimed(ref: number): boolean {
    const { state } = this;
    if (state[ref] !== STATE.claimed) return false;
    state[ref] = STATE.free;
    this.link[ref] = this.top;
    this.top = ref;
    if (ref >>> LEAF_BITS !== this.noted) this.note(ref);
    if (this.freeCount++ === 0) this.lastFree = ref;
    return true;
  }

  /** Frees `first` to `first + count - 1`, the highest first. */
  putSeq(first: number, count: number): void {
    const end = first + count;
    if (this.freeCount === 0) this.lastFree = end - 1;
    this.link[first] = this.top;
    if (count > 1) this.link[first + 1] = count;
    this.top = count > 1 ? runAt(first) : first;
    this.fill(first, end, STATE.free);
    this.tree.noteRange(first, end);
    this.freeCount += count;
  }

  /** Takes the head of the list; -1 when there is none and the table cannot grow. */
  take(): number {
    const ref = this.top;
    // As a driver meets it, a single is on top.
    if (ref < 0) return this.takeOther();
    this.top = this.link[ref]!;
    this.state[ref] = STATE.claimed;
    if (ref >>> LEAF_BITS !== this.noted) this.note(ref);
    if (--this.freeCount === 0) this.becomeEmpty();
    return ref;
  }

  /** Takes `count` as a list, linked in the order of the free list; gives its head, or -1. */
  takeList(count: number): number {
    if (this.freeCount < count && !this.expand(count - this.freeCount)) return -1;
    const { link, state } = this;
    let head = END;
    let last = END;
    for (let i = 0; i < count; i++) {
      let ref = this.top;
      if (ref >= 0) this.top = link[ref]!;
      else ref = ref === END ? this.nextOfRest() : this.popOfRun();
      if (last === END) head = ref;
      else link[last] = ref;
      last = ref;
      state[ref] = STATE.listed;
      if (ref >>> LEAF_BITS !== this.noted) this.note(ref);
    }
    link[last] = END;
    this.freeCount -= count;
    if (this.freeCount === 0) this.becomeEmpty();
    return head;
  }

  /** Takes `count` (2 or more) in a row; gives the first, or -1, with the list perhaps in order and frames perhaps grown. */
  takeSeq(count: number): number {
    const search = this.anchor === ANCHOR.usedUp;
    if (this.freeCount < count && !this.expand(count - this.freeCount)) return -1;
    if (search || this.seqAvailable < count) {
      const found = this.rebuild(count);
      if (found >= 0) return found;
      if (!this.expand(count - this.seqAvailable)) return -1;
    }
    // Growing by whole frames where there was no tail run leaves it one too short for all of them (see `expand`). The first
    // new reference is free and in front of it, so the request is served from there.
    const first = this.seqAvailable < count ? this.tailStart - 1 : this.tailStart;
    this.tailStart = first + count;
    this.freeCount -= count;
    if (this.freeCount === 0) this.anchor = ANCHOR.none;
    else if (this.tailStart > this.lastFree) this.anchor = ANCHOR.usedUp;
    this.fill(first, first + count, STATE.claimed);
    this.tree.noteRange(first, first + count);
    return first;
  }

  /** The free references in the list's order. */
  *inOrder(): IterableIterator<number> {
    const stacked = new Set<number>();
    for (let element = this.top; element !== END; element = this.link[element < 0 ? runAt(element) : element]!) {
      const first = element < 0 ? runAt(element) : element;
      const count = element < 0 ? this.link[first + 1]! : 1;
      for (let ref = first; ref < first + count; ref++) {
        stacked.add(ref);
        yield ref;
      }
    }
    for (let ref = 0; ref < this.size; ref++) if (this.state[ref] === STATE.free && !stacked.has(ref)) yield ref;
  }

  /** The lowest of the rest. Called with an empty stack only, while something is free. */
  private nextOfRest(): number {
    const ref = this.tree.next(this.restFrom);
    if (ref < 0) this.lost();
    this.restFrom = ref + 1;
    if (ref === this.tailStart && this.anchor === ANCHOR.run) this.tailStart++;
    return ref;
  }

  private takeOther(): number {
    if (this.freeCount === 0 && !this.expand(1)) return -1;
    const ref = this.top === END ? this.nextOfRest() : this.popOfRun();
    this.state[ref] = STATE.claimed;
    if (ref >>> LEAF_BITS !== this.noted) this.note(ref);
    if (--this.freeCount === 0) this.becomeEmpty();
    return ref;
  }

  /** Takes the first of the run on top of the stack; the others stay there. */
  private popOfRun(): number {
    const { link } = this;
    const ref = runAt(this.top);
    const below = link[ref]!;
    const count = link[ref + 1]!;
    link[ref + 1] = below;
    if (count > 2) link[ref + 2] = count - 1;
    this.top = count > 2 ? runAt(ref + 1) : ref + 1;
    return ref;
  }

  /** Sets the state of `from` to `to - 1`, four at a time: runs are short as a rule, and a call of the built-in `fill` is not. */
  private fill(from: number, to: number, value: number): void {
    const { state } = this;
    const { quads } = this.tree;
    const four = value * 0x0101_0101;
    let ref = from;
    while (ref < to && (ref & 3) !== 0) state[ref++] = value;
    for (; ref + 4 <= to; ref += 4) quads[ref >> 2] = four;
    while (ref < to) state[ref++] = value;
  }

  /** Apart from its one caller, because a closure over that one's variables would cost it an allocation at every call. */
  private lost(): never {
    throw new InvariantError(`${this.freeCount} references are free, but none from ${this.restFrom} on`);
  }

  private note(ref: number): void {
    this.noted = ref >>> LEAF_BITS;
    this.tree.note(this.noted);
  }

  private becomeEmpty(): void {
    this.lastFree = END;
    this.anchor = ANCHOR.none;
    this.restFrom = 0;
  }

  private rebuild(count: number): number {
    const { tree } = this;
    this.top = END;
    this.restFrom = 0;
    this.noted = -1;
    const found = tree.firstFit(count);
    if (found >= 0) {
      this.fill(found, found + count, STATE.claimed);
      tree.noteRange(found, found + count);
      this.freeCount -= count;
    }
    // Where nothing is left, `lastFree` keeps its old value, and with it the decision about the anchor.
    const left = this.freeCount > 0;
    if (left) this.lastFree = tree.highest();
    if (this.lastFree !== this.size - 1) this.anchor = ANCHOR.none;
    else if (left) {
      this.anchor = ANCHOR.run;
      this.tailStart = tree.startOfRun(this.lastFree);
    } else this.anchor = ANCHOR.empty;
    tree.refresh();
    this.host.rebuilt(count, found);
    return found;
  }

  private expand(needed: number): boolean {
    const frames = this.frames + Math.ceil(needed / this.entriesPerFrame);
    if (frames > this.maxFrames) return false;
    const start = this.size;
    const size = frames * this.entriesPerFrame;
    try {
      this.reserveMemory(size, this.maxFrames * this.entriesPerFrame);
    } catch (error) {
      if (error instanceof RangeError) return false;
      throw error;
    }
    if (!this.host.addFrames(frames)) return false;
    this.state.fill(STATE.free, start, size);
    this.tree.noteRange(start, size);
    this.tree.refresh();
    this.noted = -1;
    const behind = this.seqAvailable;
    if (this.freeCount > 0 && this.anchor === ANCHOR.none) this.tailStart = start + 1;
    else if (behind === 0) this.tailStart = start;
    this.anchor = ANCHOR.run;
    this.freeCount += size - start;
    this.lastFree = size - 1;
    this.frames = frames;
    this.size = size;
    this.host.grown();
    return true;
  }

  /** Grows the arrays by an eighth or more, so that growing frame by frame copies each byte a bounded number of times. */
  private reserveMemory(size: number, most: number): void {
    if (size <= this.link.length) return;
    const capacity = Math.max(size, Math.min(most, Math.ceil(this.link.length * 1.125)));
    const link = new Int32Array(capacity);
    link.set(this.link);
    this.tree.reserve(capacity, STATE.absent);
    this.link = link;
    this.state = this.tree.state;
  }
}
