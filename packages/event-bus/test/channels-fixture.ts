import {
  createEventBus,
  createEventChannels,
  createEventWords,
  createUpcallRunner,
  type DomainPorts,
  type EventChannels,
  type EventDomainOptions,
  type EvtchnEvents,
} from '@paravirt/event-bus';
import { type DomId, domId, type Port } from '@paravirt/event-bus/contract';

export const DOMID_SELF: DomId = domId(0x7ff0);

/** A machine of some domains, 0 and up, on words of their own. */
export function channelsFixture({
  domains = 2,
  wordBits = 64 as 32 | 64,
  ...options
}: { domains?: number; wordBits?: 32 | 64 } & Partial<EventDomainOptions> = {}): {
  channels: EventChannels;
  ports: DomainPorts[];
  run: (stepsMax?: number) => number;
  waiting: () => number;
  bus: ReturnType<typeof createEventBus<EvtchnEvents>>;
} {
  const bus = createEventBus<EvtchnEvents>();
  const runner = createUpcallRunner();
  const channels = createEventChannels({ queue: runner, bus });
  const ports = Array.from({ length: domains }, (_, i) =>
    channels.addDomain({ ...createEventWords(wordBits), ...options, domid: domId(i) }),
  );
  return { channels, ports, run: (stepsMax) => runner.run(channels, stepsMax), waiting: () => runner.waiting, bus };
}

/** Two connected ends: domain 0's and domain 1's, nothing pending. */
export function connect(ports: DomainPorts[]): { near: Port; far: Port } {
  const near = ports[0]!.allocUnbound(ports[1]!.domid);
  const far = ports[1]!.bindInterdomain(ports[0]!.domid, near);
  ports[1]!.clearPending(far);
  return { near, far };
}
