import type { EventBus, EventPorts } from '@paravirt/event-bus';
import type { Gfn, Gref } from '@paravirt/event-bus/contract';
import type { OpenQueue } from './connection.ts';
import { ERRNO } from './errors.ts';
import type { BlkfrontEvents } from './events.ts';
import type { HeldFrames } from './held-frames.ts';
import type { CheckedOptions } from './options.ts';
import type { Ring } from './queue.ts';
import type { Timers } from './timers.ts';
import type { Grants } from './types.ts';

/** After the last request, as many purges follow at most: a backend that keeps idle grants for minutes is waited for, no longer. */
const PURGES_AFTER_USE = 13;
/** Retries for want of pages, with nothing under way that could free one, before requests fail with -ENOMEM. */
const DRY_TRIES_MAX = 10;
const TICKS_BETWEEN_TRIES_MAX = 1000;

/** What `Upkeep` looks after. */
export interface UpkeepParts {
  readonly path: string;
  readonly options: CheckedOptions;
  readonly timers: Timers;
  readonly grants: Grants;
  readonly held: HeldFrames;
  readonly events: EventPorts;
  readonly bus: EventBus<BlkfrontEvents> | undefined;
  readonly queues: () => readonly OpenQueue[];
  readonly poll: (queue: number) => void;
  readonly onBroken: (reason: string) => void;
}

/**
 * What has to be done beside the requests: references set aside are tried again, idle persistent grants are purged, whoever ran
 * short of references or pages is woken, and a peer that rings for nothing is not listened to for a while.
 */
export class Upkeep {
  /** Retries for want of pages since something last got on. */
  dryTries = 0;
  private readonly parts: UpkeepParts;
  private freeWait: { unsubscribe(): void } | undefined;
  /** Queues that wait for it. */
  private readonly short: Set<number> = new Set();
  private purgesLeft = 0;
  private quarantineWait = 0;
  /** Queues whose port is masked, because the peer rang for nothing. */
  private readonly stormed: Set<number> = new Set();

  constructor(parts: UpkeepParts) {
    this.parts = parts;
  }

  /** Whether nobody gives a page back any more. */
  get starved(): boolean {
    return this.dryTries > DRY_TRIES_MAX;
  }

  /** An upcall found answers. */
  useful(ring: Ring): void {
    ring.idleUpcalls = 0;
    this.dryTries = 0;
    if (this.freeWait !== undefined) this.share();
  }

  /** An upcall found nothing. */
  spurious(ring: Ring): void {
    const idle = ring.idleUpcalls + 1;
    const { options, timers, events, poll } = this.parts;
    ring.idleUpcalls = idle % options.stormUpcalls;
    if (idle < options.stormUpcalls) return;
    const { index, port } = ring;
    events.mask(port);
    this.stormed.add(index);
    timers.set(`storm ${index}`, options.stormTicks, () => {
      this.stormed.delete(index);
      events.unmask(port);
      poll(index);
    });
  }

  /** What follows from answers having been handled. */
  settle(queue: number): void {
    const { timers, options, queues } = this.parts;
    const open = queues()[queue];
    if (open === undefined) return;
    const { refs, pages, ring } = open;
    const { quarantined } = refs;
    if (quarantined > 0) {
      if (quarantined > ring.shadows.slots * ring.shadows.maxSegments) {
        this.parts.onBroken(`the backend keeps ${quarantined} pages of finished requests mapped`);
        return;
      }
      if (!timers.isSet('quarantine')) {
        this.quarantineWait = options.quarantineTicks;
        timers.set('quarantine', this.quarantineWait, () => this.retryQuarantine());
      }
    }
    if (pages.idleGranted > 0 && this.purgesLeft !== PURGES_AFTER_USE) {
      this.purgesLeft = PURGES_AFTER_USE;
      if (!timers.isSet('purge')) timers.set('purge', options.purgeTicks, () => this.purge());
    }
  }

  /** A request could not have its references or pages: it is tried again when some come free. */
  dry(queue: number, what: 'references' | 'pages'): void {
    const { timers, grants, options, queues } = this.parts;
    const retry = (): void => {
      for (const { ring } of queues()) ring.retry();
    };
    if (what === 'references') {
      this.short.add(queue);
      for (const { pages } of queues()) pages.purge();
      this.share();
      this.freeWait ??= grants.whenFree(() => {
        // Not from inside the call that freed it: that may be one of ours.
        timers.set('free', 0, () => {
          this.freeWait = undefined;
          this.short.clear();
          retry();
        });
      }, 1);
      return;
    }
    if (timers.isSet('dry')) return;
    if (this.dryTries++ < DRY_TRIES_MAX) {
      timers.set('dry', Math.min(options.quarantineTicks * 2 ** this.dryTries, TICKS_BETWEEN_TRIES_MAX), retry);
      return;
    }
    // Nobody gives a page back: what waits for one alone fails, rather than for ever.
    timers.set('dry', 0, () => {
      for (const { ring } of queues()) {
        ring.failStalled(ERRNO.ENOMEM);
        // Whatever waited for the end of a request goes on as after an answer.
        this.parts.poll(ring.index);
      }
    });
  }

  /** While queues wait for the table, the idle references of the other pools are what they wait for. */
  private share(): void {
    const { short } = this;
    for (const { refs, ring } of this.parts.queues()) if (short.size > 1 || !short.has(ring.index)) refs.spare();
  }

  /** A page which a finished request left behind is the guest's own again. */
  returned(gref: Gref, gfn: Gfn): void {
    const { bus, path, held } = this.parts;
    held.letGo(gfn);
    if (bus?.observed('blkfront:returned')) bus.emit('blkfront:returned', { path, gref, gfn });
  }

  /** The backend holds a page of a finished request. */
  held(gref: Gref, gfn: Gfn): void {
    const { bus, path, held } = this.parts;
    held.hold(gfn);
    if (bus?.observed('blkfront:quarantined')) bus.emit('blkfront:quarantined', { path, gref, gfn });
  }

  /** Forgets everything that waits. */
  clear(): void {
    this.pause();
    this.stormed.clear();
  }

  /** Waits for nothing any more: neither time nor references that come free wake anybody before `goOn`. */
  pause(): void {
    this.parts.timers.clearAll();
    this.freeWait?.unsubscribe();
    this.freeWait = undefined;
    this.short.clear();
    this.purgesLeft = 0;
    this.dryTries = 0;
  }

  /** Goes on after a `pause` with all that waited: what still has to wait does so anew. */
  goOn(): void {
    const { events, queues } = this.parts;
    for (const { ring } of queues()) {
      if (this.stormed.delete(ring.index)) events.unmask(ring.port);
      this.settle(ring.index);
      ring.retry();
    }
  }

  private purge(): void {
    const { timers, options, queues } = this.parts;
    let idle = 0;
    for (const { pages } of queues()) {
      pages.purge();
      idle += pages.idleGranted;
    }
    this.purgesLeft--;
    if (idle > 0 && this.purgesLeft > 0) timers.set('purge', options.purgeTicks, () => this.purge());
    else this.purgesLeft = 0;
    if (this.freeWait !== undefined) this.share();
  }

  private retryQuarantine(): void {
    const { timers, queues } = this.parts;
    let left = 0;
    for (const { refs, pages, ring } of queues()) {
      refs.retry((gref, gfn, page) => {
        pages.returned(page);
        this.returned(gref, gfn);
      });
      left += refs.quarantined;
      ring.retry();
    }
    if (this.freeWait !== undefined) this.share();
    if (left === 0) return;
    this.quarantineWait = Math.min(this.quarantineWait * 2, TICKS_BETWEEN_TRIES_MAX);
    timers.set('quarantine', this.quarantineWait, () => this.retryQuarantine());
  }
}
