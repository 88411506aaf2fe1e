import { attachDisk, detachDisk, memoryDisk, serveDisks } from '@paravirt/hv-sim';
import { describe, expect, it } from 'vitest';
import { HoldingDisk, Stack } from './blkfront-stack.ts';

const FULL = process.env['PARAVIRT_FULL'] !== undefined;

describe('a disk taken away from a guest', () => {
  it('while it is idle: the real frontend closes, both folders go, nothing is left', async () => {
    const stack = new Stack();
    await stack.settled(stack.dev.connect());
    let gone = false;
    detachDisk(stack.host, stack.attached, () => {
      gone = true;
    });
    stack.machine.run({ untilTicks: stack.machine.now + 60_000 });
    expect(gone).toBe(true);
    expect(stack.host.blkback.devices()).toEqual([]);
    expect(stack.dom0.store.read(stack.attached.frontendPath)).toBeUndefined();
    stack.dev.destroy();
    expect(stack.leftovers()).toEqual([]);
  });

  it('while requests are under way: they end first, right or with an error', async () => {
    const stack = new Stack();
    await stack.settled(stack.dev.connect());
    stack.disk.held = true;
    const reads = Array.from({ length: 8 }, (_, i) =>
      stack.dev.read(i * 8, 4096).then(
        () => 'read',
        () => 'failed',
      ),
    );
    stack.run();
    expect(stack.host.blkback.devices()[0]!.inFlight).toBe(8);
    let gone = false;
    detachDisk(stack.host, stack.attached, () => {
      gone = true;
    });
    stack.run();
    expect(gone).toBe(false);
    stack.disk.release();
    const ends = await stack.settled(Promise.all(reads));
    expect(ends).toHaveLength(8);
    stack.machine.run({ untilTicks: stack.machine.now + 60_000 });
    expect(gone).toBe(true);
    stack.dev.destroy();
    expect(stack.leftovers()).toEqual([]);
  });
});

describe('a backend that goes and comes again', () => {
  it('takes its devices over, and the frontend finds its bytes', async () => {
    const stack = new Stack();
    await stack.settled(stack.dev.connect());
    const bytes = new Uint8Array(8192).fill(7);
    await stack.settled(stack.dev.write(8, bytes));
    stack.dom0.detachAll();
    stack.run(100);
    const host = serveDisks(stack.dom0, { bus: stack.bus });
    host.blkback.addDisk(stack.attached.physicalDevice, stack.disk);
    const read = (await stack.settled(stack.dev.read(8, 8192))) as Uint8Array;
    expect(Buffer.compare(read, bytes)).toBe(0);
    expect(host.blkback.device(stack.guest.id, 51712)).toMatchObject({ state: 4 });
    await stack.settled(stack.dev.close());
    stack.dev.destroy();
    expect(stack.leftovers()).toEqual([]);
  });
});

describe('persistent grants of the real frontend', () => {
  it('are unmapped by the backend after a minute without use, and can be used again', async () => {
    const stack = new Stack({ front: { persistent: true, purgeTicks: 1_000_000 } });
    await stack.settled(stack.dev.connect());
    await stack.settled(stack.dev.write(0, new Uint8Array(11 * 4096).fill(1)));
    const device = stack.host.blkback.devices()[0]!;
    expect(device.persistentGrants).toBeGreaterThan(0);
    const { maps } = device.counters;
    await stack.settled(stack.dev.read(0, 11 * 4096));
    expect(device.counters.maps - maps).toBeLessThan(11);
    stack.run(125_000);
    expect(device.persistentGrants).toBe(0);
    const read = (await stack.settled(stack.dev.read(0, 4096))) as Uint8Array;
    expect(read[0]).toBe(1);
    await stack.settled(stack.dev.close());
    stack.dev.destroy();
    expect(stack.leftovers()).toEqual([]);
  });
});

describe('many connections', () => {
  const rounds = FULL ? 1000 : 50;
  it(`${rounds} in a row leave memory, references and handles as they were`, async () => {
    const stack = new Stack({ guestPages: 1024 });
    let frames = -1;
    for (let round = 0; round < rounds; round++) {
      await stack.settled(stack.dev.connect());
      await stack.settled(stack.dev.write(round % 1000, new Uint8Array(512).fill(round)));
      await stack.settled(stack.dev.close());
      expect(stack.leftovers()).toEqual([]);
      if (round === 1) frames = stack.machine.freeFrames;
      if (round > 1) expect(stack.machine.freeFrames).toBe(frames);
    }
    stack.dev.destroy();
  });

  it('several disks of one guest do not meet', async () => {
    const stack = new Stack({ sectors: 64 });
    const disks = [51728, 51744].map((device) => {
      const disk = new HoldingDisk(memoryDisk({ sizeBytes: 64 * 512 }), () => stack.machine);
      return attachDisk(stack.host, { frontend: stack.guest.id, disk, device });
    });
    await stack.settled(stack.dev.connect());
    await stack.settled(stack.dev.write(0, new Uint8Array(512).fill(1)));
    expect(stack.host.blkback.devices()).toHaveLength(3);
    expect(disks.map(({ physicalDevice }) => physicalDevice)).toEqual(['7:1', '7:2']);
    expect(stack.host.blkback.device(stack.guest.id, 51728)!.counters.requests).toBe(0);
  });
});

describe('a disk that is resized under a guest', () => {
  it('grows and shrinks while requests run, and the frontend knows', async () => {
    const stack = new Stack({ sectors: 1024 });
    await stack.settled(stack.dev.connect());
    const reads = Array.from({ length: 16 }, (_, i) => stack.dev.read(i * 8, 4096));
    stack.disk.resize(2048 * 512);
    await stack.settled(Promise.all(reads));
    stack.run();
    expect(stack.dev.info!.sectors).toBe(2048);
    await stack.settled(stack.dev.write(2040, new Uint8Array(4096).fill(9)));
    stack.disk.resize(1024 * 512);
    stack.run();
    expect(stack.dev.info!.sectors).toBe(1024);
    await expect(stack.settled(stack.dev.read(2040, 512))).rejects.toThrow();
    await stack.settled(stack.dev.close());
    stack.dev.destroy();
    expect(stack.leftovers()).toEqual([]);
  });
});
