import { PlainSlots } from '../dist/testing/plain.js';
import { measure } from './measure.mjs';

let sink = 0;

/** Nanoseconds an operation of the plain sorted array on the workload. */
export function runPlain(w) {
  const slots = new PlainSlots();
  for (const { id, base, pages, hva } of w.regions) slots.set(id, base, pages, hva, 0);
  const translating = (gfns) =>
    measure(gfns.length, (count) => {
      let sum = 0;
      for (let i = 0; i < count; i++) sum += slots.translate(gfns[i]);
      sink += sum;
    });
  const hit = translating(w.hit);
  const spread = translating(w.spread);
  const same = translating(w.same);
  const miss = translating(w.miss);
  const part = w.slots > 1000 ? 32 : 1;
  const change = measure(w.change.length / part, (count) => {
    for (let i = 0; i < count; i++) {
      const id = w.change[i];
      const base = w.rows[id * 3];
      const pages = w.rows[id * 3 + 1];
      const hva = w.rows[id * 3 + 2];
      slots.delete(id);
      slots.set(id, base, pages, hva, 0);
    }
  });
  const move = measure((w.moveId.length * 2) / part, (count) => {
    for (let i = 0; i < count; i++) {
      const id = w.moveId[i >> 1];
      const base = w.rows[id * 3];
      const hva = w.rows[id * 3 + 2];
      slots.set(id, (i & 1) === 0 ? w.moveTo[i >> 1] : base, 1, hva, 0);
    }
  });
  const hosts = w.host.subarray(0, w.slots > 1000 ? 256 : 4096);
  const hva = measure(hosts.length, (count) => {
    for (let i = 0; i < count; i++) {
      slots.hvaRange(hosts[i], hosts[i] + 4096, (_id, first, end) => {
        sink += first + end;
      });
    }
  });
  return { hit, spread, same, miss, change, move, hva, sink: sink & 1 };
}
