import { describe, expect, it } from 'vitest';
import { cowDisk, createMachine, type Disk, DiskError, type DiskWaiter, delayFilter, memoryDisk, nullDisk } from '../src/index.ts';

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
function put(disk: Disk, offset: number, bytes: number, fill: number): number {
  const memory = views(bytes);
  memory.u8.fill(fill);
  return disk.write(memory, 0, offset, bytes, nobody, false);
}
function get(disk: Disk, offset: number, bytes: number): Uint8Array {
  const memory = views(bytes);
  memory.u8.fill(0xaa);
  expect(disk.read(memory, 0, offset, bytes, nobody)).toBe(0);
  return memory.u8;
}

describe('a memory disk', () => {
  it('is empty at first, takes memory only where it is written, and gives it back when that is discarded', () => {
    const disk = memoryDisk({ sizeBytes: 1024 * MIB });
    expect(get(disk, 512 * MIB, 8192).every((byte) => byte === 0)).toBe(true);
    expect(disk.allocatedBytes).toBe(0);
    put(disk, 512 * MIB - 4096, 8192, 7);
    expect(disk.allocatedBytes).toBe(2 << 18);
    expect(disk.extentAt!(0)).toBe(-(512 * MIB - (1 << 18)));
    expect(disk.extentAt!(512 * MIB)).toBe(1 << 18);
    expect(disk.discard(511 * MIB, 2 * MIB, false, nobody)).toBe(0);
    expect(disk.allocatedBytes).toBe(0);
    expect(disk.extentAt!(0)).toBe(-1024 * MIB);
  });

  it('zeroes in part where less than a stretch is discarded', () => {
    const disk = memoryDisk({ sizeBytes: MIB });
    put(disk, 0, 4096, 1);
    disk.writeZeroes(512, 1024, nobody);
    const bytes = get(disk, 0, 4096);
    expect([bytes[511], bytes[512], bytes[1535], bytes[1536]]).toEqual([1, 0, 0, 1]);
  });

  it('does not bring back what was cut off when it grows again', () => {
    const disk = memoryDisk({ sizeBytes: MIB });
    put(disk, MIB - 512, 512, 9);
    let told = 0;
    const subscription = disk.onResize!(() => told++);
    disk.resize(MIB - 512);
    disk.resize(MIB);
    expect(get(disk, MIB - 512, 512)[0]).toBe(0);
    subscription.unsubscribe();
    disk.resize(2 * MIB);
    expect(told).toBe(2);
  });

  it('can lie in an area of memory that its users share, and be moved between without leaving it', () => {
    const memory = views(4 * MIB);
    memory.u8.fill(0xff);
    const disk = memoryDisk({ sizeBytes: MIB, area: { views: memory, offset: 2 * MIB } });
    expect(memory.u8[2 * MIB]).toBe(0);
    memory.u8.fill(5, 0, 4096);
    expect(disk.write(memory, 0, 8192, 4096, nobody, false)).toBe(0);
    expect(memory.u8[2 * MIB + 8192]).toBe(5);
    expect(memory.u8[2 * MIB + 12288]).toBe(0);
    expect(disk.read(memory, 4096, 8192, 4096, nobody)).toBe(0);
    expect(memory.u8[4096]).toBe(5);
    expect(get(disk, 8192, 4096)[4095]).toBe(5);
    expect(() => disk.resize(2 * MIB)).toThrow(DiskError);
    expect(() => memoryDisk({ sizeBytes: MIB, area: { views: memory, offset: 4 * MIB - 4096 } })).toThrow(/area is/);
  });

  it('follows memory whose views are renewed', () => {
    const disk = memoryDisk({ sizeBytes: MIB });
    const memory = views(8192);
    memory.u8.fill(1);
    disk.write(memory, 0, 0, 4096, nobody, false);
    const grown = views(16384);
    grown.u8.fill(2);
    Object.assign(memory, grown);
    disk.write(memory, 0, 4096, 4096, nobody, false);
    expect([get(disk, 0, 4096)[0], get(disk, 4096, 4096)[0]]).toEqual([1, 2]);
  });

  it('refuses sizes that make no sense by name, and everything once it is closed', () => {
    const bad: [Parameters<typeof memoryDisk>[0], string][] = [
      [{ sizeBytes: 0 }, 'sizeBytes'],
      [{ sizeBytes: 1000 }, 'sizeBytes'],
      [{ sizeBytes: -512 }, 'sizeBytes'],
      [{ sizeBytes: Number.NaN }, 'sizeBytes'],
      [{ sizeBytes: 4096, sectorBytes: 1024 }, 'sectorBytes'],
      [{ sizeBytes: 512, sectorBytes: 4096 }, 'sizeBytes'],
      [{ sizeBytes: 4096, physicalSectorBytes: 100 }, 'physicalSectorBytes'],
    ];
    for (const [options, option] of bad) {
      expect(() => memoryDisk(options)).toThrow(
        expect.objectContaining({ refusal: expect.objectContaining({ code: 'bad-option', option }) }),
      );
    }
    const disk = memoryDisk({ sizeBytes: MIB });
    disk.close();
    disk.close();
    expect(put(disk, 0, 512, 1)).toBe(-9);
    expect(disk.read(views(512), 0, 0, 512, nobody)).toBe(-9);
    expect(disk.flush(nobody)).toBe(-9);
  });

  it('refuses writes where it is read-only', () => {
    const disk = memoryDisk({ sizeBytes: MIB, readonly: true });
    expect([put(disk, 0, 512, 1), disk.writeZeroes(0, 512, nobody), disk.discard(0, 512, false, nobody)]).toEqual([-30, -30, -30]);
  });
});

describe('a null disk', () => {
  it('reads as zeroes and forgets what is written', () => {
    const disk = nullDisk({ sizeBytes: 1024 * MIB });
    expect(put(disk, 0, 4096, 1)).toBe(0);
    expect(get(disk, 0, 4096).every((byte) => byte === 0)).toBe(true);
    expect(disk.extentAt!(4096)).toBe(4096 - 1024 * MIB);
    expect(disk.flush(nobody) + disk.discard(0, 512, true, nobody) + disk.writeZeroes(0, 512, nobody)).toBe(0);
    disk.resize(MIB);
    expect(disk.sizeBytes).toBe(MIB);
  });
});

describe('a copy-on-write disk', () => {
  it('keeps what is written beside its base, sector by sector, and can forget it', () => {
    const base = memoryDisk({ sizeBytes: MIB });
    put(base, 0, MIB, 1);
    const disk = cowDisk({ base, keepBase: true });
    put(disk, 1024, 512, 2);
    put(disk, 65536 - 512, 1024, 3);
    disk.discard(4096, 512, false, nobody);
    const seen = get(disk, 0, 128 * 1024);
    expect([seen[1023], seen[1024], seen[1535], seen[1536], seen[4096], seen[4608]]).toEqual([1, 2, 2, 1, 0, 1]);
    expect([seen[65023], seen[65024], seen[66047], seen[66048]]).toEqual([1, 3, 3, 1]);
    expect(get(base, 0, MIB).every((byte) => byte === 1)).toBe(true);
    expect(disk.changedBytes).toBe(512 * 4);
    disk.revert();
    expect(get(disk, 0, MIB).every((byte) => byte === 1)).toBe(true);
    disk.close();
    expect(get(base, 0, 512)[0]).toBe(1);
  });

  it('waits for a base that answers later, once for everything it reads there', () => {
    const machine = createMachine({ seed: 1 });
    const base = memoryDisk({ sizeBytes: MIB });
    put(base, 0, MIB, 1);
    const disk = cowDisk({ base: delayFilter(base, { scheduler: machine.scheduler, ticks: 3 }) });
    put(disk, 1024, 512, 2);
    put(disk, 4096, 512, 2);
    const memory = views(8192);
    const answers: number[] = [];
    expect(disk.read(memory, 0, 0, 8192, { done: (status) => answers.push(status) })).toBe(1);
    expect(answers).toEqual([]);
    machine.run();
    expect(answers).toEqual([0]);
    expect([memory.u8[0], memory.u8[1024], memory.u8[1536], memory.u8[4096], memory.u8[8191]]).toEqual([1, 2, 1, 2, 1]);
  });

  it('tells holes of its base where nothing was written', () => {
    const base = memoryDisk({ sizeBytes: MIB });
    const disk = cowDisk({ base });
    put(disk, 8192, 512, 1);
    expect(disk.extentAt!(0)).toBe(-8192);
    expect(disk.extentAt!(8192)).toBe(512);
  });

  it('keeps its size when its base becomes smaller, and reads as zeroes where the base has lost something', () => {
    const base = memoryDisk({ sizeBytes: MIB });
    put(base, 0, MIB, 1);
    const disk = cowDisk({ base });
    put(disk, MIB - 4096, 512, 2);
    base.resize(MIB / 2);
    base.resize(2 * MIB);
    put(base, MIB / 2, MIB, 3);
    expect(disk.sizeBytes).toBe(MIB);
    const seen = get(disk, 0, MIB);
    const half = MIB / 2;
    expect([seen[half - 1], seen[half], seen[MIB - 4097], seen[MIB - 4096], seen[MIB - 1]]).toEqual([1, 0, 0, 2, 0]);
    expect(disk.extentAt!(half - 512)).toBe(512);
    expect(disk.extentAt!(half)).toBe(-65_536);
    expect(get(disk, half, 8192).every((byte) => byte === 0)).toBe(true);
    expect([put(disk, half, 512, 4), get(disk, half, 1024)[511]]).toEqual([0, 4]);
  });

  it('shows nothing of what its base grows by', () => {
    const base = memoryDisk({ sizeBytes: MIB });
    const disk = cowDisk({ base });
    let told = 0;
    disk.onResize!(() => told++);
    base.resize(2 * MIB);
    put(base, MIB, MIB, 1);
    expect([disk.sizeBytes, told, disk.extentAt!(MIB - 4096)]).toEqual([MIB, 0, -4096]);
  });
});
