// Everything that this package measures. `node bench/index.mjs [--json]`, after a build.
import { machineRows, print } from './machine.mjs';
import { storeRows } from './store.mjs';

const machine = machineRows();
const store = storeRows();
if (process.argv.includes('--json')) console.log(JSON.stringify({ node: process.version, machine, store }, null, 2));
else {
  console.log(`Node ${process.version}`);
  print('the machine', machine);
  print('the store', store);
}
