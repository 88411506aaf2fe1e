// The whole path of a block request in one process: front, ring, doorbell, back, disk and back again, against a bare copy of the
// same bytes in the same process. Each row has processes of its own, because what one workload has taught the compiler is not
// another's: two, one after the other through all rows, of which the least time of each side counts, because a machine shared with
// others has slow minutes. `--quick` makes it one. `--json` prints one object; the exit code is 1 where the gate of 5 x is missed.
import { execFileSync } from 'node:child_process';
import { Session } from 'node:inspector';
import { fileURLToPath } from 'node:url';
import { OP } from '@paravirt/blkfront';
import { blockStack, least, nanoseconds } from './block-stack.mjs';

const DISK_BYTES = 4 << 20;
const json = process.argv.includes('--json');
const quick = process.argv.includes('--quick');
const ROUNDS = quick ? 8 : 20;
const PROCESSES = quick ? 1 : 2;

/**
 * `Uint8Array.set` of the pages that the requests move, between the same number of buffers and the same disk, views ready. Both are
 * written first: memory that never was is one page of zeroes to the host, and copying from it is copying from the nearest cache.
 */
function bare(op, pages) {
  const memory = new Uint8Array(64 << 20).fill(1);
  const disk = new Uint8Array(DISK_BYTES).fill(2);
  const buffers = Array.from({ length: pages }, (_, i) => memory.subarray((i + 100) * 4096, (i + 101) * 4096));
  const sectors = Array.from({ length: DISK_BYTES / 4096 }, (_, i) => disk.subarray(i * 4096, i * 4096 + 4096));
  const count = 16_384;
  return nanoseconds(
    () => {
      let sector = 0;
      let buffer = 0;
      for (let i = 0; i < count; i++) {
        if (op === OP.WRITE) sectors[sector].set(buffers[buffer]);
        else buffers[buffer].set(sectors[sector]);
        if (++sector === sectors.length) sector = 0;
        if (++buffer === pages) buffer = 0;
      }
    },
    count,
    ROUNDS,
  );
}

/**
 * A round of requests at a fixed depth over one or more devices and queues, through `submit`. Each lane has `stretches` of `diskBytes`
 * and of as many buffers as it is deep, `strideBytes` apart on the disk, and goes from one to the next as often as it went round.
 */
function callbacks(
  stack,
  { op, segments = 1, depth = 32, pinned = false, queues = 1, diskBytes = DISK_BYTES, stretches = 1, strideBytes = 0 },
) {
  const { machine } = stack;
  const sectors = segments * 8;
  const sets = depth * stretches;
  let left = 0;
  let done = 0;
  const lanes = stack.devices.flatMap(({ dev, guest }) =>
    Array.from({ length: queues }, (_, queue) => {
      const buffers = Array.from({ length: sets }, () =>
        pinned ? dev.allocBuffer(segments).gfns : Array.from({ length: segments }, () => guest.pages.alloc()),
      );
      // As the bare copy's: memory that holds something.
      for (const gfn of buffers.flatMap((gfns) => [...gfns])) guest.memory.write(gfn * 4096, new Uint8Array(4096).fill(1));
      return { device: dev.device, queue, buffers, buffer: 0, sectors: new Array(stretches).fill(0), next: null };
    }),
  );
  for (const lane of lanes) {
    const { device, queue, buffers } = lane;
    lane.next = (cookie) => {
      if (left === 0) return;
      left--;
      const { buffer } = lane;
      const stretch = stretches === 1 ? 0 : (buffer / depth) | 0;
      const sector = lane.sectors[stretch];
      const status = device.submit(op, stretch * (strideBytes / 512) + sector, buffers[buffer], 0, sectors, cookie, queue);
      if (status !== 0) throw new Error(`submit answered ${status}`);
      lane.sectors[stretch] = sector + 2 * sectors > diskBytes / 512 ? 0 : sector + sectors;
      lane.buffer = buffer + 1 === sets ? 0 : buffer + 1;
    };
  }
  for (const { dev } of stack.devices) {
    const own = lanes.filter(({ device }) => device === dev.device);
    dev.device.onDone = (cookie, status) => {
      if (status !== 0) throw new Error(`a request failed with ${status}`);
      done++;
      own[(cookie / depth) | 0].next(cookie);
    };
  }
  return (count) => {
    left = count;
    done = 0;
    for (const lane of lanes) {
      lane.device.plug(lane.queue);
      for (let i = 0; i < depth; i++) lane.next(lane.queue * depth + i);
      lane.device.unplug(lane.queue);
    }
    machine.runUntil(() => done === count);
  };
}

function measure(options, work) {
  const stack = blockStack(options);
  // A disk that was never written holds no memory: fill it, so that reads copy.
  const { diskBytes = DISK_BYTES, stretches = 1, strideBytes = diskBytes } = work;
  const filled = stretches * strideBytes;
  const fill = callbacks(stack, { op: OP.WRITE, segments: 2, depth: 4, diskBytes: filled });
  fill((filled / 8192) * stack.devices.length);
  const round = callbacks(stack, work);
  const lanes = stack.devices.length * (work.queues ?? 1);
  const count = Math.max(256, Math.floor(8192 / (work.segments ?? 1)), lanes * (work.depth ?? 32) * 4);
  const before = { ...stack.dev.device.figures[0] };
  const ns = nanoseconds(() => round(count), count, ROUNDS);
  const after = stack.dev.device.figures[0];
  return { ns, doorbells: (after.doorbells - before.doorbells) / (after.requests - before.requests), stack, round };
}

/** `await dev.read()`, 32 callers at once. */
async function promises(kind) {
  const stack = blockStack({ front: { persistent: false } });
  callbacks(stack, { op: OP.WRITE, segments: 8, depth: 4 })(DISK_BYTES / 32768);
  const { dev, machine } = stack;
  const depth = 32;
  const targets = Array.from({ length: depth }, () =>
    kind === 'fresh' ? 4096 : kind === 'array' ? new Uint8Array(4096) : dev.allocBuffer(1),
  );
  const count = 8192;
  const round = async () => {
    let left = count;
    let sector = 0;
    let running = depth;
    const caller = async (target) => {
      while (left > 0) {
        left--;
        const at = sector;
        sector = (sector + 8) % (DISK_BYTES / 512);
        await dev.read(at, target);
      }
      running--;
    };
    const all = Promise.all(targets.map(caller));
    while (running > 0) {
      machine.runUntil(() => dev.device.busy === 0);
      await null;
    }
    await all;
  };
  const times = [];
  const end = process.hrtime.bigint() + 2_500_000_000n;
  for (let i = 0; i < ROUNDS * 4 || process.hrtime.bigint() < end; i++) {
    const start = process.hrtime.bigint();
    await round();
    if (i >= ROUNDS * 3) times.push(Number(process.hrtime.bigint() - start) / count);
  }
  return least(times);
}

/** Bytes allocated per request by the functions of each package, from V8's sampling heap profiler, garbage included. */
function allocation(round, count) {
  const session = new Session();
  session.connect();
  const post = (method, params) => {
    let result;
    session.post(method, params, (error, answer) => {
      if (error) throw new Error(error.message);
      result = answer;
    });
    return result;
  };
  round(count);
  post('HeapProfiler.startSampling', {
    samplingInterval: 512,
    includeObjectsCollectedByMajorGC: true,
    includeObjectsCollectedByMinorGC: true,
  });
  round(count);
  const { profile } = post('HeapProfiler.stopSampling');
  session.disconnect();
  const bytes = new Map();
  const walk = (node) => {
    const own = /packages\/([\w-]+)\/(?:dist|src)\/([\w/-]+)\./.exec(node.callFrame.url);
    const where = own ? `${own[1]}/${own[2]} ${node.callFrame.functionName}` : 'elsewhere';
    if (node.selfSize > 0) bytes.set(where, (bytes.get(where) ?? 0) + node.selfSize);
    node.children.forEach(walk);
  };
  walk(profile.head);
  return [...bytes].map(([where, size]) => ({ where, perRequest: size / count })).sort((a, b) => b.perRequest - a.perRequest);
}

// The pool off: every request takes and gives back its reference.
const fragment = (grants) => {
  const taken = [];
  try {
    while (taken.length < 240_000) taken.push(grants.allocGrantReference());
  } catch {
    // The table is as long as it may be.
  }
  for (let i = 0; i < taken.length; i += 2) grants.freeGrantReference(taken[i]);
};
const plain = { front: { persistent: false } };
const pinned = { front: { persistent: true } };
const indirect = { front: { persistent: false, maxSegments: 256 }, guestPages: 8192 };
const off = { front: { persistent: false, poolRefs: 0 } };
const large = { grantFramesMax: 512, prepare: fragment };
// A hundred devices copy other pages than one does: each its own buffers, from a disk of its own. What that costs is the copy's and not
// the machine's, so one device is measured that copies as many pages in the same order, beside one that copies as it likes.
const shareBytes = 40 << 10;
const strideBytes = 256 << 10;
const small = { ...plain, guestPages: 128 };
const wide = { ...plain, guestPages: 1024, diskBytes: 100 * strideBytes };

const row = (name, options, work, target, gate) => ({
  name,
  target,
  gate,
  run: () => {
    const { ns, doorbells } = measure(options, work);
    const segments = work.segments ?? 1;
    return { ns, doorbells, base: bare(work.op, Math.min(1024, segments * (work.depth ?? 32))) * segments };
  },
});
const promised = (name, kind, target) => ({ name, target, run: async () => ({ ns: await promises(kind), base: bare(OP.READ, 32) }) });

const kinds = [
  ['read', OP.READ],
  ['write', OP.WRITE],
];
const table = {
  ...Object.fromEntries(
    kinds.flatMap(([name, op]) => [
      [name, row(`4 KiB ${name}, depth 32, map and unmap`, plain, { op }, 3.5, 5)],
      [`${name} persistent`, row(`4 KiB ${name}, depth 32, persistent, no bounce`, pinned, { op, pinned: true }, 2.5)],
      [`${name} 11`, row(`44 KiB ${name} (11 segments), depth 32`, plain, { op, segments: 11 }, 2.2)],
      [`${name} 256`, row(`1 MiB ${name}, indirect, depth 4`, indirect, { op, segments: 256, depth: 4 }, 2)],
    ]),
  ),
  'await buffer': promised('4 KiB await read, depth 32, into a buffer of the device', 'buffer', 5),
  'await array': promised('4 KiB await read, depth 32, into an array (bounced)', 'array'),
  'await fresh': promised('4 KiB await read, depth 32, a fresh array each (bounced)', 'fresh'),
  'pool off': row('4 KiB read, pool off, small table', off, { op: OP.READ }),
  'pool off, large': row('4 KiB read, pool off, 240,000 references, every other free', { ...off, ...large }, { op: OP.READ }),
  'pool on, large': row('4 KiB read, pool on, 240,000 references, every other free', { ...plain, ...large }, { op: OP.READ }),
  'queues 1': row('4 KiB read, 1 queue', { front: { persistent: false, queues: 1 } }, { op: OP.READ }),
  'queues 16': row('4 KiB read, 16 queues', { front: { persistent: false, queues: 16 } }, { op: OP.READ, queues: 16 }),
  'devices 1': row('4 KiB read, 1 device, depth 4', small, { op: OP.READ, depth: 4 }),
  'devices 1 wide': row('4 KiB read, 1 device, depth 4, the pages of 100 devices', wide, {
    op: OP.READ,
    depth: 4,
    diskBytes: shareBytes,
    stretches: 100,
    strideBytes,
  }),
  'devices 100': row(
    '4 KiB read, 100 devices, depth 4 each',
    { ...small, devices: 100, diskBytes: shareBytes },
    { op: OP.READ, depth: 4, diskBytes: shareBytes },
  ),
  allocation: {
    name: 'bytes allocated per request',
    run: () => {
      const { round } = measure(plain, { op: OP.READ });
      return { heap: allocation(round, 100_000) };
    },
  },
};

const only = process.argv.indexOf('--row');
if (only !== -1) {
  console.log(JSON.stringify(await table[process.argv[only + 1]].run()));
  process.exit();
}

const results = {};
for (let i = 0; i < PROCESSES; i++) {
  for (const key of Object.keys(table)) {
    const args = [fileURLToPath(import.meta.url), '--row', key, ...(quick ? ['--quick'] : [])];
    const now = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }));
    const before = results[key];
    results[key] = before?.ns === undefined ? now : { ...now, ns: Math.min(before.ns, now.ns), base: Math.min(before.base, now.base) };
  }
}
const rows = Object.entries(table)
  .filter(([key]) => key !== 'allocation')
  .map(([key, { name, target, gate }]) => {
    const { ns, base } = results[key];
    return { name, ns, base, ratio: ns / base, target, gate };
  });
const { heap } = results.allocation;
const sum = (list) => list.reduce((total, { perRequest }) => total + perRequest, 0);
const missed = rows.filter(({ gate, ratio }) => gate !== undefined && ratio > gate);
const result = {
  node: process.version,
  rows,
  doorbellsPerRequest: results.read.doorbells,
  growth: {
    queues: results['queues 16'].ns / results['queues 1'].ns,
    devices: results['devices 100'].ns / results['devices 1 wide'].ns,
    devicesAndPages: results['devices 100'].ns / results['devices 1'].ns,
  },
  allocatedBytesPerRequest: {
    wholePath: sum(heap),
    frontend: sum(heap.filter(({ where }) => where.startsWith('blkfront/'))),
    top: heap.slice(0, 8),
  },
  gate: missed.length === 0,
};
if (json) console.log(JSON.stringify(result, null, 2));
else {
  const { growth, allocatedBytesPerRequest: bytes } = result;
  console.log(
    `bare Uint8Array.set of 4 KiB: read ${results.read.base.toFixed(0)} ns, write ${results.write.base.toFixed(0)} ns (${process.version})\n`,
  );
  console.log('| workload | ns | x bare | target |\n|---|---|---|---|');
  for (const { name, ns, ratio, target } of rows) {
    console.log(`| ${name} | ${ns.toFixed(0)} | ${ratio.toFixed(2)} | ${target === undefined ? '' : `<= ${target}`} |`);
  }
  console.log(`| doorbells per request, depth 32 | | ${result.doorbellsPerRequest.toFixed(3)} | <= 0.1 |`);
  console.log(`| 16 queues against 1, per request | | ${growth.queues.toFixed(2)} | <= 1.5 |`);
  console.log(`| 100 devices against 1 that copies the same pages, per request | | ${growth.devices.toFixed(2)} | <= 1.5 |`);
  console.log(`| 100 devices against 1, per request | | ${growth.devicesAndPages.toFixed(2)} | |`);
  console.log(
    `| bytes allocated per request: frontend / whole path | | ${bytes.frontend.toFixed(2)} / ${bytes.wholePath.toFixed(2)} | nothing |`,
  );
  for (const { where, perRequest } of heap.slice(0, 6)) console.log(`    ${perRequest.toFixed(3)} ${where}`);
  for (const { name, ratio, gate } of missed) console.error(`\ngate: ${name} is ${ratio.toFixed(2)} x, allowed is ${gate} x`);
}
process.exitCode = missed.length === 0 ? 0 : 1;
