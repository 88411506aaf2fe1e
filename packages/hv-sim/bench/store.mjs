// Nanoseconds of the store's reads, writes, watches and transactions, beside a plain map. `node bench/store.mjs [--json]`, after a build.
import { pathToFileURL } from 'node:url';
import { createStore } from '../dist/store/store.js';

const ROUNDS = 11;

/** Nanoseconds of processor time a call in the quietest of the rounds, of `batch` calls each: whatever else the machine does only adds. */
function measure(body, batch) {
  for (let i = 0; i < 3; i += 1) body(batch);
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = process.cpuUsage();
    body(batch);
    const { user, system } = process.cpuUsage(start);
    least = Math.min(least, ((user + system) * 1000) / batch);
  }
  return Number(least.toFixed(1));
}

/** Rows `{ name, ns }` of a store with 1,000 domains of three nodes each. */
export function storeRows() {
  const rows = [];
  const bench = (name, body, batch = 100_000) => rows.push({ name, ns: measure(body, batch) });
  const work = [];
  const store = createStore({ enqueue: (item) => work.push(item) });
  const tools = store.connect(0);
  const run = () => {
    while (work.length > 0) work.pop()();
  };
  tools.mkdir('/local/domain/6');
  tools.setPermissions('/local/domain/6', [{ domid: 6, access: 'none' }]);
  store.introduce(6);
  const guest = store.connect(6);
  for (let domid = 100; domid < 1100; domid += 1) tools.write(`/local/domain/${domid}/device/vbd/51712/state`, '1');
  const absolute = '/local/domain/6/device/vbd/51712/state';
  const relative = 'device/vbd/51712/state';
  guest.write(relative, '1');

  const plain = new Map([[absolute, '1']]);
  let found = 0;
  bench('Map.get of the path (baseline)', (n) => {
    for (let i = 0; i < n; i += 1) if (plain.get(absolute) === '1') found += 1;
  });
  bench('store read, absolute path', (n) => {
    for (let i = 0; i < n; i += 1) if (guest.read(absolute) !== '') found += 1;
  });
  bench('store read, relative path', (n) => {
    for (let i = 0; i < n; i += 1) if (guest.read(relative) !== '') found += 1;
  });
  bench('store read of a node that is not there', (n) => {
    for (let i = 0; i < n; i += 1) if (guest.read('none') === undefined) found += 1;
  });
  bench('store write', (n) => {
    for (let i = 0; i < n; i += 1) guest.write(absolute, '4');
  });
  for (let domid = 100; domid < 1100; domid += 1) tools.watch(`/local/domain/${domid}/device/vbd/51712/state`, () => undefined);
  run();
  bench('store write, 1,000 watches elsewhere', (n) => {
    for (let i = 0; i < n; i += 1) guest.write(absolute, '4');
  });
  let told = 0;
  tools.watch(absolute, () => {
    told += 1;
  });
  run();
  bench('store write, one watch told through the queue', (n) => {
    for (let i = 0; i < n; i += 1) {
      guest.write(absolute, '4');
      run();
    }
  });
  bench(
    'transaction: begin, read, write, commit, one watch told',
    (n) => {
      for (let i = 0; i < n; i += 1) {
        const transaction = guest.begin();
        guest.read(absolute, transaction);
        guest.write(absolute, '4', transaction);
        if (!guest.commit(transaction)) throw new Error('conflict');
        run();
      }
    },
    20_000,
  );
  if (found === 0 || told === 0) throw new Error('nothing was read or told');
  return rows;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const rows = storeRows();
  if (process.argv.includes('--json'))
    console.log(JSON.stringify({ package: '@paravirt/hv-sim', node: process.version, unit: 'ns', rows }));
  else for (const { name, ns } of rows) console.log(`${name.padEnd(58)} ${String(ns).padStart(8)} ns`);
}
