// Nanoseconds of the machine's hot paths, beside a bare copy of the same bytes in the same run. `node bench/machine.mjs [--json]`, after a build.
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createMachine } from '../dist/index.js';

const ROUNDS = 11;
/** A machine shared with others has slow stretches of a second: rounds go on for as long. */
const LOOK_NS = 1_000_000_000n;
const HOST = 2;
const SELF = 0x7ff0;

/** Processor time of this process in nanoseconds: what others do on the machine meanwhile does not count. */
function cpu() {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

/** Nanoseconds an operation in the quietest of the rounds, of `batch` operations each: whatever else the machine does only adds. */
function measure(body, batch, each = 1) {
  for (let i = 0; i < 4; i += 1) body(batch);
  const end = process.hrtime.bigint() + LOOK_NS;
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS || process.hrtime.bigint() < end; round += 1) {
    const start = cpu();
    body(batch);
    least = Math.min(least, (cpu() - start) / batch / each);
  }
  return Number(least.toFixed(1));
}

/** Two domains, the guest of which has granted its pages 8 to 511 under the references of the same numbers. */
function granted() {
  const machine = createMachine({ seed: 1, ramBytes: 64 * 2 ** 20 });
  const dom0 = machine.createDomain({ id: 0, pages: 1024 });
  const guest = machine.createDomain({ pages: 1024 });
  const frames = [];
  guest.hypercalls.setupTable(1, frames);
  const [{ views, offset }] = frames;
  for (let ref = 8; ref < 512; ref += 1) {
    views.u32[offset / 4 + ref * 2 + 1] = ref;
    views.u32[offset / 4 + ref * 2] = 1;
  }
  return { machine, dom0, guest };
}

function mapRow(pages) {
  const { dom0, guest } = granted();
  const maps = Array.from({ length: pages }, (_, i) => ({
    vfn: 1000 + i,
    flags: HOST,
    ref: 8 + i,
    domid: guest.id,
    status: 1,
    handle: 0,
    mfn: 0,
  }));
  const unmaps = maps.map(({ vfn }) => ({ vfn, handle: 0, status: 1 }));
  const ns = measure(
    (n) => {
      for (let i = 0; i < n; i += 1) {
        dom0.hypercalls.map(maps, pages);
        for (let k = 0; k < pages; k += 1) unmaps[k].handle = maps[k].handle;
        dom0.hypercalls.unmap(unmaps, pages);
      }
    },
    Math.ceil(200_000 / pages),
    pages,
  );
  if (maps.some((op) => op.status !== 0) || unmaps.some((op) => op.status !== 0)) throw new Error('a map or an unmap was refused');
  return ns;
}

function copyRows() {
  const { dom0, guest } = granted();
  const ops = [
    {
      source: { isRef: true, frameOrRef: 8, domid: guest.id, offset: 0 },
      dest: { isRef: false, frameOrRef: 3, domid: SELF, offset: 0 },
      bytes: 4096,
      status: 1,
    },
  ];
  const from = guest.memory.frame(9);
  const to = dom0.memory.frame(4);
  const page = from.views.u8.subarray(from.offset, from.offset + 4096);
  // Turn about, so that a disturbance meets both.
  const bare = (n) => {
    for (let i = 0; i < n; i += 1) to.views.u8.set(page, to.offset);
  };
  const copy = (n) => {
    for (let i = 0; i < n; i += 1) dom0.hypercalls.copy(ops, 1);
  };
  const rows = [];
  rows.push({ name: 'bare Uint8Array.set of 4 KiB (baseline)', ns: measure(bare, 50_000) });
  rows.push({ name: 'copy of 4 KiB by grant', ns: measure(copy, 50_000), target: 'bare + 100', limit: rows[0].ns + 100 });
  if (ops[0].status !== 0) throw new Error(`the copy says ${ops[0].status}`);
  return rows;
}

function translationRows() {
  const { dom0, guest } = granted();
  const op = { vfn: 1000, flags: HOST, ref: 8, domid: guest.id, status: 1, handle: 0, mfn: 0 };
  dom0.hypercalls.map([op], 1);
  let sum = 0;
  const gfn = measure((n) => {
    for (let i = 0; i < n; i += 1) sum += guest.memory.mfnOf(i & 511, true);
  }, 1_000_000);
  const vfn = measure((n) => {
    for (let i = 0; i < n; i += 1) sum += dom0.addressSpace.resolve(1000, true);
  }, 1_000_000);
  if (sum === 0) throw new Error('nothing was translated');
  return [
    { name: 'translation of a guest frame (hit)', ns: gfn },
    { name: 'address of a mapped page', ns: vfn },
  ];
}

function doorbellRow() {
  const { machine, dom0, guest } = granted();
  const port = guest.events.allocUnbound(dom0.id);
  const far = dom0.events.bindInterdomain(guest.id, port);
  let rung = 0;
  guest.events.onUpcall(port, () => {
    rung += 1;
  });
  machine.run();
  const ns = measure((n) => {
    for (let i = 0; i < n; i += 1) {
      dom0.events.send(far);
      machine.step();
    }
  }, 200_000);
  if (rung < 200_000) throw new Error('doorbells were lost');
  return { name: 'event channel, send to handler', ns, target: 60, limit: 60 };
}

function stepRow(domains) {
  const machine = createMachine({ seed: 1, ramBytes: 64 * 2 ** 20 });
  const all = Array.from({ length: domains }, () => machine.createDomain({ pages: 2, grantFramesMax: 1, windowPages: 16, handlesMax: 16 }));
  for (const domain of all) {
    const work = () => domain.post(work);
    domain.post(work);
  }
  const ns = measure((n) => {
    for (let i = 0; i < n; i += 1) machine.step();
  }, 200_000);
  const row = { name: `a step of the run queue, ${domains.toLocaleString('en')} domains`, ns };
  return domains === 2 ? { ...row, target: 40, limit: 40 } : row;
}

function timerRow() {
  const machine = createMachine({ seed: 1, ramBytes: 2 ** 20 });
  for (let i = 0; i < 1000; i += 1) {
    machine.scheduler.schedule(function again() {
      this.schedule(undefined, 1000);
    }, i);
  }
  const ns = measure((n) => {
    for (let i = 0; i < n; i += 1) machine.step();
  }, 100_000);
  return { name: 'a timer that fires and is set again, 1,000 pending', ns };
}

/** A virtual hour of a retry each second and of a thousand timers that never come, in milliseconds of real time. */
function hourRow() {
  const start = process.hrtime.bigint();
  const machine = createMachine({ seed: 1, ramBytes: 2 ** 20 });
  for (let i = 0; i < 64; i += 1) {
    machine.scheduler.schedule(function again() {
      this.schedule(undefined, 1000);
    }, i);
  }
  machine.run({ untilTicks: 3_600_000 });
  const ms = Number(process.hrtime.bigint() - start) / 1e6;
  return {
    name: `a virtual hour of 64 retries a second (${machine.steps.toLocaleString('en')} steps)`,
    ns: Number((ms * 1e6).toFixed(0)),
    target: '1 s',
    limit: 1e9,
  };
}

/** Bytes that one operation leaves on the heap: the least of five rounds of 40,000, with nothing collected meanwhile. */
function allocationRows() {
  setFlagsFromString('--expose_gc');
  const gc = runInNewContext('gc');
  const { machine, dom0, guest } = granted();
  const port = guest.events.allocUnbound(dom0.id);
  const far = dom0.events.bindInterdomain(guest.id, port);
  guest.events.onUpcall(port, () => undefined);
  const map = [{ vfn: 300, flags: HOST, ref: 8, domid: guest.id, status: 0, handle: 0, mfn: 0 }];
  const unmap = [{ vfn: 300, handle: 0, status: 0 }];
  const source = { isRef: true, frameOrRef: 8, domid: guest.id, offset: 0 };
  const copy = [{ source, dest: { isRef: false, frameOrRef: 3, domid: SELF, offset: 0 }, bytes: 4096, status: 0 }];
  const work = () => undefined;
  const operations = {
    'map + unmap': () => {
      dom0.hypercalls.map(map, 1);
      unmap[0].handle = map[0].handle;
      dom0.hypercalls.unmap(unmap, 1);
    },
    'copy by grant': () => dom0.hypercalls.copy(copy, 1),
    'send to handler': () => {
      dom0.events.send(far);
      machine.step();
    },
    'post and step': () => {
      guest.post(work);
      machine.step();
    },
  };
  const rows = [];
  for (const [name, operation] of Object.entries(operations)) {
    const round = new Function('operation', 'count', 'for (let i = 0; i < count; i += 1) operation();');
    round(operation, 200_000);
    let least = Number.POSITIVE_INFINITY;
    for (let attempt = 0; attempt < 5; attempt += 1) {
      gc();
      const before = process.memoryUsage().heapUsed;
      round(operation, 40_000);
      least = Math.min(least, process.memoryUsage().heapUsed - before);
    }
    rows.push({ name: `allocated by ${name}`, bytes: Math.max(0, Math.round(least / 40_000)), target: 'nothing', limit: 0 });
  }
  return rows;
}

/** Rows `{ name, ns or bytes, target?, limit? }`. */
export function machineRows() {
  const rows = [];
  rows.push({ name: 'map + unmap, 1 page', ns: mapRow(1), target: 150, limit: 150 });
  for (const pages of [11, 32]) rows.push({ name: `map + unmap, per page of ${pages}`, ns: mapRow(pages), target: 100, limit: 100 });
  rows.push(...copyRows(), ...translationRows(), doorbellRow());
  for (const domains of [2, 10, 100, 1000]) rows.push(stepRow(domains));
  rows.push(timerRow(), hourRow(), ...allocationRows());
  return rows;
}

export function print(title, rows) {
  console.log(`\n${title}`);
  for (const { name, ns, bytes, target, limit } of rows) {
    const found = ns ?? bytes;
    const verdict =
      limit === undefined ? '' : `  target ${target}${typeof target === 'number' ? ' ns' : ''}: ${found <= limit ? 'met' : 'MISSED'}`;
    const value = bytes !== undefined ? `${bytes} bytes` : ns >= 1e6 ? `${(ns / 1e6).toFixed(0)} ms` : `${ns.toFixed(1)} ns`;
    console.log(`${name.padEnd(64)}${value.padStart(10)}${verdict}`);
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const rows = machineRows();
  if (process.argv.includes('--json')) console.log(JSON.stringify(rows, null, 2));
  else print('hv-sim, the machine', rows);
}
