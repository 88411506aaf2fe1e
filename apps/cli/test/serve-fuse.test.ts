import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, type TestContext, vi } from 'vitest';
import { background, itNeeds, program } from './cli.ts';
import { type Serving, serving } from './serving.ts';

/** Why this machine shows no disk as a file, or undefined. */
function noFuse(): string | undefined {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return undefined;
  } catch {
    return '/dev/fuse cannot be opened here';
  }
}

function unmount(path: string): void {
  for (const [name, ...args] of [
    ['fusermount3', '-u', path],
    ['fusermount', '-u', path],
    ['umount', '-l', path],
  ] as const) {
    if (spawnSync(name, args, { timeout: 20_000 }).status === 0) return;
  }
}

/** The served disk as a file of nbdfuse, for as long as `work` takes. */
async function bridged(context: TestContext, disk: string, work: (each: Serving) => void | Promise<void>): Promise<void> {
  const reason = noFuse();
  if (reason !== undefined) return context.skip(reason);
  const each = await serving(['--disk', disk]);
  const mountpoint = join(each.folder, 'mp');
  mkdirSync(mountpoint);
  const bridge = background('nbdfuse', [join(mountpoint, 'nbd'), each.uri], each.folder);
  const gone = new Promise((resolve) => bridge.once('exit', resolve));
  try {
    await vi.waitUntil(() => existsSync(join(mountpoint, 'nbd')) || bridge.exitCode !== null, { timeout: 20_000, interval: 20 });
    if (bridge.exitCode !== null) return context.skip('nbdfuse cannot mount here');
    await work(each);
    unmount(mountpoint);
    await gone;
    expect(await each.stop()).toBe(0);
  } finally {
    unmount(mountpoint);
    bridge.kill('SIGKILL');
    await each.close();
  }
}

const FILES = 40;
const content = (index: number): Uint8Array => new Uint8Array(1000 + index * 3571).map((_, at) => (at * 7 + index) & 0xff);

function tree(folder: string): void {
  for (let index = 0; index < FILES; index += 1) {
    mkdirSync(join(folder, 'tree', `d${index % 5}`), { recursive: true });
    writeFileSync(join(folder, 'tree', `d${index % 5}`, `f${index}`), content(index));
  }
}

describe('ext4 on the served disk', () => {
  itNeeds(
    ['nbdfuse', 'mke2fs', 'e2fsck', 'debugfs', 'dumpe2fs', 'nbdcopy'],
    'is made by mke2fs, filled by debugfs and found clean by e2fsck, on the file that nbdfuse shows',
    (context) =>
      bridged(context, 'mem:48M', (each) => {
        const at = { cwd: each.folder };
        tree(each.folder);
        program('mke2fs', ['-q', '-t', 'ext4', '-F', '-d', 'tree', 'mp/nbd'], at);
        program('e2fsck', ['-fn', 'mp/nbd'], at);
        program('debugfs', ['-w', '-R', 'write tree/d1/f1 again', 'mp/nbd'], at);
        expect(program('debugfs', ['-R', 'ls -l', 'mp/nbd'], at)).toContain('again');
        expect(program('dumpe2fs', ['-h', 'mp/nbd'], at)).toMatch(/Filesystem state:\s+clean/);
        program('e2fsck', ['-fn', 'mp/nbd'], at);
        program('nbdcopy', [each.uri, 'after.img'], at);
        program('e2fsck', ['-fn', 'after.img'], at);
        program('debugfs', ['-R', 'dump d2/f7 f7', 'after.img'], at);
        expect(new Uint8Array(readFileSync(join(each.folder, 'f7')))).toEqual(content(7));
      }),
  );

  itNeeds(
    ['nbdfuse', 'mke2fs', 'e2fsck', 'mount', 'umount', 'nbdcopy'],
    "carries a tree that the kernel's own ext4 writes through a loop device",
    (context) =>
      bridged(context, 'mem:48M', (each) => {
        const at = { cwd: each.folder };
        program('mke2fs', ['-q', '-t', 'ext4', '-F', 'mp/nbd'], at);
        mkdirSync(join(each.folder, 'mnt'));
        const mounted = spawnSync('mount', ['-o', 'loop', 'mp/nbd', 'mnt'], { ...at, encoding: 'utf8', timeout: 30_000 });
        if (mounted.status !== 0) return context.skip(`mount -o loop: ${mounted.stderr.trim() || 'not possible here'}`);
        try {
          tree(each.folder);
          program('cp', ['-r', 'tree', 'mnt/tree'], at);
          program('sync', ['-f', 'mnt/tree'], at);
        } finally {
          program('umount', ['mnt'], at);
        }
        program('nbdcopy', [each.uri, 'after.img'], at);
        program('e2fsck', ['-fn', 'after.img'], at);
        program('debugfs', ['-R', 'dump tree/d3/f8 f8', 'after.img'], at);
        const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
        expect(hash(readFileSync(join(each.folder, 'f8')))).toBe(hash(content(8)));
      }),
  );
});

describe('a second bridge', () => {
  itNeeds(
    ['qemu-storage-daemon', 'mke2fs', 'e2fsck', 'nbdcopy'],
    'qemu-storage-daemon shows the disk as a file, on which ext4 is made and found clean',
    async (context) => {
      const reason = noFuse();
      if (reason !== undefined) return context.skip(reason);
      const each = await serving(['--disk', 'mem:48M']);
      const file = join(each.folder, 'qsd.img');
      writeFileSync(file, '');
      const daemon = background(
        'qemu-storage-daemon',
        [
          '--blockdev',
          `driver=nbd,node-name=n0,server.type=unix,server.path=${join(each.folder, 'disk.sock')}`,
          '--export',
          `type=fuse,id=e0,node-name=n0,mountpoint=${file},writable=on`,
        ],
        each.folder,
      );
      const gone = new Promise((resolve) => daemon.once('exit', resolve));
      try {
        await vi.waitUntil(() => readableBytes(file) > 0 || daemon.exitCode !== null, { timeout: 20_000, interval: 20 });
        if (daemon.exitCode !== null) return context.skip('qemu-storage-daemon cannot export by FUSE here');
        tree(each.folder);
        program('mke2fs', ['-q', '-t', 'ext4', '-F', '-d', 'tree', file], { cwd: each.folder });
        program('e2fsck', ['-fn', file], { cwd: each.folder });
        daemon.kill('SIGTERM');
        await gone;
        program('nbdcopy', [each.uri, 'after.img'], { cwd: each.folder });
        program('e2fsck', ['-fn', 'after.img'], { cwd: each.folder });
        expect(await each.stop()).toBe(0);
      } finally {
        daemon.kill('SIGKILL');
        unmount(file);
        await each.close();
      }
    },
  );
});

function readableBytes(path: string): number {
  const found = spawnSync('stat', ['-c', '%s', path], { encoding: 'utf8', timeout: 5000 });
  return found.status === 0 ? Number(found.stdout) : 0;
}
