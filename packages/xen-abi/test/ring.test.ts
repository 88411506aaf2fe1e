import { describe, expect, it } from 'vitest';
import {
  BLKIF_OP,
  BLKIF_RSP,
  BlockRequest,
  BlockResponse,
  readIndirectSegments,
  readRingWindow,
  writeIndirectSegment,
  writeIndirectSegments,
} from '../src/index.ts';
import { ringFixture, scatteredPages } from '../src/testing.ts';

function readRequest(sector: number, id = 1): BlockRequest {
  const request = new BlockRequest();
  request.operation = BLKIF_OP.READ;
  request.handle = 51712;
  request.idLo = id;
  request.setSector(sector);
  request.nrSegments = 1;
  request.setSegment(0, 8, 0, 7);
  return request;
}

describe('a push', () => {
  it('asks for a notification when it crosses the event index of the peer, and only then', () => {
    const { front, shared } = ringFixture();
    front.putRequest(readRequest(0));
    expect(front.push()).toBe(true);
    front.putRequest(readRequest(8));
    expect(front.push()).toBe(false);
    shared.reqEvent = 4;
    front.putRequest(readRequest(16));
    expect(front.push()).toBe(false);
    front.putRequest(readRequest(24));
    expect(front.push()).toBe(true);
  });

  it('that publishes nothing new never notifies, wherever the event index stands', () => {
    const { front, back, shared } = ringFixture({ index: 0xffff_fff0 });
    for (const event of [0, 0xffff_fff0, 0xffff_fff1, 0xffff_ffff, 0x7fff_fff0]) {
      shared.reqEvent = event;
      shared.rspEvent = event;
      expect([front.push(), back.push()]).toEqual([false, false]);
    }
  });
});

describe('a request', () => {
  it('is invisible until it is pushed', () => {
    const { front, back } = ringFixture();
    front.putRequest(readRequest(0));
    expect(back.unconsumed()).toBe(0);
    front.push();
    expect(back.unconsumed()).toBe(1);
  });

  it('is copied out once: what the peer writes afterwards does not change the copy', () => {
    const { front, back, pages } = ringFixture();
    front.putRequest(readRequest(40));
    front.push();
    const copy = new BlockRequest();
    back.getRequest(copy);
    pages[0]!.views.u8.fill(0xff, pages[0]!.offset, pages[0]!.offset + 4096);
    expect([copy.operation, copy.sector, copy.nrSegments, copy.grefs[0], copy.lastSect[0]]).toEqual([0, 40, 1, 8, 7]);
  });

  it('of a flush keeps its sector of 2^64 - 1 in halves and fails every bound check', () => {
    const { front, back } = ringFixture();
    const flush = new BlockRequest();
    flush.operation = BLKIF_OP.FLUSH_DISKCACHE;
    flush.setSectorHalves(0xffff_ffff, 0xffff_ffff);
    front.putRequest(flush);
    front.push();
    const read = new BlockRequest();
    back.getRequest(read);
    expect([read.sectorExact, read.sectorLo, read.sectorHi, read.sector]).toEqual([
      false,
      0xffff_ffff,
      0xffff_ffff,
      Number.POSITIVE_INFINITY,
    ]);
    expect(read.sector + 8 > Number.MAX_SAFE_INTEGER).toBe(true);
  });

  it('that claims 255 segments gives eleven and the claim', () => {
    const { front, back } = ringFixture();
    const liar = readRequest(0);
    liar.nrSegments = 255;
    front.putRequest(liar);
    front.push();
    const read = new BlockRequest();
    back.getRequest(read);
    expect(read.nrSegments).toBe(255);
    expect(read.grefs).toHaveLength(11);
  });

  it('with sectors up to 2^53 - 1 is exact', () => {
    const request = new BlockRequest();
    request.setSector(Number.MAX_SAFE_INTEGER);
    expect([request.sectorLo, request.sectorHi, request.sectorExact]).toEqual([0xffff_ffff, 0x1f_ffff, true]);
    request.setNrSectors(2 ** 40 + 5);
    expect([request.nrSectorsLo, request.nrSectorsHi, request.nrSectorsExact]).toEqual([5, 256, true]);
  });
});

describe('views that are renewed', () => {
  it('are followed: the ring reads and writes the new ones', () => {
    const { front, back, pages } = ringFixture({ pages: 2, abi: 'x86_32' });
    const { views } = pages[0]!;
    const grown = new ArrayBuffer(views.u8.byteLength * 2);
    new Uint8Array(grown).set(views.u8);
    views.u8 = new Uint8Array(grown);
    views.u16 = new Uint16Array(grown);
    views.u32 = new Uint32Array(grown);
    front.putRequest(readRequest(5, 77));
    expect(front.push()).toBe(true);
    expect(new Uint32Array(grown)[pages[0]!.offset >>> 2]).toBe(1);
    const read = new BlockRequest();
    back.getRequest(read);
    expect([read.idLo, read.sector]).toEqual([77, 5]);
  });
});

describe('an indirect page', () => {
  it('holds 512 segments of eight bytes', () => {
    const page = scatteredPages(1)[0]!;
    for (let i = 0; i < 512; i++) writeIndirectSegment(page, i, 1000 + i, i & 7, 7);
    const out = { grefs: new Uint32Array(600), firstSect: new Uint8Array(600), lastSect: new Uint8Array(600) };
    readIndirectSegments(page, 4096, out, 10);
    expect([out.grefs[9], out.grefs[10], out.grefs[521], out.grefs[522]]).toEqual([0, 1000, 1511, 0]);
    expect([out.firstSect[15], out.lastSect[15]]).toEqual([5, 7]);
    expect(page.views.u8[page.offset + 4096]).toBe(0x3c);
  });
});

describe('segments set many at once', () => {
  it.each([1, 2, 5, 11])('are those set one by one: %d', (count) => {
    const grefs = Uint32Array.from({ length: 20 }, (_, i) => 50 + i);
    const last = (i: number): number => (i === count - 1 ? 4 : 7);
    const [page, other] = [scatteredPages(1, 0xee)[0]!, scatteredPages(1, 0xee)[0]!];
    const [request, single] = [new BlockRequest(), new BlockRequest()];
    for (let i = 0; i < 11; i++) for (const each of [request, single]) each.setSegment(i, 1, 2, 3);
    request.setSegments(grefs, 6, count, 3, 4);
    writeIndirectSegments(page, grefs, 6, count, 3, 4);
    for (let i = 0; i < count; i++) {
      single.setSegment(i, 56 + i, i === 0 ? 3 : 0, last(i));
      writeIndirectSegment(other, i, 56 + i, i === 0 ? 3 : 0, last(i));
    }
    expect(request).toEqual(single);
    expect(page.views.u8).toEqual(other.views.u8);
  });
});

describe("a ring's window", () => {
  it('tells an answered request whose id is used again from one in flight, and counts the hidden one', () => {
    const { front, back, shared } = ringFixture({ index: 0xffff_fffe });
    const request = new BlockRequest();
    const response = new BlockResponse();
    for (const id of [1, 2, 3]) front.putRequest(readRequest(id * 8, id));
    front.push();
    for (let i = 0; i < 3; i++) back.getRequest(request);
    // Request 1, the last of the three, is answered first: its response lies over request 0xfffffffe, still in flight.
    back.putResponse(3, 0, BLKIF_OP.READ, BLKIF_RSP.OKAY);
    back.push();
    front.getResponse(response);
    front.putRequest(readRequest(800, 3));
    front.push();
    const window = readRingWindow(shared);
    expect(window).toMatchObject({ reqProd: 2, rspProd: 0xffff_ffff, unanswered: 3, hidden: 1 });
    expect(window.requests.map(({ index, slot, superseded }) => [index, slot, superseded])).toEqual([
      [0xffff_ffff, 31, false],
      [0, 0, true],
      [1, 1, false],
    ]);
    expect(window.responses).toHaveLength(29);
    expect(window.residues.at(-1)).toMatchObject({
      index: 0xffff_fffe,
      slot: 30,
      sectorLo: 8,
      sectorHi: 0,
      segments: [{ gref: 8 }, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}],
    });
  });

  it('is bounded by the slots when a hostile end claims four thousand million requests', () => {
    const { shared } = ringFixture({ pages: 4 });
    shared.reqProd = 0xffff_ffff;
    const window = readRingWindow(shared);
    expect([window.unanswered, window.requests.length, window.responses.length]).toEqual([0xffff_ffff, 128, 0]);
  });
});
