import { type DomainPorts, type EventChannels, EvtchnError } from '@paravirt/event-bus';
import type { DomId, Port } from '@paravirt/event-bus/contract';
import {
  DOMID,
  EVTCHN_ALLOC_UNBOUND,
  EVTCHN_BIND_INTERDOMAIN,
  EVTCHN_BIND_IPI,
  EVTCHN_BIND_PIRQ,
  EVTCHN_BIND_VCPU,
  EVTCHN_BIND_VIRQ,
  EVTCHN_CLOSE,
  EVTCHN_RESET,
  EVTCHN_SEND,
  EVTCHN_STATUS,
  EVTCHN_UNMASK,
  EVTCHNOP,
  EVTCHNSTAT,
  errnoOf,
  type Struct,
} from '@paravirt/xen-abi';
import type { DomainCore } from '../domain.ts';
import { type GuestBytes, GuestStruct } from './guest-struct.ts';

const EFAULT = -errnoOf('EFAULT');

/** `event_channel_op`. A privileged domain may name another in `alloc_unbound`, `status` and `reset`. @see event_channel.h */
export class EventDoor {
  readonly #bytes: GuestBytes;
  readonly #core: DomainCore;
  readonly #channels: EventChannels;

  constructor(bytes: GuestBytes, core: DomainCore, channels: EventChannels) {
    this.#bytes = bytes;
    this.#core = core;
    this.#channels = channels;
  }

  call(command: number, address: number): number {
    try {
      return this.#dispatch(command, address);
    } catch (error) {
      if (error instanceof EvtchnError) return error.status;
      throw error;
    }
  }

  #dispatch(command: number, address: number): number {
    const ports = this.#core.ports;
    switch (command) {
      case EVTCHNOP.alloc_unbound:
        return this.#with(EVTCHN_ALLOC_UNBOUND, address, (args) => {
          const of = this.#of(args.get('dom'));
          if (typeof of === 'number') return of;
          const remote = args.get('remote_dom');
          return args.store('port', of.allocUnbound((remote === DOMID.SELF ? this.#core.id : remote) as DomId)) ? 0 : EFAULT;
        });
      case EVTCHNOP.bind_interdomain:
        return this.#with(EVTCHN_BIND_INTERDOMAIN, address, (args) => {
          const remote = args.get('remote_dom');
          const port = ports.bindInterdomain((remote === DOMID.SELF ? this.#core.id : remote) as DomId, args.get('remote_port') as Port);
          return args.store('local_port', port) ? 0 : EFAULT;
        });
      case EVTCHNOP.bind_virq:
        return this.#with(EVTCHN_BIND_VIRQ, address, (args) =>
          args.store('port', ports.bindVirq(args.get('virq'), args.get('vcpu'))) ? 0 : EFAULT,
        );
      case EVTCHNOP.bind_ipi:
        return this.#with(EVTCHN_BIND_IPI, address, (args) => (args.store('port', ports.bindIpi(args.get('vcpu'))) ? 0 : EFAULT));
      case EVTCHNOP.bind_pirq:
        return this.#with(EVTCHN_BIND_PIRQ, address, (args) => (args.store('port', ports.bindPirq(args.get('pirq'))) ? 0 : EFAULT));
      case EVTCHNOP.close:
        return this.#with(EVTCHN_CLOSE, address, (args) => {
          ports.close(args.get('port') as Port);
          return 0;
        });
      case EVTCHNOP.send:
        // Through the domain's own ports, so that a fault filter sees it.
        return this.#with(EVTCHN_SEND, address, (args) => {
          ports.send(args.get('port') as Port);
          return 0;
        });
      case EVTCHNOP.status:
        return this.#with(EVTCHN_STATUS, address, (args) => this.#status(args));
      case EVTCHNOP.bind_vcpu:
        return this.#with(EVTCHN_BIND_VCPU, address, (args) => {
          ports.bindVcpu(args.get('port') as Port, args.get('vcpu'));
          return 0;
        });
      case EVTCHNOP.unmask:
        return this.#with(EVTCHN_UNMASK, address, (args) => this.#channels.tryUnmask(this.#core.id as DomId, args.get('port')));
      case EVTCHNOP.reset:
        return this.#with(EVTCHN_RESET, address, (args) => {
          const of = this.#of(args.get('dom'));
          if (typeof of === 'number') return of;
          of.reset();
          return 0;
        });
      default:
        // The FIFO interface among them: a guest then stays with the two-level one.
        return -errnoOf('ENOSYS');
    }
  }

  #with<Fields extends object>(struct: Struct<Fields>, address: number, act: (args: GuestStruct<Fields>) => number): number {
    const args = new GuestStruct(struct, this.#bytes);
    return args.load(address) ? act(args) : EFAULT;
  }

  #of(domid: number): DomainPorts | number {
    if (domid === DOMID.SELF || domid === this.#core.id) return this.#core.ports;
    if (!this.#channels.hasDomain(domid as DomId)) return -errnoOf('ESRCH');
    return this.#core.privileged ? this.#channels.domain(domid as DomId) : -errnoOf('EPERM');
  }

  #status(args: GuestStruct<NonNullable<(typeof EVTCHN_STATUS)['fields']>>): number {
    const of = this.#of(args.get('dom'));
    if (typeof of === 'number') return of;
    const status = of.status(args.get('port') as Port);
    let stored = args.store('status', EVTCHNSTAT[status.status]) && args.store('vcpu', 0);
    if (status.status === 'unbound') stored &&= args.store('u.unbound.dom', status.remote);
    if (status.status === 'interdomain') {
      stored &&= args.store('u.interdomain.dom', status.remote) && args.store('u.interdomain.port', status.remotePort);
    }
    if (status.status === 'virq') stored &&= args.store('u.virq', status.virq);
    if (status.status === 'pirq') stored &&= args.store('u.pirq', status.pirq);
    return stored ? 0 : EFAULT;
  }
}
