import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { run, stopGroup } from './run.mjs';

/** The pipeline was pointed at something it must not publish to. */
export class RegistryError extends Error {
  /** @override */
  name = 'RegistryError';
}

/**
 * Refuses every registry that is not this machine's own: what is published there for a rehearsal can never be taken back.
 * @param {string} url
 * @returns {string} the address, with a slash at its end
 */
export function loopbackRegistry(url) {
  /** @type {URL} */
  let parsed;
  try {
    parsed = new URL(url);
  } catch {
    throw new RegistryError(`registry ${JSON.stringify(url)} is not an address`);
  }
  // URL has already turned 127.1, 0x7f000001 and the like into dotted decimals, and names such as 127.0.0.1.example stay names.
  const { hostname, protocol, username, password } = parsed;
  const loopback = hostname === 'localhost' || hostname === '[::1]' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(hostname);
  if (!loopback || (protocol !== 'http:' && protocol !== 'https:') || username !== '' || password !== '')
    throw new RegistryError(
      `registry ${JSON.stringify(url)} is not on loopback: a dry run publishes only to 127.0.0.0/8, [::1] or localhost`,
    );
  return parsed.href.endsWith('/') ? parsed.href : `${parsed.href}/`;
}

/** @returns {Promise<number>} */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

/** What the user's npm is set to: where packages that are not ours come from. @param {string} cwd */
async function npmSetting(cwd, /** @type {string} */ name) {
  const value = (await run('npm', ['config', 'get', name], { cwd, timeoutMs: 60_000 })).trim();
  return value === 'null' || value === 'undefined' || value === '' ? null : value;
}

/**
 * A registry on loopback with nothing in it. Packages under `scope` come from itself alone, all others from where npm is set to take them.
 * @param {{ folder: string, scope: string }} options folder: an empty one, for storage and settings
 * @returns {Promise<{ url: string, token: string, stop(): Promise<void> }>}
 */
export async function startRegistry({ folder, scope }) {
  mkdirSync(folder, { recursive: true });
  const upstream = await npmSetting(folder, 'registry');
  const ca = await npmSetting(folder, 'cafile');
  const strict = await npmSetting(folder, 'strict-ssl');
  const uplink = {
    url: upstream,
    maxage: '10m',
    timeout: '60s',
    max_fails: 10,
    ...(strict === 'false' ? { strict_ssl: false } : {}),
  };
  const config = join(folder, 'config.yaml');
  // JSON is YAML.
  writeFileSync(
    config,
    JSON.stringify({
      storage: join(folder, 'storage'),
      auth: { htpasswd: { file: join(folder, 'htpasswd'), max_users: 10 } },
      uplinks: { upstream: uplink },
      packages: {
        [`${scope}/*`]: { access: '$all', publish: '$authenticated' },
        '**': { access: '$all', proxy: 'upstream' },
      },
      web: { enable: false },
      max_body_size: '100mb',
      log: { type: 'stdout', format: 'json', level: 'warn' },
    }),
  );
  const binary = createRequire(import.meta.url).resolve('verdaccio/bin/verdaccio');
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    const url = loopbackRegistry(`http://127.0.0.1:${port}/`);
    const child = spawn(process.execPath, [binary, '--config', config, '--listen', `127.0.0.1:${port}`], {
      cwd: folder,
      // Not as the uplink's `ca`, which would take the place of the authorities that Node knows.
      env: { ...process.env, ...(ca === null ? {} : { NODE_EXTRA_CA_CERTS: ca }) },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    const hear = (/** @type {Buffer} */ text) => {
      said = (said + text.toString()).slice(-4_000);
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    const ended = new Promise((resolve) => child.once('exit', resolve));
    const stop = async () => {
      process.removeListener('exit', kill);
      stopGroup(child);
      await ended;
    };
    const kill = () => stopGroup(child);
    process.once('exit', kill);
    try {
      await answers(url, child);
      return { url, token: await addUser(url), stop };
    } catch (error) {
      await stop();
      // Another program may take the port between our looking and verdaccio's listening.
      if (attempt < 3 && /EADDRINUSE/.test(said)) continue;
      throw new RegistryError(`the registry on loopback does not start: ${error instanceof Error ? error.message : error}\n${said}`);
    }
  }
}

/** @param {string} url @param {import('node:child_process').ChildProcess} child */
async function answers(url, child) {
  const until = Date.now() + 60_000;
  while (Date.now() < until) {
    if (child.exitCode !== null) throw new Error(`verdaccio ended with ${child.exitCode}`);
    try {
      const response = await fetch(`${url}-/ping`, { signal: AbortSignal.timeout(5_000) });
      if (response.ok) return;
    } catch {
      // not yet
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('verdaccio does not answer within 60 s');
}

/** @param {string} url @returns {Promise<string>} a token that may publish */
export async function addUser(url) {
  const response = await fetch(`${url}-/user/org.couchdb.user:ci`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'ci', password: `rehearsal-${process.pid}-${Date.now()}` }),
    signal: AbortSignal.timeout(30_000),
  });
  const { token } = /** @type {{ token?: string }} */ (await response.json());
  if (!response.ok || token === undefined) throw new Error(`no token: ${response.status}`);
  return token;
}
