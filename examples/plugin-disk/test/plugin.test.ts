import { describe, expect, it } from 'vitest';
import { disks, filters } from '../src/plugin.mjs';

const views = { u8: new Uint8Array(4096), u16: new Uint16Array(0), u32: new Uint32Array(0) };
const waiter = { done: (): void => {} };

describe('the numbered disk', () => {
  it('holds in each sector its number', () => {
    const disk = disks.numbered('16');
    expect(disk.sizeBytes).toBe(16 * 512);
    expect(disk.read(views, 0, 5 * 512, 1024, waiter)).toBe(0);
    expect([...new Set(new BigUint64Array(views.u8.buffer, 0, 128))]).toEqual([5n, 6n]);
  });

  it('refuses a size that is none', () => {
    expect(() => disks.numbered('many')).toThrow('numbered:SECTORS');
  });
});

describe('the worn filter', () => {
  it('lets a sector take its writes and no more, and counts what it refused', () => {
    const filter = filters.worn(disks.numbered('16'), { argument: '2' });
    const write = (): number => filter.write(views, 0, 512, 512, waiter, false);
    expect([write(), write(), write()]).toEqual([0, 0, -5]);
    expect(filter.write(views, 0, 1024, 512, waiter, false)).toBe(0);
    expect(filter.faults[0]).toMatchObject({ reached: 4, fired: 1 });
    filter.enabled = false;
    expect(write()).toBe(0);
  });
});
