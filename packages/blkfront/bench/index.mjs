// The frontend alone: the pool of references, and a request through the ring against a backend that only answers. The whole path,
// disk included, is measured in the repository's e2e folder. `--json` prints one object.
import { BlockRequest } from '@paravirt/xen-abi';
import { BlockDevice, GrefPool, OP } from '../dist/index.js';
import { FakeGrants, Loopback, World } from '../dist/testing.js';

const ROUNDS = 40;

/** Nanoseconds per operation: the least of the rounds, since whatever else the machine does only adds to a time. */
function nanoseconds(round, count) {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < ROUNDS * 2; i++) {
    const start = process.hrtime.bigint();
    round(count);
    const took = Number(process.hrtime.bigint() - start) / count;
    if (i >= ROUNDS) best = Math.min(best, took);
  }
  return best;
}

function poolCycle(order) {
  const pool = new GrefPool(new FakeGrants(4096), 0, 256, order);
  return (count) => {
    for (let i = 0; i < count; i++) pool.unclaim(pool.claim());
  };
}

/** No pool: a reference from the table and back, as a queue without a pool does for every segment. */
function tableCycle() {
  const grants = new FakeGrants(4096);
  return (count) => {
    for (let i = 0; i < count; i++) grants.release(grants.reserve());
  };
}

function connection(options) {
  const world = new World({ pages: 256 });
  const back = new Loopback(world, { sectors: 8192 }).start();
  // Plain arrays in place of the fake's bookkeeping, which would be most of what is measured.
  const words = new Uint32Array(1 << 15);
  const free = [];
  let next = 8;
  const grants = {
    reserve: () => free.pop() ?? next++,
    release: (gref) => void free.push(gref),
    permit: (gref, _peer, gfn, readonly) => {
      words[gref * 2 + 1] = gfn;
      words[gref * 2] = readonly ? 5 : 1;
    },
    revoke: (gref) => {
      words[gref * 2] = 0;
      return true;
    },
    inUse: () => false,
    endLater: (_gref, ended) => ended(),
    whenFree: () => ({ unsubscribe: () => undefined }),
  };
  world.grants.map = (gref) => (gref < 8 ? -1 : words[gref * 2 + 1]);
  world.grants.unmap = () => undefined;
  const dev = new BlockDevice({ device: 51712, persistent: false, poolRefs: 'full', ...options }, { ...world.surroundings, grants });
  dev.connectSync();
  const [queue] = back.queues;
  const request = new BlockRequest();
  back.poll = () => {
    do {
      while (queue.ring.unconsumed() > 0) {
        queue.ring.getRequest(request);
        queue.ring.putResponse(request.idLo, request.idHi, request.operation, 0);
      }
      if (queue.ring.push()) queue.bell.ring();
    } while (queue.ring.finalCheck() > 0);
  };
  return { world, dev };
}

function requests(options) {
  const { world, dev } = connection(options);
  const { device } = dev;
  const buffers = Array.from({ length: 32 }, () => [world.page()]);
  let left = 0;
  let done = 0;
  const submit = (cookie) => {
    if (left-- > 0) device.submit(OP.READ, 0, buffers[cookie], 0, 8, cookie);
  };
  device.onDone = (cookie) => {
    done++;
    submit(cookie);
  };
  return (count) => {
    left = count;
    done = 0;
    device.plug();
    for (let i = 0; i < 32; i++) submit(i);
    device.unplug();
    while (done < count) world.time.step();
  };
}

/** 32 callers that await one read after the other. */
async function awaited(count) {
  const { world, dev } = connection({});
  const targets = Array.from({ length: 32 }, () => dev.allocBuffer(1));
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < ROUNDS * 2; i++) {
    let left = count;
    let running = targets.length;
    const caller = async (target) => {
      while (left-- > 0) await dev.read(0, target);
      running--;
    };
    const start = process.hrtime.bigint();
    const all = Promise.all(targets.map(caller));
    while (running > 0) {
      world.time.settle();
      await null;
    }
    await all;
    const took = Number(process.hrtime.bigint() - start) / count;
    if (i >= ROUNDS) best = Math.min(best, took);
  }
  return best;
}

const rows = [
  { name: 'claim and give back, 1 of 256, last in first out', ns: nanoseconds(poolCycle('lifo'), 65_536) },
  { name: 'claim and give back, 1 of 256, first in first out', ns: nanoseconds(poolCycle('fifo'), 65_536) },
  { name: 'a reference from the test table and back, no pool', ns: nanoseconds(tableCycle(), 65_536) },
  { name: '4 KiB request, depth 32, backend that only answers', ns: nanoseconds(requests({}), 8192) },
  { name: 'the same, awaited by 32 callers', ns: await awaited(8192) },
  { name: 'the same by callback, pool off', ns: nanoseconds(requests({ poolRefs: 0 }), 8192) },
];
if (process.argv.includes('--json')) console.log(JSON.stringify({ node: process.version, rows }, null, 2));
else {
  console.log(`| the frontend alone (${process.version}) | ns |\n|---|---|`);
  for (const { name, ns } of rows) console.log(`| ${name} | ${ns.toFixed(1)} |`);
}
