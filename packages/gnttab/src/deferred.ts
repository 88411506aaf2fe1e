import type { SchedulerLike, Subscription } from 'rxjs';

/** Time between two passes over the entries that were in use. */
const PASS_MS = 1000;
/** Failed attempts after which an entry is reported, once. */
const WARN_AFTER = 60;

/** What the queue needs of the table. */
export interface DeferredHost {
  /** Closes the entry; false while it is in use. */
  tryClear(gref: number): boolean;
  /** The entry is closed: free its reference and let go of its page (-1: none). */
  freed(gref: number, page: number): void;
  stillPending(gref: number): void;
}

interface Deferred {
  readonly gref: number;
  readonly page: number;
  warn: number;
  next: Deferred | undefined;
}

/**
 * Entries whose end was tried while the peer used them. Once a second the queue is gone through from its front: what has
 * fallen out of use is freed, the others go to the back, and a pass stops at the first entry that failed in it.
 */
export class DeferredEnds {
  size = 0;
  private front: Deferred | undefined;
  private back: Deferred | undefined;
  private timer: Subscription | undefined;
  private readonly host: DeferredHost;
  private readonly scheduler: SchedulerLike;
  private readonly perPass: number;

  constructor(host: DeferredHost, scheduler: SchedulerLike, perPass: number) {
    this.host = host;
    this.scheduler = scheduler;
    this.perPass = perPass;
  }

  add(gref: number, page: number): void {
    this.append({ gref, page, warn: WARN_AFTER, next: undefined });
    this.arm();
  }

  inOrder(): number[] {
    const all: number[] = [];
    for (let at = this.front; at !== undefined; at = at.next) all.push(at.gref);
    return all;
  }

  close(): void {
    this.timer?.unsubscribe();
    this.timer = undefined;
    this.front = undefined;
    this.back = undefined;
    this.size = 0;
  }

  private append(entry: Deferred): void {
    entry.next = undefined;
    if (this.back === undefined) this.front = entry;
    else this.back.next = entry;
    this.back = entry;
    this.size++;
  }

  private arm(): void {
    if (this.timer !== undefined) return;
    this.timer = this.scheduler.schedule(() => {
      this.timer = undefined;
      try {
        this.pass();
      } finally {
        if (this.front !== undefined) this.arm();
      }
    }, PASS_MS);
  }

  private pass(): void {
    let failed: Deferred | undefined;
    for (let round = 0; this.perPass === 0 || round < this.perPass; round++) {
      const entry = this.front;
      if (entry === undefined || entry === failed) return;
      this.front = entry.next;
      if (this.front === undefined) this.back = undefined;
      this.size--;
      if (this.host.tryClear(entry.gref)) {
        this.host.freed(entry.gref, entry.page);
        continue;
      }
      // The counter has 16 bits and goes on below 0, so that the report is not repeated at the next failure.
      entry.warn = (entry.warn - 1) & 0xffff;
      failed ??= entry;
      this.append(entry);
      if (entry.warn === 0) this.host.stillPending(entry.gref);
    }
  }
}
