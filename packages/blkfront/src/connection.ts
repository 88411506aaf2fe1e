import type { EventBus } from '@paravirt/event-bus';
import type { DomId, Gfn, Gref, Port } from '@paravirt/event-bus/contract';
import { type Abi, BLKIF_MAX_SEGMENTS_PER_REQUEST, FrontRing, SharedRing } from '@paravirt/xen-abi';
import { BlkfrontError } from './errors.ts';
import type { BlkfrontEvents } from './events.ts';
import type { Features } from './features.ts';
import { GrefPool } from './gref-pool.ts';
import type { QueueKeys, Transport } from './handshake.ts';
import type { HeldFrames } from './held-frames.ts';
import { PagePool } from './page-pool.ts';
import type { PinnedTable } from './pinned.ts';
import { Ring } from './queue.ts';
import type { Carried, QueueParts } from './queue-parts.ts';
import { SegmentWriter } from './segments.ts';
import { Shadows } from './shadows.ts';
import type { BlkfrontSurroundings, Grants, OnDone, Protocol, QueueFigures } from './types.ts';

/** What a connection is made of; everything in it dies with the connection. */
export interface ConnectionParts {
  readonly path: string;
  readonly surroundings: BlkfrontSurroundings & { readonly grants: Grants };
  readonly peer: DomId;
  readonly protocol: Protocol;
  readonly transport: Transport;
  readonly bus: EventBus<BlkfrontEvents> | undefined;
  readonly figures: QueueFigures[];
  readonly held: HeldFrames;
}

/** How rings are opened once the backend has said what it can. */
export interface OpenOptions {
  readonly features: Features;
  readonly handle: number;
  readonly maxSegments: number;
  readonly persistent: boolean;
  readonly poolRefs: number | 'full';
  readonly poolOrder: 'lifo' | 'fifo';
  readonly pinned: PinnedTable;
  readonly sink: OnDone;
  readonly hooks: Pick<QueueParts, 'onBroken' | 'onRoom' | 'onDry' | 'onBacklog' | 'tap'>;
  readonly onHeld: (queue: number, gref: Gref, gfn: Gfn) => void;
}

interface RingMemory {
  readonly gfns: Gfn[];
  readonly grefs: Gref[];
  readonly ring: FrontRing;
  readonly port: Port;
}

export interface OpenQueue {
  readonly ring: Ring;
  readonly refs: GrefPool;
  readonly pages: PagePool;
}

const ABI_OF: Record<Protocol, Abi> = { 'x86_64-abi': 'x86_64', 'x86_32-abi': 'x86_32', 'arm-abi': 'arm64' };

/** Of what the table can still give, the pools leave a quarter to others: more devices, buffers, requests beyond the pools. */
const POOLS_SHARE = 3 / 4;

/** Shared by all devices without, so that a look at it costs no memory of their own. */
export const NO_RINGS: readonly Ring[] = [];
export const NONE_CARRIED: Carried[] = [];

/** Who is told of upcalls. */
export interface UpcallListener {
  upcall(ring: Ring): void;
}

/** A function with nothing around it but its ring and whom to tell: an upcall finds both in one place. */
function handlerOf(listener: UpcallListener, ring: Ring): () => void {
  return () => listener.upcall(ring);
}

/** Figures of a queue that has done nothing. */
export function newFigures(): QueueFigures {
  return { requests: 0, responses: 0, segments: 0, doorbells: 0, upcalls: 0, spurious: 0, bounced: 0, reissued: 0 };
}

/**
 * The rings, ports and references of one connection. Made whole or not at all; `destroy` gives back everything, what the
 * backend still maps as soon as it lets go.
 */
export class Connection {
  readonly queues: OpenQueue[] = [];
  /** The rings of `queues`. */
  readonly rings: Ring[] = [];
  private readonly parts: ConnectionParts;
  private readonly memory: RingMemory[] = [];
  private readonly handlers: { unsubscribe(): void }[] = [];

  /** Makes rings (shared indices initialised), their grants and their ports. @throws {BlkfrontError} `exhausted`; nothing is held then. */
  constructor(parts: ConnectionParts) {
    this.parts = parts;
    try {
      for (let i = 0; i < parts.transport.queues; i++) this.memory.push(this.makeRing());
    } catch (error) {
      this.destroy();
      throw error;
    }
  }

  keys(): QueueKeys[] {
    return this.memory.map(({ grefs, port }) => ({ ringRefs: grefs, port }));
  }

  /** Makes pools and queues, and listens on the ports. */
  open(options: OpenOptions, listener: UpcallListener): void {
    const { surroundings, path, peer, transport, bus, figures, held } = this.parts;
    const { features, maxSegments, persistent } = options;
    const available = surroundings.grants.available?.() ?? Number.POSITIVE_INFINITY;
    const share = Math.floor((available * POOLS_SHARE) / this.memory.length);
    this.memory.forEach(({ ring, port }, index) => {
      const slots = ring.entries;
      const perRequest = maxSegments + (maxSegments > BLKIF_MAX_SEGMENTS_PER_REQUEST ? 1 : 0);
      const wanted = options.poolRefs === 'full' ? slots * perRequest : options.poolRefs;
      const size = Math.min(wanted, share);
      const refs = new GrefPool(surroundings.grants, peer, size, options.poolOrder, (gref, gfn) => options.onHeld(index, gref, gfn));
      const pages = new PagePool(surroundings.pages, refs);
      const shadows = new Shadows(slots, maxSegments, options.sink);
      const segments = new SegmentWriter({
        shadows,
        refs,
        pages,
        pinned: options.pinned,
        guest: surroundings.pages,
        held,
        figures: figures[index]!,
        persistent,
        zeroFirst: !transport.trusted,
      });
      const queue = new Ring({
        index,
        path,
        handle: options.handle,
        ring,
        port,
        events: surroundings.events,
        shadows,
        segments,
        refs,
        pinned: options.pinned,
        features,
        figures: figures[index]!,
        bus,
        bounceAll: !transport.trusted,
        persistent,
        maxSegments,
        ...options.hooks,
      });
      this.queues.push({ ring: queue, refs, pages });
      this.rings.push(queue);
    });
    // Whoever had a port's number before may have left it masked.
    for (const { port } of this.memory) surroundings.events.unmask(port);
    this.listen(listener);
  }

  get slots(): number {
    return this.memory[0]!.ring.entries;
  }

  /** No upcall comes any more. */
  silence(): void {
    for (const handler of this.handlers) handler.unsubscribe();
    this.handlers.length = 0;
  }

  /** Listens again after `silence`. */
  listen(listener: UpcallListener): void {
    const { events } = this.parts.surroundings;
    for (const ring of this.rings) this.handlers.push(events.onUpcall(ring.port, handlerOf(listener, ring)));
  }

  /** Ends everything. @returns the requests that were not completed, in the order of issue, queue by queue. */
  destroy(returned: (gref: Gref, gfn: Gfn) => void = () => undefined): Carried[] {
    const { surroundings, held } = this.parts;
    const { events, grants, pages: guest } = surroundings;
    this.silence();
    const carried: Carried[] = [];
    let behind = 0;
    for (const { ring, refs, pages } of this.queues) {
      ring.stop();
      carried.push(...ring.carry());
      pages.destroy();
      behind += refs.quarantined;
    }
    for (const { grefs } of this.memory) behind += grefs.length;
    const free = held.leave(behind);
    for (const { refs, pages } of this.queues) {
      refs.destroy((gref, gfn, page) => {
        pages.returned(page);
        returned(gref, gfn);
        free();
      });
    }
    this.queues.length = 0;
    this.rings.length = 0;
    for (const { gfns, grefs, port } of this.memory) {
      // The port first: nobody is to be rung about a ring that is gone.
      try {
        events.close(port);
      } catch {
        // A port that is closed already holds nothing.
      }
      grefs.forEach((gref, i) => {
        grants.endLater(gref, () => {
          guest.free(gfns[i]!);
          free();
        });
      });
    }
    this.memory.length = 0;
    return carried;
  }

  private makeRing(): RingMemory {
    const { surroundings, peer, transport, protocol } = this.parts;
    const { pages, grants, events } = surroundings;
    const gfns: Gfn[] = [];
    const grefs: Gref[] = [];
    const undo = (what: 'pages' | 'references' | 'ports', needed: number): never => {
      // A peer that guessed a reference may have its page mapped already.
      gfns.forEach((gfn, i) => {
        if (i < grefs.length) grants.endLater(grefs[i]!, () => pages.free(gfn));
        else pages.free(gfn);
      });
      throw new BlkfrontError({ code: 'exhausted', what, needed });
    };
    for (let i = 0; i < transport.ringPages; i++) {
      const gfn = pages.alloc();
      if (gfn === undefined) return undo('pages', transport.ringPages);
      gfns.push(gfn);
    }
    const ring = new FrontRing(
      new SharedRing(
        ABI_OF[protocol],
        gfns.map((gfn) => pages.frame(gfn)),
      ),
    );
    ring.shared.init();
    ring.init();
    for (const gfn of gfns) {
      const gref = grants.reserve();
      if (gref === -1) return undo('references', transport.ringPages);
      grants.permit(gref, peer, gfn, false);
      grefs.push(gref);
    }
    let port: Port;
    try {
      port = events.allocUnbound(peer);
    } catch {
      return undo('ports', 1);
    }
    return { gfns, grefs, ring, port };
  }
}
