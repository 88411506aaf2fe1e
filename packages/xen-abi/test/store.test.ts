import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeXsMessage, encodeXsMessage, pagesOfBytes, recentXsMessages, StoreRing, XS_TYPE, type XsMessage } from '../src/index.ts';

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const u32 = fc.nat({ max: 0xffff_ffff });
const payload = fc.uint8Array({ maxLength: 300 });

function ringPage(): { requests: StoreRing; page: ReturnType<typeof pagesOfBytes>[number] } {
  const page = pagesOfBytes(new Uint8Array(4096))[0]!;
  return { requests: new StoreRing(page, 'requests'), page };
}

describe('a store message', () => {
  it('is a header of sixteen bytes and its payload, and reads back', () => {
    const bytes = encodeXsMessage({ type: XS_TYPE.READ, reqId: 7, txId: 0, payload: text('/a\0') });
    expect([...bytes]).toEqual([2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 47, 97, 0]);
    fc.assert(
      fc.property(u32, u32, u32, payload, fc.nat({ max: 9 }), (type, reqId, txId, content, at) => {
        const message = { type, reqId, txId, payload: content };
        const stream = new Uint8Array(at + 16 + content.length + 3);
        stream.set(encodeXsMessage(message), at);
        expect(decodeXsMessage(stream, at)).toEqual(message);
      }),
    );
  });

  it('is nothing yet while its header or its payload is not whole', () => {
    const bytes = encodeXsMessage({ type: XS_TYPE.WRITE, reqId: 1, txId: 2, payload: text('/a\0b') });
    for (let length = 0; length < bytes.length; length++) expect(decodeXsMessage(bytes.subarray(0, length))).toBeNull();
  });

  it('of more than 4096 bytes is refused both ways', () => {
    expect(() => encodeXsMessage({ type: 1, reqId: 1, txId: 0, payload: new Uint8Array(4097) })).toThrow(
      /payload is 4097; allowed: 0 to 4096 bytes/,
    );
    expect(() => encodeXsMessage({ type: -1, reqId: 1, txId: 0, payload: text('') })).toThrow(/type is -1/);
    const hostile = new Uint8Array(32).fill(0xff);
    expect(() => decodeXsMessage(hostile)).toThrow(/payload is 4294967295/);
  });
});

describe("the store's ring", () => {
  it('carries a stream of any length in pieces, in order, across the wrap of its indices', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(0, 0xffff_fc01, 0xffff_ffff),
        fc.array(payload, { maxLength: 12 }),
        fc.integer({ min: 1, max: 700 }),
        (start, pieces, step) => {
          const { requests, page } = ringPage();
          page.views.u32[512] = start;
          page.views.u32[513] = start;
          const sent = new Uint8Array(pieces.flatMap((piece) => [...piece]));
          const received: number[] = [];
          const into = new Uint8Array(step);
          for (let at = 0; at < sent.length || requests.readable() > 0; ) {
            at += requests.write(sent, at);
            expect(requests.readable() + requests.writable()).toBe(1024);
            received.push(...into.subarray(0, requests.read(into)));
          }
          expect(received).toEqual([...sent]);
          expect(requests.cons).toBe(requests.prod);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('keeps the two directions apart', () => {
    const { requests, page } = ringPage();
    const responses = new StoreRing(page, 'responses');
    requests.write(text('ask'));
    responses.write(text('answer'));
    expect([requests.readable(), responses.readable(), page.views.u8[0], page.views.u8[1024]]).toEqual([3, 6, 97, 97]);
    expect([page.views.u32[513], page.views.u32[515]]).toEqual([3, 6]);
  });

  it('refuses indices further apart than it is long', () => {
    const { requests, page } = ringPage();
    page.views.u32[513] = 1025;
    for (const act of [
      () => requests.readable(),
      () => requests.writable(),
      () => requests.read(new Uint8Array(4)),
      () => requests.write(text('x')),
    ]) {
      expect(act).toThrow(/store ring's producer index is 1025; allowed: 0 to 1024/);
    }
  });
});

describe('the last messages in a store ring', () => {
  /** Goal: no whole message in the window is lost and none invented. Method: a known stream, its last 1024 bytes in the ring. */
  it('are those that lie whole in the last 1024 bytes', () => {
    const message = fc.record({
      type: fc.nat({ max: 19 }),
      reqId: fc.nat({ max: 999 }),
      txId: fc.nat({ max: 9 }),
      text: fc.stringMatching(/^[a-z/0-9]{0,90}$/),
    });
    fc.assert(
      fc.property(fc.array(message, { minLength: 1, maxLength: 60 }), (sent) => {
        const window = new Uint8Array(1024);
        const whole: (XsMessage & { streamOffset: number })[] = [];
        let prod = 0;
        for (const { type, reqId, txId, text: content } of sent) {
          const bytes = encodeXsMessage({ type, reqId, txId, payload: text(content) });
          whole.push({ streamOffset: prod, type, reqId, txId, payload: text(content) });
          for (const byte of bytes) window[prod++ % 1024] = byte;
        }
        const found = recentXsMessages(window, prod);
        const expected = whole.filter(({ streamOffset }) => streamOffset >= prod - 1024);
        // A truncated message's payload can look like a header that leads to the next one; what follows is found all the same.
        expect(found.slice(-expected.length)).toEqual(expected);
      }),
      { numRuns: 200 },
    );
  });

  it('of random bytes are found without failing or looping', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1024, maxLength: 1024 }), u32, (window, prod) => {
        expect(recentXsMessages(window, prod).length).toBeLessThanOrEqual(64);
      }),
    );
  });
});
