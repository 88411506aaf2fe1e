import type { EventPorts } from '@paravirt/event-bus';
import { type DomId, type Plugin, port } from '@paravirt/event-bus/contract';
import type { GrantHypercalls, MapOp, MemoryViews } from '@paravirt/gnttab';
import { GNTMAP, grantStatusName, XENBUS_STATE } from '@paravirt/xen-abi';
import { INPUT, OUTPUT, Reader, Writer } from './ring.ts';
import { readNode, readState, readUnsigned, type Store } from './store.ts';

/** What the backend needs of the domain that it runs in. */
export interface ConsbackDeps {
  readonly hypercalls: Pick<GrantHypercalls, 'map' | 'unmap'>;
  /** Virtual pages to map a grant at: the first of `pages`, or -1. */
  readonly addresses: { alloc(pages: number): number; free(vfn: number): void };
  readonly addressSpace: { locate(vfn: number, writable: boolean, out: { views: MemoryViews; offset: number }): void };
  readonly events: Pick<EventPorts, 'bindInterdomain' | 'onUpcall' | 'send' | 'close'>;
  readonly store: Store;
}

export interface Consback {
  readonly state: 'waiting' | 'connected' | 'closed';
  /** Why the guest was let go, or could not be connected; undefined while all is well. */
  readonly problem: string | undefined;
  /** Sends bytes to the guest. @returns how many fitted; 0 while it is not connected. */
  type(bytes: Uint8Array): number;
  /** Called with what the guest wrote, at most 2048 bytes a call. One handler; what comes while there is none waits in the page. */
  onOutput(handler: (bytes: Uint8Array) => void): void;
  /** Called when the guest has moved, so that input which did not fit can go on. One handler. */
  onRoom(handler: () => void): void;
}

/** The backend of one console. A guest that leaves may come again; one that lies is let go, and nothing else is lost. */
export function consback(options: { readonly frontend: DomId; readonly device?: number }): Plugin<ConsbackDeps, Consback> {
  return {
    name: 'consback',
    requires: ['hypercalls', 'addresses', 'addressSpace', 'events', 'store'],
    attach(deps) {
      const back = new Backend(deps, options.frontend, options.device ?? 1);
      try {
        back.open();
      } catch (error) {
        back.close();
        throw error;
      }
      return { api: back, detach: () => back.close() };
    },
  };
}

class Backend implements Consback {
  state: Consback['state'] = 'waiting';
  problem: string | undefined;
  readonly #deps: ConsbackDeps;
  readonly #peer: DomId;
  readonly #folder: string;
  #frontend = '';
  #watch: { unsubscribe(): void } | undefined;
  /** How to give back what the connection holds, last in first out. */
  readonly #undo: (() => void)[] = [];
  #input: Writer | undefined;
  #output: Reader | undefined;
  #ring: () => void = () => {};
  #onOutput: ((bytes: Uint8Array) => void) | undefined;
  #onRoom: () => void = () => {};

  constructor(deps: ConsbackDeps, frontend: DomId, device: number) {
    this.#deps = deps;
    this.#peer = frontend;
    this.#folder = `backend/console/${frontend}/${device}`;
  }

  open(): void {
    const { store } = this.#deps;
    const frontend = readNode(store, `${this.#folder}/frontend`);
    if (frontend === undefined) throw new Error(`${this.#folder} names no frontend: is there such a console?`);
    this.#frontend = frontend;
    this.#say(XENBUS_STATE.InitWait);
    this.#watch = store.watch(`${frontend}/state`, () => this.#frontendChanged());
  }

  type(bytes: Uint8Array): number {
    const count = this.state === 'connected' ? this.#input!.write(bytes) : 0;
    if (count < 0) this.#letGo('the guest took more bytes than were sent');
    if (count > 0) this.#ring();
    return Math.max(count, 0);
  }

  onOutput(handler: (bytes: Uint8Array) => void): void {
    this.#onOutput = handler;
    this.#take();
  }

  onRoom(handler: () => void): void {
    this.#onRoom = handler;
  }

  close(): void {
    if (this.state === 'closed') return;
    this.#watch?.unsubscribe();
    this.#letGo(this.problem);
    this.state = 'closed';
  }

  #say(state: number): void {
    try {
      this.#deps.store.write(`${this.#folder}/state`, String(state));
    } catch {
      // The folder is gone with its guest: nobody is left to be told.
    }
  }

  #frontendChanged(): void {
    if (this.state === 'closed') return;
    const state = readState(this.#deps.store, this.#frontend);
    if (state === XENBUS_STATE.Initialised && this.state === 'waiting') {
      const problem = this.#connect();
      if (problem !== undefined) this.#letGo(problem);
    } else if (state === XENBUS_STATE.Closing || state === XENBUS_STATE.Closed) {
      if (this.state === 'connected') this.#letGo(undefined);
    }
  }

  /** @returns what is wrong with what the guest offers; undefined when it is connected. */
  #connect(): string | undefined {
    const { hypercalls, addresses, addressSpace, events, store } = this.#deps;
    const gref = readUnsigned(store, `${this.#frontend}/ring-ref`);
    const theirs = readUnsigned(store, `${this.#frontend}/port`);
    if (gref === undefined || theirs === undefined) return 'ring-ref or port is not a number';

    const vfn = addresses.alloc(1);
    if (vfn < 0) return 'there is no address left to map its page at';
    this.#undo.push(() => addresses.free(vfn));
    const op: MapOp = { vfn, flags: GNTMAP.host_map, ref: gref, domid: this.#peer, status: 0, handle: 0, mfn: 0 };
    const result = hypercalls.map([op], 1);
    if (result !== 0 || op.status !== 0) return `its page cannot be mapped: ${grantStatusName(op.status) ?? result}`;
    this.#undo.push(() => hypercalls.unmap([{ vfn, handle: op.handle, status: 0 }], 1));
    const page = { views: undefined as unknown as MemoryViews, offset: 0 };
    addressSpace.locate(vfn, true, page);
    this.#input = new Writer(page, INPUT);
    this.#output = new Reader(page, OUTPUT);

    try {
      const mine = events.bindInterdomain(this.#peer, port(theirs));
      this.#undo.push(() => events.close(mine));
      this.#ring = () => events.send(mine);
      const upcall = events.onUpcall(mine, () => this.#upcall());
      this.#undo.push(() => upcall.unsubscribe());
    } catch (error) {
      return `its port cannot be bound: ${(error as Error).message}`;
    }
    this.state = 'connected';
    this.problem = undefined;
    this.#say(XENBUS_STATE.Connected);
    this.#upcall();
    return undefined;
  }

  /** Ends the connection, whole or half made. */
  #letGo(reason: string | undefined): void {
    for (const step of this.#undo.splice(0).reverse()) step();
    this.state = 'waiting';
    this.problem = reason;
    this.#say(XENBUS_STATE.Closed);
  }

  #upcall(): void {
    this.#take();
    if (this.state === 'connected') this.#onRoom();
  }

  #take(): void {
    if (this.state !== 'connected' || this.#onOutput === undefined) return;
    const bytes = this.#output!.read();
    if (bytes === undefined) this.#letGo('the guest wrote more bytes than there is room for');
    else if (bytes.length > 0) {
      this.#ring();
      this.#onOutput(bytes);
    }
  }
}
