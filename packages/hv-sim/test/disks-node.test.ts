import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Disk, DiskWaiter } from '../src/index.ts';
import { cowFileDisk, fileDisk, sparseDisk } from '../src/node.ts';

const MIB = 1 << 20;
const folder = mkdtempSync(join(tmpdir(), 'hv-sim-disks-'));
afterAll(() => rmSync(folder, { recursive: true }));
let names = 0;
const file = (bytes?: Uint8Array): string => {
  const path = join(folder, `disk-${names++}`);
  if (bytes !== undefined) writeFileSync(path, bytes);
  return path;
};

const nobody: DiskWaiter = {
  done: () => {
    throw new Error('a call that answered at once told its waiter');
  },
};
function views(bytes: number) {
  const buffer = new ArrayBuffer(bytes);
  return { u8: new Uint8Array(buffer), u16: new Uint16Array(buffer), u32: new Uint32Array(buffer) };
}
function put(disk: Disk, offset: number, bytes: number, fill: number, fua = false): number {
  const memory = views(bytes + 512);
  memory.u8.fill(fill, 512);
  return disk.write(memory, 512, offset, bytes, nobody, fua);
}
function get(disk: Disk, offset: number, bytes: number): Uint8Array {
  const memory = views(bytes + 512);
  memory.u8.fill(0xaa);
  expect(disk.read(memory, 512, offset, bytes, nobody)).toBe(0);
  expect(memory.u8.subarray(0, 512).every((byte) => byte === 0xaa)).toBe(true);
  return memory.u8.subarray(512);
}
const refusal = (code: string, more: object = {}) => expect.objectContaining({ refusal: expect.objectContaining({ code, ...more }) });

describe('a file disk', () => {
  it('is the file, byte for byte', () => {
    const path = file(new Uint8Array(MIB).fill(3));
    const disk = fileDisk({ path });
    expect(disk).toMatchObject({ sizeBytes: MIB, readonly: false, discards: false, volatileCache: true });
    expect(put(disk, 4096, 8192, 7)).toBe(0);
    expect(put(disk, MIB - 512, 512, 8, true)).toBe(0);
    expect(disk.writeZeroes(65536, 200_704, nobody)).toBe(0);
    expect(disk.flush(nobody)).toBe(0);
    const bytes = readFileSync(path);
    expect([bytes[4095], bytes[4096], bytes[12287], bytes[12288], bytes[MIB - 1]]).toEqual([3, 7, 7, 3, 8]);
    expect([bytes[65535], bytes[65536], bytes[266239], bytes[266240]]).toEqual([3, 0, 0, 3]);
    expect(get(disk, 4096, 8192).every((byte) => byte === 7)).toBe(true);
    disk.close();
    disk.close();
    expect(put(disk, 0, 512, 1)).toBe(-9);
  });

  it('of a length that is no multiple of a sector ends in a sector padded with zeroes', () => {
    const path = file(new Uint8Array(1000).fill(5));
    const disk = fileDisk({ path });
    expect(disk.sizeBytes).toBe(1024);
    const tail = get(disk, 512, 512);
    expect([tail[487], tail[488], tail[511]]).toEqual([5, 0, 0]);
    expect(statSync(path).size).toBe(1000);
    put(disk, 512, 512, 6);
    expect(statSync(path).size).toBe(1024);
    disk.close();
  });

  it('is made, made longer, and resized as asked', () => {
    const path = file();
    const disk = fileDisk({ path, create: true, sizeBytes: MIB });
    expect(statSync(path).size).toBe(MIB);
    disk.resize(2 * MIB);
    expect([statSync(path).size, disk.sizeBytes]).toEqual([2 * MIB, 2 * MIB]);
    disk.close();
    const part = fileDisk({ path, sizeBytes: MIB / 2 });
    expect([part.sizeBytes, statSync(path).size]).toEqual([MIB / 2, 2 * MIB]);
    part.close();
  });

  it('refuses what is no disk, saying which file and why', () => {
    expect(() => fileDisk({ path: join(folder, 'none') })).toThrow(refusal('bad-file', { reason: 'ENOENT' }));
    expect(() => fileDisk({ path: folder, readonly: true })).toThrow(refusal('bad-file', { reason: 'EISDIR' }));
    expect(() => fileDisk({ path: '/dev/null' })).toThrow(refusal('bad-file', { reason: 'not a file' }));
    expect(() => fileDisk({ path: file(new Uint8Array(0)) })).toThrow(refusal('bad-file', { reason: 'it is empty' }));
    expect(() => fileDisk({ path: file(), create: true })).toThrow(refusal('bad-option', { option: 'sizeBytes' }));
    expect(() => fileDisk({ path: file(new Uint8Array(512)), sizeBytes: 100 })).toThrow(refusal('bad-option', { option: 'sizeBytes' }));
    expect(() => fileDisk({ path: file(new Uint8Array(512)), sizeBytes: 1024, readonly: true })).toThrow(/at most 512/);
  });

  it('opened for reading refuses writes', () => {
    const disk = fileDisk({ path: file(new Uint8Array(4096)), readonly: true });
    expect(disk.readonly).toBe(true);
    expect([put(disk, 0, 512, 1), disk.writeZeroes(0, 512, nobody), disk.flush(nobody)]).toEqual([-30, -30, 0]);
    disk.close();
  });

  it('bypasses the cache of the host where that can be done', (context) => {
    const path = file(new Uint8Array(MIB).fill(1));
    let disk: Disk;
    try {
      disk = fileDisk({ path, direct: true, sectorBytes: 4096 });
    } catch (error) {
      expect(error).toEqual(refusal('bad-file', { reason: 'EINVAL' }));
      context.skip('this file system has no O_DIRECT');
      return;
    }
    expect(put(disk, 8192, 3 * 65536, 9)).toBe(0);
    expect(get(disk, 4096, 65536)[4096]).toBe(9);
    disk.close();
    const bytes = readFileSync(path);
    expect([bytes[8191], bytes[8192], bytes[8192 + 3 * 65536 - 1], bytes[8192 + 3 * 65536]]).toEqual([1, 9, 9, 1]);
  });
});

describe('a sparse disk', () => {
  it('takes room only where it is written', () => {
    const path = file();
    const disk = sparseDisk({ path, create: true, sizeBytes: 1024 * MIB });
    expect(statSync(path).blocks).toBe(0);
    expect(disk.extentAt!(0)).toBe(-1024 * MIB);
    put(disk, 512 * MIB + 512, 512, 4);
    expect(disk.allocatedBytes).toBe(4096);
    expect(disk.extentAt!(0)).toBe(-512 * MIB);
    expect(disk.extentAt!(512 * MIB)).toBe(4096);
    expect(statSync(path).blocks * 512).toBeLessThan(MIB);
    const block = get(disk, 512 * MIB, 4096);
    expect([block[511], block[512], block[1023], block[1024]]).toEqual([0, 4, 4, 0]);
    disk.close();
  });

  it('reads zeroes where it was discarded, also beside what is written there afterwards', () => {
    const disk = sparseDisk({ path: file(), create: true, sizeBytes: MIB });
    put(disk, 0, 16384, 7);
    expect(disk.discard(2048, 8192, false, nobody)).toBe(0);
    expect(disk.allocatedBytes).toBe(12288);
    const seen = get(disk, 0, 16384);
    expect([seen[4095], seen[4096], seen[8191], seen[8192]]).toEqual([7, 0, 0, 7]);
    put(disk, 5120, 512, 8);
    const again = get(disk, 4096, 4096);
    expect([again[1023], again[1024], again[1535], again[1536]]).toEqual([0, 8, 8, 0]);
    disk.close();
  });

  it('leaves nothing in the file after a secure discard, nor after zeroing', () => {
    const path = file();
    const disk = sparseDisk({ path, create: true, sizeBytes: MIB });
    put(disk, 0, 12288, 7);
    disk.discard(0, 4096, false, nobody);
    disk.discard(0, 4096, true, nobody);
    disk.writeZeroes(5120, 512, nobody);
    disk.close();
    const bytes = readFileSync(path);
    expect(bytes.subarray(0, 4096).every((byte) => byte === 0)).toBe(true);
    expect([bytes[5119], bytes[5120], bytes[5631], bytes[5632]]).toEqual([7, 0, 0, 7]);
  });

  it('keeps its holes when it is resized, and shows nothing of what was cut off', () => {
    const disk = sparseDisk({ path: file(), create: true, sizeBytes: MIB });
    put(disk, 0, MIB, 7);
    disk.resize(6144);
    disk.resize(MIB);
    const seen = get(disk, 0, 16384);
    expect([seen[6143], seen[6144], seen[8192]]).toEqual([7, 0, 0]);
    disk.close();
  });

  it('that grows over more of its file shows all of that, before and after it is written there', () => {
    const disk = sparseDisk({ path: file(new Uint8Array(65_536).fill(1)), sizeBytes: 8192 });
    disk.resize(128 * 1024);
    expect(disk.allocatedBytes).toBe(65_536);
    expect([get(disk, 8192, 512)[0], get(disk, 65_536, 512)[0]]).toEqual([1, 0]);
    put(disk, 8704, 512, 2);
    const seen = get(disk, 8192, 2048);
    expect([seen[511], seen[512], seen[1024]]).toEqual([1, 2, 1]);
    disk.close();
    expect(() => disk.resize(8192)).toThrow(refusal('closed'));
  });

  it('takes a file of somebody else for full', () => {
    const disk = sparseDisk({ path: file(new Uint8Array(8192).fill(1)) });
    expect(disk.allocatedBytes).toBe(8192);
    expect(get(disk, 0, 8192)[8191]).toBe(1);
    disk.close();
  });
});

describe('a copy-on-write disk over a file', () => {
  it('never touches the file', () => {
    const original = new Uint8Array(MIB).fill(1);
    const path = file(original);
    const disk = cowFileDisk({ path });
    expect(disk.readonly).toBe(false);
    put(disk, 512, 65536, 2);
    disk.writeZeroes(MIB - 4096, 4096, nobody);
    const seen = get(disk, 0, 128 * 1024);
    expect([seen[511], seen[512], seen[66047], seen[66048]]).toEqual([1, 2, 2, 1]);
    disk.close();
    expect(Buffer.compare(readFileSync(path), original)).toBe(0);
  });
});
