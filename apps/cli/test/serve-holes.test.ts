import { type Disk, memoryDisk } from '@paravirt/hv-sim';
import { Extent, type NbdTarget } from '@paravirt/nbd';
import { describe, expect, it } from 'vitest';
import { serveDisk } from '../src/serve/served-disk.ts';

const MIB = 1 << 20;

/** A served memory disk, and how often it was asked where its holes are. */
function served() {
  const base = memoryDisk({ sizeBytes: 4 * MIB });
  let asked = 0;
  const counted: Disk = new Proxy(base, {
    get(disk, key) {
      if (key === 'extentAt') asked += 1;
      const value: unknown = Reflect.get(disk, key, disk);
      return typeof value === 'function' ? value.bind(disk) : value;
    },
  });
  const each = serveDisk({
    disk: { base: counted, build: () => counted, filters: [], faults: () => [], close: () => base.close() },
    seed: 1,
  });
  const { target } = each;
  const now = (begin: (target: NbdTarget, done: (errno: number) => void) => void): void => {
    let errno: number | undefined;
    begin(target, (status) => {
      errno = status;
    });
    target.kick?.();
    expect(errno).toBe(0);
  };
  const holeAt = (offset: number): boolean => {
    let flags = -1;
    target.extents?.(offset, 4096, (_bytes, kind) => {
      flags = kind;
      return false;
    });
    expect(flags).not.toBe(-1);
    return (flags & Extent.HOLE) !== 0;
  };
  return { ...each, now, holeAt, questions: () => asked };
}

describe('what is known of holes', () => {
  it('is asked of the disk once for a stretch of data', () => {
    const { now, holeAt, questions, close } = served();
    now((target, done) => target.write?.(0, new Uint8Array(4 * MIB).fill(1), false, done));
    expect(holeAt(0)).toBe(false);
    const before = questions();
    for (let offset = 0; offset < 4 * MIB; offset += 4096) expect(holeAt(offset)).toBe(false);
    expect(questions()).toBe(before);
    close();
  });

  it.each([
    ['trim', (target: NbdTarget, done: (errno: number) => void) => target.trim?.(MIB, MIB, false, done)],
    ['trim with FUA', (target: NbdTarget, done: (errno: number) => void) => target.trim?.(MIB, MIB, true, done)],
  ] as const)('is asked again after %s', (_name, change) => {
    const { now, holeAt, close } = served();
    now((target, done) => target.write?.(0, new Uint8Array(4 * MIB).fill(1), false, done));
    expect(holeAt(MIB)).toBe(false);
    now(change);
    expect(holeAt(MIB)).toBe(true);
    expect(holeAt(0)).toBe(false);
    expect(holeAt(2 * MIB)).toBe(false);
    now((target, done) => target.write?.(MIB, new Uint8Array(MIB).fill(2), false, done));
    expect(holeAt(MIB)).toBe(false);
    close();
  });
});
