/** Times the calls of drivers: pooled references, entries, and unmapping idle pages. Prints JSON lines as `subject.mjs`. */
import { createGrantTable } from '../dist/index.js';
import { FakeHypervisor, TickScheduler } from '../dist/testing.js';

const PAGES = 16;
const ROUNDS = 25;
const WARM_UPS = 8;
let sink = 0;

function measure(workload, turns, run) {
  for (let i = 0; i < WARM_UPS; i++) run(turns);
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < ROUNDS; i++) {
    const start = performance.now();
    run(turns);
    least = Math.min(least, ((performance.now() - start) * 1e6) / turns);
  }
  console.log(JSON.stringify({ workload, ns: least }));
}

for (const [version, shared] of [
  [1, false],
  [2, false],
  [1, true],
]) {
  const guest = new FakeHypervisor({ shared }).domain(1);
  const table = createGrantTable({ version }, { hypercalls: guest.hypercalls, scheduler: new TickScheduler() });
  const gref = table.allocGrantReference();
  const title = `${shared ? ', shared memory' : ''}, version ${version}`;
  measure(`publish + tryEnd${title}`, 1 << 17, (turns) => {
    for (let i = 0; i < turns; i++) {
      table.publish(gref, 2, i & 0xffff, false);
      table.tryEnd(gref);
    }
  });
  table.publish(gref, 2, 5, false);
  measure(`isInUse${title}`, 1 << 17, (turns) => {
    for (let i = 0; i < turns; i++) if (table.isInUse(gref)) sink++;
  });
}

{
  const guest = new FakeHypervisor().domain(1);
  const table = createGrantTable({}, { hypercalls: guest.hypercalls, scheduler: new TickScheduler() });
  const list = table.allocGrantReferences(64);
  measure('claim + release', 1 << 17, (turns) => {
    for (let i = 0; i < turns; i++) table.releaseGrantReference(list, table.claimGrantReference(list));
  });
}

{
  // A hypercall that does nothing leaves the bookkeeping: the pages' checks, the statuses, the foreign pages.
  const guest = new FakeHypervisor().domain(1);
  const hypercalls = {
    ...guest.hypercalls,
    map(ops, count) {
      for (let i = 0; i < count; i++) ops[i].status = 0;
      return 0;
    },
    unmap(ops, count) {
      for (let i = 0; i < count; i++) ops[i].status = 0;
      return 0;
    },
  };
  const uses = new Int32Array(4096).fill(1);
  const pages = { inUse: (vfn) => uses[vfn] > 1, hold() {}, release() {} };
  const table = createGrantTable({}, { hypercalls, scheduler: new TickScheduler(), pages });
  const maps = [];
  const ops = [];
  for (let i = 0; i < PAGES; i++) {
    maps.push({ vfn: 64 + i, flags: 2, ref: 8 + i, domid: 2, status: 0, handle: i, mfn: 0 });
    ops.push({ vfn: 64 + i, handle: i, status: 0 });
  }
  const batch = { ops, count: PAGES, done: (result) => (sink += result) };
  measure('unmapRefsAsync of 16 idle pages', 1 << 14, (turns) => {
    for (let i = 0; i < turns; i++) table.unmapRefsAsync(batch);
  });
  measure('mapRefs + unmapRefsAsync of 16 idle pages', 1 << 13, (turns) => {
    for (let i = 0; i < turns; i++) {
      table.mapRefs(maps, PAGES);
      table.unmapRefsAsync(batch);
    }
  });
  if (globalThis.gc) {
    const turns = 200_000;
    globalThis.gc();
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < turns; i++) table.unmapRefsAsync(batch);
    const bytes = Math.max(0, process.memoryUsage().heapUsed - before) / turns / PAGES;
    console.log(JSON.stringify({ workload: 'unmapRefsAsync of 16 idle pages, bytes allocated a page', bytes: Math.round(bytes) }));
  }
}
if (sink === 0.5) console.log(sink);
