import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { hvsim, itNeeds, program } from './cli.ts';
import { RawClient } from './raw-client.ts';
import { type Serving, serving } from './serving.ts';

let each: Serving | undefined;
afterEach(async () => {
  await each?.close();
  each = undefined;
});
const started = async (...args: string[]): Promise<Serving> => {
  each = await serving(args);
  return each;
};
const socketOf = (server: Serving): string => join(server.folder, 'disk.sock');

interface Stats {
  readonly nbd: { readonly connectionsOpen: number; readonly connections: number };
  readonly references: { readonly live: number };
  readonly faults: readonly { readonly fired: number; readonly reached: number }[];
  readonly filters: readonly { readonly name: string; readonly enabled: boolean; readonly counts?: { readonly read: { bytes: number } } }[];
}
const stats = async (server: Serving): Promise<Stats> => (await server.control('stats')) as Stats;
const nobody = (server: Serving): Promise<void> =>
  vi.waitFor(async () => expect((await stats(server)).nbd.connectionsOpen).toBe(0), { timeout: 10_000 });

describe('what clients leave behind', () => {
  it('is nothing, after 1,000 connects and disconnects: no descriptor, no memory, no reference', async () => {
    const server = await started('--disk', 'mem:4M');
    const round = async (): Promise<void> => {
      for (let count = 0; count < 1000; count += 1) {
        const client = new RawClient(socketOf(server));
        await client.go();
        if (count % 10 === 0) await client.read(0, 65_536);
        // Half of them vanish, half of those with a request under way.
        if (count % 4 === 1) client.send(0, 0, 65_536);
        await client.close();
      }
      await nobody(server);
    };
    await round();
    const before = { ...server.usage(), ...(await stats(server)) };
    await round();
    const after = { ...server.usage(), ...(await stats(server)) };
    expect(after.nbd.connections).toBe(2000);
    // The connection that asked for the counters may still be closing at either look.
    await vi.waitFor(() => expect(server.usage().descriptors).toBeLessThanOrEqual(before.descriptors), { timeout: 10_000 });
    expect(after.references).toEqual(before.references);
    // What a thousand connections may leave to the collector: less than 32 KiB each.
    expect(after.residentMib).toBeLessThan(before.residentMib + 32);
  }, 60_000);

  it('is nothing, after garbage in place of a handshake, and in place of a request', async () => {
    const server = await started('--disk', 'mem:4M');
    const before = server.usage().descriptors;
    for (let seed = 0; seed < 50; seed += 1) {
      const socket = connect(socketOf(server));
      socket.on('error', () => {});
      socket.resume();
      socket.write(new Uint8Array(512).map((_, at) => (at * 97 + seed * 31 + (at >> 3)) & 0xff));
      await once(socket, 'close');
    }
    for (let seed = 0; seed < 20; seed += 1) {
      const client = new RawClient(socketOf(server));
      await client.go();
      client.socket.write(new Uint8Array(4096).fill(seed + 1));
      await once(client.socket, 'close');
    }
    await nobody(server);
    await vi.waitFor(() => expect(server.usage().descriptors).toBeLessThanOrEqual(before), { timeout: 10_000 });
    const client = new RawClient(socketOf(server));
    await client.go();
    expect((await client.read(0, 512)).length).toBe(512);
    await client.close();
  });

  it('is nothing, after connections that never say anything, or stop in the middle of a request', async () => {
    const server = await started('--disk', 'mem:4M');
    const before = server.usage().descriptors;
    const silent = Array.from({ length: 10 }, () => new RawClient(socketOf(server)));
    const cut = new RawClient(socketOf(server));
    await cut.go();
    cut.send(1, 0, 65_536, new Uint8Array(1000));
    const served = new RawClient(socketOf(server));
    await served.go();
    expect(await served.write(4096, new Uint8Array(512).fill(7))).toBe(0);
    expect((await served.read(4096, 4)).every((byte) => byte === 7)).toBe(true);
    for (const client of [...silent, cut, served]) await client.close();
    await nobody(server);
    await vi.waitFor(() => expect(server.usage().descriptors).toBeLessThanOrEqual(before), { timeout: 10_000 });
  });

  it('serves the next client while one reads no answers', async () => {
    const server = await started('--disk', 'mem:8M');
    const greedy = new RawClient(socketOf(server));
    await greedy.go();
    greedy.socket.pause();
    for (let count = 0; count < 2000; count += 1) greedy.send(0, 0, 1 << 20);
    const served = new RawClient(socketOf(server));
    await served.go();
    for (let count = 0; count < 20; count += 1) expect(await served.write(count * 4096, new Uint8Array(4096).fill(count))).toBe(0);
    // 2,000 MiB were asked for; what is held for one client is bounded.
    expect(server.usage().residentMib).toBeLessThan(700);
    await greedy.close();
    await served.close();
    await nobody(server);
  });
});

describe('requests that are not allowed', () => {
  it('are answered with an error, and the connection lives', async () => {
    const server = await started('--disk', 'mem:1M');
    const client = new RawClient(socketOf(server));
    await client.go();
    const size = 1 << 20;
    for (const [type, offset, bytes, errno, data] of [
      [0, size, 512, 22],
      [0, size - 512, 1024, 22],
      [1, size, 512, 28, new Uint8Array(512)],
      [0, 0, 0, 22],
      [4, size, 512, 22],
      [6, size, 512, 28],
      [99, 0, 0, 22],
      [0, 2 ** 52, 512, 22],
    ] as [number, number, number, number, Uint8Array?][]) {
      client.send(type, offset, bytes, data);
      expect((await client.answer()).errno, `type ${type} at ${offset}, ${bytes} bytes`).toBe(errno);
    }
    client.send(0, 0, 512, undefined, 0x8000);
    expect((await client.answer()).errno).toBe(22);
    expect((await client.read(0, 512)).length).toBe(512);
    await client.close();
  });

  it('include every change of a read-only disk', async () => {
    const server = await started('--disk', 'mem:1M', '--filter', 'readonly');
    const client = new RawClient(socketOf(server));
    await client.go();
    expect(await client.write(0, new Uint8Array(512))).toBe(1);
    client.send(6, 0, 512);
    expect((await client.answer()).errno).toBe(1);
    expect((await client.read(0, 512)).length).toBe(512);
    expect(await client.flush()).toBe(0);
    await client.close();
  });
});

describe('SIGTERM', () => {
  for (const disk of ['file:disk.img,8M', 'sparse:disk.img,8M']) {
    it(`in the middle of writes leaves everything that was flushed in the file of ${disk.split(':')[0]}`, async () => {
      const server = await started('--disk', disk, '--write-iolog', 'requests.log');
      const client = new RawClient(socketOf(server));
      await client.go();
      for (let block = 0; block < 64; block += 1)
        expect(await client.write(block * 65_536, new Uint8Array(65_536).fill(block + 1))).toBe(0);
      expect(await client.flush()).toBe(0);
      for (let block = 64; block < 128; block += 1) client.send(1, block * 65_536, 65_536, new Uint8Array(65_536).fill(block));
      expect(await server.stop()).toBe(0);
      const image = readFileSync(join(server.folder, 'disk.img'));
      for (let block = 0; block < 64; block += 1)
        expect(
          image.subarray(block * 65_536, (block + 1) * 65_536).every((byte) => byte === block + 1),
          `block ${block}`,
        ).toBe(true);
      const log = readFileSync(join(server.folder, 'requests.log'), 'utf8').trimEnd().split('\n');
      expect(log.slice(0, 3)).toEqual(['fio version 3 iolog', '0 disk add', '0 disk open']);
      expect(log.filter((line) => / write /.test(line)).length).toBeGreaterThanOrEqual(64);
      expect(log.at(-1)).toMatch(/^\d+ disk close$/);
      expect(existsSync(socketOf(server))).toBe(false);
    });
  }

  it('ends requests that wait for a delay, and a paused disk', async () => {
    const server = await started('--disk', 'file:disk.img,1M', '--filter', 'delay=20s');
    const client = new RawClient(socketOf(server));
    await client.go();
    client.send(1, 0, 512, new Uint8Array(512).fill(9));
    await new Promise((resolve) => setTimeout(resolve, 100));
    await server.control('pause');
    expect(await server.stop()).toBe(0);
    expect(server.output()).toContain('requests on the ring');
  });
});

describe('filters', () => {
  const fioArgs = (server: Serving, ...more: string[]): string[] => [
    '--name=v',
    '--ioengine=nbd',
    `--uri=${server.uri}`,
    '--bs=4k',
    '--iodepth=16',
    '--size=4m',
    ...more,
  ];
  const verify = ['--rw=randwrite', '--verify=crc32c', '--verify_fatal=1', '--do_verify=1'];
  const jobOf = (server: Serving): { error: number; read: { lat_ns: { min: number }; total_ios: number } } =>
    JSON.parse(readFileSync(join(server.folder, 'o.json'), 'utf8').replace(/^[^{]*/, '')).jobs[0];

  itNeeds(['fio'], 'that corrupt are found by fio, and not when they are turned off', async () => {
    const server = await started('--disk', 'mem:8M', '--filter', 'corrupt=write:2%');
    expect(program('fio', fioArgs(server, ...verify), { cwd: server.folder, fails: true })).toMatch(/verify|crc32c/);
    expect(server.ctl('filter', 'off', 'corrupt')).toMatchObject({ enabled: false });
    program('fio', fioArgs(server, ...verify), { cwd: server.folder });
    expect((await stats(server)).faults[0]?.fired).toBeGreaterThan(0);
  });

  itNeeds(['fio'], 'that fail make fio exit 1 with the error, unless it is told to go on', async () => {
    const server = await started('--disk', 'mem:8M', '--filter', 'error=read:5%');
    const out = ['--rw=randread', '--output-format=json', '--output=o.json'];
    program('fio', fioArgs(server, ...out), { cwd: server.folder, fails: true });
    expect(jobOf(server).error).toBe(5);
    program('fio', fioArgs(server, ...out, '--continue_on_error=read'), { cwd: server.folder });
    expect(jobOf(server)).toMatchObject({ error: 5 });
  });

  itNeeds(['fio'], 'that delay are what fio measures', async () => {
    const server = await started('--disk', 'mem:8M', '--filter', 'delay=4ms');
    program('fio', fioArgs(server, '--rw=randread', '--number_ios=50', '--output-format=json', '--output=o.json'), { cwd: server.folder });
    expect(jobOf(server).read.lat_ns.min).toBeGreaterThan(4e6);
  });

  it('that count agree with what a client asked for', async () => {
    const server = await started('--disk', 'mem:1M', '--filter', 'stats');
    const client = new RawClient(socketOf(server));
    await client.go();
    for (let count = 0; count < 10; count += 1) await client.read(count * 4096, 4096);
    await client.close();
    const [filter] = (await stats(server)).filters;
    expect(filter).toMatchObject({ name: 'stats', enabled: true, counts: { read: { bytes: 40_960, errors: 0 } } });
  });
});

describe('hvsim ctl', () => {
  it('holds requests while it is paused, and lets them go on', async () => {
    const server = await started('--disk', 'mem:1M');
    const client = new RawClient(socketOf(server));
    await client.go();
    expect(server.ctl('pause')).toEqual({ paused: true });
    let answered = false;
    const answer = client.read(0, 512).then(() => {
      answered = true;
    });
    expect(server.ctl('stats')).toMatchObject({ paused: true, nbd: { connectionsOpen: 1 } });
    expect(answered).toBe(false);
    expect(server.ctl('resume')).toEqual({ paused: false });
    await answer;
    await client.close();
  });

  it('cuts the power: what was flushed stays, what was not may go', async () => {
    const server = await started('--disk', 'mem:1M', '--filter', 'volatile-cache');
    const client = new RawClient(socketOf(server));
    await client.go();
    await client.write(0, new Uint8Array(4096).fill(1));
    await client.flush();
    await client.write(0, new Uint8Array(4096).fill(2));
    await client.write(65_536, new Uint8Array(4096).fill(3));
    expect(server.ctl('power-cut', 'none')).toMatchObject({ unflushed: 16, lost: 16 });
    expect((await client.read(0, 4096)).every((byte) => byte === 1)).toBe(true);
    expect((await client.read(65_536, 4096)).every((byte) => byte === 0)).toBe(true);
    await client.close();
  });

  it('reaches each export by its name, and refuses what it does not know in one line', async () => {
    const server = await started('--disk', 'mem:1M', '--export', 'log=mem:2M');
    expect(server.ctl('--export', 'log', 'stats')).toMatchObject({ device: { sectors: 4096 } });
    const refused = (...words: string[]) => hvsim(['ctl', '--control', join(server.folder, 'disk.ctl'), ...words]);
    for (const [words, message] of [
      [['--export', 'nobody', 'stats'], 'no export "nobody"'],
      [['explode'], 'no command "explode"'],
      [['filter', 'off', 'delay'], 'no filter "delay"'],
      [['power-cut'], 'no filter "volatile-cache"'],
    ] as [string[], string][]) {
      const { status, stderr } = refused(...words);
      expect([status, stderr]).toEqual([1, expect.stringContaining(message)]);
      expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    }
    expect(hvsim(['ctl', '--control', join(server.folder, 'none'), 'stats'])).toMatchObject({ status: 2 });
  });

  it('survives garbage, long lines, half lines and clients that vanish', async () => {
    const server = await started('--disk', 'mem:1M');
    const before = server.usage().descriptors;
    for (const text of [
      '{',
      'null\n',
      '[]\n',
      '"x"\n',
      '{"command":"stats","args":7}\n',
      '{"command":"constructor"}\n',
      `${'x'.repeat(200_000)}`,
    ]) {
      const socket = connect(join(server.folder, 'disk.ctl'));
      socket.on('error', () => {});
      await once(socket, 'connect');
      socket.write(text);
      if (text.endsWith('\n')) {
        const [chunk] = (await once(socket, 'data')) as [Buffer];
        expect(JSON.parse(chunk.toString())).toHaveProperty('ok');
      }
      socket.destroy();
    }
    expect(await server.control('stats')).toMatchObject({ paused: false });
    await vi.waitFor(() => expect(server.usage().descriptors).toBeLessThanOrEqual(before), { timeout: 10_000 });
  });
});

describe('hvsim serve', () => {
  it('refuses an address that others can reach, a socket that is in use, and no address at all', async () => {
    expect(hvsim(['serve', '--listen', '0.0.0.0:0'])).toMatchObject({ status: 2, stderr: expect.stringContaining('--allow-remote') });
    expect(hvsim(['serve'])).toMatchObject({ status: 2, stderr: expect.stringContaining('--socket') });
    expect(hvsim(['serve', '--disk', 'file:/nowhere/disk.img', '--socket', 'x.sock'])).toMatchObject({ status: 2 });
    const server = await started('--disk', 'mem:1M');
    expect(hvsim(['serve', '--disk', 'mem:1M', '--socket', socketOf(server)])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('another server listens'),
    });
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const address = `127.0.0.1:${(taken.address() as { port: number }).port}`;
    // What holds the port lives in this process, which waits: the kernel answers.
    expect(hvsim(['serve', '--disk', 'mem:1M', '--listen', address])).toMatchObject({
      status: 2,
      stderr: `hvsim: ${address}: another program listens there; end it, or choose another address\n`,
    });
    taken.close();
    writeFileSync(join(server.folder, 'file'), 'precious');
    expect(hvsim(['serve', '--disk', 'mem:1M', '--socket', join(server.folder, 'file')])).toMatchObject({ status: 2 });
    expect(readFileSync(join(server.folder, 'file'), 'utf8')).toBe('precious');
  });

  it('refuses the path of a socket that is too long or lies in no folder, by the name of its flag', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'hvsim-paths-'));
    const long = join(folder, 'x'.repeat(108));
    const missing = join(folder, 'no', 'x.sock');
    for (const [args, message] of [
      [['serve', '--socket', long], `--socket ${long}: the path has ${long.length} bytes`],
      [['serve', '--socket', missing], `--socket ${missing}: ${join(folder, 'no')}: no such file or directory`],
      [['serve', '--socket', join(folder, 'a.sock'), '--control', long], `--control ${long}: the path has ${long.length} bytes`],
      [['serve', '--socket', join(folder, 'a.sock'), '--control', missing], `--control ${missing}: ${join(folder, 'no')}: no such`],
      [['ctl', '--control', long, 'stats'], `--control ${long}: the path has ${long.length} bytes`],
    ] as const) {
      expect(hvsim(args)).toMatchObject({ status: 2, stderr: expect.stringContaining(message) });
    }
    expect(readdirSync(folder)).toEqual([]);
    rmSync(folder, { recursive: true });
  });

  it('takes over a socket that a killed server left behind', async () => {
    const server = await started('--disk', 'mem:1M');
    await server.stop('SIGKILL');
    expect(existsSync(socketOf(server))).toBe(true);
    const second = await serving(['--disk', 'mem:1M'], server.folder);
    try {
      const client = new RawClient(socketOf(server));
      await client.go();
      await client.close();
    } finally {
      await second.stop('SIGKILL');
    }
  });

  it('records what fio and hvsim run replay', async () => {
    const server = await started('--disk', 'mem:1M', '--write-iolog', 'requests.log');
    const client = new RawClient(socketOf(server));
    await client.go();
    await client.write(0, new Uint8Array(8192));
    await client.read(4096, 4096);
    client.send(4, 65_536, 4096);
    await client.answer();
    await client.flush();
    await client.close();
    expect(await server.stop()).toBe(0);
    writeFileSync(join(server.folder, 'replay.fio'), '[replay]\nread_iolog=requests.log\n');
    const { status, stdout } = hvsim(['run', '--disk', 'mem:1M', '--json', 'replay.fio'], { cwd: server.folder });
    expect(status).toBe(0);
    const [job] = JSON.parse(stdout).jobs;
    expect([job.read.total_ios, job.write.total_ios, job.trim.total_ios, job.sync.total_ios]).toEqual([1, 1, 1, 1]);
  });
});
