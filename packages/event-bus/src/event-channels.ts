import type { DomId, Port } from './contract.ts';
import { DomainTable } from './domain-table.ts';
import { Doorbells } from './doorbells.ts';
import { EVTCHN_STATUS, EvtchnError } from './errors.ts';
import { type Channel, EventDomain, FREE, INTERDOMAIN, IPI, PIRQ, RESERVED, UNBOUND, VIRQ } from './event-domain.ts';
import { createDomainPorts } from './event-ports.ts';
import { checkLayout } from './event-words.ts';
import type { EvtchnEvents } from './events.ts';
import type { DomainPorts, DoorbellCounts, EventBus, EventChannels, EventDomainOptions, PortStatus, UpcallQueue } from './types.ts';

/** A domain's word for itself. @see xen/include/public/xen.h, DOMID_SELF */
const DOMID_SELF = 0x7ff0;

/** All domains' channels. Operations name the domain that asks; capabilities are made of them. */
export class Channels implements EventChannels {
  private readonly domains = new DomainTable();
  readonly #ports = new Map<number, DomainPorts>();
  readonly doorbells: Doorbells;
  private readonly bus: EventBus<EvtchnEvents> | undefined;
  readonly #gone = { sent: 0, merged: 0, dropped: 0, upcalls: 0, handled: 0 };

  constructor(queue: UpcallQueue, bus: EventBus<EvtchnEvents> | undefined) {
    this.doorbells = new Doorbells(queue, bus);
    this.bus = bus;
  }

  addDomain(options: EventDomainOptions): DomainPorts {
    const { domid, portMax = 0 } = options;
    if (this.domains.get(domid) !== undefined) {
      throw new EvtchnError({
        errno: 'EEXIST',
        operation: 'add_domain',
        domid,
        argument: 'domid',
        value: domid,
        allowed: 'one that is not taken',
      });
    }
    if (!Number.isInteger(domid) || domid < 0 || domid >= DOMID_SELF)
      throw new RangeError(`domid is ${domid}; allowed is a whole number from 0 to ${DOMID_SELF - 1}`);
    checkLayout(options);
    if (!Number.isInteger(portMax) || portMax < 0) throw new RangeError(`portMax is ${portMax}; allowed is a whole number from 0`);
    const domain = new EventDomain(options);
    const ports = createDomainPorts(this, domain);
    this.domains.set(domid, domain);
    this.#ports.set(domid, ports);
    return ports;
  }

  removeDomain(domid: DomId): void {
    const domain = this.domains.get(domid);
    if (domain === undefined) return;
    domain.dead = true;
    this.reset(domain);
    for (const count of ['sent', 'merged', 'dropped', 'upcalls', 'handled'] as const) this.#gone[count] += domain[count];
    this.domains.set(domid, undefined);
    this.#ports.delete(domid);
  }

  domain(domid: DomId): DomainPorts {
    const ports = this.#ports.get(domid);
    if (ports === undefined) throw noDomain(domid);
    return ports;
  }

  hasDomain(domid: DomId): boolean {
    return this.domains.get(domid) !== undefined;
  }

  trySend(domid: DomId, port: number): number {
    const domain = this.domains.get(domid);
    return domain === undefined ? EVTCHN_STATUS.ESRCH : this.send(domain, port);
  }

  tryUnmask(domid: DomId, port: number): number {
    const domain = this.domains.get(domid);
    if (domain === undefined) return EVTCHN_STATUS.ESRCH;
    if (!isPortNumber(domain, port)) return EVTCHN_STATUS.EINVAL;
    this.doorbells.unmask(domain, port);
    return 0;
  }

  raiseVirq(domid: DomId, virq: number): boolean {
    const domain = this.domains.get(domid);
    const port = domain?.virqPorts[virq] ?? 0;
    if (domain === undefined || port === 0) return false;
    this.ring(domain, domain.channels[port]!);
    return true;
  }

  raise(domid: DomId, port: number): boolean {
    const channel = this.domains.get(domid)?.channels[port];
    if (channel === undefined || channel.state <= RESERVED) return false;
    this.doorbells.raise(channel);
    return true;
  }

  kick(domid: DomId): void {
    const domain = this.domains.get(domid);
    if (domain !== undefined) this.doorbells.wake(domain);
  }

  poll(domid: DomId, on: boolean): void {
    const domain = this.domains.get(domid);
    if (domain !== undefined) domain.polling = on;
  }

  deliver(domid: DomId): number {
    const domain = this.domains.get(domid);
    return domain === undefined ? 0 : this.doorbells.deliver(domain);
  }

  counts(domid: DomId): DoorbellCounts {
    const domain = this.domains.get(domid);
    if (domain === undefined) throw noDomain(domid);
    const { sent, merged, dropped, upcalls, handled } = domain;
    return { sent, merged, dropped, upcalls, handled };
  }

  totals(): DoorbellCounts {
    const sum = { ...this.#gone };
    this.domains.forEach((domain) => {
      for (const count of ['sent', 'merged', 'dropped', 'upcalls', 'handled'] as const) sum[count] += domain[count];
    });
    return sum;
  }

  eachPort(domid: DomId, visit: (port: Port, status: PortStatus) => void): void {
    for (const channel of this.domains.get(domid)?.channels ?? []) {
      if (channel.state > RESERVED) visit(channel.port as Port, statusOf(channel));
    }
  }

  // What follows is asked by a domain, through its capability.

  allocUnbound(domain: EventDomain, remote: number): Port {
    const channel = this.#claim(domain, 'alloc_unbound');
    const peer = remote === DOMID_SELF ? domain.domid : (remote as DomId);
    channel.state = UNBOUND;
    channel.detail = peer;
    const port = channel.port as Port;
    if (this.bus?.observed('evtchn:allocated')) this.bus.emit('evtchn:allocated', { domid: domain.domid, port, remote: peer });
    return port;
  }

  bindInterdomain(domain: EventDomain, remote: number, remotePort: number): Port {
    const operation = 'bind_interdomain';
    const { domid } = domain;
    const peer = remote === DOMID_SELF ? domain : this.domains.get(remote);
    if (peer === undefined) {
      throw new EvtchnError({ errno: 'ESRCH', operation, domid, argument: 'remote domid', value: remote, allowed: 'a domain that exists' });
    }
    const local = this.#claim(domain, operation);
    const other = peer.channels[remotePort];
    if (other === undefined || other.state !== UNBOUND || other.detail !== domid) {
      const allowed = `an unbound port of domain ${peer.domid}, allocated for domain ${domid}`;
      throw new EvtchnError({ errno: 'EINVAL', operation, domid, argument: 'remote port', value: remotePort, allowed });
    }
    local.state = INTERDOMAIN;
    local.remote = other;
    other.state = INTERDOMAIN;
    other.remote = local;
    other.detail = 0;
    // Rings from the far end while it was unbound were lost, so the near end looks once.
    this.doorbells.raise(local);
    const port = local.port as Port;
    if (this.bus?.observed('evtchn:bound')) {
      this.bus.emit('evtchn:bound', { kind: 'interdomain', domid, port, remote: peer.domid, remotePort: remotePort as Port });
    }
    return port;
  }

  bindVirq(domain: EventDomain, virq: number, vcpu: number): Port {
    const operation = 'bind_virq';
    const { domid, virqPorts } = domain;
    if (!Number.isInteger(virq) || virq < 0 || virq >= virqPorts.length) {
      throw new EvtchnError({ errno: 'EINVAL', operation, domid, argument: 'virq', value: virq, allowed: `0 to ${virqPorts.length - 1}` });
    }
    this.#checkVcpu(domain, operation, vcpu);
    if (virqPorts[virq] !== 0) {
      throw new EvtchnError({ errno: 'EEXIST', operation, domid, argument: 'virq', value: virq, allowed: 'one that is not bound' });
    }
    const channel = this.#claim(domain, operation);
    channel.state = VIRQ;
    channel.detail = virq;
    virqPorts[virq] = channel.port;
    const port = channel.port as Port;
    if (this.bus?.observed('evtchn:bound')) this.bus.emit('evtchn:bound', { kind: 'virq', domid, port, virq });
    return port;
  }

  bindIpi(domain: EventDomain, vcpu: number): Port {
    this.#checkVcpu(domain, 'bind_ipi', vcpu);
    const channel = this.#claim(domain, 'bind_ipi');
    channel.state = IPI;
    const port = channel.port as Port;
    if (this.bus?.observed('evtchn:bound')) this.bus.emit('evtchn:bound', { kind: 'ipi', domid: domain.domid, port });
    return port;
  }

  bindPirq(domain: EventDomain, pirq: number): Port {
    const operation = 'bind_pirq';
    const { domid } = domain;
    if (!Number.isInteger(pirq) || pirq < 0 || pirq >= domain.pirqs) {
      throw new EvtchnError({
        errno: 'EINVAL',
        operation,
        domid,
        argument: 'pirq',
        value: pirq,
        allowed: `one of the ${domain.pirqs} given to the domain`,
      });
    }
    if (domain.pirqPorts.has(pirq)) {
      throw new EvtchnError({ errno: 'EEXIST', operation, domid, argument: 'pirq', value: pirq, allowed: 'one that is not bound' });
    }
    const channel = this.#claim(domain, operation);
    channel.state = PIRQ;
    channel.detail = pirq;
    domain.pirqPorts.set(pirq, channel.port);
    const port = channel.port as Port;
    if (this.bus?.observed('evtchn:bound')) this.bus.emit('evtchn:bound', { kind: 'pirq', domid, port, pirq });
    return port;
  }

  bindVcpu(domain: EventDomain, port: number, vcpu: number): void {
    this.#checkVcpu(domain, 'bind_vcpu', vcpu);
    const channel = this.open(domain, 'bind_vcpu', port);
    // The timer, debug and other interrupts of one virtual CPU stay where they are; so does a ring to oneself.
    const fixed = channel.state === IPI || (channel.state === VIRQ && channel.detail <= 1);
    if (fixed) throw badPort(domain, 'bind_vcpu', port, 'a port that is not tied to one virtual CPU');
  }

  /** 0, or a negative errno. */
  send(domain: EventDomain, port: number): number {
    const channel = domain.channels[port];
    // Who has another end is interdomain: most of all rings.
    if (channel === undefined || channel.remote === undefined) return this.sendHere(domain, channel, port);
    this.ring(domain, channel.remote, port);
    return 0;
  }

  private sendHere(domain: EventDomain, channel: Channel | undefined, port: number): number {
    if (channel === undefined) return EVTCHN_STATUS.EINVAL;
    if (channel.state === IPI) this.ring(domain, channel, port);
    else if (channel.state === UNBOUND) {
      domain.sent += 1;
      domain.dropped += 1;
      if (this.bus?.observed('evtchn:sent')) this.sentFact(domain, port, false, true);
    } else return EVTCHN_STATUS.EINVAL;
    return 0;
  }

  close(domain: EventDomain, port: number): void {
    const channel = this.open(domain, 'close', port);
    const { remote } = channel;
    if (remote !== undefined) {
      remote.state = UNBOUND;
      remote.remote = undefined;
      remote.detail = domain.domid;
    } else if (channel.state === VIRQ) domain.virqPorts[channel.detail] = 0;
    else if (channel.state === PIRQ) domain.pirqPorts.delete(channel.detail);
    domain.free(channel);
    if (!this.bus?.observed('evtchn:closed')) return;
    const closed = { domid: domain.domid, port: channel.port as Port };
    const far = remote === undefined ? {} : { remote: remote.domain.domid, remotePort: remote.port as Port };
    this.bus.emit('evtchn:closed', { ...closed, ...far });
  }

  status(domain: EventDomain, port: number): PortStatus {
    if (!isPortNumber(domain, port)) throw badPort(domain, 'status', port, `a whole number from 0 to ${domain.portCount - 1}`);
    const channel = domain.channels[port];
    return channel === undefined ? { status: 'closed' } : statusOf(channel);
  }

  reset(domain: EventDomain): void {
    for (const channel of domain.channels) if (channel.state > RESERVED) this.close(domain, channel.port);
  }

  /** An open port, or EINVAL. */
  open(domain: EventDomain, operation: string, port: number): Channel {
    const channel = domain.channels[port];
    if (channel === undefined || channel.state <= RESERVED) throw badPort(domain, operation, port, 'an open port of the domain');
    return channel;
  }

  #claim(domain: EventDomain, operation: string): Channel {
    const { domid } = domain;
    if (domain.dead)
      throw new EvtchnError({ errno: 'EINVAL', operation, domid, argument: 'domid', value: domid, allowed: 'a domain that is alive' });
    const channel = domain.findFree();
    if (channel === undefined) {
      const allowed = `at most ${domain.portCount - 1} open ports`;
      throw new EvtchnError({ errno: 'ENOSPC', operation, domid, argument: 'open ports', value: domain.portCount - 1, allowed });
    }
    return channel;
  }

  #checkVcpu({ domid }: EventDomain, operation: string, vcpu: number): void {
    if (vcpu !== 0) throw new EvtchnError({ errno: 'ENOENT', operation, domid, argument: 'vcpu', value: vcpu, allowed: '0, the only one' });
  }

  private ring(from: EventDomain, target: Channel, port?: number): void {
    from.sent += 1;
    const merged = !this.doorbells.raise(target);
    if (merged) from.merged += 1;
    if (port !== undefined && this.bus?.observed('evtchn:sent')) this.sentFact(from, port, merged, false);
  }

  private sentFact(from: EventDomain, port: number, merged: boolean, dropped: boolean): void {
    this.bus?.emit('evtchn:sent', { domid: from.domid, port: port as Port, merged, dropped });
  }
}

/** Whether `port` is a number that the domain's words have a bit for. */
export function isPortNumber(domain: EventDomain, port: number): boolean {
  return Number.isInteger(port) && port >= 0 && port < domain.portCount;
}

export function badPort(domain: EventDomain, operation: string, port: number, allowed: string): EvtchnError {
  return new EvtchnError({ errno: 'EINVAL', operation, domid: domain.domid, argument: 'port', value: port, allowed });
}

function noDomain(domid: DomId): EvtchnError {
  return new EvtchnError({ errno: 'ESRCH', operation: 'domain', domid, argument: 'domid', value: domid, allowed: 'a domain that exists' });
}

function statusOf(channel: Channel): PortStatus {
  switch (channel.state) {
    case UNBOUND:
      return { status: 'unbound', remote: channel.detail as DomId };
    case INTERDOMAIN:
      return { status: 'interdomain', remote: channel.remote!.domain.domid, remotePort: channel.remote!.port as Port };
    case PIRQ:
      return { status: 'pirq', pirq: channel.detail };
    case VIRQ:
      return { status: 'virq', virq: channel.detail };
    case IPI:
      return { status: 'ipi' };
    case FREE:
    case RESERVED:
      return { status: 'closed' };
  }
}

/**
 * Makes the event channels of a machine: the two-level ABI, one virtual CPU a domain. `queue` is told which domain to deliver
 * to; with `bus`, channels tell their facts.
 *
 * @example
 * const runner = createUpcallRunner();
 * const channels = createEventChannels({ queue: runner });
 * const front = channels.addDomain({ domid: domId(1), ...createEventWords() });
 * const back = channels.addDomain({ domid: domId(0), ...createEventWords() });
 * const port = front.allocUnbound(back.domid);
 * const theirs = back.bindInterdomain(front.domid, port);
 * front.onUpcall(port, () => console.log('rung'));
 * back.send(theirs);
 * runner.run(channels);
 */
export function createEventChannels(options: { queue: UpcallQueue; bus?: EventBus<EvtchnEvents> }): EventChannels {
  return new Channels(options.queue, options.bus);
}
