import type { Plugin } from '@paravirt/event-bus/contract';
import { BYTES, type Mailbox, type MailboxDeps, TEXT, WRITTEN } from '../src/mailbox.ts';

/** The driver as it was first written. Two mistakes: it does not wait until a letter was taken, and it forgets its port. */
export function hastyMailbox(options: {
  readonly peer: Parameters<MailboxDeps['events']['allocUnbound']>[0];
}): Plugin<MailboxDeps, Mailbox> {
  return {
    name: 'hasty-mailbox',
    requires: ['grants', 'pages', 'events'],
    attach({ grants, pages, events }) {
      const gfn = pages.alloc()!;
      const gref = grants.grantForeignAccess({ peer: options.peer, gfn, readonly: false });
      const port = events.allocUnbound(options.peer);
      const page = pages.frame(gfn);
      return {
        api: {
          gref,
          port,
          waiting: 0,
          send(letter) {
            const bytes = new TextEncoder().encode(letter);
            const { u8, u32 } = page.views;
            u8.set(bytes, page.offset + TEXT);
            u32[page.offset / 4 + BYTES] = bytes.length;
            u32[page.offset / 4 + WRITTEN]! += 1;
            events.send(port);
          },
        },
        detach: () => grants.endForeignAccess(gref, gfn),
      };
    },
  };
}
