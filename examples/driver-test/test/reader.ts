import type { DomId, Gref, Port } from '@paravirt/event-bus/contract';
import type { MapOp } from '@paravirt/gnttab';
import type { Domain } from '@paravirt/hv-sim';
import { BYTES, TAKEN, TEXT, WRITTEN } from '../src/mailbox.ts';

const HOST_MAP = 2; // GNTMAP_host_map

/** The other end, as simple as it can be: maps the page, takes what lies in it at each upcall, and rings back. */
export function openReader(domain: Domain, peer: DomId, gref: Gref, theirs: Port): { readonly letters: string[]; close(): void } {
  const vfn = domain.addresses.alloc(1);
  const op: MapOp = { vfn, flags: HOST_MAP, ref: gref, domid: peer, status: 0, handle: 0, mfn: 0 };
  domain.hypercalls.map([op], 1);
  if (op.status !== 0) throw new Error(`the mailbox's page cannot be mapped: status ${op.status}`);
  const letters: string[] = [];
  const port = domain.events.bindInterdomain(peer, theirs);
  const space = domain.addressSpace;
  const upcall = domain.events.onUpcall(port, () => {
    const at = space.resolve(vfn, true);
    const { u8, u32 } = space.views;
    if (u32[at / 4 + TAKEN] === u32[at / 4 + WRITTEN]) return;
    const bytes = Math.min(u32[at / 4 + BYTES]!, 4096 - TEXT);
    letters.push(new TextDecoder().decode(u8.slice(at + TEXT, at + TEXT + bytes)));
    u32[at / 4 + TAKEN] = u32[at / 4 + WRITTEN]!;
    domain.events.send(port);
  });
  return {
    letters,
    close() {
      upcall.unsubscribe();
      domain.events.close(port);
      domain.hypercalls.unmap([{ vfn, handle: op.handle, status: 0 }], 1);
      domain.addresses.free(vfn);
    },
  };
}
