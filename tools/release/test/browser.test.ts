import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { type BrowserContext, chromium } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bundleExample } from '../lib/browser-bundle.mjs';
import { root } from './fixture.ts';

const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
const binary = (process.env['PATH'] ?? '')
  .split(delimiter)
  .flatMap((folder) => names.map((name) => join(folder, name)))
  .find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
const packages = ['xen-abi', 'memslots', 'vmap', 'gnttab', 'event-bus', 'blkfront', 'hv-sim'];

describe('without a browser', () => {
  it.each(packages)('@paravirt/%s bundles for one, with nothing of Node in it', async (name) => {
    const { code, imports } = await bundleExample(root, `packages/${name}`);
    expect(code.length).toBeGreaterThan(0);
    expect(imports).toEqual([]);
  });

  it.runIf(process.env['CI'])('chromium is here to run them', () => {
    expect(binary, `one of ${names.join(', ')} on PATH`).toBeDefined();
  });
});

describe.skipIf(binary === undefined)(`in ${binary ?? 'chromium, which is not on PATH'}`, () => {
  let profile: string;
  let context: BrowserContext;
  beforeAll(async () => {
    profile = mkdtempSync(join(tmpdir(), 'paravirt-chromium-'));
    context = await chromium.launchPersistentContext(profile, {
      executablePath: binary as string,
      headless: true,
      timeout: 60_000,
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
  });
  afterAll(async () => {
    await context?.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  });

  it.each(packages)('runs the example of @paravirt/%s', async (name) => {
    const page = await context.newPage();
    const said: string[] = [];
    const errors: string[] = [];
    page.on('console', (message) => said.push(message.text()));
    page.on('pageerror', (error) => errors.push(error.stack ?? error.message));
    const { code } = await bundleExample(root, `packages/${name}`);
    // A module's own end is the only sign that it has run through, awaits and all.
    await page.addScriptTag({ type: 'module', content: `${code}\n;globalThis.exampleEnded = true;` });
    await page
      .waitForFunction('globalThis.exampleEnded === true', undefined, { timeout: 30_000 })
      .catch(() => errors.push('it does not end'));
    await page.close();
    expect(errors).toEqual([]);
    expect(said.length).toBeGreaterThan(0);
  });
});
