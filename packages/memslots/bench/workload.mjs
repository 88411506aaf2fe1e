import { writeFileSync } from 'node:fs';

/** A small seeded generator (mulberry32): numbers in [0, 1). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const QUERIES = 1 << 18;
const CHANGES = 1 << 14;

function firstAbove(sorted, value) {
  let low = 0;
  let high = sorted.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * Slots of one page to 1 GiB, every power of two equally often, with holes of one page to as much as the slot between them, ids and host addresses
 * in no relation to their order. Queries: every mapped frame equally often (`hit`), every slot
 * equally often whatever its size (`spread`), 95 % one slot, holes, host addresses.
 * Ids to delete and create again;
 * slots of one page with a hole to move to and back.
 */
export function makeWorkload(slots, seed = 1) {
  const random = generator(seed);
  const below = (n) => Math.floor(random() * n);
  const shuffled = (list) => {
    for (let i = list.length - 1; i > 0; i--) {
      const j = below(i + 1);
      [list[i], list[j]] = [list[j], list[i]];
    }
    return list;
  };
  const ids = shuffled(Array.from({ length: slots }, (_, i) => i));
  const regions = new Array(slots);
  const holes = [];
  let gfn = 0x100;
  for (let i = 0; i < slots; i++) {
    const pages = Math.min(2 ** 18, Math.floor(2 ** (random() * 18)));
    regions[ids[i]] = { id: ids[i], base: gfn, pages, hva: 0 };
    const hole = 1 + below(pages);
    holes.push({ base: gfn + pages, pages: hole });
    gfn += pages + hole;
  }
  const byFrame = [...regions].sort((a, b) => a.base - b.base);
  let hva = 0x10_0000_0000;
  for (const region of shuffled([...regions])) {
    region.hva = hva;
    hva += (region.pages + below(16)) * 4096;
  }
  const queries = () => new Float64Array(QUERIES);
  const inSlot = () => {
    const { base, pages } = regions[below(slots)];
    return base + below(pages);
  };
  const hot = regions[below(slots)];
  let mapped = 0;
  const ends = byFrame.map(({ pages }) => {
    mapped += pages;
    return mapped;
  });
  const hit = queries().map(() => {
    const page = below(mapped);
    const at = firstAbove(ends, page);
    return byFrame[at].base + byFrame[at].pages - (ends[at] - page);
  });
  const spread = queries().map(inSlot);
  const same = queries().map(() => (random() < 0.95 ? hot.base + below(hot.pages) : inSlot()));
  const miss = queries().map(() => {
    const hole = holes[below(slots)];
    return hole.base + below(hole.pages);
  });
  const host = queries().map(() => {
    const region = regions[below(slots)];
    return region.hva + below(region.pages) * 4096;
  });
  const change = new Uint32Array(CHANGES).map(() => below(slots));
  const small = regions.filter(({ pages }) => pages === 1);
  const moveId = new Uint32Array(CHANGES).map(() => small[below(small.length)].id);
  const moveTo = new Float64Array(CHANGES).map(() => holes[below(slots)].base);
  const rows = Float64Array.from(regions.flatMap(({ base, pages, hva: host }) => [base, pages, host]));
  return { slots, regions, rows, hit, spread, same, miss, host, change, moveId, moveTo };
}

/** The same for the C programs: 64-bit numbers, little endian, in the order of workload.h. */
export function writeWorkload(path, w) {
  const numbers = [
    [w.slots, QUERIES, CHANGES, CHANGES],
    w.regions.flatMap(({ id, base, pages, hva }) => [id, base, pages, hva]),
    ...[w.hit, w.spread, w.same, w.miss, w.host, w.change, w.moveId, w.moveTo],
  ];
  const out = new BigUint64Array(numbers.reduce((sum, list) => sum + list.length, 0));
  let at = 0;
  for (const list of numbers) for (const number of list) out[at++] = BigInt(number);
  writeFileSync(path, out);
}
