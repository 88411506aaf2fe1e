import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createNbdServer, NbdError } from '../src/index.ts';
import { listen, SOCKET_PATH_BYTES_MAX, serveSocket } from '../src/node.ts';
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

  it('refuses a path that is too long for a socket, and takes the longest that is not', async () => {
    const server = createNbdServer({ exports: [] });
    const longest = join(folder, 'x'.repeat(SOCKET_PATH_BYTES_MAX - folder.length - 1));
    const listener = await listen(server, { path: longest });
    expect(existsSync(longest)).toBe(true);
    await new Promise((resolve) => listener.close(resolve));
    for (const path of [`${longest}x`, `${longest.slice(0, -1)}é`]) {
      expect(() => listen(server, { path })).toThrow(`has ${SOCKET_PATH_BYTES_MAX + 1} bytes`);
    }
    expect(readdirSync(folder)).toEqual([]);
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

/** The handshake by GO with simple replies, and the length of the greeting and the answers to it. */
const hello = [0, 0, 0, 3, ...option(7, [0, 0, 0, 0, 0, 0])];
const HELLO_BYTES = 18 + (20 + 12) + 20;

async function receive(socket: Socket, bytes: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let have = 0;
  while (have < bytes) {
    const part = await new Promise<Buffer>((resolve) => socket.once('data', resolve));
    parts.push(part);
    have += part.length;
  }
  socket.pause();
  return Buffer.concat(parts);
}

describe('what was received', () => {
  it.each([[false], [true]])('stays as it was until the target has written it (answers later: %s)', async (later) => {
    const path = join(folder, 's');
    const target = memoryTarget(1 << 20, { later });
    const server = createNbdServer({ exports: [{ name: '', target }] });
    const listener = await listen(server, { path });
    const socket = await dial(path);
    socket.write(Buffer.from(hello));
    const writes = 40;
    for (let at = 0; at < writes; at += 1) {
      socket.write(
        Buffer.from([...request({ type: 1, offset: at * 4096, length: 4096, handle: at }), ...new Uint8Array(4096).fill(at + 1)]),
      );
      // One by one, so that each is a read of its own into memory that might be used again.
      await expect.poll(() => server.counters.writes, { interval: 1 }).toBe(at + 1);
    }
    if (later) target.settle();
    for (let at = 0; at < writes; at += 1) {
      expect(
        target.bytes.subarray(at * 4096, (at + 1) * 4096).every((byte) => byte === at + 1),
        `write ${at}`,
      ).toBe(true);
    }
    socket.destroy();
    listener.close();
  });

  it('may end in the middle of anything while the server is told to leave', async () => {
    const path = join(folder, 's');
    const target = memoryTarget(1 << 20, { later: true });
    const server = createNbdServer({ exports: [{ name: '', target }] });
    const listener = await listen(server, { path });
    const socket = await dial(path);
    socket.resume();
    socket.write(Buffer.from([...hello, ...request({ type: 1, length: 4096 }), ...new Uint8Array(4096).fill(7)]));
    await expect.poll(() => server.counters.writes).toBe(1);
    server.close();
    for (let round = 0; round < 20; round += 1) socket.write(Buffer.alloc(4096, 9));
    await new Promise((resolve) => setImmediate(resolve));
    target.settle();
    await new Promise((resolve) => socket.once('close', resolve));
    expect(target.bytes.subarray(0, 4096).every((byte) => byte === 7)).toBe(true);
    await new Promise((resolve) => listener.close(resolve));
  });
});

describe('a listener', () => {
  it('has closed when its last client is gone', async () => {
    const path = join(folder, 's');
    const server = createNbdServer({ exports: [{ name: '', target: memoryTarget(1 << 20) }] });
    const listener = await listen(server, { path });
    const sockets = [await dial(path), await dial(path)];
    for (const socket of sockets) await receive(socket, 18);
    let closed = false;
    listener.close(() => {
      closed = true;
    });
    sockets[0]?.destroy();
    await expect.poll(() => server.counters.connectionsOpen).toBe(1);
    expect(closed).toBe(false);
    sockets[1]?.destroy();
    await expect.poll(() => closed).toBe(true);
  });

  it('serves all the same where Node lends no buffer to a socket', async () => {
    const path = join(folder, 's');
    const server = createNbdServer({ exports: [{ name: '', target: memoryTarget(1 << 20) }] });
    const listener = await listen(server, { path });
    const socket = await dial(path);
    type Handle = { useUserBuffer?: unknown };
    let kind = (socket as unknown as { _handle: Handle })._handle;
    while (!Object.hasOwn(kind, 'useUserBuffer')) kind = Object.getPrototypeOf(kind) as Handle;
    const { useUserBuffer } = kind;
    delete kind.useUserBuffer;
    try {
      // A listener accepts in a later turn than the client connects.
      await receive(socket, 18);
      const plain = await dial(path);
      plain.write(Buffer.from([...hello, ...request({ type: 0, length: 512, handle: 5 })]));
      const answer = await receive(plain, HELLO_BYTES + 16 + 512);
      expect(answer.readBigUInt64BE(HELLO_BYTES + 8)).toBe(5n);
      plain.destroy();
    } finally {
      kind.useUserBuffer = useUserBuffer;
    }
    socket.destroy();
    await new Promise((resolve) => listener.close(resolve));
  });

  it('serves sockets of others as its own', async () => {
    const path = join(folder, 's');
    const server = createNbdServer({ exports: [{ name: '', target: memoryTarget(1 << 20) }] });
    const listener = createServer((socket) => serveSocket(server, socket));
    await new Promise<void>((resolve) => listener.listen(path, resolve));
    const socket = await dial(path);
    socket.write(Buffer.from([...hello, ...request({ type: 0, length: 512, handle: 5 })]));
    const answer = await receive(socket, HELLO_BYTES + 16 + 512);
    expect(answer.readUInt32BE(HELLO_BYTES)).toBe(0x67446698);
    expect(answer.readBigUInt64BE(HELLO_BYTES + 8)).toBe(5n);
    socket.destroy();
    await new Promise((resolve) => listener.close(resolve));
  });
});
