/** The workloads of scan.c, for anything with `vmAlloc`, `vmFree` and `vmSize` on page numbers. */
const SMALL = 32_768;
const LARGE = 16 * 1024 * 1024;

export function generator(seed = 0x9e37_79b9) {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** Areas of 1 to `most` pages from the lowest address up, until the next would start past `limit`. */
function fill(region, limit, most, chance) {
  const areas = [];
  const first = region.startVfn ?? 0;
  for (;;) {
    const at = region.vmAlloc(1 + (most > 1 ? chance() % most : 0));
    if (at < 0) return areas;
    areas.push(at);
    if (at - first >= limit) return areas;
  }
}

/** Moves `top` to the end, as the original's does under a request that cannot fit. */
function populate(region) {
  const area = region.vmAlloc(LARGE - 8_192);
  if (area >= 0) region.vmFree(area);
}

/**
 * Nanoseconds of processor time per call of `body`, the median of `rounds` rounds of `each` calls. Processor time, of all threads of
 * the process, because it does not count what else the machine does.
 */
function median(rounds, each, body) {
  const times = [];
  for (let round = 0; round < rounds; round++) {
    const start = process.cpuUsage();
    for (let n = 0; n < each; n++) body();
    const { user, system } = process.cpuUsage(start);
    times.push(((user + system) * 1_000) / each);
  }
  return times.sort((a, b) => a - b)[rounds >> 1];
}

/**
 * Each workload as { name, calls, slowCalls, begin(make) -> body }: `make(pages)` gives a fresh region, the body is one operation.
 * `slowCalls` is how many a scan is given.
 */
export const workloads = [
  {
    name: 'lifo',
    calls: 400_000,
    slowCalls: 100_000,
    begin(make) {
      const region = make(SMALL);
      fill(region, (SMALL / 100) * 95, 1);
      return () => region.vmFree(region.vmAlloc(1));
    },
  },
  {
    name: 'churn-32k',
    calls: 200_000,
    slowCalls: 1_000,
    begin: (make) => churn(make, SMALL),
  },
  {
    name: 'churn-16m',
    calls: 200_000,
    slowCalls: 10,
    begin: (make) => churn(make, LARGE),
  },
  {
    name: 'checkerboard',
    calls: 100_000,
    slowCalls: 10,
    begin(make) {
      const region = make(LARGE);
      const areas = fill(region, LARGE - 4_096, 1);
      for (let i = 0; i < areas.length; i += 2) region.vmFree(areas[i]);
      return () => region.vmFree(region.vmAlloc(64, 64));
    },
  },
  {
    name: 'large',
    calls: 200_000,
    slowCalls: 20,
    begin(make) {
      const region = make(LARGE);
      populate(region);
      return () => region.vmFree(region.vmAlloc(1 << 20));
    },
  },
  {
    name: 'cannot-fit',
    calls: 200_000,
    slowCalls: 10,
    begin(make) {
      const region = make(LARGE);
      const areas = fill(region, LARGE, 32, generator());
      for (let i = 0; i < areas.length; i += 2) region.vmFree(areas[i]);
      return () => {
        if (region.vmAlloc(1 << 20) >= 0) throw new Error('it fitted');
      };
    },
  },
  {
    name: 'size',
    calls: 1_000_000,
    slowCalls: 1_000,
    begin(make) {
      const region = make(LARGE);
      const area = region.vmAlloc(1 << 20);
      return () => {
        if (region.vmSize(area) !== 1 << 20) throw new Error('wrong size');
      };
    },
  },
];

function churn(make, pages) {
  const region = make(pages);
  const areas = fill(region, (pages / 100) * 95, 1);
  if (pages === LARGE) {
    const rest = region.vmAlloc(Math.floor(pages / 50));
    region.vmFree(rest);
  }
  const chance = generator();
  return () => {
    const i = chance() % areas.length;
    region.vmFree(areas[i]);
    areas[i] = region.vmAlloc(1);
  };
}

export function measure(workload, make, slow, rounds = 7) {
  const body = workload.begin(make);
  const each = slow ? workload.slowCalls : workload.calls;
  for (let n = 0; n < Math.min(each, 20_000); n++) body();
  return median(rounds, each, body);
}

export { median };
