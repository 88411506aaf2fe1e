/**
 * Times one allocator in a process of its own, so that no other one has shaped its compiled code. Prints one JSON object per
 * line: workload, references, ns (the least of many short rounds of batched loops: whatever else the machine does only adds).
 *
 *   node subject.mjs table|list 4096 65536 ...
 */
import { createGrantTable } from '../dist/index.js';
import { FakeHypervisor, ListModel, TickScheduler } from '../dist/testing.js';

const COUNT = 16;
const RESERVED = 8;
const ROUNDS = 25;
const WARM_UPS = 8;
const [subject, ...sizes] = process.argv.slice(2);
let sink = 0;

function makeTable(size) {
  const frames = size / 512;
  const guest = new FakeHypervisor({ maxFrames: frames, pages: 0 }).domain(1);
  return createGrantTable({ initialFrames: frames }, { hypercalls: guest.hypercalls, scheduler: new TickScheduler() });
}

const subjects = {
  table: {
    make: makeTable,
    alloc: (table) => table.allocGrantReference(),
    free: (table, ref) => table.freeGrantReference(ref),
    allocSeq: (table) => table.allocGrantReferenceSeq(COUNT),
    freeSeq: (table, first) => table.freeGrantReferenceSeq(first, COUNT),
    tail: (table) => table.usage().tailRun,
  },
  list: {
    make: (size) => new ListModel({ frames: size / 512, maxFrames: size / 512, perFrame: 512, reserved: RESERVED }),
    alloc: (model) => model.take(1),
    free: (model, ref) => model.put(ref),
    allocSeq: (model) => model.takeSeq(COUNT),
    freeSeq: (model, first) => model.putSeq(first, COUNT),
    tail: (model) => model.seqAvailable,
  },
};

const { make, alloc, free, allocSeq, freeSeq, tail } = subjects[subject];

function singles(table, turns) {
  const start = performance.now();
  for (let i = 0; i < turns; i++) {
    const ref = alloc(table);
    sink ^= ref;
    free(table, ref);
  }
  return performance.now() - start;
}

/** The run at the end is given back by an untimed search before it is used up. */
function fromTail(table, turns) {
  let spent = 0;
  for (let done = 0; done < turns; ) {
    const batch = Math.min(Math.floor(tail(table) / COUNT), turns - done);
    if (batch === 0) {
      freeSeq(table, allocSeq(table));
      continue;
    }
    spent += rebuilding(table, batch);
    done += batch;
  }
  return spent;
}

function rebuilding(table, turns) {
  const start = performance.now();
  for (let i = 0; i < turns; i++) {
    const first = allocSeq(table);
    sink ^= first;
    freeSeq(table, first);
  }
  return performance.now() - start;
}

/** Everything out, then a pattern freed; the only place for COUNT is in the middle of the last eighth. */
function fragment(table, size, runs) {
  for (let left = size - RESERVED; left > 0; left--) alloc(table);
  const place = size - size / 16;
  for (let ref = RESERVED, run = 1; ref < size - 1; ) {
    if (ref >= place && ref < place + COUNT + 2) {
      for (let i = 1; i <= COUNT; i++) free(table, place + i);
      ref = place + COUNT + 2;
      continue;
    }
    if (!runs) {
      free(table, ref);
      ref += 2;
      continue;
    }
    for (let i = 0; i < run && ref < size - 1 && (ref < place || ref >= place + COUNT + 2); i++) free(table, ref++);
    ref++;
    run = (run % 15) + 1;
    if (ref > place && ref < place + COUNT + 2) ref = place;
  }
}

function measure(workload, references, run, table, turns) {
  for (let i = 0; i < WARM_UPS; i++) run(table, turns);
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < ROUNDS; i++) least = Math.min(least, (run(table, turns) * 1e6) / turns);
  console.log(JSON.stringify({ workload, references, ns: least }));
}

for (const size of sizes.map(Number)) {
  const slow = subject === 'table' ? 1 << 13 : Math.floor((1 << 20) / size) + 1;
  const whole = make(size);
  measure('alloc 1 + free 1', size, singles, whole, 1 << 18);
  measure('allocSeq 16 + freeSeq, tail', size, fromTail, make(size), 1 << 14);
  const everyOther = make(size);
  fragment(everyOther, size, false);
  measure('allocSeq 16 + freeSeq, every other free', size, rebuilding, everyOther, slow);
  const mixed = make(size);
  fragment(mixed, size, true);
  measure('allocSeq 16 + freeSeq, runs of 1 to 15', size, rebuilding, mixed, slow);
}
if (sink === 0.5) console.log(sink);
