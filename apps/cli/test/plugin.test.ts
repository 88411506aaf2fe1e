import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { hvsim, scratch } from './cli.ts';
import { RawClient } from './raw-client.ts';
import { serving } from './serving.ts';

const example = fileURLToPath(new URL('../../../examples/plugin-disk/src/plugin.mjs', import.meta.url));
const folder = scratch();
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};

describe('--plugin', () => {
  it('brings a disk, a filter and a driver to hvsim run', () => {
    const job = file(
      'worn.fio',
      '[w]\nrw=randwrite\nbs=4k\nsize=1m\nloops=3\niodepth=8\nverify=crc32c\n[wear]\nstonewall\nrw=write\nbs=4k\nsize=64k\nloops=20\n',
    );
    const args = ['run', '--json', '--plugin', example, '--disk', 'numbered:8192', '--driver', 'one-at-a-time', '--filter', 'worn=10', job];
    const { status, stdout, stderr } = hvsim(args);
    expect(status, stderr).toBe(1);
    const { jobs, hvsim: own } = JSON.parse(stdout);
    expect(jobs[0]).toMatchObject({ error: 0, write: { total_ios: 768 } });
    expect(jobs[1].error).toBe(5);
    expect(own.faults[0]).toMatchObject({ name: 'worn' });
    expect(own.faults[0].fired).toBeGreaterThan(0);
  });

  it('brings them to hvsim serve', async () => {
    const server = await serving(['--plugin', example, '--disk', 'numbered:8192', '--driver', 'one-at-a-time', '--filter', 'worn=1']);
    try {
      const client = new RawClient(join(server.folder, 'disk.sock'));
      await client.go();
      const read = await client.read(77 * 512, 1024);
      expect([read.readBigUInt64LE(0), read.readBigUInt64LE(512)]).toEqual([77n, 78n]);
      expect(await client.write(0, new Uint8Array(300_032).fill(3))).toBe(0);
      expect((await client.read(0, 300_032)).every((byte) => byte === 3)).toBe(true);
      expect(await client.write(0, new Uint8Array(512))).toBe(5);
      await client.close();
      expect(await server.stop()).toBe(0);
    } finally {
      await server.close();
    }
  });

  for (const [title, text, message] of [
    ['that is not there', undefined, /--plugin .*none\.mjs: no such file or directory$/m],
    ['that does not parse', 'export const = 3', /--plugin .*: /],
    ['that exports nothing of it', 'export const x = 1', /exports none of disks, filters, drivers/],
    ['whose disk is no function', 'export const disks = { mine: 3 }', /disks\.mine is no function/],
    ['whose disk throws', 'export const disks = { mine() { throw new Error("no such thing") } }', /--disk mine:1: no such thing/],
    [
      'whose disk throws for want of memory',
      'const refusal = { code: "out-of-memory", wanted: 5, free: 2 };\nexport const disks = { mine() { throw Object.assign(new Error("x"), { refusal }) } }',
      /--disk mine:1: the simulated machine's memory is used up \(5 pages wanted, 2 free\)/,
    ],
  ] as const) {
    it(`refuses a module ${title}, in one line`, () => {
      const path = text === undefined ? join(folder, 'none.mjs') : file(`bad-${title.length}.mjs`, text);
      const job = file('r.fio', '[r]\nrw=read\nsize=64k\n');
      const { status, stderr } = hvsim(['run', '--plugin', path, '--disk', title.includes('throws') ? 'mine:1' : 'mem:1M', job]);
      expect(status).toBe(2);
      expect(stderr).toMatch(message);
      expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    });
  }

  it('refuses a driver that no module brought, naming those there are', () => {
    const job = file('r.fio', '[r]\nrw=read\nsize=64k\n');
    expect(hvsim(['run', '--driver', 'mine', job])).toMatchObject({ status: 2, stderr: expect.stringContaining('give --plugin PATH') });
    expect(hvsim(['run', '--plugin', example, '--driver', 'mine', job]).stderr).toContain('there are one-at-a-time');
  });
});
