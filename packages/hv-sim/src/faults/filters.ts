import type { DomainPorts, PortStatus } from '@paravirt/event-bus';
import type { DomId, Port } from '@paravirt/event-bus/contract';
import type { CopyOp, MapOp } from '@paravirt/gnttab';
import type { DomainCore } from '../domain.ts';
import { EAGAIN, GENERAL_ERROR } from '../grants/codes.ts';
import type { DomainGrantHypercalls } from '../grants/hypercalls.ts';
import { SERVICE_DOMID } from '../services.ts';
import type { World } from '../world.ts';
import type { FaultPlan } from './plan.ts';

/** Fails single elements of map and copy batches; the others are carried out in their order. */
function faultyHypercalls(inner: DomainGrantHypercalls, faults: FaultPlan, domid: number): DomainGrantHypercalls {
  const one: MapOp[] = [];
  const oneCopy: CopyOp[] = [];
  return {
    map(ops, count) {
      for (let i = 0; i < count; i++) {
        const op = ops[i]!;
        const failed = faults.strike('map-fail', domid) >= 0;
        const again = faults.strike('map-eagain', domid) >= 0;
        if (failed || again) {
          op.status = failed ? GENERAL_ERROR : EAGAIN;
          continue;
        }
        one[0] = op;
        const result = inner.map(one, 1);
        if (result !== 0) return result;
      }
      return 0;
    },
    copy(ops, count) {
      for (let i = 0; i < count; i++) {
        const op = ops[i]!;
        if (faults.strike('copy-fail', domid) >= 0) {
          op.status = GENERAL_ERROR;
          continue;
        }
        oneCopy[0] = op;
        const result = inner.copy(oneCopy, 1);
        if (result !== 0) return result;
      }
      return 0;
    },
    unmap: (ops, count) => inner.unmap(ops, count),
    unmapAndReplace: (ops, count) => inner.unmapAndReplace(ops, count),
    swapRefs: (ops, count) => inner.swapRefs(ops, count),
    setupTable: (frames, out) => inner.setupTable(frames, out),
    setupTableOf: (of, frames, gfns) => inner.setupTableOf(of, frames, gfns),
    querySize: (out) => inner.querySize(out),
    querySizeOf: (of, out) => inner.querySizeOf(of, out),
    setVersion: (version) => inner.setVersion(version),
    getVersion: (of) => inner.getVersion(of),
    getStatusFrames: (frames, out) => inner.getStatusFrames(frames, out),
    getStatusFramesOf: (of, frames, gfns) => inner.getStatusFramesOf(of, frames, gfns),
    cacheFlush: (mfn, offset, bytes, op) => inner.cacheFlush(mfn, offset, bytes, op),
  };
}

/** Loses, delays and doubles the doorbells that a domain rings. */
class FaultyPorts implements DomainPorts {
  readonly #inner: DomainPorts;
  readonly #world: World;
  readonly #core: DomainCore;

  constructor(inner: DomainPorts, world: World, core: DomainCore) {
    this.#inner = inner;
    this.#world = world;
    this.#core = core;
  }

  send(port: Port): void {
    const { faults, bus } = this.#world;
    const { id } = this.#core;
    const tell = (how: 'lost' | 'late' | 'doubled'): void => {
      if (bus.observed('hv:doorbell-faulted')) bus.emit('hv:doorbell-faulted', { domid: id as DomId, port, how });
    };
    const later = (ticks: number): void => {
      this.#core.scheduler.schedule(() => {
        // The port may be closed by then: a bell in flight rings nobody.
        if (this.#inner.status(port).status === 'interdomain') this.#inner.send(port);
      }, ticks);
    };
    if (faults.strike('doorbell-lost', id) >= 0) {
      tell('lost');
      return;
    }
    const late = faults.strike('doorbell-late', id);
    if (late >= 0) {
      tell('late');
      later(late);
      return;
    }
    const doubled = faults.strike('doorbell-doubled', id);
    if (doubled >= 0) {
      tell('doubled');
      later(doubled);
    }
    this.#inner.send(port);
  }

  get domid(): DomId {
    return this.#inner.domid;
  }
  get portCount(): number {
    return this.#inner.portCount;
  }
  allocUnbound(remote: DomId): Port {
    return this.#inner.allocUnbound(remote);
  }
  bindInterdomain(remote: DomId, remotePort: Port): Port {
    return this.#inner.bindInterdomain(remote, remotePort);
  }
  onUpcall(port: Port, handler: () => void): { unsubscribe(): void } {
    return this.#inner.onUpcall(port, handler);
  }
  mask(port: Port): void {
    this.#inner.mask(port);
  }
  unmask(port: Port): void {
    this.#inner.unmask(port);
  }
  isPending(port: Port): boolean {
    return this.#inner.isPending(port);
  }
  clearPending(port: Port): void {
    this.#inner.clearPending(port);
  }
  close(port: Port): void {
    this.#inner.close(port);
  }
  bindVirq(virq: number, vcpu?: number): Port {
    return this.#inner.bindVirq(virq, vcpu);
  }
  bindIpi(vcpu?: number): Port {
    return this.#inner.bindIpi(vcpu);
  }
  bindPirq(pirq: number): Port {
    return this.#inner.bindPirq(pirq);
  }
  bindVcpu(port: Port, vcpu: number): void {
    this.#inner.bindVcpu(port, vcpu);
  }
  status(port: Port): PortStatus {
    return this.#inner.status(port);
  }
  reset(): void {
    this.#inner.reset();
  }
  isMasked(port: Port): boolean {
    return this.#inner.isMasked(port);
  }
  disableUpcalls(): void {
    this.#inner.disableUpcalls();
  }
  enableUpcalls(): void {
    this.#inner.enableUpcalls();
  }
  setUpcallEntry(entry: (() => void) | undefined): void {
    this.#inner.setUpcallEntry(entry);
  }
}

/** Puts the filters round what a new domain is handed. Nothing is in the way when the machine was made without faults. */
export function armDomain(world: World, core: DomainCore): void {
  const { faults } = world;
  if (!faults.armed) return;
  core.hypercalls = faultyHypercalls(core.hypercalls, faults, core.id);
  core.ports = new FaultyPorts(core.ports, world, core);
  core.pages.allow = () => faults.strike('page-alloc', core.id) < 0;
  core.memory.allow = () => faults.strike('frame-alloc', core.id) < 0;
  const { pageUse } = core;
  const until = new Map<number, number>();
  pageUse.held = (vfn) => {
    const held = until.get(vfn);
    if (held !== undefined && world.clock.now < held) return true;
    until.delete(vfn);
    const ticks = faults.strike('page-held', core.id);
    if (ticks >= 0) until.set(vfn, world.clock.now + ticks);
    return ticks >= 0;
  };
}

/** Faults that come of themselves, after a step of a domain. */
export function armMachine(world: World, strike: (core: DomainCore, how: 'domain-paused' | 'domain-killed', ticks: number) => void): void {
  const { faults, loop, channels } = world;
  if (!faults.armed) return;
  const random = world.random(-1, 'spurious doorbells');
  loop.afterStep = (agent) => {
    const core = world.parties[agent.domid];
    if (core === undefined || agent.domid === SERVICE_DOMID || !core.alive) return;
    if (faults.strike('doorbell-spurious', core.id) >= 0) {
      const ports: number[] = [];
      channels.eachPort(core.id as DomId, (port) => ports.push(port));
      if (ports.length > 0) channels.raise(core.id as DomId, ports[random.below(ports.length)]!);
    }
    if (core.pauses === 0) {
      const ticks = faults.strike('domain-paused', core.id);
      if (ticks >= 0) strike(core, 'domain-paused', ticks);
    }
    if (faults.strike('domain-killed', core.id) >= 0) strike(core, 'domain-killed', 0);
  };
}
