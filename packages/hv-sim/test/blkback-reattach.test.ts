import { BLKIF_OP } from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import { attachDisk, type Disk, delayFilter, detachDisk, memoryDisk } from '../src/index.ts';
import { type Fixture, fixture, RawFront, statusOf } from './blkback-fixture.ts';

const MIB = 1 << 20;

const run = (f: Fixture, ticks = 0): void => {
  f.machine.run({ untilTicks: f.machine.now + ticks });
};

/** A disk whose reads take their time. */
function slowDisk(f: Fixture, ticks: number): Disk {
  return delayFilter(memoryDisk({ sizeBytes: 4 * MIB }), { scheduler: f.dom0.scheduler, ticks });
}

/** Connects to what stands in the folder, and reads from the disk. */
function readsFrom(f: Fixture, path: string): number | undefined {
  const front = new RawFront(f.guest, path);
  front.publish();
  run(f);
  const id = front.put(BLKIF_OP.READ, 0, [[front.grant(front.page()), 0, 7]]);
  front.ring();
  run(f, 100);
  return statusOf(front.answers(), id);
}

describe('a disk that is attached again', () => {
  it('while the old device drains is served when that is gone', () => {
    const f = fixture({ noAttach: true });
    const old = attachDisk(f.host, { frontend: f.guest.id, disk: slowDisk(f, 50) });
    run(f);
    const front = new RawFront(f.guest, old.frontendPath);
    front.publish();
    run(f);
    front.put(BLKIF_OP.READ, 0, [[front.grant(front.page()), 0, 7]]);
    front.ring();
    run(f);
    detachDisk(f.host, old).force();
    run(f);
    const disk = memoryDisk({ sizeBytes: MIB });
    const again = attachDisk(f.host, { frontend: f.guest.id, disk });
    run(f, 10);
    expect(f.host.blkback.devices()).toHaveLength(1);
    run(f, 100);
    expect(f.host.blkback.devices()).toMatchObject([{ state: 2, disk }]);
    expect(again.plugged).toBe(true);
    front.release();
    expect(readsFrom(f, again.frontendPath)).toBe(0);
  });

  it('in the moment of the detach is another device, with the new disk', () => {
    const f = fixture();
    const front = f.connect();
    detachDisk(f.host, f.attached!).force();
    const disk = memoryDisk({ sizeBytes: MIB });
    const again = attachDisk(f.host, { frontend: f.guest.id, disk });
    run(f);
    expect(f.host.blkback.devices()).toMatchObject([{ state: 2, disk, inFlight: 0 }]);
    front.release();
    expect(readsFrom(f, again.frontendPath)).toBe(0);
  });

  it('in the moment in which a closed one is detached says what it can do, and has the new disk', () => {
    const f = fixture();
    const front = f.connect();
    front.setState(6);
    run(f);
    detachDisk(f.host, f.attached!).force();
    const disk = memoryDisk({ sizeBytes: MIB });
    const again = attachDisk(f.host, { frontend: f.guest.id, disk });
    run(f);
    expect(f.host.blkback.devices()).toMatchObject([{ state: 2, disk }]);
    expect(f.back('max-ring-page-order')).toBe('4');
    front.release();
    expect(readsFrom(f, again.frontendPath)).toBe(0);
  });
});

describe('a disk that is detached', () => {
  it('after its frontend closed is gone at once', () => {
    const f = fixture();
    const front = f.connect();
    front.setState(6);
    run(f);
    let done = false;
    const detaching = detachDisk(f.host, f.attached!, () => {
      done = true;
    });
    run(f);
    expect(done && detaching.done).toBe(true);
    expect(f.host.blkback.devices()).toEqual([]);
    front.release();
  });

  it('after its frontend closed is gone even if that begins again in this moment', () => {
    const f = fixture();
    const front = f.connect();
    front.setState(6);
    run(f);
    const detaching = detachDisk(f.host, f.attached!);
    front.setState(1);
    run(f);
    expect(detaching.done).toBe(true);
    expect(f.host.blkback.devices()).toEqual([]);
    front.release();
  });
});
