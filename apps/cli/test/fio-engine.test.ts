import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createEngine, type JobReport } from '../src/fio/engine.ts';
import { parseJobFiles } from '../src/fio/job-file.ts';
import { readJob } from '../src/fio/options.ts';
import { TestClock, testDisk } from './fio-bench-disk.ts';

const MIB = 1024 * 1024;
const file = (name: string): string => readFileSync(new URL(`workloads/${name}`, import.meta.url), 'utf8');

function run(text: string, options: { diskBytes?: number; seed?: number; corrupt?: (bytes: Uint8Array) => void } = {}) {
  const clock = new TestClock();
  const disk = testDisk(options.diskBytes ?? 64 * MIB, clock, options.corrupt);
  const jobs = parseJobFiles([{ name: 'job.fio', text }], { env: {} }).map((section) => readJob(section, () => {}));
  const engine = createEngine({ jobs, target: disk, clock, seed: options.seed ?? 1 });
  engine.start();
  clock.drain();
  expect(engine.ended).toBe(true);
  const reports = new Map<string, JobReport>(engine.reports().map((report) => [report.options.name, report]));
  const ios = (name: string) => {
    const { read, write, trim } = (reports.get(name) as JobReport).stats.by;
    return { read: read.ios, write: write.ios, trim: trim.ios };
  };
  return { reports, disk, ios, clock };
}

describe('the sample job files', () => {
  it('segment-pressure gives the counts that fio reports', () => {
    const { ios, reports } = run(file('segment-pressure.fio'));
    expect(ios('direct-max')).toEqual({ read: 0, write: 1489, trim: 0 });
    expect(ios('just-over')).toEqual({ read: 0, write: 1365, trim: 0 });
    const { read, write } = ios('indirect');
    expect(read + write).toBe(64);
    expect(ios('one-sector').read + ios('one-sector').write).toBe(8000);
    expect(reports.get('one-sector')?.jobs).toBe(4);
    expect(ios('discard-flush')).toEqual({ read: 0, write: 0, trim: 500 });
    expect(ios('write-flush').write).toBe(500);
    expect(reports.get('write-flush')?.stats.syncs.count).toBe(62);
  });

  it('integrity gives the counts that fio reports, and every block verifies', () => {
    const { ios, reports } = run(file('integrity.fio'));
    expect(ios('seq-64k-crc32c')).toEqual({ read: 256, write: 256, trim: 0 });
    expect(ios('rand-4k-crc32c')).toEqual({ read: 4096, write: 4096, trim: 0 });
    const mixed = ios('rand-mixed-md5');
    expect(Math.abs(mixed.write - 4622) / 4622).toBeLessThan(0.1);
    expect(mixed.read).toBe(mixed.write);
    expect(ios('rand-pattern')).toEqual({ read: 4096, write: 4096, trim: 0 });
    for (const { stats } of reports.values()) expect(stats.error).toBe(0);
  });

  it('boot-then-oltp gives boot its reads within a tenth, and three seconds to the others', () => {
    const { ios, reports } = run(file('boot-then-oltp.fio'));
    expect(Math.abs(ios('boot').read - 992) / 992).toBeLessThan(0.1);
    expect(ios('redo').write).toBeGreaterThan(1100);
    expect(ios('redo').write).toBeLessThanOrEqual(1201);
    const { elapsedNs } = (reports.get('data') as JobReport).stats;
    expect(elapsedNs / 1e9).toBeCloseTo(3, 1);
  });
});

describe('verification', () => {
  const flip = (bytes: Uint8Array): void => {
    bytes[100] = (bytes[100] as number) ^ 1;
  };
  const job = '[v]\nrw=randwrite\nbs=4k\nsize=1m\niodepth=8\nverify=crc32c\n';

  it('finds a disk that changes what it was given', () => {
    const { reports } = run(job, { corrupt: flip });
    expect((reports.get('v') as JobReport).stats).toMatchObject({ error: 84, errors: 256 });
  });

  it('stops at the first wrong block with verify_fatal', () => {
    const { reports } = run(`${job}verify_fatal=1\n`, { corrupt: flip });
    expect((reports.get('v') as JobReport).stats.error).toBe(84);
    expect((reports.get('v') as JobReport).stats.errors).toBeLessThanOrEqual(8);
  });
});

describe('the same seed', () => {
  it('gives the same requests, and another seed others', () => {
    const job = '[a]\nrw=randrw\nbssplit=4k/50:16k/50\nsize=4m\niodepth=4\n';
    const count = (seed: number): unknown => run(job, { seed }).ios('a');
    expect(count(5)).toEqual(count(5));
    expect([count(6), count(7), count(8)]).not.toEqual([count(5), count(5), count(5)]);
  });
});
