import type { FreeCallback } from './types.ts';

interface Waiting {
  readonly callback: FreeCallback;
  readonly count: number;
  next: Waiting | undefined;
}

/**
 * The callbacks that wait for free references, in Linux's order: a check takes the whole list off and goes through it from its
 * head; one that has to wait on is put in front of the new list. Those that stay stand in reversed order afterwards.
 */
export class FreeCallbacks {
  private head: Waiting | undefined;
  private readonly waiting: Map<FreeCallback, Waiting> = new Map();
  private readonly fired: Waiting[] = [];
  private readonly onFire: (callback: FreeCallback, count: number) => void;

  constructor(onFire: (callback: FreeCallback, count: number) => void) {
    this.onFire = onFire;
  }

  /** Whether anybody waits. */
  get waits(): boolean {
    return this.head !== undefined;
  }

  /** Puts a callback on the front; false when it already waits. */
  add(callback: FreeCallback, count: number): boolean {
    if (this.waiting.has(callback)) return false;
    const record: Waiting = { callback, count, next: this.head };
    this.head = record;
    this.waiting.set(callback, record);
    return true;
  }

  /** Takes a callback off; the order of the others stays. */
  cancel(callback: FreeCallback): boolean {
    const record = this.waiting.get(callback);
    if (record === undefined) return false;
    this.waiting.delete(callback);
    if (this.head === record) this.head = record.next;
    else for (let at = this.head; at !== undefined; at = at.next) if (at.next === record) at.next = record.next;
    return true;
  }

  /**
   * Decides which callbacks fire at `free` free references, and leaves their calls to `deliver`. The decisions are all made
   * before the first call, as they are under Linux's lock: what a callback takes is not taken from the others' count.
   */
  check(free: number): void {
    let at = this.head;
    if (at === undefined) return;
    this.head = undefined;
    while (at !== undefined) {
      const next: Waiting | undefined = at.next;
      if (at.count <= free) {
        this.waiting.delete(at.callback);
        this.fired.push(at);
      } else {
        at.next = this.head;
        this.head = at;
      }
      at = next;
    }
  }

  /** Calls what fired, in order. A callback may call the table, which may make more fire: they come after. */
  deliver(): void {
    while (this.fired.length > 0) {
      const { callback, count } = this.fired.shift()!;
      this.onFire(callback, count);
      callback.notify();
    }
  }

  inOrder(): FreeCallback[] {
    const all: FreeCallback[] = [];
    for (let at = this.head; at !== undefined; at = at.next) all.push(at.callback);
    return all;
  }

  clear(): void {
    this.head = undefined;
    this.waiting.clear();
    this.fired.length = 0;
  }
}
