import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { itNeeds, program } from './cli.ts';
import { type Serving, serving } from './serving.ts';

const MIB = 1024 * 1024;
const noise = (bytes: number): Uint8Array => {
  const words = new Uint32Array(bytes / 4);
  for (let at = 0; at < words.length; at += 1) words[at] = Math.imul(at + 1, 2654435761);
  return new Uint8Array(words.buffer);
};

let server: Serving;
beforeAll(async () => {
  server = await serving(['--disk', 'mem:32M', '--export', 'small=mem:1M']);
});
afterAll(() => server.close());
const file = (name: string): string => join(server.folder, name);
const sh = (name: string, args: readonly string[], options: { fails?: boolean } = {}): string =>
  program(name, args, { cwd: server.folder, ...options });

const status = (name: string, args: readonly string[]): number | null => spawnSync(name, args, { timeout: 30_000 }).status;

describe('real clients do with hvsim serve what they do with nbdkit', () => {
  itNeeds(['nbdinfo'], 'nbdinfo', () => {
    expect(sh('nbdinfo', [server.uri])).toContain('newstyle-fixed');
    expect(sh('nbdinfo', ['--size', server.uri])).toBe(`${32 * MIB}\n`);
    const { exports } = JSON.parse(sh('nbdinfo', ['--json', server.uri]));
    expect(exports[0]).toMatchObject({
      'export-size': 32 * MIB,
      can_flush: true,
      can_fua: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
    });
    expect(sh('nbdinfo', ['--map', server.uri])).toMatch(/^\s*0\s+\d+\s+/);
    const list = sh('nbdinfo', ['--list', server.uri]);
    expect(list).toContain('export=""');
    expect(list).toContain('export="small"');
    for (const what of ['write', 'read', 'flush', 'fua', 'trim', 'zero', 'multi-conn', 'structured-reply', 'df', 'connect'])
      sh('nbdinfo', ['--can', what, server.uri]);
    // What is not so exits 2, as against nbdkit.
    expect(status('nbdinfo', ['--is', 'read-only', server.uri])).toBe(2);
    expect(status('nbdinfo', [server.uri.replace('nbd+unix:///', 'nbd+unix:///nobody')])).toBe(1);
    sh('nbdinfo', [server.uri.replace('nbd+unix:///', 'nbd+unix:///small')]);
  });

  itNeeds(['nbdcopy', 'cmp', 'nbddump'], 'nbdcopy there and back, and nbddump', () => {
    writeFileSync(file('a.img'), noise(32 * MIB));
    sh('nbdcopy', ['a.img', server.uri]);
    sh('nbdcopy', [server.uri, 'b.img']);
    sh('cmp', ['a.img', 'b.img']);
    expect(sh('nbddump', ['-n', '64', server.uri])).toContain('0000000000:');
  });

  itNeeds(['qemu-img', 'nbdcopy'], 'qemu-img info, map, compare, convert, check and bench', () => {
    writeFileSync(file('c.img'), noise(32 * MIB));
    sh('nbdcopy', ['c.img', server.uri]);
    expect(JSON.parse(sh('qemu-img', ['info', '--output=json', server.uri]))['virtual-size']).toBe(32 * MIB);
    expect(JSON.parse(sh('qemu-img', ['map', '--output=json', server.uri]))[0]).toMatchObject({ start: 0, data: true });
    sh('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', 'c.img', server.uri]);
    writeFileSync(file('e.img'), new Uint8Array(32 * MIB));
    expect(status('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', file('e.img'), server.uri])).toBe(1);
    sh('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', server.uri, 'd.qcow2']);
    sh('qemu-img', ['check', 'd.qcow2']);
    sh('qemu-img', ['bench', '-f', 'raw', '-c', '1000', '-d', '32', '-s', '4096', server.uri]);
    sh('qemu-img', ['bench', '-f', 'raw', '-w', '-c', '1000', '-d', '32', '-s', '4096', server.uri]);
  });

  itNeeds(['qemu-io'], 'qemu-io with FUA, discards and zeroes', () => {
    const commands = [
      'write -P 0x5a 0 1M',
      'aio_write -P 0x11 1M 64k',
      'aio_flush',
      'read -P 0x5a 0 1M',
      'read -P 0x11 1M 64k',
      'discard 0 64k',
      'write -z 64k 64k',
      'read -P 0 64k 64k',
      'write -f 128k 4k',
      'write -z -u 1M 512',
    ];
    const text = sh('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), server.uri]);
    expect(text).not.toMatch(/failed|verification/);
  });

  itNeeds(['nbd-client'], 'nbd-client lists the exports', () => {
    expect(sh('nbd-client', ['-l', '-unix', 'disk.sock'])).toContain('small');
  });

  itNeeds(['fio'], 'fio writes and verifies', () => {
    const text = sh('fio', [
      '--name=v',
      '--ioengine=nbd',
      `--uri=${server.uri}`,
      '--rw=randwrite',
      '--bs=4k',
      '--iodepth=16',
      '--size=16m',
      '--verify=crc32c',
      '--verify_fatal=1',
      '--do_verify=1',
      '--randseed=7',
    ]);
    expect(text).toContain('err= 0');
  });

  itNeeds(['nbdsh'], 'nbdsh reads and writes any bytes, and an illegal request is refused while the connection lives', () => {
    const script = [
      'h.pwrite(b"x"*512,0); h.flush(); assert h.pread(4,0) == b"xxxx"',
      'h.pwrite(b"abc",1000); assert h.pread(5,999)[1:4] == b"abc"',
      'h.set_strict_mode(0)',
      'import errno',
      'def refused(f):\n  try:\n    f()\n  except nbd.Error as e:\n    return e.errno\n  return None',
      'assert refused(lambda: h.pread(512, h.get_size())) == "EINVAL"',
      'assert refused(lambda: h.pwrite(b"x"*512, h.get_size())) == "ENOSPC"',
      'assert refused(lambda: h.pread(0, 0)) == "EINVAL"',
      'assert h.pread(4,0) == b"xxxx"',
    ];
    sh('env', ['PATH=/usr/bin:/bin', 'nbdsh', '-u', server.uri, ...script.flatMap((line) => ['-c', line])]);
  });

  itNeeds(['nbdsh'], 'block status tells holes and data', () => {
    const script = [
      'h.add_meta_context("base:allocation")',
      `h.connect_uri("${server.uri.replace('nbd+unix:///', 'nbd+unix:///small')}")`,
      'h.pwrite(b"x"*65536, 262144)',
      'found=[]',
      'h.block_status(1048576, 0, lambda c,o,e,err: found.extend(e))',
      'assert found[0] >= 65536 and found[1] == 3, found',
      'assert sum(found[0::2]) <= 1048576',
    ];
    sh('env', ['PATH=/usr/bin:/bin', 'nbdsh', ...script.flatMap((line) => ['-c', line])]);
  });

  itNeeds(
    ['nbdsh', 'python3'],
    'a client that vanishes with requests under way leaves the server serving, ten times in a row',
    async () => {
      const script = `import nbd,os
h=nbd.NBD(); h.connect_uri("${server.uri}")
for i in range(64): h.aio_pread(nbd.Buffer(1<<20), (i%31)<<20)
os._exit(0)
`;
      writeFileSync(file('vanish.py'), script);
      for (let round = 0; round < 10; round += 1) sh('env', ['PATH=/usr/bin:/bin', 'python3', 'vanish.py']);
      sh('env', ['PATH=/usr/bin:/bin', 'nbdsh', '-u', server.uri, '-c', 'h.pread(512,0)']);
      await vi.waitFor(
        async () => expect(await server.control('stats')).toMatchObject({ nbd: { connectionsOpen: 0 }, buffersLent: 0 }),
        10_000,
      );
    },
  );

  itNeeds(['nbdsh', 'python3'], 'a client that vanishes in the middle of a write leaves the server serving', async () => {
    const script = `import nbd,os
h=nbd.NBD(); h.connect_uri("${server.uri}")
for i in range(64): h.aio_pwrite(nbd.Buffer(1<<20), (i%31)<<20)
os._exit(0)
`;
    writeFileSync(file('vanish-write.py'), script);
    for (let round = 0; round < 3; round += 1) sh('env', ['PATH=/usr/bin:/bin', 'python3', 'vanish-write.py']);
    sh('env', ['PATH=/usr/bin:/bin', 'nbdsh', '-u', server.uri, '-c', 'h.pread(512,0)']);
    await vi.waitFor(
      async () => expect(await server.control('stats')).toMatchObject({ nbd: { connectionsOpen: 0 }, buffersLent: 0 }),
      10_000,
    );
  });

  it('still runs after all of that, and ends in order on SIGTERM with its table', async () => {
    expect(server.child.exitCode).toBeNull();
    expect(await server.stop()).toBe(0);
    expect(server.output()).toContain('requests on the ring');
  });
});
