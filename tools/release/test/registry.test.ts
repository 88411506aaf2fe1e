import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loopbackRegistry, RegistryError, startRegistry } from '../lib/registry.mjs';

describe('what counts as loopback', () => {
  it.each([
    'http://127.0.0.1:4873/',
    'http://127.8.9.10/',
    'http://localhost:1',
    'http://[::1]:4873',
    'http://127.1:80',
    'https://0x7f000001/',
  ])('takes %s', (url) => {
    expect(loopbackRegistry(url)).toMatch(/\/$/);
  });

  it.each([
    'https://registry.example/',
    'http://127.0.0.1.example/',
    'http://localhost.example/',
    'http://10.0.0.1:4873/',
    'http://0.0.0.0:4873/',
    'http://[::]:4873/',
    'http://[::ffff:10.0.0.1]/',
    'http://user:password@127.0.0.1/',
    'http://127.0.0.1@registry.example/',
    'file:///tmp',
    'registry',
    '',
  ])('refuses %j', (url) => {
    expect(() => loopbackRegistry(url)).toThrow(RegistryError);
  });
});

describe('a registry for a rehearsal', () => {
  let folder: string;
  let upstream: Server;
  const asked: string[] = [];
  const before = process.env['npm_config_registry'];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'paravirt-registry-'));
    upstream = createServer((request, response) => {
      asked.push(request.url ?? '');
      response.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"not here"}');
    });
    await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
    process.env['npm_config_registry'] = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}/`;
  });

  afterAll(async () => {
    if (before === undefined) delete process.env['npm_config_registry'];
    else process.env['npm_config_registry'] = before;
    await new Promise((resolve) => upstream.close(resolve));
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  it('stands beside another on a port of its own, asks the configured upstream for others and nobody for ours', async () => {
    const [first, second] = await Promise.all(['a', 'b'].map((name) => startRegistry({ folder: join(folder, name), scope: '@paravirt' })));
    try {
      expect(first!.url).not.toBe(second!.url);
      expect(first!.token).not.toBe('');
      const status = async (name: string) => (await fetch(first!.url + name, { signal: AbortSignal.timeout(20_000) })).status;
      expect(await status('@paravirt%2fxen-abi')).toBe(404);
      expect(asked).toEqual([]);
      expect(await status('some-package')).toBe(404);
      expect(asked).toEqual(['/some-package']);
    } finally {
      await Promise.all([first!.stop(), second!.stop()]);
    }
    await expect(fetch(`${first!.url}-/ping`, { signal: AbortSignal.timeout(20_000) })).rejects.toThrow();
  });
});
