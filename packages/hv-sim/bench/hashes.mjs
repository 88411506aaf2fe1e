// Final hashes of ten seeded runs, each with and without somebody watching: the same on every version of Node. `node bench/hashes.mjs`, after a build.
import { createMachine } from '../dist/index.js';

const HOST = 2;
const WATCHED = ['hv:stepped', 'hv:mapped', 'hv:unmapped', 'hv:copied', 'hv:faulted', 'evtchn:sent', 'evtchn:delivered', 'store:changed'];

/** Eight domains that grant, map, copy, ring, write to the store, sleep and now and then die, in an order drawn from the seed. */
function run(seed, watched) {
  const faults = [
    { kind: 'map-eagain', probability: 0.05 },
    { kind: 'doorbell-late', probability: 0.1, ticks: 2.5 },
    { kind: 'page-alloc', probability: 0.02 },
  ];
  const machine = createMachine({ seed, ramBytes: 8 * 2 ** 20, order: 'random', faults, stepTicks: 0.125 });
  let facts = 0;
  if (watched) {
    for (const type of WATCHED) {
      machine.bus.on(type).subscribe(() => {
        facts += 1;
      });
    }
  }
  const domains = Array.from({ length: 8 }, (_, id) => machine.createDomain({ id, pages: 32 }));
  for (const domain of domains) {
    const random = domain.random('workload');
    const frames = [];
    domain.hypercalls.setupTable(1, frames);
    const [{ views, offset }] = frames;
    const ports = new Map();
    const held = [];
    let left = 200;
    const turn = () => {
      left -= 1;
      const peer = domains[random.below(domains.length)];
      if (peer.state !== 'running') return;
      const ref = 8 + random.below(24);
      switch (random.below(6)) {
        case 0: {
          const gfn = domain.pages.alloc();
          if (gfn === undefined) break;
          domain.memory.write(gfn * 4096, new Uint8Array([random.below(256)]));
          views.u32[offset / 4 + ref * 2 + 1] = gfn;
          views.u32[offset / 4 + ref * 2] = peer.id * 65536 + 1;
          break;
        }
        case 1: {
          const op = { vfn: 100 + random.below(50), flags: HOST, ref, domid: peer.id, status: 0, handle: 0, mfn: 0 };
          domain.hypercalls.map([op], 1);
          if (op.status === 0) held.push({ vfn: op.vfn, handle: op.handle, status: 0 });
          break;
        }
        case 2:
          if (held.length > 0) domain.hypercalls.unmap([held.splice(random.below(held.length), 1)[0]], 1);
          break;
        case 3: {
          const source = { isRef: true, frameOrRef: ref, domid: peer.id, offset: random.below(64) };
          domain.hypercalls.copy([{ source, dest: { isRef: false, frameOrRef: 3, domid: 0x7ff0, offset: 8 }, bytes: 64, status: 0 }], 1);
          break;
        }
        case 4: {
          let port = ports.get(peer.id);
          if (port === undefined && peer.id !== domain.id) {
            const theirs = peer.events.allocUnbound(domain.id);
            peer.events.onUpcall(theirs, () => machine.observe(peer.id));
            port = domain.events.bindInterdomain(peer.id, theirs);
            ports.set(peer.id, port);
          }
          if (port !== undefined && domain.events.status(port).status === 'interdomain') domain.events.send(port);
          break;
        }
        default:
          domain.store.write('data/turn', String(left));
      }
      if (left === 100 && domain.id === 7) machine.destroyDomain(domain);
      else if (left > 0) domain.scheduler.schedule(turn, random.unit() * 10);
    };
    domain.post(turn);
  }
  machine.run();
  if (watched && facts === 0) throw new Error('nothing was told');
  return `${machine.steps} ${machine.hash.toString(16)} ${machine.stateHash().toString(16)}`;
}

for (let seed = 0; seed < 10; seed += 1) {
  const quiet = run(seed, false);
  if (run(seed, true) !== quiet) throw new Error(`seed ${seed} runs differently when somebody watches`);
  console.log(seed, quiet);
}
