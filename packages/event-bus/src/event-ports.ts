import type { DomId, Port } from './contract.ts';
import { EvtchnError } from './errors.ts';
import { badPort, type Channels, isPortNumber } from './event-channels.ts';
import type { EventDomain } from './event-domain.ts';
import type { DomainPorts, PortStatus, Unsubscribable } from './types.ts';

/** A domain's capability: it carries the domain, so nothing it is given can name another's port. */
class Ports implements DomainPorts {
  private readonly channels: Channels;
  private readonly domain: EventDomain;
  readonly domid: DomId;
  readonly portCount: number;

  constructor(channels: Channels, domain: EventDomain) {
    this.channels = channels;
    this.domain = domain;
    this.domid = domain.domid;
    this.portCount = domain.portCount;
  }

  allocUnbound(remote: DomId): Port {
    return this.channels.allocUnbound(this.domain, remote);
  }

  bindInterdomain(remote: DomId, remotePort: Port): Port {
    return this.channels.bindInterdomain(this.domain, remote, remotePort);
  }

  bindVirq(virq: number, vcpu = 0): Port {
    return this.channels.bindVirq(this.domain, virq, vcpu);
  }

  bindIpi(vcpu = 0): Port {
    return this.channels.bindIpi(this.domain, vcpu);
  }

  bindPirq(pirq: number): Port {
    return this.channels.bindPirq(this.domain, pirq);
  }

  bindVcpu(port: Port, vcpu: number): void {
    this.channels.bindVcpu(this.domain, port, vcpu);
  }

  send(port: Port): void {
    if (this.channels.send(this.domain, port) !== 0) {
      throw badPort(this.domain, 'send', port, 'an unbound, interdomain or ipi port of the domain');
    }
  }

  onUpcall(port: Port, handler: () => void): Unsubscribable {
    const channel = this.channels.open(this.domain, 'on_upcall', port);
    if (channel.handler !== undefined) {
      const allowed = 'a port without a handler';
      throw new EvtchnError({ errno: 'EEXIST', operation: 'on_upcall', domid: this.domid, argument: 'port', value: port, allowed });
    }
    channel.handler = handler;
    channel.registrations += 1;
    const registration = channel.registrations;
    this.channels.doorbells.reraise(channel);
    return {
      unsubscribe() {
        if (channel.registrations === registration) channel.handler = undefined;
      },
    };
  }

  mask(port: Port): void {
    this.#checkNumber('mask', port);
    const { views, maskWord } = this.domain;
    views.u32[maskWord + (port >>> 5)]! |= 1 << (port & 31);
  }

  unmask(port: Port): void {
    this.#checkNumber('unmask', port);
    this.channels.doorbells.unmask(this.domain, port);
  }

  isMasked(port: Port): boolean {
    this.#checkNumber('is_masked', port);
    return (this.domain.views.u32[this.domain.maskWord + (port >>> 5)]! & (1 << (port & 31))) !== 0;
  }

  isPending(port: Port): boolean {
    this.#checkNumber('is_pending', port);
    return (this.domain.views.u32[this.domain.pendingWord + (port >>> 5)]! & (1 << (port & 31))) !== 0;
  }

  clearPending(port: Port): void {
    this.#checkNumber('clear_pending', port);
    this.domain.views.u32[this.domain.pendingWord + (port >>> 5)]! &= ~(1 << (port & 31));
  }

  close(port: Port): void {
    this.channels.close(this.domain, port);
  }

  status(port: Port): PortStatus {
    return this.channels.status(this.domain, port);
  }

  reset(): void {
    this.channels.reset(this.domain);
  }

  disableUpcalls(): void {
    this.domain.views.u8[this.domain.upcallMaskByte] = 1;
  }

  enableUpcalls(): void {
    this.domain.views.u8[this.domain.upcallMaskByte] = 0;
    this.channels.doorbells.wake(this.domain);
  }

  setUpcallEntry(entry: (() => void) | undefined): void {
    this.domain.entry = entry;
    this.channels.doorbells.wake(this.domain);
  }

  #checkNumber(operation: string, port: number): void {
    if (this.domain.dead || !isPortNumber(this.domain, port)) {
      throw badPort(this.domain, operation, port, `a whole number from 0 to ${this.portCount - 1} of a living domain`);
    }
  }
}

export function createDomainPorts(channels: Channels, domain: EventDomain): DomainPorts {
  return new Ports(channels, domain);
}
