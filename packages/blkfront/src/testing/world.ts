import type { EventPorts } from '@paravirt/event-bus';
import type { Gfn, Port } from '@paravirt/event-bus/contract';
import type { MemoryFrame, MemoryViews } from '@paravirt/gnttab';
import type { BlkfrontSurroundings, GuestPages } from '../types.ts';
import { FakeGrants } from './fake-grants.ts';
import { FakeStore } from './fake-store.ts';
import { FakeTime } from './fake-time.ts';

interface End {
  peer: End | null;
  pending: boolean;
  masked: boolean;
  queued: boolean;
  open: boolean;
  handler: (() => void) | null;
}

const newEnd = (): End => ({ peer: null, pending: false, masked: false, queued: false, open: true, handler: null });

/** Event channels between a guest and one peer. A bell rings handlers from the run queue, and merges until it is answered. */
export class FakeEvents {
  readonly guest: EventPorts;
  readonly ends: End[] = [];
  private readonly enqueue: (item: () => void) => void;
  sent = 0;
  delivered = 0;

  constructor(enqueue: (item: () => void) => void) {
    this.enqueue = enqueue;
    const at = (port: Port): End => {
      const end = this.ends[port - 1];
      if (end === undefined || !end.open) throw new Error(`EINVAL: port ${port}`);
      return end;
    };
    this.guest = {
      allocUnbound: () => this.ends.push(newEnd()) as Port,
      bindInterdomain: () => {
        throw new Error('ENOSYS');
      },
      send: (port) => {
        this.sent++;
        this.ring(at(port).peer);
      },
      onUpcall: (port, handler) => {
        at(port).handler = handler;
        this.kick(at(port));
        return {
          unsubscribe: () => {
            const end = this.ends[port - 1]!;
            if (end.handler === handler) end.handler = null;
          },
        };
      },
      mask: (port) => {
        at(port).masked = true;
      },
      unmask: (port) => {
        at(port).masked = false;
        this.kick(at(port));
      },
      isPending: (port) => at(port).pending,
      clearPending: (port) => {
        at(port).pending = false;
      },
      close: (port) => {
        const end = at(port);
        end.open = false;
        end.handler = null;
        if (end.peer !== null) end.peer.peer = null;
      },
    };
  }

  /** Guest ports that are open. */
  get open(): number {
    return this.ends.filter((end) => end.open).length;
  }

  /** The peer's end of the guest's `port`. */
  bind(
    port: number,
    handler: () => void,
  ):
    | {
        /** Rings the guest's end. */
        ring(): void;
        /** Closes this end. */
        close(): void;
      }
    | undefined {
    const guest = this.ends[port - 1];
    if (guest === undefined || !guest.open || guest.peer !== null) return undefined;
    const mine = newEnd();
    mine.handler = handler;
    mine.peer = guest;
    guest.peer = mine;
    this.ring(mine);
    return {
      ring: () => this.ring(mine.peer),
      close: () => {
        mine.open = false;
        mine.handler = null;
        if (mine.peer !== null) mine.peer.peer = null;
        mine.peer = null;
      },
    };
  }

  private ring(end: End | null): void {
    if (end === null || !end.open) return;
    end.pending = true;
    this.kick(end);
  }

  private kick(end: End): void {
    if (!end.pending || end.masked || end.queued || end.handler === null) return;
    end.queued = true;
    this.enqueue(() => {
      end.queued = false;
      if (!end.pending || end.masked || end.handler === null || !end.open) return;
      end.pending = false;
      this.delivered++;
      end.handler();
    });
  }
}

/** Options of a world. */
export interface WorldOptions {
  /** Guest pages. Default 2048. */
  readonly pages?: number;
  /** Grant entries, the 8 reserved ones included. Default 8192. */
  readonly grants?: number;
  readonly guest?: number;
  readonly backend?: number;
}

/** A guest and its surroundings in a few arrays: what a frontend runs in when no machine is there. */
export class World {
  readonly guestId: number;
  readonly backendId: number;
  readonly time: FakeTime = new FakeTime();
  readonly store: FakeStore;
  readonly grants: FakeGrants;
  readonly events: FakeEvents;
  readonly pages: GuestPages;
  readonly views: MemoryViews;
  private readonly freePages: number[] = [];
  private readonly frames: MemoryFrame[] = [];
  private readonly heldPages: Set<number> = new Set();

  constructor(options: WorldOptions = {}) {
    const { pages = 2048, grants = 8192, guest = 6, backend = 0 } = options;
    this.guestId = guest;
    this.backendId = backend;
    this.store = new FakeStore((item) => this.time.enqueue(item));
    this.events = new FakeEvents((item) => this.time.enqueue(item));
    this.grants = new FakeGrants(grants);
    const buffer = new ArrayBuffer(pages * 4096);
    this.views = { u8: new Uint8Array(buffer), u16: new Uint16Array(buffer), u32: new Uint32Array(buffer) };
    for (let i = 0; i < pages; i++) this.frames.push({ views: this.views, offset: i * 4096 });
    // Frame 0 is never handed out: nothing may be granted by accident.
    for (let i = pages - 1; i > 0; i--) this.freePages.push(i);
    this.pages = {
      alloc: () => {
        const gfn = this.freePages.pop();
        if (gfn === undefined) return undefined;
        this.heldPages.add(gfn);
        this.bytes(gfn).fill(0);
        return gfn as Gfn;
      },
      free: (gfn) => {
        if (!this.heldPages.delete(gfn)) throw new Error(`page ${gfn} is given back twice`);
        if (this.grants.isOpen(gfn)) throw new Error(`page ${gfn} is given back while the backend can reach it`);
        this.freePages.push(gfn);
      },
      frame: (gfn) => {
        const frame = this.frames[gfn];
        if (frame === undefined) throw new Error(`frame ${gfn} is not in memory`);
        return frame;
      },
    };
  }

  /** Pages taken and not given back. */
  get pagesHeld(): number {
    return this.heldPages.size;
  }

  /** What a frontend in this world is attached to. */
  get surroundings(): BlkfrontSurroundings {
    return {
      pages: this.pages,
      grants: this.grants,
      events: this.events.guest,
      store: this.store.connect(this.guestId),
      scheduler: this.time,
      waitFor: (condition) => this.time.waitFor(condition),
    };
  }

  /** The 4096 bytes of a guest frame. */
  bytes(gfn: number): Uint8Array {
    return this.views.u8.subarray(gfn * 4096, gfn * 4096 + 4096);
  }

  /** A page that belongs to the test. */
  page(fill = 0): Gfn {
    const gfn = this.pages.alloc();
    if (gfn === undefined) throw new Error('the world is out of pages');
    this.bytes(gfn).fill(fill);
    return gfn;
  }

  /** What the guest still holds: all zero after an orderly end. `pages` counts the test's own too. */
  leaks(): { pages: number; references: number; ports: number; watches: number; mappings: number; timers: number; transactions: number } {
    return {
      pages: this.pagesHeld,
      references: this.grants.taken,
      ports: this.events.open,
      watches: this.store.watchesOf(this.guestId),
      mappings: this.grants.mappings,
      timers: this.time.pending,
      transactions: this.store.openTransactions,
    };
  }
}
