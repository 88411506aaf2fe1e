import { createEventChannels, createEventWords, createUpcallRunner, type DomainPorts, EvtchnError } from '@paravirt/event-bus';
import { type DomId, domId, type Port } from '@paravirt/event-bus/contract';
import fc from 'fast-check';
import { expect, it } from 'vitest';

const RUNS = process.env['PARAVIRT_FULL'] ? 20_000 : 400;
const DOMAINS = 3;
/** Few ports, so that they run out; one domain has 32-bit words. */
const PORT_MAX = 6;

/** A port of the plain model. */
interface ModelPort {
  kind: 'unbound' | 'interdomain' | 'virq' | 'ipi';
  remote?: number;
  peer?: number;
  handler: boolean;
}

/** What the channels are said to be: sets and maps, searched. */
class Model {
  ports = Array.from({ length: DOMAINS }, () => new Map<number, ModelPort>());
  pending = Array.from({ length: DOMAINS }, () => new Set<number>());
  masked = Array.from({ length: DOMAINS }, () => new Set<number>());

  claim(dom: number): number | 'ENOSPC' {
    for (let port = 1; port <= PORT_MAX; port += 1) if (!this.ports[dom]!.has(port)) return port;
    return 'ENOSPC';
  }

  alloc(dom: number, remote: number): number | string {
    const port = this.claim(dom);
    if (typeof port === 'number') this.ports[dom]!.set(port, { kind: 'unbound', remote, handler: false });
    return port;
  }

  bind(dom: number, remote: number, remotePort: number): number | string {
    if (remote >= DOMAINS) return 'ESRCH';
    const port = this.claim(dom);
    if (typeof port !== 'number') return port;
    const other = this.ports[remote]!.get(remotePort);
    if (other?.kind !== 'unbound' || other.remote !== dom) return 'EINVAL';
    this.ports[dom]!.set(port, { kind: 'interdomain', remote, peer: remotePort, handler: false });
    Object.assign(other, { kind: 'interdomain', remote: dom, peer: port });
    this.pending[dom]!.add(port);
    return port;
  }

  own(dom: number, kind: 'virq' | 'ipi'): number | string {
    if (kind === 'virq' && [...this.ports[dom]!.values()].some((port) => port.kind === 'virq')) return 'EEXIST';
    const port = this.claim(dom);
    if (typeof port === 'number') this.ports[dom]!.set(port, { kind, handler: false });
    return port;
  }

  send(dom: number, number: number): string | undefined {
    const port = this.ports[dom]!.get(number);
    if (port === undefined || port.kind === 'virq') return 'EINVAL';
    if (port.kind === 'interdomain') this.pending[port.remote!]!.add(port.peer!);
    if (port.kind === 'ipi') this.pending[dom]!.add(number);
    return undefined;
  }

  close(dom: number, number: number): string | undefined {
    const port = this.ports[dom]!.get(number);
    if (port === undefined) return 'EINVAL';
    if (port.kind === 'interdomain') {
      Object.assign(this.ports[port.remote!]!.get(port.peer!)!, { kind: 'unbound', remote: dom, peer: undefined });
    }
    this.ports[dom]!.delete(number);
    this.pending[dom]!.delete(number);
    return undefined;
  }

  /** Who is called when the queue runs. */
  run(): string[] {
    const called: string[] = [];
    for (let dom = 0; dom < DOMAINS; dom += 1) {
      for (const [number, port] of this.ports[dom]!) {
        if (!port.handler || !this.pending[dom]!.has(number) || this.masked[dom]!.has(number)) continue;
        this.pending[dom]!.delete(number);
        called.push(`${dom}:${number}`);
      }
    }
    return called.sort();
  }
}

const dom = fc.nat(DOMAINS - 1);
/** Ports in and out of range, and some that are 1 modulo 2^32. */
const number = fc.oneof({ weight: 20, arbitrary: fc.nat(PORT_MAX + 1) }, fc.constantFrom(4096, 2 ** 32, 2 ** 32 + 1, -1, 0.5));
const step = fc.oneof(
  fc.record({ op: fc.constant('alloc' as const), dom, remote: fc.nat(DOMAINS) }),
  fc.record({ op: fc.constant('bind' as const), dom, remote: fc.nat(DOMAINS), number }),
  fc.record({ op: fc.constantFrom('virq' as const, 'ipi' as const), dom }),
  fc.record({ op: fc.constantFrom('send' as const, 'close' as const, 'handle' as const), dom, number }),
  fc.record({ op: fc.constantFrom('send' as const), dom, number: fc.integer({ min: 1, max: PORT_MAX }) }),
  fc.record({ op: fc.constantFrom('mask' as const, 'unmask' as const, 'clear' as const), dom, number: fc.nat(PORT_MAX) }),
  fc.record({ op: fc.constantFrom('raise-virq' as const, 'reset' as const), dom }),
  fc.record({ op: fc.constant('run' as const) }),
);

function attempt<T>(act: () => T): T | string {
  try {
    return act();
  } catch (error) {
    if (error instanceof EvtchnError) return error.refusal.errno;
    throw error;
  }
}

/**
 * Goal: ports, bits, refusals and upcalls are those of Xen's rules. Method: random operations of three domains, good and bad,
 * against a model of sets and maps; after each step every port's status and bits are compared.
 */
it(`behaves as the plain model does, whatever three domains do (${RUNS} runs)`, () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 120, size: 'max' }), (steps) => {
      const runner = createUpcallRunner();
      const channels = createEventChannels({ queue: runner });
      const ports: DomainPorts[] = Array.from({ length: DOMAINS }, (_, i) =>
        channels.addDomain({ ...createEventWords(i === 2 ? 32 : 64), domid: domId(i), portMax: PORT_MAX }),
      );
      const model = new Model();
      let called: string[] = [];
      for (const s of steps) {
        switch (s.op) {
          case 'alloc':
            expect(attempt(() => ports[s.dom]!.allocUnbound(s.remote as DomId))).toBe(model.alloc(s.dom, s.remote));
            break;
          case 'bind':
            expect(attempt(() => ports[s.dom]!.bindInterdomain(s.remote as DomId, s.number as Port))).toBe(
              model.bind(s.dom, s.remote, s.number),
            );
            break;
          case 'virq':
            expect(attempt(() => ports[s.dom]!.bindVirq(0))).toBe(model.own(s.dom, 'virq'));
            break;
          case 'ipi':
            expect(attempt(() => ports[s.dom]!.bindIpi())).toBe(model.own(s.dom, 'ipi'));
            break;
          case 'send':
            expect(attempt(() => ports[s.dom]!.send(s.number as Port))).toBe(model.send(s.dom, s.number));
            break;
          case 'close':
            expect(attempt(() => ports[s.dom]!.close(s.number as Port))).toBe(model.close(s.dom, s.number));
            break;
          case 'handle': {
            const port = model.ports[s.dom]!.get(s.number);
            const expected = port === undefined ? 'EINVAL' : port.handler ? 'EEXIST' : undefined;
            const result = attempt(() => {
              ports[s.dom]!.onUpcall(s.number as Port, () => called.push(`${s.dom}:${s.number}`));
            });
            expect(result).toBe(expected);
            if (port !== undefined) port.handler = true;
            break;
          }
          case 'mask':
            ports[s.dom]!.mask(s.number as Port);
            model.masked[s.dom]!.add(s.number);
            break;
          case 'unmask':
            ports[s.dom]!.unmask(s.number as Port);
            model.masked[s.dom]!.delete(s.number);
            break;
          case 'clear':
            ports[s.dom]!.clearPending(s.number as Port);
            model.pending[s.dom]!.delete(s.number);
            break;
          case 'raise-virq': {
            const bound = [...model.ports[s.dom]!].find(([, { kind }]) => kind === 'virq');
            expect(channels.raiseVirq(s.dom as DomId, 0)).toBe(bound !== undefined);
            if (bound !== undefined) model.pending[s.dom]!.add(bound[0]);
            break;
          }
          case 'reset':
            ports[s.dom]!.reset();
            for (const port of [...model.ports[s.dom]!.keys()]) model.close(s.dom, port);
            break;
          case 'run':
            called = [];
            runner.run(channels);
            expect(called.sort()).toEqual(model.run());
            break;
        }
        // One comparison a step: an assertion for each bit would cost more than all the rest.
        let ours = '';
        let theirs = '';
        for (let d = 0; d < DOMAINS; d += 1) {
          for (let p = 0; p <= PORT_MAX; p += 1) {
            const port = model.ports[d]!.get(p);
            const { status, remote, remotePort } = ports[d]!.status(p as Port) as { status: string; remote?: number; remotePort?: number };
            ours += `${d}:${p} ${status} ${remote} ${remotePort} ${ports[d]!.isPending(p as Port)} ${ports[d]!.isMasked(p as Port)}\n`;
            theirs += `${d}:${p} ${port?.kind ?? 'closed'} ${port?.remote} ${port?.peer} ${model.pending[d]!.has(p)} ${model.masked[d]!.has(p)}\n`;
          }
        }
        if (ours !== theirs) expect(ours, JSON.stringify(s)).toBe(theirs);
      }
    }),
    { numRuns: RUNS },
  );
}, 600_000);
