import type { DomId, Gfn, Port } from '@paravirt/event-bus/contract';
import { gnttab } from '@paravirt/gnttab';
import { BackRing, BlockRequest, BlockResponse, FrontRing, SharedRing } from '@paravirt/xen-abi';
import type { Domain, Machine } from '../../src/index.ts';

const HOST = 2;

/** The backend of a device that answers every request by adding one to the bytes of its page. */
export function serveLoopback(dom0: Domain): void {
  dom0.store.write('backend/loop', '');
  dom0.store.watch('backend/loop', (path) => {
    const match = /loop\/(\d+)$/.exec(path);
    const value = match === null ? undefined : dom0.store.read(path);
    if (match === null || value === undefined || value === '') return;
    const peer = Number(match[1]) as DomId;
    const [ref, remote] = value.split(' ').map(Number) as [number, number];
    connect(dom0, peer, ref, remote as Port, path);
  });
}

function connect(dom0: Domain, peer: DomId, ref: number, remote: Port, path: string): void {
  const [ringPage, dataPage] = [dom0.addresses.alloc(1), dom0.addresses.alloc(1)];
  const map = (vfn: number, gref: number) => {
    const op = { vfn, flags: HOST, ref: gref, domid: peer, status: 77, handle: -1, mfn: -1 };
    dom0.hypercalls.map([op], 1);
    if (op.status !== 0) throw new Error(`domain ${peer}: map of reference ${gref} says ${op.status}`);
    return op;
  };
  const ringMap = map(ringPage, ref);
  const frame = { views: dom0.addressSpace.views, offset: 0 };
  dom0.addressSpace.locate(ringPage, true, frame);
  const ring = new BackRing(new SharedRing('x86_64', [frame]));
  const port = dom0.events.bindInterdomain(peer, remote);
  const request = new BlockRequest();
  dom0.events.onUpcall(port, () => {
    while (ring.unconsumed() > 0) {
      ring.getRequest(request);
      if (request.operation === 0xff) {
        // The guest takes its leave.
        dom0.hypercalls.unmap([{ vfn: ringPage, handle: ringMap.handle, status: 77 }], 1);
        dom0.events.close(port);
        dom0.addresses.free(ringPage);
        dom0.addresses.free(dataPage);
        dom0.store.remove(path);
        return;
      }
      const data = map(dataPage, request.grefs[0]!);
      const at = dom0.addressSpace.resolve(dataPage, true);
      const { u8 } = dom0.addressSpace.views;
      for (let i = 0; i < 4096; i++) u8[at + i]! += 1;
      dom0.hypercalls.unmap([{ vfn: dataPage, handle: data.handle, status: 77 }], 1);
      ring.putResponse(request.idLo, request.idHi, request.operation, 0);
    }
    if (ring.push()) dom0.events.send(port);
  });
}

/** The front of the device: connects, does one request, checks its bytes and leaves. */
export function useLoopback(guest: Domain, dom0: DomId, done: () => void): void {
  const grants = guest.use(gnttab({ owner: guest.id }), { hypercalls: guest.hypercalls, scheduler: guest.scheduler });
  const [ringGfn, dataGfn] = [guest.pages.alloc() as Gfn, guest.pages.alloc() as Gfn];
  const front = new FrontRing(initialised(guest, ringGfn));
  const port = guest.events.allocUnbound(dom0);
  const ringRef = grants.grantForeignAccess({ peer: dom0, gfn: ringGfn, readonly: false });
  const dataRef = grants.grantForeignAccess({ peer: dom0, gfn: dataGfn, readonly: false });
  guest.memory.write(dataGfn * 4096, new Uint8Array(4096).fill(guest.id & 0x7f));
  const request = new BlockRequest();
  const response = new BlockResponse();
  const ask = (operation: number): void => {
    request.operation = operation;
    request.nrSegments = 1;
    request.grefs[0] = dataRef;
    request.idLo = guest.id;
    front.putRequest(request);
    front.push();
    guest.events.send(port);
  };
  guest.events.onUpcall(port, () => {
    if (front.unconsumed() === 0) return;
    front.getResponse(response);
    const bytes = new Uint8Array(4096);
    guest.memory.read(dataGfn * 4096, bytes);
    if (response.idLo !== guest.id || bytes.some((byte) => byte !== (guest.id & 0x7f) + 1))
      throw new Error(`domain ${guest.id} got wrong bytes`);
    grants.endForeignAccess(dataRef);
    ask(0xff);
    done();
  });
  guest.store.write(`/local/domain/${dom0}/backend/loop/${guest.id}`, `${ringRef} ${port}`);
  ask(1);
}

function initialised(guest: Domain, gfn: Gfn): SharedRing {
  const ring = new SharedRing('x86_64', [guest.pages.frame(gfn)]);
  ring.init();
  return ring;
}

/** Lets a guest announce its device, as its toolstack would. */
export function announce(machine: Machine, dom0: Domain, guest: Domain): void {
  const path = `backend/loop/${guest.id}`;
  dom0.store.write(path, '');
  dom0.store.setPermissions(path, [{ domid: guest.id, access: 'none' }]);
  void machine;
}
