import { blkDev } from '@paravirt/blkfront';
import type { Port } from '@paravirt/event-bus/contract';
import { expect, it } from 'vitest';
import { Stack } from './blkfront-stack.ts';

it('listens on a port that its last owner left masked', async () => {
  const stack = new Stack();
  const { dev, guest } = stack;
  const portOf = (): Port => Number(guest.store.read('device/vbd/51712/event-channel')) as Port;
  // A driver that polls masks its ports and leaves them so.
  const configured = blkDev(dev.device).configure({ nbQueues: 1 });
  configured.queueConfigure(0, 0, {});
  const running = configured.start();
  const port = portOf();
  expect(guest.events.isMasked(port)).toBe(true);
  running.stop();
  stack.run();
  dev.connectSync();
  expect(portOf()).toBe(port);
  expect(guest.events.isMasked(port)).toBe(false);
  expect(await stack.settled(dev.read(0, 512))).toHaveLength(512);
});
