import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { onTestFinished } from 'vitest';

const packed = new URL('./captures/', import.meta.url);

/** Files of the live captures by their path below the folder of captures. */
export const captureFiles: ReadonlyMap<string, Uint8Array> = new Map(
  readdirSync(packed, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.gz'))
    .sort()
    .map((path) => [path.slice(0, -3).replaceAll('\\', '/'), new Uint8Array(gunzipSync(readFileSync(new URL(path, packed))))]),
);

/** Writes files into a fresh folder that goes when the test ends; text or bytes by path. */
export function folderOf(files: Iterable<readonly [path: string, content: Uint8Array | string]>): string {
  const folder = mkdtempSync(join(tmpdir(), 'decode-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  for (const [path, content] of files) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
  return folder;
}

/** The live captures, some files changed or (undefined) left out. */
export function changedCaptures(changes: Record<string, Uint8Array | string | undefined>): string {
  const files = new Map<string, Uint8Array | string>([...captureFiles].filter(([path]) => path !== 'expected.json'));
  for (const [path, content] of Object.entries(changes)) {
    if (content === undefined) files.delete(path);
    else files.set(path, content);
  }
  return folderOf(files);
}
