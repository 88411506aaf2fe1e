import { createEventBus } from '@paravirt/event-bus';
import { describe, expect, it } from 'vitest';
import { type BlkfrontEvents, BlockDevice, ERRNO, OP } from '../src/index.ts';
import { Loopback, World } from '../src/testing.ts';

/** What becomes of a device with requests on its ring. */
const ends: Record<string, { status: number; end: (back: Loopback, dev: BlockDevice) => void }> = {
  'is destroyed': { status: ERRNO.ENODEV, end: (_, dev) => dev.device.destroy() },
  'loses its backend': { status: ERRNO.ENODEV, end: (back) => back.die() },
  'is closed before its backend answers': { status: ERRNO.ENODEV, end: (_, dev) => dev.device.stop() },
  'is lied to': {
    status: ERRNO.EIO,
    end: (back) => {
      back.answer(back.held[0]!, 0, { idLo: 31 });
      back.pushAll();
    },
  },
};

describe('a request that ends with its device', () => {
  for (const [what, { status, end }] of Object.entries(ends)) {
    it(`is told of like any other when the device ${what}`, () => {
      const world = new World();
      const back = new Loopback(world, { hold: true, flush: true, maxQueues: 2 }).start();
      const bus = createEventBus<BlkfrontEvents>();
      const dev = new BlockDevice({ device: 51712, queues: 2, reconnectTicks: 10, closeTicks: 10 }, { ...world.surroundings, bus });
      dev.connectSync();
      const asked: number[][] = [];
      const facts: number[][] = [];
      const done: number[][] = [];
      const seen: object[] = [];
      bus.on('blkfront:requested').subscribe(({ queue, id, op }) => void asked.push([queue, id, op]));
      bus.on('blkfront:completed').subscribe((fact) => void facts.push([fact.queue, fact.id, fact.op, fact.status]));
      dev.completions.subscribe((completion) => seen.push(completion));
      dev.device.onDone = (...args) => void done.push(args);
      dev.device.submit(OP.READ, 8, [world.page()], 0, 8, 1, 0);
      dev.device.submit(OP.FLUSH, 0, null, 0, 0, 2, 1);
      dev.device.submitTo(0, OP.WRITE, 3, null, new Uint8Array(512), 0, 1, 3, (...args) => void done.push(args));
      world.time.settle();
      end(back, dev);
      world.time.run(1000);
      const order = [asked[0]!, asked[2]!, asked[1]!];
      expect(facts).toEqual(order.map((request) => [...request, status]));
      expect(seen).toEqual([
        { queue: 0, op: OP.READ, sector: 8, sectors: 8, status },
        { queue: 0, op: OP.WRITE, sector: 3, sectors: 1, status },
        { queue: 1, op: OP.FLUSH, sector: 0, sectors: 0, status },
      ]);
      expect(done.map(([cookie]) => cookie)).toEqual([1, 3, 2]);
    });
  }
});
