/** One contender in a process of its own: `one.mjs paravirt|plain <slots>` prints JSON. */
import { runParavirt } from './paravirt.mjs';
import { runPlain } from './plain.mjs';
import { makeWorkload } from './workload.mjs';

const [, , contender, slots] = process.argv;
const workload = makeWorkload(Number(slots));
console.log(JSON.stringify(contender === 'plain' ? runPlain(workload) : runParavirt(workload)));
