/** Bytes a table holds for each of a million references, the entries themselves not counted. Run with --expose-gc. */
import { createGrantTable } from '../dist/index.js';
import { FakeHypervisor, TickScheduler } from '../dist/testing.js';

const FRAMES = 2048;
const REFERENCES = FRAMES * 512;

function held() {
  for (let i = 0; i < 4; i++) globalThis.gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function measure(workload, initialFrames, maxFrames) {
  // The entries' memory belongs to the domain and is there before.
  const guest = new FakeHypervisor({ maxFrames, pages: 0 }).domain(1);
  const before = held();
  const table = createGrantTable({ initialFrames, maxFrames }, { hypercalls: guest.hypercalls, scheduler: new TickScheduler() });
  while (table.free > 0 || table.frames < FRAMES) {
    const gref = table.allocGrantReference();
    table.publish(gref, gref % 5, gref, false);
  }
  console.log(JSON.stringify({ workload, references: REFERENCES, bytes: (held() - before) / REFERENCES }));
  return table;
}

// Code and type feedback of the first table are not the second one's.
measure('warm-up', 1, FRAMES);
const tables = [
  measure('made at once, all granted', FRAMES, FRAMES),
  measure('grown frame by frame, all granted', 1, FRAMES),
  measure('grown frame by frame, room for twice as many', 1, 2 * FRAMES),
];
if (tables.some((table) => table.free > 0)) throw new Error('a table is not full');
