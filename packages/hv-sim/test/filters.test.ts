import { describe, expect, it } from 'vitest';
import {
  corruptFilter,
  createMachine,
  createRandom,
  type Disk,
  DiskError,
  type DiskWaiter,
  delayFilter,
  diskFaults,
  errorFilter,
  LATER,
  memoryDisk,
  readonlyFilter,
  statsFilter,
  tornFilter,
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
function get(disk: Disk, offset: number, bytes: number): Uint8Array {
  const memory = views(bytes);
  expect(disk.read(memory, 0, offset, bytes, nobody)).toBe(0);
  return memory.u8;
}
function bitsSet(bytes: Uint8Array): number {
  let bits = 0;
  for (const byte of bytes) for (let bit = byte; bit !== 0; bit &= bit - 1) bits++;
  return bits;
}
/** A waiter that keeps what it was told. */
function keeping(): DiskWaiter & { readonly told: number[] } {
  const told: number[] = [];
  return { told, done: (status) => told.push(status) };
}

describe('the error filter', () => {
  it('fails exactly the calls that a rule picks, which never reach the disk', () => {
    const inner = statsFilter(memoryDisk({ sizeBytes: MIB }));
    const disk = errorFilter(inner, {
      rules: [
        { op: 'read', atReach: 3 },
        { op: 'write', offset: 4096, bytes: 4096, errno: 28, times: 2 },
      ],
    });
    const answers = [1, 2, 3, 4].map(() => disk.read(views(512), 0, 0, 512, nobody));
    expect(answers).toEqual([0, 0, -5, 0]);
    expect([put(disk, 0, 4096, 1), put(disk, 3584, 1024, 1), put(disk, 8192 - 512, 512, 1), put(disk, 4096, 512, 1)]).toEqual([
      0, -28, -28, 0,
    ]);
    expect([inner.stats.read.calls, inner.stats.write.calls]).toEqual([3, 2]);
    expect(diskFaults(disk)).toMatchObject([
      { name: 'error:read#0', requested: 1, reached: 4, fired: 1 },
      { name: 'error:write#1', requested: 2, reached: 3, fired: 2 },
    ]);
  });

  it('draws its chances from the seed, and from nothing else', () => {
    const run = (seed: number): number[] => {
      const disk = errorFilter(memoryDisk({ sizeBytes: MIB }), { rules: [{ probability: 0.1 }], random: createRandom(seed) });
      return Array.from({ length: 1000 }, (_, i) => (i % 2 === 0 ? disk.flush(nobody) : put(disk, 0, 512, 1)));
    };
    expect(run(1)).toEqual(run(1));
    expect(run(1)).not.toEqual(run(2));
    const failed = run(1).filter((answer) => answer === -5).length;
    expect(failed).toBeGreaterThan(60);
    expect(failed).toBeLessThan(140);
  });

  it('passes everything on while it is off', () => {
    const disk = errorFilter(memoryDisk({ sizeBytes: MIB }), { rules: [{ times: 1000 }] });
    expect(put(disk, 0, 512, 1)).toBe(-5);
    disk.enabled = false;
    expect(put(disk, 0, 512, 1)).toBe(0);
    disk.enabled = true;
    expect(disk.discard(0, 512, false, nobody)).toBe(-5);
    expect(disk.writeZeroes(0, 512, nobody)).toBe(-5);
    expect(disk.faults[0]!.reached).toBe(3);
  });

  it('refuses rules that make no sense, by name', () => {
    const inner = memoryDisk({ sizeBytes: MIB });
    for (const rule of [
      { op: 'trim' as never },
      { probability: 2 },
      { probability: 0.5 },
      { atReach: 0 },
      { times: 0 },
      { offset: -1 },
      { bytes: 0 },
      { errno: 0 },
    ]) {
      expect(() => errorFilter(inner, { rules: [rule] })).toThrow(DiskError);
    }
  });
});

describe('the corrupt filter', () => {
  it('flips bits of what is read, on the way to the guest only', () => {
    const inner = memoryDisk({ sizeBytes: MIB });
    const disk = corruptFilter(inner, { rules: [{ op: 'read' }], random: createRandom(1), bits: 3 });
    expect(bitsSet(get(disk, 0, 4096))).toBe(3);
    expect(bitsSet(get(disk, 0, 4096))).toBe(0);
    expect(disk.faults).toMatchObject([{ reached: 2, fired: 1 }]);
  });

  it('flips bits of what is written, and leaves the page of the guest alone', () => {
    const inner = memoryDisk({ sizeBytes: MIB });
    const disk = corruptFilter(inner, { rules: [{ op: 'write', probability: 1 }], random: createRandom(1) });
    const memory = views(8192);
    expect(disk.write(memory, 4096, 0, 4096, nobody, false)).toBe(0);
    expect(bitsSet(memory.u8)).toBe(0);
    expect(bitsSet(get(inner, 0, 4096))).toBe(1);
  });

  it('waits for a disk that answers later before it flips what was read', () => {
    const machine = createMachine({ seed: 1, ramBytes: MIB });
    const slow = delayFilter(memoryDisk({ sizeBytes: MIB }), { scheduler: machine.scheduler, ticks: 1 });
    const disk = corruptFilter(slow, { rules: [{ op: 'read' }], random: createRandom(1) });
    const memory = views(4096);
    const waiter = keeping();
    expect(disk.read(memory, 0, 0, 4096, waiter)).toBe(LATER);
    machine.run();
    expect(waiter.told).toEqual([0]);
    expect(bitsSet(memory.u8)).toBe(1);
  });
});

describe('the torn filter', () => {
  it('lets a first part of a write reach the disk, less than all of it, and says that all went well', () => {
    for (let seed = 0; seed < 50; seed++) {
      const inner = memoryDisk({ sizeBytes: MIB });
      const disk = tornFilter(inner, { rules: [{ op: 'write' }], random: createRandom(seed) });
      expect(put(disk, 0, 4096, 1)).toBe(0);
      const seen = get(inner, 0, 4096);
      const kept = seen.indexOf(0);
      expect(kept % 512).toBe(0);
      expect(seen.subarray(kept).every((byte) => byte === 0)).toBe(true);
    }
  });

  it('scatters where it is told to, says EIO where it is told to, and always leaves something out', () => {
    const kept = new Set<number>();
    for (let seed = 0; seed < 50; seed++) {
      const inner = memoryDisk({ sizeBytes: MIB });
      const disk = tornFilter(inner, { rules: [{ op: 'write' }], random: createRandom(seed), pattern: 'scatter', answer: 'error' });
      expect(put(disk, 0, 4096, 1)).toBe(-5);
      const seen = get(inner, 0, 4096);
      const sectors = [0, 1, 2, 3, 4, 5, 6, 7].filter((sector) => seen[sector * 512] === 1);
      expect(sectors.length).toBeLessThan(8);
      kept.add(sectors.length);
    }
    expect(kept.size).toBeGreaterThan(3);
  });

  it('tears writes to a disk that answers later, and answers once', () => {
    const machine = createMachine({ seed: 1, ramBytes: MIB });
    const slow = delayFilter(memoryDisk({ sizeBytes: MIB }), { scheduler: machine.scheduler, ticks: 1 });
    const disk = tornFilter(slow, { rules: [{ op: 'write' }], random: createRandom(4), pattern: 'scatter', answer: 'error' });
    const waiter = keeping();
    expect(put(disk, 0, 4096, 1, waiter)).toBe(LATER);
    machine.run();
    expect(waiter.told).toEqual([-5]);
  });
});

describe('the delay filter', () => {
  it('carries each kind of call out when its time has come', () => {
    const machine = createMachine({ seed: 1, ramBytes: MIB });
    const inner = statsFilter(memoryDisk({ sizeBytes: MIB }));
    const disk = delayFilter(inner, { scheduler: machine.scheduler, readTicks: 2, writeTicks: 5, flushTicks: 9, discardTicks: 1 });
    const order: [string, number][] = [];
    const waiter = (name: string): DiskWaiter => ({ done: () => order.push([name, machine.now]) });
    expect(put(disk, 0, 512, 1, waiter('write'))).toBe(LATER);
    disk.read(views(512), 0, 0, 512, waiter('read'));
    disk.flush(waiter('flush'));
    disk.discard(0, 512, false, waiter('discard'));
    disk.writeZeroes(0, 512, waiter('zero'));
    expect(disk.waiting).toBe(5);
    expect(disk.faults).toMatchObject([{ name: 'delay', reached: 5, fired: 5 }]);
    expect(inner.stats.read.calls).toBe(0);
    machine.run();
    expect(order).toEqual([
      ['discard', 1],
      ['zero', 1],
      ['read', 2],
      ['write', 5],
      ['flush', 9],
    ]);
  });

  it('keeps the order of calls that are due together, and lets jitter change it', () => {
    const machine = createMachine({ seed: 1, ramBytes: MIB });
    const run = (jitterTicks: number): number[] => {
      const disk = delayFilter(memoryDisk({ sizeBytes: MIB }), {
        scheduler: machine.scheduler,
        ticks: 10,
        ...(jitterTicks > 0 ? { jitterTicks, random: createRandom(7) } : {}),
      });
      const order: number[] = [];
      for (let i = 0; i < 20; i++) put(disk, 0, 512, 1, { done: () => order.push(i) });
      machine.run();
      return order;
    };
    const inOrder = Array.from({ length: 20 }, (_, i) => i);
    expect(run(0)).toEqual(inOrder);
    expect(run(5)).not.toEqual(inOrder);
    expect(run(5).sort((a, b) => a - b)).toEqual(inOrder);
  });

  it('completes what is due together in one item of the run queue', () => {
    const machine = createMachine({ seed: 1, ramBytes: MIB });
    const disk = delayFilter(memoryDisk({ sizeBytes: MIB }), { scheduler: machine.scheduler, ticks: 3 });
    const steps = new Set<number>();
    for (let i = 0; i < 32; i++) put(disk, 0, 512, 1, { done: () => steps.add(machine.steps) });
    machine.run();
    expect(steps.size).toBe(1);
  });

  it('answers at once while it is off, and fails what waits when it is closed', () => {
    const machine = createMachine({ seed: 1, ramBytes: MIB });
    const disk = delayFilter(memoryDisk({ sizeBytes: MIB }), { scheduler: machine.scheduler, ticks: 3 });
    disk.enabled = false;
    expect(put(disk, 0, 512, 1)).toBe(0);
    disk.enabled = true;
    const waiter = keeping();
    put(disk, 0, 512, 1, waiter);
    disk.close();
    expect(waiter.told).toEqual([-9]);
    machine.run();
    expect(waiter.told).toEqual([-9]);
  });

  it('fails what the disk became too small for, also where it has grown again when that is due', () => {
    const machine = createMachine({ seed: 1, ramBytes: MIB });
    const inner = memoryDisk({ sizeBytes: MIB });
    const disk = delayFilter(inner, { scheduler: machine.scheduler, ticks: 3 });
    const waiter = keeping();
    put(disk, MIB - 512, 512, 1, waiter);
    disk.discard(MIB / 2 - 512, 1024, false, waiter);
    put(disk, MIB / 2 - 512, 512, 2, waiter);
    disk.flush(waiter);
    inner.resize(MIB / 2);
    inner.resize(MIB);
    machine.run();
    expect(waiter.told).toEqual([-5, -5, 0, 0]);
    expect([get(inner, MIB - 512, 512)[0], get(inner, MIB / 2 - 512, 512)[0]]).toEqual([0, 2]);
  });

  it('refuses times that make no sense', () => {
    const machine = createMachine({ seed: 1, ramBytes: MIB });
    const { scheduler } = machine;
    const inner = memoryDisk({ sizeBytes: MIB });
    for (const options of [{ ticks: -1 }, { ticks: Number.NaN }, { readTicks: 2 ** 31 }, { jitterTicks: 1 }]) {
      expect(() => delayFilter(inner, { scheduler, ...options })).toThrow(DiskError);
    }
  });
});

describe('the stats filter', () => {
  it('counts calls, bytes, errors, sizes, alignments, and how many are under way at once', () => {
    const machine = createMachine({ seed: 1, ramBytes: MIB });
    const failing = errorFilter(memoryDisk({ sizeBytes: MIB }), { rules: [{ op: 'read', atReach: 2 }] });
    const disk = statsFilter(delayFilter(failing, { scheduler: machine.scheduler, writeTicks: 2 }));
    put(disk, 8192, 4096, 1, keeping());
    put(disk, 512, 1024, 1, keeping());
    disk.read(views(512), 0, 0, 512, nobody);
    disk.read(views(512), 0, 512, 512, nobody);
    expect(disk.stats).toMatchObject({ inFlight: 2, inFlightMax: 3 });
    machine.run();
    const { read, write, inFlight } = disk.stats;
    expect(read).toMatchObject({ calls: 2, bytes: 1024, errors: 1, later: 0 });
    expect(write).toMatchObject({ calls: 2, bytes: 5120, errors: 0, later: 2 });
    expect([write.sizes[10], write.sizes[12], write.alignments[9], write.alignments[13], read.alignments[31]]).toEqual([1, 1, 1, 1, 1]);
    expect(inFlight).toBe(0);
    disk.reset();
    expect(disk.stats.write.calls).toBe(0);
  });
});

describe('the readonly filter', () => {
  it('makes the disk read-only in word and deed, until it is off', () => {
    const disk = readonlyFilter(memoryDisk({ sizeBytes: MIB }));
    expect([disk.readonly, disk.discards]).toEqual([true, false]);
    expect([put(disk, 0, 512, 1), disk.discard(0, 512, false, nobody), disk.writeZeroes(0, 512, nobody)]).toEqual([-30, -30, -30]);
    disk.enabled = false;
    expect(disk.readonly).toBe(false);
    expect(put(disk, 0, 512, 1)).toBe(0);
    expect(disk.faults).toMatchObject([{ reached: 4, fired: 3 }]);
  });
});

describe('the volatile cache', () => {
  const make = (options: { cacheBytes?: number; seed?: number } = {}) => {
    const inner = memoryDisk({ sizeBytes: MIB });
    const { seed = 1, ...rest } = options;
    return { inner, disk: volatileCacheFilter(inner, { random: createRandom(seed), ...rest }) };
  };

  it('shows what was written, keeps it from the disk until a flush, and loses it at a power cut', () => {
    const { inner, disk } = make();
    put(disk, 0, 4096, 1);
    expect(get(disk, 0, 4096)[0]).toBe(1);
    expect(get(inner, 0, 4096)[0]).toBe(0);
    expect(disk.flush(nobody)).toBe(0);
    expect(get(inner, 0, 4096)[0]).toBe(1);
    put(disk, 0, 4096, 2);
    expect(disk.powerCut('none')).toEqual({ unflushed: 8, newest: 0, older: 0, lost: 8 });
    expect(get(disk, 0, 4096).every((byte) => byte === 1)).toBe(true);
    put(disk, 0, 4096, 3);
    expect(disk.powerCut('all')).toMatchObject({ newest: 8 });
    expect(get(disk, 0, 4096).every((byte) => byte === 3)).toBe(true);
    expect(disk.faults).toMatchObject([{ name: 'volatile-cache', requested: 2, reached: 16, fired: 8 }]);
  });

  it('calls nothing a hole while something waits', () => {
    const { disk } = make();
    expect(disk.extentAt!(0)).toBe(-MIB);
    put(disk, 4096, 512, 1);
    expect(disk.extentAt!(0)).toBe(MIB);
    disk.flush(nobody);
    expect(disk.extentAt!(1 << 18)).toBe((1 << 18) - MIB);
  });

  it('writes through with FUA, and everything before it with it', () => {
    const { inner, disk } = make();
    put(disk, 0, 512, 1);
    const memory = views(512);
    memory.u8.fill(2);
    expect(disk.fua && disk.volatileCache).toBe(true);
    expect(disk.write(memory, 0, 4096, 512, nobody, true)).toBe(0);
    expect([get(inner, 0, 512)[0], get(inner, 4096, 512)[0]]).toEqual([1, 2]);
    disk.powerCut('none');
    expect(get(disk, 4096, 512)[0]).toBe(2);
  });

  it('may bring back any version since the last flush, in any order between sectors', () => {
    const outcomes = new Set<string>();
    for (let seed = 0; seed < 200; seed++) {
      const { disk } = make({ seed });
      put(disk, 0, 512, 1);
      put(disk, 512, 512, 1);
      put(disk, 0, 512, 2);
      disk.powerCut();
      outcomes.add(`${get(disk, 0, 512)[0]}${get(disk, 512, 512)[0]}`);
    }
    expect([...outcomes].sort()).toEqual(['00', '01', '10', '11', '20', '21']);
  });

  it('writes back by itself when it is full, so that its memory is bounded', () => {
    const { inner, disk } = make({ cacheBytes: 8192 });
    for (let i = 0; i < 64; i++) {
      put(disk, i * 4096, 4096, i + 1);
      expect(disk.dirtyBytes).toBeLessThanOrEqual(8192);
    }
    expect(get(inner, 0, 512)[0]).toBe(1);
  });

  it('stays bounded over a disk that answers later: writes wait', () => {
    const machine = createMachine({ seed: 1, ramBytes: MIB });
    const inner = memoryDisk({ sizeBytes: MIB });
    const slow = delayFilter(inner, { scheduler: machine.scheduler, ticks: 2 });
    const disk = volatileCacheFilter(slow, { random: createRandom(1), cacheBytes: 8192 });
    const waiter = keeping();
    let later = 0;
    for (let i = 0; i < 64; i++) if (put(disk, i * 4096, 4096, i + 1, waiter) === LATER) later++;
    expect(later).toBeGreaterThan(50);
    expect(disk.dirtyBytes).toBeLessThanOrEqual(8192);
    disk.flush(waiter);
    machine.run();
    expect(waiter.told).toHaveLength(later + 1);
    for (let i = 0; i < 64; i++) expect(get(inner, i * 4096, 4096)[4095]).toBe(i + 1);
  });

  it('makes one flush of those that come while another is under way', () => {
    const machine = createMachine({ seed: 1, ramBytes: MIB });
    const inner = statsFilter(memoryDisk({ sizeBytes: MIB }));
    const disk = volatileCacheFilter(delayFilter(inner, { scheduler: machine.scheduler, ticks: 2 }), { random: createRandom(1) });
    put(disk, 0, 512, 1);
    const waiter = keeping();
    for (let i = 0; i < 5; i++) expect(disk.flush(waiter)).toBe(LATER);
    machine.run();
    expect(waiter.told).toEqual([0, 0, 0, 0, 0]);
    expect(inner.stats.flush.calls).toBe(2);
  });

  it('tells an error of the disk behind to the one who flushes, and keeps what it could not write', () => {
    const inner = memoryDisk({ sizeBytes: MIB });
    const disk = volatileCacheFilter(errorFilter(inner, { rules: [{ op: 'write', errno: 28 }] }), { random: createRandom(1) });
    put(disk, 0, 512, 1);
    expect(disk.flush(nobody)).toBe(-28);
    expect(disk.dirtySectors).toBe(1);
    expect(disk.flush(nobody)).toBe(0);
    expect(get(inner, 0, 512)[0]).toBe(1);
  });

  it('drops what waits where it is discarded or zeroed at length', () => {
    const { inner, disk } = make();
    put(disk, 0, MIB, 1);
    disk.discard(0, 4096, false, nobody);
    expect(get(disk, 0, 8192)[4095]).toBe(0);
    expect(get(disk, 0, 8192)[4096]).toBe(1);
    disk.writeZeroes(0, MIB, nobody);
    expect(disk.dirtyBytes).toBe(0);
    expect(get(inner, MIB - 512, 512)[0]).toBe(0);
  });

  it('writes through while it is off', () => {
    const { inner, disk } = make();
    put(disk, 0, 512, 1);
    disk.enabled = false;
    put(disk, 0, 512, 2);
    expect([get(inner, 0, 512)[0], get(disk, 0, 512)[0]]).toEqual([2, 2]);
    expect(disk.dirtyBytes).toBe(0);
  });

  it('fails a flush that a power cut interrupts', () => {
    const machine = createMachine({ seed: 1, ramBytes: MIB });
    const slow = delayFilter(memoryDisk({ sizeBytes: MIB }), { scheduler: machine.scheduler, flushTicks: 5 });
    const disk = volatileCacheFilter(slow, { random: createRandom(1) });
    put(disk, 0, 512, 1);
    const first = keeping();
    const second = keeping();
    disk.flush(first);
    disk.flush(second);
    disk.powerCut();
    machine.run();
    expect([first.told, second.told]).toEqual([[-5], [-5]]);
  });
});

describe('filters over filters', () => {
  it('pass on what the disk is, and close it', () => {
    const inner = memoryDisk({ sizeBytes: MIB, sectorBytes: 4096 });
    const disk = statsFilter(errorFilter(readonlyFilter(inner), { rules: [] }));
    expect(disk).toMatchObject({ name: 'stats(error(readonly(memory)))', sizeBytes: MIB, sectorBytes: 4096, physicalSectorBytes: 4096 });
    let told = 0;
    disk.onResize!(() => told++);
    inner.resize(2 * MIB);
    expect([told, disk.sizeBytes]).toEqual([1, 2 * MIB]);
    disk.close();
    expect(disk.read(views(4096), 0, 0, 4096, nobody)).toBe(-9);
  });
});
