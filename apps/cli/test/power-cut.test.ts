import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';
import { createRandom, type VolatileCacheFilter } from '@paravirt/hv-sim';
import { createNbdServer, type NbdTarget, simpleTarget } from '@paravirt/nbd';
import { listen } from '@paravirt/nbd/node';
import { describe, expect, vi } from 'vitest';
import { openDisk } from '../src/disk/open.ts';
import { serveDisk } from '../src/serve/served-disk.ts';
import { background, itNeeds, program, programAsync } from './cli.ts';

const DISK_BYTES = 16 << 20;
const SECTOR = 512;
const cuts = process.env['PARAVIRT_FULL'] ? 200 : 24;
const recordingPath = fileURLToPath(new URL('recordings/ext4.bin.gz', import.meta.url));

/** A request that changes the disk, or a flush; in the order in which the disk was asked. */
interface Change {
  readonly kind: 'write' | 'zero' | 'flush';
  readonly offset: number;
  readonly bytes: number;
  readonly data: Uint8Array | undefined;
}

interface Recording {
  readonly changes: readonly Change[];
  /** The changes from here on are those on the finished file system. */
  readonly finished: number;
}

const kinds = ['write', 'zero', 'flush'] as const;

/** Header lines of JSON, an empty line, then the data of the writes one behind the other. */
function pack({ changes, finished }: Recording): Uint8Array {
  const lines = changes.map(({ kind, offset, bytes }) => `${kinds.indexOf(kind)} ${offset} ${bytes}`);
  const head = new TextEncoder().encode(`${finished}\n${lines.join('\n')}\n\n`);
  return gzipSync(Buffer.concat([head, ...changes.map(({ data }) => data ?? new Uint8Array(0))]), { level: 9 });
}

function unpack(packed: Uint8Array): Recording {
  const all = gunzipSync(packed);
  const end = all.indexOf('\n\n');
  const [finished, ...lines] = all.subarray(0, end).toString().split('\n');
  let at = end + 2;
  const changes = lines.map((line): Change => {
    const [kind, offset, bytes] = line.split(' ').map(Number) as [number, number, number];
    const data = kind === 0 ? all.subarray(at, at + bytes) : undefined;
    at += data?.length ?? 0;
    return { kind: kinds[kind] as Change['kind'], offset, bytes, data };
  });
  return { changes, finished: Number(finished) };
}

/** Lets mke2fs and then the kernel's ext4 write to a disk that records. Needs root, FUSE, a loop device, nbdfuse and mke2fs. */
async function record(): Promise<Recording> {
  const folder = mkdtempSync(join(tmpdir(), 'hvsim-record-'));
  const image = new Uint8Array(DISK_BYTES);
  const changes: Change[] = [];
  const target: NbdTarget = {
    ...simpleTarget({
      sizeBytes: DISK_BYTES,
      read: (offset, into) => into.set(image.subarray(offset, offset + into.length)),
      write(offset, source) {
        image.set(source, offset);
        changes.push({ kind: 'write', offset, bytes: source.length, data: source.slice() });
      },
      flush: () => changes.push({ kind: 'flush', offset: 0, bytes: 0, data: undefined }),
    }),
    sizeBytes: DISK_BYTES,
    writeZeroes(offset, bytes, _options, done) {
      image.fill(0, offset, offset + bytes);
      changes.push({ kind: 'zero', offset, bytes, data: undefined });
      done(0);
    },
  };
  const listener: Server = await listen(createNbdServer({ exports: [{ name: '', target }] }), { path: join(folder, 's') });
  mkdirSync(join(folder, 'mp'));
  mkdirSync(join(folder, 'mnt'));
  const bridge = background('nbdfuse', ['mp/nbd', `nbd+unix:///?socket=${join(folder, 's')}`], folder);
  const run = (name: string, ...args: string[]): Promise<string> => programAsync(name, args, { cwd: folder });
  try {
    await vi.waitUntil(() => existsSync(join(folder, 'mp', 'nbd')), { timeout: 20_000, interval: 20 });
    await run('mke2fs', '-q', '-t', 'ext4', '-E', 'lazy_itable_init=0', '-F', 'mp/nbd');
    const finished = changes.length;
    await run('mount', '-o', 'loop', 'mp/nbd', 'mnt');
    for (let round = 0; round < 6; round += 1) {
      mkdirSync(join(folder, 'tree', `r${round}`), { recursive: true });
      for (let file = 0; file < 8; file += 1) {
        const content = new Uint8Array(500 + 9000 * file).fill(round * 16 + file + 1);
        writeFileSync(join(folder, 'tree', `r${round}`, `f${file}`), content);
      }
      await run('cp', '-r', `tree/r${round}`, 'mnt/');
      await run('sync', '-f', 'mnt');
      if (round > 0) await run('rm', '-r', `mnt/r${round - 1}/f0`, `mnt/r${round - 1}/f5`);
    }
    await run('umount', 'mnt');
    return { changes, finished };
  } finally {
    for (const path of ['mnt', 'mp']) spawnSync('umount', ['-l', join(folder, path)], { timeout: 20_000 });
    bridge.kill('SIGKILL');
    listener.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Recorded here where this machine can, else as it was recorded on another. */
async function recording(): Promise<Recording> {
  if (process.env['PARAVIRT_RECORD']) {
    const fresh = await record();
    mkdirSync(fileURLToPath(new URL('recordings', import.meta.url)), { recursive: true });
    writeFileSync(recordingPath, pack(fresh));
  }
  return unpack(readFileSync(recordingPath));
}

/** A served disk with a volatile cache, asked one request after the other. */
function stack(seed: number) {
  const disk = openDisk({ disk: `mem:${DISK_BYTES}`, filters: ['volatile-cache'], seed });
  const served = serveDisk({ disk, seed, queues: 2, ringPages: 2, segments: 64 });
  const { target } = served;
  const now = (begin: (done: (errno: number) => void) => void): void => {
    let errno: number | undefined;
    begin((status) => {
      errno = status;
    });
    target.kick?.();
    expect(errno, 'a memory disk answers at once').toBe(0);
  };
  return {
    cache: disk.filters[0]?.filter as VolatileCacheFilter,
    apply({ kind, offset, bytes, data }: Change): void {
      now((done) => {
        if (kind === 'flush') target.flush?.(done);
        else if (kind === 'zero') target.writeZeroes?.(offset, bytes, { fua: false, noHole: true, fast: false }, done);
        else target.write?.(offset, data as Uint8Array, false, done);
      });
    },
    image(): Uint8Array {
      const image = new Uint8Array(DISK_BYTES);
      for (let at = 0; at < DISK_BYTES; at += 1 << 20) now((done) => target.read(at, image.subarray(at, at + (1 << 20)), done));
      return image;
    },
    close: () => served.close(),
  };
}

/** What each sector may hold after a cut: what was flushed last, or any version since. Plain: whole images and lists. */
class Model {
  readonly flushed: Uint8Array = new Uint8Array(DISK_BYTES);
  readonly since: Map<number, Uint8Array[]> = new Map();

  apply({ kind, offset, bytes, data }: Change): void {
    if (kind === 'flush') {
      for (const [sector, versions] of this.since) this.flushed.set(versions.at(-1) as Uint8Array, sector * SECTOR);
      this.since.clear();
      return;
    }
    for (let at = 0; at < bytes; at += SECTOR) {
      const sector = (offset + at) / SECTOR;
      const versions = this.since.get(sector) ?? [];
      versions.push(data ? data.slice(at, at + SECTOR) : new Uint8Array(SECTOR));
      this.since.set(sector, versions);
    }
  }

  /** The first sector that holds what it cannot, or -1. */
  wrongSector(image: Uint8Array): number {
    const stretch = 65_536;
    for (let sector = 0; sector < DISK_BYTES / SECTOR; sector += 1) {
      const at = sector * SECTOR;
      if (at % stretch === 0 && Buffer.compare(image.subarray(at, at + stretch), this.flushed.subarray(at, at + stretch)) === 0) {
        sector += stretch / SECTOR - 1;
        continue;
      }
      if (Buffer.compare(image.subarray(at, at + SECTOR), this.flushed.subarray(at, at + SECTOR)) === 0) continue;
      const versions = this.since.get(sector) ?? [];
      if (!versions.some((each) => Buffer.compare(each, image.subarray(at, at + SECTOR)) === 0)) return sector;
    }
    return -1;
  }
}

describe('power cuts', () => {
  itNeeds(
    ['e2fsck'],
    `lose nothing that was flushed, and leave a finished ext4 that e2fsck repairs (${cuts} seeded cuts)`,
    async () => {
      const { changes, finished } = await recording();
      const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'hvsim-cut-'));
      const random = createRandom('power cuts');
      let lost = 0;
      let checked = 0;
      try {
        for (let cut = 0; cut < cuts; cut += 1) {
          // A third of the cuts hits mke2fs, the others the file system while files are copied onto it.
          const [low, high] = cut % 3 === 0 ? [1, finished] : [finished + 1, changes.length];
          const at = low + random.below(high - low + 1);
          const disk = stack(cut);
          const model = new Model();
          for (const change of changes.slice(0, at)) {
            disk.apply(change);
            model.apply(change);
          }
          lost += disk.cache.powerCut('random').lost;
          const image = disk.image();
          disk.close();
          expect(model.wrongSector(image), `cut ${cut} after request ${at}`).toBe(-1);
          if (at <= finished) continue;
          checked += 1;
          const path = join(folder, 'cut.img');
          writeFileSync(path, image);
          const repaired = spawnSync('e2fsck', ['-fy', path], {
            encoding: 'utf8',
            timeout: 60_000,
            env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
          });
          expect([0, 1], `cut ${cut} after request ${at}: e2fsck -fy\n${repaired.stdout}`).toContain(repaired.status);
          program('e2fsck', ['-fn', path]);
        }
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
      expect(lost).toBeGreaterThan(0);
      expect(checked).toBeGreaterThan(cuts / 2);
    },
    300_000,
  );
});
