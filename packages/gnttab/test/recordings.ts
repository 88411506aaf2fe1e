import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

const folder = new URL('./recordings/', import.meta.url);

/** Names of the recordings in the repository. */
export const recordings: readonly string[] = readdirSync(folder)
  .filter((name) => name.endsWith('.jsonl.gz'))
  .sort();

/** A recording's lines. */
export function linesOf(name: string): string[] {
  return gunzipSync(readFileSync(new URL(name, folder)))
    .toString('utf8')
    .trimEnd()
    .split('\n');
}

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
