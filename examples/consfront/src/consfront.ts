import type { EventPorts } from '@paravirt/event-bus';
import { domId, type Gfn, type Gref, type Plugin } from '@paravirt/event-bus/contract';
import type { GrantTable, MemoryFrame } from '@paravirt/gnttab';
import { XENBUS_STATE } from '@paravirt/xen-abi';
import { INPUT, OUTPUT, Reader, Writer } from './ring.ts';
import { readNode, readState, readUnsigned, type Store } from './store.ts';

/** What the frontend needs of the guest that it runs in. */
export interface ConsfrontDeps {
  /** A table that counts pages: the end of a grant gives its page back, now or when the peer has unmapped it. */
  readonly grants: Pick<GrantTable, 'grantForeignAccess' | 'endForeignAccess'>;
  readonly pages: { alloc(): Gfn | undefined; free(gfn: Gfn): void; frame(gfn: Gfn): MemoryFrame };
  readonly events: Pick<EventPorts, 'allocUnbound' | 'onUpcall' | 'send' | 'close'>;
  readonly store: Store;
}

export interface Consfront {
  /** `connecting` until the backend is there; `closed` when it left or lied, and after `detach`. */
  readonly state: 'connecting' | 'connected' | 'closed';
  /** Why it closed; undefined before. */
  readonly problem: string | undefined;
  /** Puts bytes for the backend into the page; a backend that comes later finds them. @returns how many fitted; 0 when closed. */
  write(bytes: Uint8Array): number;
  /** Called with what the backend sent. One handler; what comes while there is none waits in the page. */
  onInput(handler: (bytes: Uint8Array) => void): void;
  /** Called when the backend has moved, so that a write which did not fit can go on. One handler. */
  onRoom(handler: () => void): void;
}

/** The guest's end of console `device` (1 unless given; 0 is the one that a domain is born with). */
export function consfront(options: { readonly device?: number } = {}): Plugin<ConsfrontDeps, Consfront> {
  return {
    name: 'consfront',
    requires: ['grants', 'pages', 'events', 'store'],
    attach(deps) {
      const front = new Frontend(deps, `device/console/${options.device ?? 1}`);
      try {
        front.open();
      } catch (error) {
        front.close(undefined);
        throw error;
      }
      return { api: front, detach: () => front.close('it was detached') };
    },
  };
}

class Frontend implements Consfront {
  state: Consfront['state'] = 'connecting';
  problem: string | undefined;
  readonly #deps: ConsfrontDeps;
  readonly #folder: string;
  /** How to give back what is held, last in first out. */
  readonly #undo: (() => void)[] = [];
  #input: Reader | undefined;
  #output: Writer | undefined;
  #ring: () => void = () => {};
  /** Whether the page and port were offered to the backend. */
  #offered = false;
  #onInput: ((bytes: Uint8Array) => void) | undefined;
  #onRoom: () => void = () => {};

  constructor(deps: ConsfrontDeps, folder: string) {
    this.#deps = deps;
    this.#folder = folder;
  }

  open(): void {
    const { grants, pages, events, store } = this.#deps;
    const backend = readNode(store, `${this.#folder}/backend`);
    const backendId = readUnsigned(store, `${this.#folder}/backend-id`);
    if (backend === undefined || backendId === undefined) throw new Error(`${this.#folder} names no backend: is there such a console?`);
    const peer = domId(backendId);

    const gfn = pages.alloc();
    if (gfn === undefined) throw new Error('the domain has no page left for a console');
    let gref: Gref | undefined;
    this.#undo.push(() => {
      if (gref === undefined) pages.free(gfn);
      else grants.endForeignAccess(gref, gfn);
    });
    gref = grants.grantForeignAccess({ peer, gfn, readonly: false });
    const page = pages.frame(gfn);
    this.#input = new Reader(page, INPUT);
    this.#output = new Writer(page, OUTPUT);

    const port = events.allocUnbound(peer);
    this.#undo.push(() => events.close(port));
    this.#ring = () => events.send(port);
    const upcall = events.onUpcall(port, () => this.#upcall());
    this.#undo.push(() => upcall.unsubscribe());

    for (const [key, value] of [
      ['ring-ref', gref],
      ['port', port],
    ] as const) {
      this.#undo.push(() => store.remove(`${this.#folder}/${key}`));
      store.write(`${this.#folder}/${key}`, String(value));
    }
    this.#undo.push(() => this.#say(XENBUS_STATE.Closed));
    const watch = store.watch(`${backend}/state`, () => this.#backendChanged(backend));
    this.#undo.push(() => watch.unsubscribe());
  }

  write(bytes: Uint8Array): number {
    const count = this.state === 'closed' ? 0 : this.#output!.write(bytes);
    if (count < 0) this.close('the backend took more bytes than were written');
    if (count > 0) this.#ring();
    return Math.max(count, 0);
  }

  onInput(handler: (bytes: Uint8Array) => void): void {
    this.#onInput = handler;
    this.#take();
  }

  onRoom(handler: () => void): void {
    this.#onRoom = handler;
  }

  /** Gives everything back. The reason is undefined where it never opened. */
  close(reason: string | undefined): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.problem = reason;
    for (const step of this.#undo.splice(0).reverse()) {
      try {
        step();
      } catch {
        // The domain or its folder may be gone already; the rest is given back all the same.
      }
    }
  }

  #say(state: number): void {
    this.#deps.store.write(`${this.#folder}/state`, String(state));
  }

  #backendChanged(backend: string): void {
    if (this.state === 'closed') return;
    const state = readState(this.#deps.store, backend);
    if (!this.#offered) {
      // A backend that still serves an earlier connection has to leave it first.
      if (state === XENBUS_STATE.Connected || state === XENBUS_STATE.Closing) return;
      this.#offered = true;
      this.#say(XENBUS_STATE.Initialised);
    } else if (state === XENBUS_STATE.Connected && this.state === 'connecting') {
      this.state = 'connected';
      this.#say(XENBUS_STATE.Connected);
    } else if (this.state === 'connected' && (state === XENBUS_STATE.Closing || state === XENBUS_STATE.Closed)) {
      this.close('the backend left');
    }
  }

  #upcall(): void {
    this.#take();
    if (this.state !== 'closed') this.#onRoom();
  }

  #take(): void {
    if (this.state === 'closed' || this.#onInput === undefined) return;
    const bytes = this.#input!.read();
    if (bytes === undefined) this.close('the backend wrote more bytes than there is room for');
    else if (bytes.length > 0) {
      this.#ring();
      this.#onInput(bytes);
    }
  }
}
