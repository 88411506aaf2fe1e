import { OP } from '@paravirt/blkfront';
import { BLKIF_OP, BlockRequest, BlockResponse, GTF, grantDomid, grantFlags, grantV1Frame, SharedRing } from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import { Stack, type StackOptions } from './blkfront-stack.ts';

const XVDA = '/local/domain/1/device/vbd/51712/';
const BACK = '/local/domain/0/backend/vbd/1/51712/';

/** Every write below the two folders, in order: who, key, value, and whether in a transaction. */
function traced(stack: Stack): string[] {
  const lines: string[] = [];
  const connect = (domid: number): void => {
    const { store: connection } = domid === 0 ? stack.dom0 : stack.guest;
    const write = connection.write.bind(connection);
    connection.write = (path, value, transaction) => {
      const full = path.startsWith('/') ? path : `/local/domain/${domid}/${path}`;
      const key = full.replace(XVDA, 'front ').replace(BACK, 'back ');
      lines.push(`${domid === 0 ? 'B' : 'F'} ${key}=${value}${transaction === undefined ? '' : ' T'}`);
      write(path, value, transaction);
    };
  };
  connect(0);
  connect(stack.guest.id);
  return lines;
}

function entry(stack: Stack, gref: number): { flags: number; domid: number; frame: number } {
  const { views, offset } = stack.guest.memory.frame(stack.guest.memory.grantGfn + (gref >>> 9));
  const at = offset + (gref & 511) * 8;
  return { flags: grantFlags(views, at), domid: grantDomid(views, at), frame: grantV1Frame(views, at) };
}

function ringOf(stack: Stack): SharedRing {
  const gref = Number(stack.front('ring-ref'));
  return new SharedRing('x86_64', [stack.guest.memory.frame(entry(stack, gref).frame)]);
}

/** The first segment's reference of a request whose answer stands over its head. */
function residualGref(ring: SharedRing, index: number): number {
  const slot = new Uint8Array(ring.slotBytes);
  ring.copySlot(index, slot);
  return new DataView(slot.buffer).getUint32(24, true);
}

const connected = (options: StackOptions = {}): Stack => {
  const stack = new Stack(options);
  stack.dev.connectSync();
  return stack;
};

describe('the bytes of a connection', () => {
  it('have the keys, the transactions and the order of states of a live attach and detach', () => {
    const stack = new Stack({ front: { maxSegments: 32 } });
    const lines = traced(stack);
    stack.run();
    stack.dev.device.start();
    stack.run();
    stack.detach();
    stack.run();
    const port = /event-channel=\d+/;
    const frontend = lines.filter((line) => line.startsWith('F')).map((line) => line.replace(port, 'event-channel=P'));
    expect(frontend).toEqual([
      'F front ring-ref=8 T',
      'F front event-channel=P T',
      'F front protocol=x86_64-abi T',
      'F front feature-persistent=1 T',
      'F front state=3 T',
      'F front state=4 T',
      'F front state=6 T',
    ]);
    const states = lines.filter((line) => /state=\d/.test(line)).map((line) => line.replace(/ (front|back) state=(\d).*/, '$2'));
    expect(states.join(' ')).toBe('B2 F3 B4 F4 B5 F6 B6');
  });

  it('show an idle ring as a live host has it: the ring is the first reference, indices one ahead, answers over requests', async () => {
    const stack = connected({ front: { persistent: false } });
    const gfns = [stack.page(7)];
    let done = 0;
    stack.dev.device.onDone = () => done++;
    for (let i = 0; i < 3; i++) stack.dev.device.submit(OP.READ, i * 8, gfns, 0, 8, i);
    stack.run();
    expect(done).toBe(3);
    expect(stack.front('ring-ref')).toBe('8');
    expect(entry(stack, 8)).toMatchObject({ flags: GTF.permit_access | GTF.reading | GTF.writing, domid: 0 });
    const ring = ringOf(stack);
    expect([ring.reqProd, ring.reqEvent, ring.rspProd, ring.rspEvent]).toEqual([3, 4, 3, 4]);
    const response = new BlockResponse();
    const request = new BlockRequest();
    for (let i = 0; i < 3; i++) {
      ring.readResponse(i, response);
      expect(response).toMatchObject({ operation: BLKIF_OP.READ, status: 0 });
      // A response is 12 bytes; sector and segments of the request stay behind it.
      ring.readRequest(i, request);
      expect(request.sector).toBe(i * 8);
    }
    // The references of the requests are revoked: flags 0, domid and frame as they were.
    const used = entry(stack, residualGref(ring, 2));
    expect(used).toMatchObject({ flags: 0, domid: 0, frame: gfns[0] });
  });

  it('show requests under way as a live host has them, direct, indirect and a flush', () => {
    const stack = connected({ front: { persistent: false, maxSegments: 32 } });
    stack.disk.held = true;
    const gfns = Array.from({ length: 20 }, () => stack.page(1));
    const { device } = stack.dev;
    device.submit(OP.READ, 100, gfns, 0, 8, 1);
    device.submit(OP.WRITE, 200, gfns, 512, 8, 2);
    device.submit(OP.WRITE, 400, gfns, 0, 20 * 8, 3);
    device.submit(OP.FLUSH, 0, null, 0, 0, 4);
    stack.run();
    const ring = ringOf(stack);
    expect((ring.reqProd - ring.rspProd) >>> 0).toBe(4);
    const request = new BlockRequest();
    ring.readRequest(0, request);
    expect(request).toMatchObject({ operation: BLKIF_OP.READ, nrSegments: 1, handle: 51712, sector: 100 });
    // The backend maps a read's page writable ...
    expect(entry(stack, request.grefs[0]!)).toMatchObject({ flags: 0x19, frame: gfns[0] });
    ring.readRequest(1, request);
    expect(request).toMatchObject({ operation: BLKIF_OP.WRITE, nrSegments: 2 });
    expect([request.firstSect[0], request.lastSect[0], request.firstSect[1], request.lastSect[1]]).toEqual([1, 7, 0, 0]);
    // ... and a write's read-only. The grant itself is read-only too, which a live Linux guest leaves out.
    expect(entry(stack, request.grefs[0]!).flags).toBe(GTF.permit_access | GTF.readonly | GTF.reading);
    ring.readRequest(2, request);
    expect(request).toMatchObject({ operation: BLKIF_OP.INDIRECT, indirectOp: BLKIF_OP.WRITE, nrSegments: 20, handle: 51712 });
    // Indirect pages are mapped only while the request is parsed.
    expect(entry(stack, request.indirectGrefs[0]!).flags & (GTF.reading | GTF.writing)).toBe(0);
    ring.readRequest(3, request);
    expect(request).toMatchObject({ operation: BLKIF_OP.FLUSH_DISKCACHE, nrSegments: 0, sectorLo: 0xffff_ffff, sectorHi: 0xffff_ffff });
    stack.disk.release();
    stack.run();
    expect(device.busy).toBe(0);
  });

  it('stay granted and mapped under persistent grants, writable both ways', async () => {
    const stack = connected({ front: { maxSegments: 32 } });
    await stack.settled(stack.dev.write(0, new Uint8Array(4096).fill(3)));
    expect(entry(stack, residualGref(ringOf(stack), 0)).flags).toBe(0x19);
  });

  it('are served from a table of version 2 as well', async () => {
    const stack = connected({ grantVersion: 2, front: { maxSegments: 32 } });
    const data = new Uint8Array(30 * 4096).map((_, i) => i * 7);
    await stack.settled(stack.dev.write(0, data));
    expect(await stack.settled(stack.dev.read(0, data.length))).toEqual(data);
    await stack.settled(stack.dev.close());
    stack.run(5000);
    expect(stack.leftovers()).toEqual([]);
  });

  it('come about also when the frontend is ready seconds before the backend knows its disk', async () => {
    const stack = new Stack({ attach: { hotplug: 'manual' } });
    stack.dev.device.start();
    stack.run(7000);
    expect([stack.front('state'), stack.back('state')]).toEqual(['3', '2']);
    expect(stack.dev.state).toBe('initialised');
    stack.attached.plug();
    stack.run();
    expect([stack.front('state'), stack.back('state')]).toEqual(['4', '4']);
    expect((await stack.settled(stack.dev.read(0, 512))).length).toBe(512);
  });

  it('come back after an orderly close of a hundred connections in a row', async () => {
    const stack = new Stack({ front: { queues: 2, ringPages: 2 } });
    for (let i = 0; i < 100; i++) {
      await stack.settled(stack.dev.connect());
      await stack.settled(stack.dev.read(i * 8, 4096));
      await stack.settled(stack.dev.close());
      expect(stack.leftovers()).toEqual([]);
    }
  });
});
