/**
 * Timers by due time, first set first fired among equals: a binary heap of slot numbers over typed arrays. Set, cancel and
 * take cost O(log n) and allocate nothing once the arrays have grown.
 */
export class TimerHeap {
  private due: Float64Array = new Float64Array(64);
  private order: Float64Array = new Float64Array(64);
  /** Where a slot stands in the heap, or -1. */
  private place: Int32Array = new Int32Array(64).fill(-1);
  private heap: Int32Array = new Int32Array(64);
  private free: Int32Array = new Int32Array(64);
  private freeCount = 0;
  private slots = 0;
  private sequence = 0;
  size = 0;

  /** Sets a timer. @returns its slot, the caller's until it is taken or cancelled. */
  set(due: number): number {
    const slot = this.freeCount > 0 ? this.free[--this.freeCount]! : this.newSlot();
    this.due[slot] = due;
    this.order[slot] = this.sequence++;
    this.rise(this.size++, slot);
    return slot;
  }

  /** Takes a timer out. @returns false when it is not set. */
  cancel(slot: number): boolean {
    const at = this.place[slot]!;
    if (at < 0) return false;
    this.remove(at);
    return true;
  }

  /** When the next one is due; Infinity when there is none. */
  nextDue(): number {
    return this.size === 0 ? Number.POSITIVE_INFINITY : this.due[this.heap[0]!]!;
  }

  /** Takes the next one out. @returns its slot, or -1. */
  take(): number {
    if (this.size === 0) return -1;
    const slot = this.heap[0]!;
    this.remove(0);
    return slot;
  }

  dueOf(slot: number): number {
    return this.due[slot]!;
  }

  private newSlot(): number {
    const slot = this.slots++;
    if (slot === this.due.length) {
      const size = slot * 2;
      this.due = grown(this.due, new Float64Array(size));
      this.order = grown(this.order, new Float64Array(size));
      this.place = grown(this.place, new Int32Array(size).fill(-1));
      this.heap = grown(this.heap, new Int32Array(size));
      this.free = grown(this.free, new Int32Array(size));
    }
    return slot;
  }

  private remove(at: number): void {
    const heap = this.heap;
    const gone = heap[at]!;
    this.place[gone] = -1;
    this.free[this.freeCount++] = gone;
    const last = heap[--this.size]!;
    if (at === this.size) return;
    if (at > 0 && this.before(last, heap[(at - 1) >> 1]!)) this.rise(at, last);
    else this.sink(at, last);
  }

  private before(a: number, b: number): boolean {
    const da = this.due[a]!;
    const db = this.due[b]!;
    return da < db || (da === db && this.order[a]! < this.order[b]!);
  }

  private rise(from: number, slot: number): void {
    const heap = this.heap;
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent]!;
      if (!this.before(slot, above)) break;
      heap[at] = above;
      this.place[above] = at;
      at = parent;
    }
    heap[at] = slot;
    this.place[slot] = at;
  }

  private sink(from: number, slot: number): void {
    const heap = this.heap;
    const size = this.size;
    let at = from;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= size) break;
      if (child + 1 < size && this.before(heap[child + 1]!, heap[child]!)) child++;
      const below = heap[child]!;
      if (!this.before(below, slot)) break;
      heap[at] = below;
      this.place[below] = at;
      at = child;
    }
    heap[at] = slot;
    this.place[slot] = at;
  }
}

function grown<T extends { set(from: T): void }>(from: T, into: T): T {
  into.set(from);
  return into;
}
