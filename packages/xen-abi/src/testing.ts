import type { BlockRequest } from './blkif.ts';
import type { Abi, MemoryPage } from './memory.ts';
import { BackRing, FrontRing } from './ring.ts';
import { scatteredPages } from './scattered-pages.ts';
import { SharedRing } from './shared-ring.ts';

export { scatteredPages } from './scattered-pages.ts';

/** A ring in use, over scattered pages. */
export interface RingFixture {
  readonly shared: SharedRing;
  readonly front: FrontRing;
  readonly back: BackRing;
  readonly pages: readonly MemoryPage[];
}

/**
 * Both ends of a fresh ring over pages that are not adjacent.
 * @param options.index where all four indices start; 0xfffffff0 is soon across the wrap.
 */
export function ringFixture(options: { abi?: Abi; pages?: number; index?: number } = {}): RingFixture {
  const { abi = 'x86_64', pages: count = 1, index = 0 } = options;
  const pages = scatteredPages(count, 0xa5);
  const shared = new SharedRing(abi, pages);
  shared.init();
  if (index !== 0) {
    shared.reqProd = index;
    shared.rspProd = index;
    shared.reqEvent = index + 1;
    shared.rspEvent = index + 1;
  }
  const front = new FrontRing(shared);
  const back = new BackRing(shared);
  front.attach(index);
  back.attach(index);
  return { shared, front, back, pages };
}

/**
 * Fills a request of a random kind (read, write, barrier, flush, discard, indirect) with values from the whole range of each
 * field, so the values make no sense as I/O. @param next gives unsigned 32-bit numbers.
 */
export function fillRandomRequest(request: BlockRequest, next: () => number): void {
  const operations = [0, 1, 2, 3, 5, 6];
  request.operation = operations[next() % operations.length]!;
  request.handle = next() & 0xffff;
  request.idLo = next();
  request.idHi = next();
  request.setSectorHalves(next(), next() % 3 === 0 ? next() : next() % 2);
  request.flag = next() & 0xff;
  request.indirectOp = next() & 0xff;
  request.setNrSectorsHalves(next(), next() & 1);
  request.nrSegments = request.operation === 6 ? 1 + (next() % 4096) : request.operation === 5 ? 0 : next() % 12;
  for (let i = 0; i < 11; i++) request.setSegment(i, next(), next() & 0xff, next() & 0xff);
  for (let i = 0; i < 8; i++) request.indirectGrefs[i] = i < Math.ceil(request.nrSegments / 512) ? next() : 0;
}
