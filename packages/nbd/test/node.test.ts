import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createNbdServer, NbdError } from '../src/index.ts';
import { listen } from '../src/node.ts';
import { memoryTarget, option, request } from './client.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nbd-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function dial(path: string): Promise<Socket> {
  const socket = connect(path);
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  return socket;
}

describe('listening', () => {
  it('refuses a host that is not loopback', () => {
    const server = createNbdServer({ exports: [] });
    for (const host of ['0.0.0.0', '::', '192.0.2.1', 'example.org', '127.evil.example']) {
      expect(() => listen(server, { host, port: 0 }), host).toThrow(NbdError);
    }
  });

  it('serves on loopback TCP and on a Unix socket', async () => {
    const server = createNbdServer({ exports: [{ name: '', target: memoryTarget(4096) }] });
    const tcp = await listen(server, { host: '127.0.0.1', port: 0 });
    const unix = await listen(server, { path: join(folder, 's') });
    const socket = connect((tcp.address() as { port: number }).port, '127.0.0.1');
    const greeting = await new Promise<Buffer>((resolve) => socket.once('data', resolve));
    expect(greeting.toString('latin1', 0, 8)).toBe('NBDMAGIC');
    socket.destroy();
    tcp.close();
    unix.close();
  });

  it('survives a thousand connects, garbage, half-open connections and vanishing clients, and leaks no descriptor', async () => {
    const path = join(folder, 's');
    const server = createNbdServer({ exports: [{ name: '', target: memoryTarget(1 << 20) }], limits: { connections: 1000 } });
    const listener = await listen(server, { path });
    const descriptors = (): number => (existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd').length : 0);
    const before = descriptors();
    for (let round = 0; round < 1000; round += 1) {
      const socket = await dial(path);
      if (round % 4 === 1) socket.write(Buffer.alloc(100, round));
      if (round % 4 === 2)
        socket.write(Buffer.from([0, 0, 0, 3, ...option(7, [0, 0, 0, 0, 0, 0]), ...request({ type: 0, length: 1 << 19 })]));
      if (round % 4 === 3) socket.resume().end();
      else socket.destroy();
    }
    await expect.poll(() => server.counters.connectionsOpen, { timeout: 10_000 }).toBe(0);
    await expect.poll(descriptors, { timeout: 10_000 }).toBeLessThanOrEqual(before + 4);
    const alive = await dial(path);
    expect((await new Promise<Buffer>((resolve) => alive.once('data', resolve))).length).toBe(18);
    alive.destroy();
    listener.close();
  });
});
