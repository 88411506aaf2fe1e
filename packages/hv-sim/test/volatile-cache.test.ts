import { describe, expect, it } from 'vitest';
import {
  createMachine,
  createRandom,
  type Disk,
  type DiskWaiter,
  delayFilter,
  errorFilter,
  LATER,
  memoryDisk,
  volatileCacheFilter,
} from '../src/index.ts';

const MIB = 1 << 20;
const nobody: DiskWaiter = {
  done: () => {
    throw new Error('a call that answered at once told its waiter');
  },
};
function views(bytes: number) {
  const buffer = new ArrayBuffer(bytes);
  return { u8: new Uint8Array(buffer), u16: new Uint16Array(buffer), u32: new Uint32Array(buffer) };
}
function put(disk: Disk, offset: number, bytes: number, fill: number, waiter = nobody): number {
  const memory = views(bytes);
  memory.u8.fill(fill);
  return disk.write(memory, 0, offset, bytes, waiter, false);
}
function byteAt(disk: Disk, offset: number): number {
  const memory = views(512);
  expect(disk.read(memory, 0, offset, 512, nobody)).toBe(0);
  return memory.u8[0]!;
}
/** A waiter that keeps what it was told. */
function keeping(): DiskWaiter & { readonly told: number[] } {
  const told: number[] = [];
  return { told, done: (status) => told.push(status) };
}

describe('the volatile cache over a disk that answers later', () => {
  const make = (rule: { op: 'write' | 'discard' | 'zero'; times?: number }, cacheBytes = MIB) => {
    const machine = createMachine({ seed: 1, ramBytes: MIB });
    const inner = memoryDisk({ sizeBytes: 2 * MIB });
    const slow = delayFilter(errorFilter(inner, { rules: [rule] }), { scheduler: machine.scheduler, writeTicks: 2, discardTicks: 5 });
    return { machine, inner, disk: volatileCacheFilter(slow, { random: createRandom(1), cacheBytes }) };
  };

  it('keeps what was written when a discard of it fails', () => {
    const { machine, inner, disk } = make({ op: 'discard' });
    put(inner, 0, 4096, 1);
    put(disk, 0, 4096, 2);
    const waiter = keeping();
    expect(disk.discard(0, 4096, false, waiter)).toBe(LATER);
    machine.run();
    expect(waiter.told).toEqual([-5]);
    expect(byteAt(disk, 0)).toBe(2);
  });

  it('keeps what was written when zeroing it at length fails, or a write while the cache is off', () => {
    const { machine, disk } = make({ op: 'zero' });
    put(disk, 0, 512, 2);
    const waiter = keeping();
    expect(disk.writeZeroes(0, MIB, waiter)).toBe(LATER);
    machine.run();
    expect([waiter.told, byteAt(disk, 0)]).toEqual([[-5], 2]);
    const other = make({ op: 'write' });
    put(other.disk, 0, 512, 2);
    other.disk.enabled = false;
    expect(put(other.disk, 0, 512, 3, waiter)).toBe(LATER);
    other.machine.run();
    expect([waiter.told, byteAt(other.disk, 0)]).toEqual([[-5, -5], 2]);
  });

  it('keeps what was written while a discard of it was under way', () => {
    const { machine, disk } = make({ op: 'write', times: 1000 });
    put(disk, 0, 512, 1);
    disk.discard(0, 1024, false, keeping());
    put(disk, 0, 512, 2);
    machine.run();
    expect([byteAt(disk, 0), disk.dirtySectors]).toEqual([2, 1]);
  });

  it('answers a write that waits for room with the error of a disk that takes nothing', () => {
    const { machine, disk } = make({ op: 'write', times: Number.POSITIVE_INFINITY }, 8192);
    put(disk, 0, 8192, 1);
    const waiter = keeping();
    expect(put(disk, 8192, 512, 2, waiter)).toBe(LATER);
    machine.run();
    expect([waiter.told, disk.dirtyBytes]).toEqual([[-5], 8192]);
  });

  it('makes room for zeroes as for any other write', () => {
    const { machine, inner, disk } = make({ op: 'discard' }, 8192);
    put(inner, 0, 4096, 1);
    const waiter = keeping();
    for (let i = 0; i < 100; i++) disk.writeZeroes(0, 4096, waiter);
    expect(disk.dirtyBytes).toBeLessThanOrEqual(8192);
    machine.run();
    expect([waiter.told.length, byteAt(disk, 0)]).toEqual([98, 0]);
  });
});

describe('the volatile cache over a disk that becomes smaller', () => {
  it('forgets what was cut off: it neither comes back nor is written behind the end', () => {
    const inner = memoryDisk({ sizeBytes: MIB });
    const writes: number[] = [];
    const watched = Object.assign(Object.create(inner) as Disk, {
      write: (...args: Parameters<Disk['write']>) => {
        writes.push(args[2] + args[3]);
        return inner.write(...args);
      },
    });
    const disk = volatileCacheFilter(watched, { random: createRandom(1) });
    put(disk, MIB / 2 - 512, 1024, 5);
    inner.resize(MIB / 2);
    expect([disk.dirtySectors, disk.dirtyBytes, disk.sizeBytes]).toEqual([1, 512, MIB / 2]);
    expect(disk.flush(nobody)).toBe(0);
    inner.resize(MIB);
    expect([byteAt(disk, MIB / 2 - 512), byteAt(disk, MIB / 2)]).toEqual([5, 0]);
    expect(writes).toEqual([MIB / 2]);
  });

  it('writes the rest back where the end was cut off under a flush', () => {
    const machine = createMachine({ seed: 1, ramBytes: MIB });
    const inner = memoryDisk({ sizeBytes: MIB });
    const slow = delayFilter(inner, { scheduler: machine.scheduler, ticks: 2 });
    const disk = volatileCacheFilter(slow, { random: createRandom(1), cacheBytes: 1024 });
    const flushed = keeping();
    const written = keeping();
    put(disk, MIB / 2 - 512, 1024, 5);
    disk.flush(flushed);
    put(disk, MIB - 512, 512, 6, written);
    put(disk, 0, 512, 7, written);
    inner.resize(MIB / 2);
    machine.run();
    expect([flushed.told, written.told]).toEqual([[0], [-5, 0]]);
    inner.resize(MIB);
    disk.flush(flushed);
    machine.run();
    expect([0, MIB / 2 - 512, MIB / 2, MIB - 512].map((offset) => byteAt(inner, offset))).toEqual([7, 5, 0, 0]);
  });
});

describe('the volatile cache over a disk that breaks its word', () => {
  const broken = (write: Disk['write']): Disk => Object.assign(Object.create(memoryDisk({ sizeBytes: MIB })) as Disk, { write });

  it('goes on after a write-back in which the disk threw, and keeps what it had', () => {
    const good = memoryDisk({ sizeBytes: MIB });
    let throws = true;
    const disk = volatileCacheFilter(
      broken((...args) => {
        if (throws) throw new Error('bad sector');
        return good.write(...args);
      }),
      { random: createRandom(1) },
    );
    put(disk, 0, 512, 1);
    expect(() => disk.flush(nobody)).toThrow('bad sector');
    throws = false;
    expect([disk.flush(nobody), disk.dirtySectors, byteAt(good, 0)]).toEqual([0, 0, 1]);
  });

  it('takes an answer that is none for a failure', () => {
    const disk = volatileCacheFilter(
      broken(() => undefined as never),
      { random: createRandom(1) },
    );
    put(disk, 0, 512, 1);
    expect(disk.flush(nobody)).not.toBe(0);
    expect(disk.dirtySectors).toBe(1);
  });
});
