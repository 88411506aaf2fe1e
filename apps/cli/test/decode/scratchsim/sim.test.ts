import {
  BackRing,
  BlockRequest,
  BlockResponse,
  FrontRing,
  pagesOfBytes,
  readRingWindow,
  SharedRing,
  setGrantStatus,
  writeGrantV1,
} from '@paravirt/xen-abi';
import { it } from 'vitest';
import { decodeCapture } from '../../../src/decode/decode.ts';
import { folderOf } from '../capture-folder.ts';

function rng(seed: number) {
  let s = seed >>> 0;
  return () => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return (s ^ (s >>> 15)) >>> 0;
  };
}
function sim(seed: number, persistent: boolean, spread: number, depth: number) {
  const next = rng(seed);
  for (let i = 0; i < 20; i++) next();
  const frames = pagesOfBytes(new Uint8Array(4096 * 2));
  const bytes = new Uint8Array(4096);
  const shared = new SharedRing('x86_64', pagesOfBytes(bytes));
  shared.init();
  const front = new FrontRing(shared),
    back = new BackRing(shared);
  const setE = (ref: number, flags: number) => {
    const p = frames[ref >> 9]!;
    writeGrantV1(p.views, p.offset + (ref & 511) * 8, flags, 0, 0x1000 + ref);
  };
  setE(0, 0x19);
  setE(1, 0x19);
  setE(8, 0x19);
  const freeIds: number[] = [];
  for (let i = 31; i >= 0; i--) freeIds.push(i);
  const freeRefs: number[] = [];
  for (let i = 1000; i >= 9; i--) freeRefs.push(i); // LIFO
  const pool: number[] = []; // persistent LIFO
  const fl = new Map<number, { idx: number; id: number; op: number; refs: number[]; due: number }>();
  let now = 0;
  const issue = () => {
    const r = new BlockRequest();
    const n = 1 + (next() % 3 === 0 ? next() % 11 : 0);
    const refs: number[] = [];
    for (let i = 0; i < n; i++) {
      const ref = persistent && pool.length ? pool.pop()! : freeRefs.pop()!;
      refs.push(ref);
      setE(ref, 0x19);
    }
    r.operation = next() & 1;
    r.handle = 51712;
    r.idLo = freeIds.pop()!;
    r.setSector(next() % 100000);
    r.nrSegments = n;
    refs.forEach((x, i) => r.setSegment(i, x, 0, 7));
    const idx = front.reqProdPvt;
    front.putRequest(r);
    front.push();
    back.getRequest(r);
    back.finalCheck();
    fl.set(idx, { idx, id: r.idLo, op: r.operation, refs, due: now + 100 + (next() % spread) });
  };
  const complete = () => {
    const o = [...fl.values()].sort((a, b) => a.due - b.due || a.idx - b.idx)[0]!;
    now = o.due;
    back.putResponse(o.id, 0, o.op, 0);
    back.push();
    front.getResponse(new BlockResponse());
    front.finalCheck();
    fl.delete(o.idx);
    freeIds.push(o.id);
    for (const ref of o.refs) {
      if (persistent) pool.push(ref);
      else {
        setE(ref, 0);
        freeRefs.push(ref);
      }
    }
  };
  const steps = 200 + (next() % 100);
  for (let i = 0; i < steps; i++) {
    while (fl.size < depth) issue();
    const k = 1 + (next() % 3);
    for (let j = 0; j < k && fl.size; j++) complete();
    now += 10;
  }
  while (fl.size < depth - (next() % 4)) issue();
  const rsp = shared.rspProd;
  const hidden = [...fl.values()].filter((f) => f.idx < rsp);
  const w = readRingWindow(shared);
  return { bytes, frames, hidden, w, fl };
}
it('sim', () => {
  for (const persistent of [false, true])
    for (const spread of [30, 100, 300])
      for (const depth of [8, 18, 30]) {
        let cases = 0,
          idx = 0,
          id = 0,
          grefs = 0,
          cnt = 0,
          prob = 0,
          noS = 0;
        for (let seed = 1; seed <= 150; seed++) {
          const s = sim(seed * 77, persistent, spread, depth);
          if (s.hidden.length > 0 && s.w.hidden < s.hidden.length) noS++;
          const store = [
            '/local/domain/6/name = "g"',
            '/local/domain/6/device/vbd/51712/backend = "/local/domain/0/backend/vbd/6/51712"',
            '/local/domain/6/device/vbd/51712/state = "4"',
            '/local/domain/6/device/vbd/51712/ring-ref = "8"',
            '/local/domain/6/device/vbd/51712/protocol = "x86_64-abi"',
            '/local/domain/0/backend/vbd/6/51712/state = "4"',
          ].join('\n');
          const d = decodeCapture(
            folderOf([
              ['c/ring.bin', s.bytes],
              ['c/grant-frame-0.bin', s.frames[0]!.views.u8.slice(0, 4096)],
              ['c/grant-frame-1.bin', s.frames[0]!.views.u8.slice(4096, 8192)],
              ['c/xenstore-ls.txt', store],
            ]),
          );
          const c = Object.values(d.captures)[0]!;
          if (d.problems.length) {
            prob++;
          }
          if (s.w.hidden === 0) continue;
          cases++;
          const hs = ([] as any[]).concat(c.hidden ?? []);
          if (hs.length === s.hidden.length) cnt++;
          const ok = hs.every((h) => s.hidden.some((x) => x.idx === h.index));
          if (ok && hs.length) idx++;
          if (hs.length && hs.every((h) => s.hidden.some((x) => x.idx === h.index && x.id === h.id))) id++;
          if (
            hs.length &&
            hs.every((h) => s.hidden.some((x) => x.idx === h.index && JSON.stringify(x.refs) === JSON.stringify(h.residualGrefs)))
          )
            grefs++;
        }
        console.log(JSON.stringify({ persistent, spread, depth, cases, cnt, idx, id, grefs, prob, noS }));
      }
}, 60000);
