import { createEventBus, createEventChannels, createEventWords, createUpcallRunner } from '@paravirt/event-bus';
import { domId } from '@paravirt/event-bus/contract';
import { expect, it } from 'vitest';

it('merges a thousand rings into one upcall', () => {
  const runner = createUpcallRunner();
  const channels = createEventChannels({ queue: runner, bus: createEventBus() });
  const front = channels.addDomain({ domid: domId(1), ...createEventWords(64) });
  const back = channels.addDomain({ domid: domId(0), ...createEventWords(32) });
  const port = front.allocUnbound(back.domid);
  const theirs = back.bindInterdomain(front.domid, port);
  let calls = 0;
  front.onUpcall(port, () => {
    calls += 1;
  });
  for (let i = 0; i < 1000; i += 1) back.send(theirs);
  runner.run(channels);
  expect(calls).toBe(1);
  expect(channels.counts(back.domid)).toMatchObject({ sent: 1000, merged: 999 });
});
