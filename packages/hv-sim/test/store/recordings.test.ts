import { type DomId, domId } from '@paravirt/event-bus/contract';
import type { StoreRingConnection } from '@paravirt/hv-sim';
import { createStore } from '@paravirt/hv-sim';
import { recentXsMessages, XS_TYPE, xsTypeName } from '@paravirt/xen-abi';
import { expect, it } from 'vitest';
import { RingGuest } from './ring-guest.ts';
import { parseTrace, payloadOf, recording, type TraceLine } from './trace.ts';

const DOM0 = domId(0);
const GUEST = domId(6);
const BACKEND_KERNEL = '0x555a6b751dc0';
const FRONTEND_KERNEL = '0x555a6b785fa0';
const XENCONSOLED = '0x555a6b754e60';

/** What was in the store before the trace begins, as far as the trace looks at it. */
const BEFORE: Record<string, string> = {
  '/local/pool/0/name': 'Pool-0',
  '/local/domain/0/name': 'Domain-0',
  '/local/domain/0/domid': '0',
};

interface Peer {
  guest: RingGuest;
  ring: StoreRingConnection;
  /** The transaction that the connection has open, as its requests go into it. */
  transaction: number;
  transactions: number;
}

/** Replays traces on one store, every connection over a ring page of its own. */
function replayer() {
  const store = createStore({ enqueue: () => undefined });
  const tools = store.connect(DOM0);
  for (const [path, value] of Object.entries(BEFORE)) tools.write(path, value);
  for (const path of ['/vm', '/libxl', '/local/domain/0/backend']) tools.mkdir(path);
  const peers = new Map<string, Peer>();
  const open = (connection: string): Peer => {
    const domid: DomId = connection === FRONTEND_KERNEL ? GUEST : DOM0;
    const guest = new RingGuest(undefined, 0);
    const peer = { guest, ring: store.openRing(domid, guest.page, () => undefined), transaction: 0, transactions: 0 };
    peers.set(connection, peer);
    return peer;
  };
  /** A request that was made before the trace begins. */
  const earlier = (connection: string, type: number, payload: string): void => {
    const peer = peers.get(connection) ?? open(connection);
    const answer = peer.guest.ask(peer.ring, type, payload);
    if (type === XS_TYPE.TRANSACTION_START) {
      peer.guest.ask(peer.ring, XS_TYPE.TRANSACTION_END, 'F\0', Number.parseInt(answer.text, 10));
      peer.transactions += 1;
    }
    peer.guest.take();
  };
  return { store, tools, peers, open, earlier };
}

/**
 * Plays a trace's requests and compares what each connection hears. Between connections the order of the recorded answers is
 * that of the daemon's writing into sockets; within one it is exact.
 */
function play({ peers, open }: ReturnType<typeof replayer>, lines: TraceLine[]): { requests: number; answers: number } {
  const expected = new Map<string, TraceLine[]>();
  for (const line of lines) {
    if (!line.out) continue;
    const of = expected.get(line.connection);
    if (of === undefined) expected.set(line.connection, [line]);
    else of.push(line);
  }
  let requests = 0;
  let answers = 0;
  const heard = (connection: string, peer: Peer): void => {
    for (const { type, text } of peer.guest.take()) {
      const next = expected.get(connection)?.shift();
      // A trace ends in the middle of things.
      if (next === undefined) continue;
      const ours = `${xsTypeName(type)} (${text.replaceAll('\0', ' ')})`;
      expect(`${ours} to ${connection}`, `line ${next.line}`).toBe(`${next.type} (${next.shown}) to ${connection}`);
      answers += 1;
      if (type === XS_TYPE.TRANSACTION_START) {
        peer.transaction = Number.parseInt(text, 10);
        peer.transactions += 1;
      }
    }
  };
  for (const line of lines) {
    if (line.out) continue;
    let peer = peers.get(line.connection) ?? open(line.connection);
    if (line.type === 'TRANSACTION_START') {
      // A tool that comes again gets its predecessor's address; its transactions count from 1 again.
      const answer = expected.get(line.connection)?.find(({ type }) => type === 'TRANSACTION_START');
      if (answer?.shown === '1 ' && peer.transactions > 0) {
        peer.ring.close();
        peer = open(line.connection);
      }
    }
    const anywhere = line.type === 'WATCH' || line.type === 'UNWATCH' || line.type === 'TRANSACTION_START';
    peer.guest.put(XS_TYPE[line.type], payloadOf(line), anywhere ? 0 : peer.transaction);
    if (line.type === 'TRANSACTION_END') peer.transaction = 0;
    requests += 1;
    for (let round = 0; peer.guest.unsent.length > 0 || round < 2; round += 1) {
      peer.guest.push();
      peer.ring.rung();
      for (const [connection, other] of peers) {
        heard(connection, other);
        other.ring.rung();
      }
    }
  }
  return { requests, answers };
}

/** The lines of a recorded listing that are of the folders a trace shows whole, as the store prints them. */
function listing(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

it('answers the recorded boot and detach of a block device as xenstored did, to every connection in order', () => {
  const machine = replayer();
  const { earlier, store } = machine;
  earlier(XENCONSOLED, XS_TYPE.WATCH, '@introduceDomain\0domlist\0');
  earlier(BACKEND_KERNEL, XS_TYPE.WATCH, 'backend\0FFFFFFFF82BB0D40\0');
  for (let i = 1; i <= 30; i += 1) earlier(BACKEND_KERNEL, XS_TYPE.TRANSACTION_START, '\0');
  expect(play(machine, parseTrace(recording('handshake-boot.trace.txt').toString()))).toEqual({ requests: 406, answers: 482 });
  expect(store.isIntroduced(GUEST)).toBe(true);

  // The guest's ring page is now, byte for byte, the one that was captured in the live guest.
  const { page } = machine.peers.get(FRONTEND_KERNEL)!.guest;
  const captured = recording('xenstore-ring.bin');
  expect(Buffer.from(page.views.u8.subarray(page.offset, page.offset + 4096)).compare(captured)).toBe(0);

  // And the tree is the one that was listed then: values, permissions and the order of nodes.
  const recorded = listing(recording('xenstore-ls.txt').toString());
  const ours = new Set(recorded.map((line) => line.slice(0, line.indexOf(' = '))));
  const printed = listing(store.export({ permissions: true })).filter((line) => ours.has(line.slice(0, line.indexOf(' = '))));
  expect(printed).toEqual(recorded);

  expect(play(machine, parseTrace(recording('handshake-detach.trace.txt').toString()))).toEqual({ requests: 82, answers: 93 });
  expect(store.export()).not.toContain('/vbd');
});

it('answers the requests that were captured in a guest’s ring page as they were answered there', () => {
  const window = new Uint8Array(recording('xenstore-ring.bin'));
  const indices = new DataView(window.buffer, window.byteOffset + 2048);
  const requests = recentXsMessages(window.subarray(0, 1024), indices.getUint32(4, true));
  const answers = recentXsMessages(window.subarray(1024, 2048), indices.getUint32(12, true));
  expect(requests).toHaveLength(17);
  const { store, tools, open } = replayer();
  // The tree of that moment, but for the state that the guest is about to write.
  tools.mkdir('/local/domain/6');
  for (const line of listing(recording('xenstore-ls.txt').toString())) {
    const [, path, value, permissions] = /^(\S+) = "(.*)" {3}\((.*)\)$/.exec(line)!;
    tools.write(path!, path!.endsWith('6/device/vbd/51712/state') ? '3' : value!);
    const letters = { n: 'none', r: 'read', w: 'write', b: 'both' } as const;
    const perms = permissions!.split(',').map((perm) => ({ domid: domId(Number(perm.slice(1))), access: letters[perm[0] as 'n'] }));
    tools.setPermissions(path!, perms);
  }
  store.introduce(GUEST);
  const { guest, ring } = open(FRONTEND_KERNEL);
  for (let i = 0; i < 4; i += 1) {
    const id = guest.ask(ring, XS_TYPE.TRANSACTION_START, '\0').text;
    guest.ask(ring, XS_TYPE.TRANSACTION_END, 'F\0', Number.parseInt(id, 10));
  }
  let compared = 0;
  for (const { type, txId, payload, reqId } of requests) {
    const answer = guest.ask(ring, type, String.fromCharCode(...payload), txId);
    const recorded = answers.find((other) => other.reqId === reqId && other.type !== XS_TYPE.WATCH_EVENT);
    expect([xsTypeName(answer.type), answer.txId, answer.text], `request ${reqId}`).toEqual([
      xsTypeName(recorded!.type),
      recorded!.txId,
      String.fromCharCode(...recorded!.payload),
    ]);
    compared += 1;
  }
  expect(compared).toBe(17);
});
