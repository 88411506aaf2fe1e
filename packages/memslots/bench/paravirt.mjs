import { createMemslots } from '../dist/index.js';
import { measure } from './measure.mjs';

let sink = 0;

/** Memory of the process that grows by making the table: what the tables say, and the heap beside them. */
function memoryOf(make) {
  globalThis.gc?.();
  const before = process.memoryUsage();
  const made = make();
  globalThis.gc?.();
  const after = process.memoryUsage();
  return { made, bytes: after.arrayBuffers - before.arrayBuffers + (after.heapUsed - before.heapUsed) };
}

function filled(w) {
  const memslots = createMemslots({ userMemSlots: w.slots, internalSlots: 3 });
  for (const { id, base, pages, hva } of w.regions) {
    memslots.setUserMemoryRegion({ slot: id, flags: 0, guestPhysAddr: base * 4096, memorySize: pages * 4096, userspaceAddr: hva });
  }
  return memslots;
}

function translating(memslots, gfns) {
  return measure(gfns.length, (count) => {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += memslots.translate(0, gfns[i]);
    sink += sum;
  });
}

/** Deletes slots and creates them again. */
function changing(memslots, w) {
  return measure(w.change.length, (count) => {
    for (let i = 0; i < count; i++) {
      const id = w.change[i];
      const base = w.rows[id * 3];
      const pages = w.rows[id * 3 + 1];
      const hva = w.rows[id * 3 + 2];
      memslots.setUserMemoryRegion({ slot: id, flags: 0, guestPhysAddr: 0, memorySize: 0, userspaceAddr: 0 });
      memslots.setUserMemoryRegion({ slot: id, flags: 0, guestPhysAddr: base * 4096, memorySize: pages * 4096, userspaceAddr: hva });
    }
  });
}

/** Nanoseconds an operation of the package on the workload. */
export function runParavirt(w) {
  const { made: memslots, bytes } = memoryOf(() => filled(w));
  const tables = memslots.memoryBytes().tables;
  const hit = translating(memslots, w.hit);
  const spread = translating(memslots, w.spread);
  const same = translating(memslots, w.same);
  const miss = translating(memslots, w.miss);
  const change = changing(memslots, w);
  const move = measure(w.moveId.length * 2, (count) => {
    for (let i = 0; i < count; i++) {
      const id = w.moveId[i >> 1];
      const base = w.rows[id * 3];
      const hva = w.rows[id * 3 + 2];
      const to = (i & 1) === 0 ? w.moveTo[i >> 1] : base;
      memslots.setUserMemoryRegion({ slot: id, flags: 0, guestPhysAddr: to * 4096, memorySize: 4096, userspaceAddr: hva });
    }
  });
  const add = (_asId, _id, first, end) => {
    sink += first + end;
  };
  const hva = measure(w.host.length, (count) => {
    for (let i = 0; i < count; i++) memslots.forEachInHvaRange(w.host[i], w.host[i] + 4096, add);
  });
  const snapshot = measure(1 << 14, (count) => {
    for (let i = 0; i < count; i++) memslots.snapshot(0).release();
  });
  const kept = memslots.snapshot(0);
  const watched = changing(memslots, w);
  sink += kept.gfnToMemslot(w.hit[0]);
  kept.release();
  return { hit, spread, same, miss, change, watched, move, hva, snapshot, bytes: tables / w.slots, heap: bytes / w.slots, sink: sink & 1 };
}
