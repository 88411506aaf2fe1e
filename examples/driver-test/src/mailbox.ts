/**
 * The driver under test: a mailbox of one letter over one granted page. Whoever writes a letter waits until the peer has taken it.
 *
 * The page: u32 letters written, u32 letters taken, u32 bytes of the letter, and its text.
 */

import type { EventPorts } from '@paravirt/event-bus';
import type { DomId, Gfn, Gref, Plugin, Port } from '@paravirt/event-bus/contract';
import type { GrantTable, MemoryFrame } from '@paravirt/gnttab';

/** What the driver needs of the domain that it runs in; anything of this shape will do. */
export interface MailboxDeps {
  readonly grants: Pick<GrantTable, 'grantForeignAccess' | 'endForeignAccess'>;
  readonly pages: { alloc(): Gfn | undefined; free(gfn: Gfn): void; frame(gfn: Gfn): MemoryFrame };
  readonly events: Pick<EventPorts, 'allocUnbound' | 'onUpcall' | 'send' | 'close'>;
}

export interface Mailbox {
  /** What the peer is told, by the store as a rule: where the page is, and which port to bind. */
  readonly gref: Gref;
  readonly port: Port;
  /** Letters that wait until the one in the page was taken. */
  readonly waiting: number;
  /** Sends a letter of at most 4084 bytes, now or when its turn comes. @throws {RangeError} it is longer, or 64 wait already. */
  send(letter: string): void;
}

export const WRITTEN = 0;
export const TAKEN = 1;
export const BYTES = 2;
export const TEXT = 12;
const WAITING_MAX = 64;

export function mailbox(options: { readonly peer: DomId }): Plugin<MailboxDeps, Mailbox> {
  return {
    name: 'mailbox',
    requires: ['grants', 'pages', 'events'],
    attach({ grants, pages, events }) {
      const undo: (() => void)[] = [];
      const detach = (): void => {
        for (const step of undo.splice(0).reverse()) step();
      };
      try {
        const gfn = pages.alloc();
        if (gfn === undefined) throw new Error('the domain has no page left for a mailbox');
        let gref: Gref | undefined;
        undo.push(() => {
          // The table gives the page back, now or when the peer has unmapped it.
          if (gref === undefined) pages.free(gfn);
          else grants.endForeignAccess(gref, gfn);
        });
        gref = grants.grantForeignAccess({ peer: options.peer, gfn, readonly: false });
        const port = events.allocUnbound(options.peer);
        undo.push(() => events.close(port));
        const api = createMailbox(gref, port, pages.frame(gfn), () => events.send(port));
        const upcall = events.onUpcall(port, api.taken);
        undo.push(() => upcall.unsubscribe());
        return { api, detach };
      } catch (error) {
        detach();
        throw error;
      }
    },
  };
}

function createMailbox(gref: Gref, port: Port, page: MemoryFrame, ring: () => void): Mailbox & { taken(): void } {
  const waiting: Uint8Array[] = [];
  // Our own count is kept here: the page is the peer's to write, too.
  let written = 0;
  const empty = (): boolean => page.views.u32[page.offset / 4 + TAKEN] === written;
  const post = (letter: Uint8Array): void => {
    const { u8, u32 } = page.views;
    const word = page.offset / 4;
    u8.set(letter, page.offset + TEXT);
    u32[word + BYTES] = letter.length;
    written = (written + 1) >>> 0;
    u32[word + WRITTEN] = written;
    ring();
  };
  return {
    gref,
    port,
    get waiting() {
      return waiting.length;
    },
    send(letter) {
      const bytes = new TextEncoder().encode(letter);
      if (bytes.length > 4096 - TEXT) throw new RangeError(`a letter has at most ${4096 - TEXT} bytes, this one ${bytes.length}`);
      if (waiting.length === 0 && empty()) post(bytes);
      else if (waiting.length < WAITING_MAX) waiting.push(bytes);
      else throw new RangeError(`${WAITING_MAX} letters wait already`);
    },
    taken() {
      if (waiting.length > 0 && empty()) post(waiting.shift()!);
    },
  };
}
