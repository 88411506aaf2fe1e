import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hvsim, itNeeds, plain, program, scratch, startHvsim } from './cli.ts';

const folder = scratch();
const path = (name: string): string => join(folder, name);
const bytes = (count: number): Uint8Array => Uint8Array.from({ length: count }, (_, index) => (index * 31 + (index >> 8)) & 0xff);

describe('hvsim cp', () => {
  itNeeds(['mke2fs', 'e2fsck', 'cmp'], 'carries an ext4 file system of real files, identical and clean', () => {
    const tree = path('tree');
    mkdirSync(join(tree, 'deep', 'er'), { recursive: true });
    writeFileSync(join(tree, 'a'), bytes(1_234_567));
    writeFileSync(join(tree, 'deep', 'er', 'b'), bytes(99));
    program('mke2fs', ['-q', '-t', 'ext4', '-F', '-d', tree, path('fs.img'), '24M']);
    const { status, stdout } = hvsim(['cp', path('fs.img'), path('out.img')]);
    expect(status).toBe(0);
    expect(plain(stdout)).toBe(true);
    expect(stdout).toContain('requests on the ring');
    program('cmp', [path('fs.img'), path('out.img')]);
    program('e2fsck', ['-fn', path('out.img')]);
  });

  it.each([0, 1, 511, 512, 513, 4095, 4097, 1_048_576, 1_048_577])(
    'carries a file of %i bytes to a file of exactly that length',
    (length) => {
      writeFileSync(path('src'), bytes(length));
      const { status, stdout } = hvsim(['cp', path('src'), path('dst'), '--json']);
      expect(status).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ bytes: length, equal: true });
      expect(Buffer.compare(readFileSync(path('dst')), bytes(length))).toBe(0);
    },
  );

  it('gives the table of what moved as one JSON object, and passes the choice of device on', () => {
    writeFileSync(path('src'), bytes(300_000));
    const direct = JSON.parse(
      hvsim(['cp', path('src'), path('dst'), '--json', '--indirect', '11', '--no-persistent', '--abi', 'x86_32']).stdout,
    );
    expect(direct.segments).toBe(2 * Math.ceil(300_000 / 4096));
    expect(direct.maps).toBe(direct.segments);
    expect(direct.unmaps).toBe(direct.maps);
    for (const key of ['requests', 'grantsNew', 'grantsFromPool', 'doorbellsSent', 'doorbellsMerged'])
      expect(direct[key], key).toBeTypeOf('number');
  });

  it('leaves no file of its own beside the destination', () => {
    const own = path('own');
    mkdirSync(own, { recursive: true });
    writeFileSync(path('src'), bytes(5000));
    expect(hvsim(['cp', path('src'), join(own, 'dst')]).status).toBe(0);
    expect(readdirSync(own)).toEqual(['dst']);
  });

  const refusals: readonly (readonly [string, () => readonly string[], RegExp])[] = [
    ['a missing source', () => [path('none'), path('dst2')], /none: no such file or directory/],
    ['a folder as source', () => [folder, path('dst2')], /is a directory/],
    ['a folder as destination', () => [path('src'), folder], /is a directory/],
    ['a destination in no folder', () => [path('src'), path('no/dst')], /is no directory/],
    ['a source that is its destination', () => [path('src'), path('src')], /same file/],
    ['a flag that is not known', () => [path('src'), path('dst2'), '--colour'], /did you mean|No flag/],
    [
      'a number out of range',
      () => [path('src'), path('dst2'), '--queues', '65'],
      /--queues is "65"; allowed is a whole number from 1 to 64/,
    ],
    ['a missing argument', () => [path('src')], /Expected argument for dst/],
  ];
  it.each(refusals)('refuses %s in a line, with an exit code and no stack trace', (_, args, message) => {
    writeFileSync(path('src'), bytes(1000));
    const { status, stdout, stderr } = hvsim(['cp', ...args()]);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n\s+at /);
    expect(existsSync(path('dst2'))).toBe(false);
  });

  it('refuses a source that may not be read', () => {
    writeFileSync(path('secret'), bytes(10));
    chmodSync(path('secret'), 0);
    const { status, stderr } = hvsim(['cp', path('secret'), path('dst2')]);
    // The superuser reads it all the same.
    if (process.getuid?.() === 0) expect(status).toBe(0);
    else expect(stderr).toMatch(/secret: permission denied/);
  });

  const isRoot = process.getuid?.() === 0;
  (isRoot ? it : it.skip)(
    'says that the disk is full, and leaves the old destination alone (needs root, to mount a small file system)',
    () => {
      const small = path('small');
      mkdirSync(small);
      program('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', small]);
      try {
        writeFileSync(join(small, 'dst'), 'old');
        writeFileSync(path('big'), bytes(3_000_000));
        const { status, stderr } = hvsim(['cp', path('big'), join(small, 'dst')]);
        expect(status).toBe(1);
        expect(stderr).toMatch(/no space left on device/);
        expect(readFileSync(join(small, 'dst'), 'utf8')).toBe('old');
        expect(readdirSync(small)).toEqual(['dst']);
      } finally {
        program('umount', [small]);
      }
    },
  );

  it.each(['SIGINT', 'SIGTERM'] as const)('stops at once on %s, and leaves nothing behind', async (signal) => {
    const own = path(`interrupted-${signal}`);
    mkdirSync(own);
    writeFileSync(path('large'), new Uint8Array(400 * 1024 * 1024));
    const child = startHvsim(['cp', path('large'), join(own, 'dst')], folder);
    await expect.poll(() => readdirSync(own).length, { timeout: 20_000, interval: 5 }).toBeGreaterThan(0);
    child.kill(signal);
    const code = await new Promise((resolve) => child.once('exit', resolve));
    expect(code).toBe(signal === 'SIGINT' ? 130 : 143);
    expect(readdirSync(own)).toEqual([]);
  });

  it('keeps what the disk holds durable under its own name: the length is the source s', () => {
    writeFileSync(path('src'), bytes(777));
    writeFileSync(path('dst'), bytes(100_000));
    expect(hvsim(['cp', path('src'), path('dst')]).status).toBe(0);
    expect(statSync(path('dst')).size).toBe(777);
  });
});
