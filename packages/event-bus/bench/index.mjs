// Nanoseconds of the bus and of a doorbell, beside plain baselines in the same run. `node bench/index.mjs [--json]`, after a build.
import { Subject } from 'rxjs';
import { createEventBus, createEventChannels, createEventWords, createUpcallRunner } from '../dist/index.js';

const ROUNDS = 60;
const BATCH = 50_000;

/** Nanoseconds a call, the least of the rounds: whatever else the machine does only adds to a time. */
function measure(body) {
  for (let i = 0; i < 12; i += 1) body(BATCH);
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = process.hrtime.bigint();
    body(BATCH);
    least = Math.min(least, Number(process.hrtime.bigint() - start) / BATCH);
  }
  return least;
}

const rows = [];
const bench = (name, body, target) => rows.push({ name, ns: Number(measure(body).toFixed(1)), ...(target ? { target } : {}) });

function doorbell({ wordBits = 64, bus, bell = 1 } = {}) {
  const runner = createUpcallRunner();
  const channels = createEventChannels({ queue: runner, ...(bus ? { bus } : {}) });
  const front = channels.addDomain({ domid: 1, ...createEventWords(wordBits) });
  const back = channels.addDomain({ domid: 0, ...createEventWords(wordBits) });
  let near = front.allocUnbound(0);
  while (near < bell) near = front.allocUnbound(0);
  const far = back.bindInterdomain(1, near);
  return { runner, channels, front, back, near, far };
}

{
  let calls = 0;
  const callback = () => {
    calls += 1;
  };
  bench('plain callback (baseline)', (n) => {
    for (let i = 0; i < n; i += 1) callback();
  });
  const subject = new Subject();
  subject.subscribe(callback);
  bench('Subject.next, 1 subscriber (baseline)', (n) => {
    for (let i = 0; i < n; i += 1) subject.next(i);
  });
  if (calls === 0) throw new Error('nothing was called');
}

for (const wordBits of [64, 32]) {
  const { runner, channels, front, back, near, far } = doorbell({ wordBits });
  let calls = 0;
  front.onUpcall(near, () => {
    calls += 1;
  });
  runner.run(channels);
  calls = 0;
  let sent = 0;
  bench(
    `send to handler, ${wordBits}-bit words`,
    (n) => {
      sent += n;
      for (let i = 0; i < n; i += 1) {
        back.send(far);
        runner.run(channels);
      }
    },
    60,
  );
  if (calls !== sent) throw new Error(`${sent} sent, ${calls} handled`);
}

{
  const { runner, channels, front, back, near, far } = doorbell({ bus: createEventBus(), bell: 1000 });
  front.onUpcall(near, () => undefined);
  bench(
    'send to handler, port 1000, a bus that nobody listens to',
    (n) => {
      for (let i = 0; i < n; i += 1) {
        back.send(far);
        runner.run(channels);
      }
    },
    60,
  );
}

{
  const bus = createEventBus();
  bus.on('other').subscribe();
  const { runner, channels, front, back, near, far } = doorbell({ bus });
  front.onUpcall(near, () => undefined);
  bench('send to handler, a bus with listeners of other facts', (n) => {
    for (let i = 0; i < n; i += 1) {
      back.send(far);
      runner.run(channels);
    }
  });
}

{
  const { back, far } = doorbell();
  bench('send that merges', (n) => {
    for (let i = 0; i < n; i += 1) back.send(far);
  });
}

{
  const bus = createEventBus();
  let emitted = 0;
  const emit = (i) => {
    if (bus.observed('fact')) {
      bus.emit('fact', { i });
      emitted += 1;
    }
  };
  bench('guarded emission, nobody listens', (n) => {
    for (let i = 0; i < n; i += 1) emit(i);
  });
  const other = bus.on('other').subscribe();
  bench('guarded emission, others are listened to', (n) => {
    for (let i = 0; i < n; i += 1) emit(i);
  });
  if (emitted !== 0) throw new Error('emitted to nobody');
  let heard = 0;
  bus.on('fact').subscribe(() => {
    heard += 1;
  });
  bench('guarded emission, 1 listener', (n) => {
    for (let i = 0; i < n; i += 1) emit(i);
  });
  bus.on('fact').subscribe(() => undefined);
  bus.on('fact').subscribe(() => undefined);
  bench('guarded emission, 3 listeners', (n) => {
    for (let i = 0; i < n; i += 1) emit(i);
  });
  other.unsubscribe();
  if (heard === 0) throw new Error('nobody heard');
}

if (process.argv.includes('--json')) {
  console.log(JSON.stringify({ package: '@paravirt/event-bus', node: process.version, unit: 'ns', rows }));
} else {
  for (const { name, ns, target } of rows)
    console.log(`${name.padEnd(58)} ${String(ns).padStart(8)} ns${target ? `   target ${target}` : ''}`);
}
const missed = rows.filter(({ ns, target }) => target !== undefined && ns > target);
if (missed.length > 0) console.error(`above target: ${missed.map(({ name }) => name).join('; ')}`);
