import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ABIS, BlockRequest, BlockResponse, SharedRing } from '../src/index.ts';
import { fillRandomRequest, ringFixture, scatteredPages } from '../src/testing.ts';

const MOD = 2n ** 32n;
const runs = process.env['PARAVIRT_FULL'] ? 3000 : 150;

/** The plainest ring: queues of whole messages and indices that count from the start without wrapping. */
class ModelRing {
  readonly entries: bigint;
  reqProdPvt: bigint;
  rspCons: bigint;
  rspProdPvt: bigint;
  reqCons: bigint;
  reqProd: bigint;
  rspProd: bigint;
  reqEvent: bigint;
  rspEvent: bigint;
  constructor(entries: number, start: number) {
    this.entries = BigInt(entries);
    const index = BigInt(start);
    this.reqProdPvt = this.rspCons = this.rspProdPvt = this.reqCons = this.reqProd = this.rspProd = index;
    this.reqEvent = this.rspEvent = index + 1n;
  }
  free = (): bigint => this.entries - (this.reqProdPvt - this.rspCons);
  frontUnconsumed = (): bigint => this.rspProd - this.rspCons;
  backUnconsumed = (): bigint => this.reqProd - this.reqCons;
  frontPush(): boolean {
    const old = this.reqProd;
    this.reqProd = this.reqProdPvt;
    return old < this.reqEvent && this.reqEvent <= this.reqProd;
  }
  backPush(): boolean {
    const old = this.rspProd;
    this.rspProd = this.rspProdPvt;
    return old < this.rspEvent && this.rspEvent <= this.rspProd;
  }
}

const snapshot = (request: BlockRequest): unknown => {
  const { operation, handle, idLo, idHi, sectorLo, sectorHi, sector } = request;
  const common = { operation, handle, idLo, idHi, sectorLo, sectorHi, sector };
  if (operation === 6) return { ...common, op: request.indirectOp, count: request.nrSegments, grefs: [...request.indirectGrefs] };
  if (operation === 5) return { ...common, flag: request.flag, lo: request.nrSectorsLo, hi: request.nrSectorsHi, n: request.nrSectors };
  const count = request.nrSegments;
  return {
    ...common,
    count,
    segments: Array.from({ length: count }, (_, i) => [request.grefs[i], request.firstSect[i], request.lastSect[i]]),
  };
};

/** A small generator of our own, so that a step's values follow from the property's seed alone. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state ^ (state >>> 15)) >>> 0;
  };
}

function sameIndices(shared: SharedRing, model: ModelRing): void {
  expect([shared.reqProd, shared.rspProd, shared.reqEvent, shared.rspEvent]).toEqual(
    [model.reqProd, model.rspProd, model.reqEvent, model.rspEvent].map((index) => Number(index % MOD)),
  );
}

describe(`the ring, in ${runs} random schedules`, () => {
  /**
   * Goal: every message arrives once, whole and in order, over pages that are not adjacent, whatever the indices.
   * Method: both ends act at random against queues of messages and indices that never wrap; starts lie round 2^32 and 2^31.
   */
  it('carries every message whole, in order and exactly once, and notifies when the model does', { timeout: 120_000 }, () => {
    const start = fc.oneof(fc.nat({ max: 0xffff_ffff }), fc.integer({ min: 0xffff_ff00, max: 0xffff_ffff }), fc.constant(0x7fff_fff0));
    const pages = fc.integer({ min: 1, max: 16 });
    fc.assert(
      fc.property(
        fc.constantFrom(...ABIS),
        pages,
        start,
        fc.nat(),
        fc.array(fc.nat({ max: 7 }), { maxLength: 400 }),
        (abi, count, index, seed, steps) => {
          const { shared, front, back, pages: ringPages } = ringFixture({ abi, pages: count, index });
          const model = new ModelRing(shared.entries, index);
          sameIndices(shared, model);
          const next = generator(seed);
          const asked: unknown[] = [];
          const taken: BlockRequest[] = [];
          const answered: number[][] = [];
          const out = new BlockRequest();
          const response = new BlockResponse();
          for (const step of steps) {
            if (step === 0 || step === 1) {
              const burst = 1 + (next() % (step === 0 ? 3 : shared.entries));
              for (let i = 0; i < burst && model.free() > 0n; i++) {
                expect(front.full()).toBe(false);
                fillRandomRequest(out, next);
                asked.push(snapshot(out));
                front.putRequest(out);
                model.reqProdPvt++;
              }
            } else if (step === 2) expect(front.push()).toBe(model.frontPush());
            else if (step === 3) {
              const many = 1 + (next() % 40);
              for (let i = 0; i < many && model.backUnconsumed() > 0n; i++) {
                expect(back.consOverflow(back.reqCons)).toBe(false);
                const copy = new BlockRequest();
                back.getRequest(copy);
                expect(snapshot(copy)).toEqual(asked.shift());
                model.reqCons++;
                taken.push(copy);
              }
            } else if (step === 4) {
              const many = 1 + (next() % 40);
              for (let i = 0; i < many && taken.length > 0; i++) {
                const [request] = taken.splice(next() % taken.length, 1);
                const status = ((next() & 0xffff) << 16) >> 16;
                answered.push([request!.idLo, request!.idHi, request!.operation, status]);
                back.putResponse(request!.idLo, request!.idHi, request!.operation, status);
                model.rspProdPvt++;
              }
            } else if (step === 5) expect(back.push()).toBe(model.backPush());
            else if (step === 6) {
              while (model.frontUnconsumed() > 0n) {
                front.getResponse(response);
                model.rspCons++;
                expect([response.idLo, response.idHi, response.operation, response.status]).toEqual(answered.shift());
              }
            } else {
              if (model.frontUnconsumed() === 0n) model.rspEvent = model.rspCons + 1n;
              expect(front.finalCheck()).toBe(Number(model.frontUnconsumed()));
              if (model.backUnconsumed() === 0n) model.reqEvent = model.reqCons + 1n;
              expect(back.finalCheck()).toBe(Number(model.backUnconsumed()));
            }
            expect([front.free(), front.unconsumed(), back.unconsumed()]).toEqual(
              [model.free(), model.frontUnconsumed(), model.backUnconsumed()].map(Number),
            );
            expect([front.rspProdOverflow(shared.rspProd), back.prodOverflow(shared.reqProd)]).toEqual([false, false]);
            sameIndices(shared, model);
          }
          const { u8 } = ringPages[0]!.views;
          const own = ringPages.map(({ offset }) => offset);
          for (let at = 0; at < u8.length; at += 4096) {
            if (!own.includes(at)) expect(u8.subarray(at, at + 4096).every((byte) => byte === 0x3c)).toBe(true);
          }
        },
      ),
      { numRuns: runs },
    );
  });

  /**
   * Goal: absurd indices of the peer are seen and bound every loop. Method: any producer index against the plain definition.
   */
  it('names as overflow exactly the producer indices that no honest peer can have reached', () => {
    const u32 = fc.nat({ max: 0xffff_ffff });
    fc.assert(
      fc.property(u32, u32, fc.nat({ max: 32 }), (index, prod, ahead) => {
        const { shared, front, back } = ringFixture({ index });
        for (let i = 0; i < ahead; i++) front.putRequest(new BlockRequest());
        front.push();
        const gap = Number((BigInt(prod) - BigInt(index) + MOD) % MOD);
        expect(back.prodOverflow(prod)).toBe(gap > 32);
        expect(front.rspProdOverflow(prod)).toBe(gap > 32);
        expect(back.consOverflow(prod)).toBe(gap >= 32);
        shared.reqProd = prod;
        expect(back.unconsumed()).toBeLessThanOrEqual(32);
        expect(back.unconsumed()).toBe(Math.min(gap, 32));
        shared.rspProd = prod;
        expect(front.unconsumed()).toBe(gap);
      }),
      { numRuns: runs * 4 },
    );
  });

  /**
   * Goal: a slot holds the request written last and nothing of those before it. Method: random requests into the same slots, against
   * a ring whose pages were zero; a request of one segment goes either way there is.
   */
  it('leaves nothing of an older request in a slot, and writes one of a page the same way without an object', () => {
    const steps = fc.array(fc.tuple(fc.nat(), fc.boolean()), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(fc.constantFrom(...ABIS), fc.constantFrom(1, 2, 16), steps, (abi, count, all) => {
        const { shared } = ringFixture({ abi, pages: count });
        const request = new BlockRequest();
        const [got, wanted] = [new Uint8Array(shared.slotBytes), new Uint8Array(shared.slotBytes)];
        all.forEach(([seed, onePage], i) => {
          const next = generator(seed);
          fillRandomRequest(request, next);
          // Few slots, and those among them that lie across two pages: 37 of the short ones, 72 of the others.
          const index = [5, 37, 72, 73][i & 3]!;
          if (onePage) {
            request.operation = next() & 1;
            request.nrSegments = 1;
            request.setSector(next());
          }
          const { operation, handle, idLo, idHi, sector, grefs, firstSect, lastSect } = request;
          if (onePage) shared.writePage(index, operation, handle, idLo, idHi, sector, grefs[0]!, firstSect[0]!, lastSect[0]!);
          else shared.writeRequest(index, request);
          shared.copySlot(index, got);
          const fresh = new SharedRing(abi, scatteredPages(count));
          fresh.writeRequest(index, request);
          fresh.copySlot(index, wanted);
          expect(got).toEqual(wanted);
        });
      }),
      { numRuns: runs },
    );
  });

  /** Goal: reading is total. Method: random bytes in every page, read as requests and responses at random indices. */
  it('reads any bytes as a request and as a response without failing', () => {
    fc.assert(
      fc.property(fc.constantFrom(...ABIS), fc.integer({ min: 1, max: 16 }), fc.nat(), (abi, count, seed) => {
        const { shared, pages } = ringFixture({ abi, pages: count });
        const next = generator(seed);
        for (const { views, offset } of pages) for (let i = 0; i < 1024; i++) views.u32[(offset >>> 2) + i] = next();
        const request = new BlockRequest();
        const response = new BlockResponse();
        const bytes = new Uint8Array(shared.slotBytes);
        for (let i = 0; i < shared.entries; i++) {
          const index = (next() & ~(shared.entries - 1)) + i;
          shared.readRequest(index >>> 0, request);
          shared.readResponse(index >>> 0, response);
          shared.copySlot(index >>> 0, bytes);
          const view = new DataView(bytes.buffer);
          const id = abi === 'x86_32' ? 4 : 8;
          expect(request.operation).toBe(bytes[0]);
          expect([request.idLo, request.idHi]).toEqual([view.getUint32(id, true), view.getUint32(id + 4, true)]);
          expect([request.sectorLo, request.sectorHi]).toEqual([view.getUint32(id + 8, true), view.getUint32(id + 12, true)]);
          expect([response.idLo, response.operation, response.status]).toEqual([
            view.getUint32(0, true),
            bytes[8],
            view.getInt16(10, true),
          ]);
        }
      }),
      { numRuns: 40 },
    );
  });
});
