import type { QueueSetup } from './queue-setup.ts';
import type { BackRequest } from './request.ts';

/**
 * Tells of what happens on a ring. On the way of a request the caller asks the bus whether anybody listens. Who does may end this very
 * connection, or its domain.
 */
export class QueueFacts {
  /** The ring is mapped no more since somebody was told of a request. */
  gone = false;
  private readonly setup: QueueSetup;

  constructor(setup: QueueSetup) {
    this.setup = setup;
  }

  requested(request: BackRequest): void {
    const { bus, frontend, device, index } = this.setup;
    const { idLo, idHi, operation, sector, sectors, segments } = request;
    bus.emit('blkback:requested', { frontend, device, queue: index, idLo, idHi, operation, sector, sectors, segments });
    this.gone = !this.setup.alive();
  }

  completed(request: BackRequest): void {
    const { bus, frontend, device, index } = this.setup;
    const { idLo, idHi, operation, status, reason } = request;
    bus.emit('blkback:completed', { frontend, device, queue: index, idLo, idHi, operation, status, reason });
    this.gone = !this.setup.alive();
  }

  halted(reqProd: number, rspProd: number, entries: number): void {
    const { bus, frontend, device, index } = this.setup;
    if (bus.observed('blkback:halted')) bus.emit('blkback:halted', { frontend, device, queue: index, reqProd, rspProd, entries });
  }

  purged(grants: number): void {
    const { bus, frontend, device, index } = this.setup;
    if (bus.observed('blkback:purged')) bus.emit('blkback:purged', { frontend, device, queue: index, grants });
  }
}
