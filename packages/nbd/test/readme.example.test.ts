import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import * as nbd from '../src/index.ts';
import * as node from '../src/node.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

it('runs the example of the README as it stands', async () => {
  const example = /```js\n([\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8'))?.[1] as string;
  const folder = mkdtempSync(join(tmpdir(), 'nbd-readme-'));
  const log: string[] = [];
  const body = example.replace(
    /^import \{([^}]*)\} from '([^']*)';$/gm,
    (_, names: string, from: string) => `const {${names}} = modules['${from}'];`,
  );
  const modules = { '@paravirt/nbd': nbd, '@paravirt/nbd/node': node, 'node:fs': await import('node:fs') };
  const AsyncFunction = (async () => {}).constructor as new (...names: string[]) => (...values: unknown[]) => Promise<void>;
  try {
    await new AsyncFunction('modules', 'console', body.replace("'disk.sock'", JSON.stringify(join(folder, 'disk.sock'))))(modules, {
      log: (line: string) => log.push(line),
    });
    await expect.poll(() => log.length).toBe(2);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  expect(log).toEqual(['nbdinfo "nbd+unix:///?socket=disk.sock"', '0 reads']);
});
