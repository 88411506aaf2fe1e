import { createEventWords, type DomainPorts, type EventChannels } from '@paravirt/event-bus';
import type { DomId, Port } from '@paravirt/event-bus/contract';
import { CONSOLE_RING } from './boot.ts';
import type { DomainCore } from './domain.ts';

/** The domid under which the machine's own end of the store's and the console's event channels stands. */
export const SERVICE_DOMID = 0x7fe0;

/** Ring of the console page. @see xen/include/public/io/console.h, struct xencons_interface */
const OUT = 1024;
const OUT_BYTES = 2048;
const IN_BYTES = 1024;
const IN_CONS = 3072;
const IN_PROD = 3076;
const OUT_CONS = 3080;
const OUT_PROD = 3084;

interface Bound {
  readonly port: Port;
  readonly served: { close(): void };
}

/** A store connection over a domain's ring page. */
export interface RingServer {
  /** The guest rang. */
  rung(): void;
  close(): void;
}

/** What the services need of their machine. */
export interface ServiceParts {
  readonly channels: EventChannels;
  /** Opens the store's end of a domain's ring; `notify` rings the guest. */
  openStoreRing(core: DomainCore, notify: () => void): RingServer;
  console(core: DomainCore, text: string): void;
  /** Whether the services have something to do already. */
  waiting(): boolean;
}

/** The store's and the console's daemons: the other end of the two rings that a domain finds at boot. */
export class Services {
  readonly #parts: ServiceParts;
  readonly #ports: DomainPorts;
  readonly #bound: Map<number, Bound[]> = new Map();
  readonly #words: ReturnType<typeof createEventWords> = createEventWords();

  constructor(parts: ServiceParts) {
    this.#parts = parts;
    this.#ports = parts.channels.addDomain({ domid: SERVICE_DOMID as DomId, ...this.#words });
  }

  /** Whether two more ports can be had: there are 4,095, two a domain. */
  get full(): boolean {
    return this.#bound.size >= 2047;
  }

  /** Makes the domain's two ports and stands at their other ends. */
  bind(core: DomainCore): void {
    const { id } = core;
    const service = SERVICE_DOMID as DomId;
    const storePort = core.ports.allocUnbound(service);
    const consolePort = core.ports.allocUnbound(service);
    core.storePort = storePort;
    core.consolePort = consolePort;
    // A new binding is pending at once, although the guest has not asked for anything yet: that ring is taken back unheard.
    const quiet = !this.#parts.waiting();
    this.#ports.disableUpcalls();
    const store = this.#ports.bindInterdomain(id as DomId, storePort);
    const ring = this.#parts.openStoreRing(core, () => this.#ports.send(store));
    this.#ports.onUpcall(store, () => ring.rung());
    const consoleEnd = this.#ports.bindInterdomain(id as DomId, consolePort);
    this.#ports.onUpcall(consoleEnd, () => this.#drainConsole(core, consoleEnd));
    this.#ports.clearPending(store);
    this.#ports.clearPending(consoleEnd);
    if (quiet) this.#words.views.u8[this.#words.offset + this.#words.layout.upcallPending] = 0;
    this.#ports.enableUpcalls();
    this.#bound.set(id, [
      { port: store, served: ring },
      { port: consoleEnd, served: { close() {} } },
    ]);
  }

  /** The domain died. */
  unbind(domid: number): void {
    for (const { port, served } of this.#bound.get(domid) ?? []) {
      served.close();
      this.#ports.close(port);
    }
    this.#bound.delete(domid);
  }

  /** Puts text into a domain's console, as much as fits. @returns the bytes taken. */
  type(core: DomainCore, text: string): number {
    const { views, offset } = core.boot[CONSOLE_RING]!;
    const { u8, u32 } = views;
    const prod = u32[(offset + IN_PROD) >>> 2]!;
    const room = IN_BYTES - ((prod - u32[(offset + IN_CONS) >>> 2]!) >>> 0);
    const count = Math.max(0, Math.min(room, text.length));
    for (let i = 0; i < count; i++) u8[offset + ((prod + i) & (IN_BYTES - 1))] = text.charCodeAt(i) & 0xff;
    u32[(offset + IN_PROD) >>> 2] = prod + count;
    const bound = this.#bound.get(core.id);
    if (count > 0 && bound !== undefined) this.#ports.send(bound[1]!.port);
    return count;
  }

  #drainConsole(core: DomainCore, port: Port): void {
    const { views, offset } = core.boot[CONSOLE_RING]!;
    const { u8, u32 } = views;
    const cons = u32[(offset + OUT_CONS) >>> 2]!;
    const count = (u32[(offset + OUT_PROD) >>> 2]! - cons) >>> 0;
    // More than the ring holds is nonsense: the guest's output starts anew.
    if (count > OUT_BYTES) {
      u32[(offset + OUT_CONS) >>> 2] = u32[(offset + OUT_PROD) >>> 2]!;
      return;
    }
    if (count === 0) return;
    let text = '';
    for (let i = 0; i < count; i++) text += String.fromCharCode(u8[offset + OUT + ((cons + i) & (OUT_BYTES - 1))]!);
    u32[(offset + OUT_CONS) >>> 2] = cons + count;
    this.#ports.send(port);
    this.#parts.console(core, text);
  }
}
