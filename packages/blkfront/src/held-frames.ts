/** A peer that holds on to one connection after the other would have all of the guest's memory in time. */
const CONNECTIONS_MAX = 4;

/**
 * Frames that a peer can still reach although nothing of the driver uses them any more, with the number of references that it holds
 * up: set aside by a pool, or waiting for their end. Kept for the device's life, because a peer may hold on for longer than its
 * connection lasts.
 */
export class HeldFrames {
  private readonly counts: Map<number, number> = new Map();
  private readonly waiting: Map<number, () => void> = new Map();
  /** Former connections of which the peer holds a page. */
  private connections = 0;

  /** Whether a reference to the frame is held up. */
  has(gfn: number): boolean {
    return this.counts.has(gfn);
  }

  /** One more reference to the frame is held up. */
  hold(gfn: number): void {
    this.counts.set(gfn, (this.counts.get(gfn) ?? 0) + 1);
  }

  /** One of them has ended. */
  letGo(gfn: number): void {
    const left = this.counts.get(gfn)! - 1;
    if (left > 0) {
      this.counts.set(gfn, left);
      return;
    }
    this.counts.delete(gfn);
    const then = this.waiting.get(gfn);
    this.waiting.delete(gfn);
    then?.();
  }

  /** Calls `then` as soon as no reference to the frame is held up, which may be now. One may wait for a frame. */
  whenFree(gfn: number, then: () => void): void {
    if (this.counts.has(gfn)) this.waiting.set(gfn, then);
    else then();
  }

  /** Why there may be no other connection; undefined where there may. */
  get refusal(): string | undefined {
    const { connections } = this;
    return connections > CONNECTIONS_MAX ? `the backend keeps pages of ${connections} former connections mapped` : undefined;
  }

  /** A connection ends that may leave `pages` behind. @returns to be called for each page that is the guest's own again. */
  leave(pages: number): () => void {
    let left = pages;
    if (left > 0) this.connections++;
    return () => {
      if (--left === 0) this.connections--;
    };
  }
}
