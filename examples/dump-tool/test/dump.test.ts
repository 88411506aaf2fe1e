import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { GTF, pagesOfBytes, writeGrantV2FullPage } from '@paravirt/xen-abi';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { run } from '../dump.mjs';

const capture = (name: string): string => fileURLToPath(new URL(`../capture/${name}.bin.gz`, import.meta.url));
const GRANTS = capture('grant-frame-0');
const RING = capture('ring');
const bytesOf = (file: string): Uint8Array => new Uint8Array(gunzipSync(readFileSync(file)));

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dump-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A file with these bytes. */
const put = (name: string, bytes: Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
};

describe('the dump tool', () => {
  it('reads what a guest with requests in flight has granted and asked for', () => {
    const lines = run(['--grants', GRANTS, '--ring', RING]).split('\n');
    expect(lines[0]).toBe('grant table: 328 of 512 references granted');
    expect(lines).toContain('  120-144   to domain 0, read/write, reading and writing now, frame 0x625a4 0x625a3 0x625a2 ...');
    expect(lines).toContain('ring: 32 slots, req_prod 310, req_event 311, rsp_prod 292, rsp_event 293');
    expect(lines).toContain('  18 requests unanswered, 1 of them hidden under a response');
    expect(lines).toContain('  297 in slot 9: write (indirect) id 7, sector 14336, 32 segments, references 214');
    expect(lines).toContain('  296 in slot 8: write (indirect) id 8, sector 10240, 32 segments, references 181; answered since');
    expect(lines.filter((line) => line.includes('answer to id'))).toHaveLength(14);
    expect(lines.filter((line) => line.includes('NOT GRANTED'))).toEqual([]);
  });

  it('says which references a request names that are not granted', () => {
    const frame = bytesOf(GRANTS);
    frame.fill(0, 20 * 8, 21 * 8);
    const lines = run(['--grants', put('frame', frame), '--ring', RING]).split('\n');
    expect(lines[0]).toBe('grant table: 327 of 512 references granted');
    expect(lines.filter((line) => line.includes('NOT GRANTED'))).toEqual([
      '  294 in slot 6: read id 2, sector 16400, 1 segments, references 20; NOT GRANTED: 20',
    ]);
  });

  it('reads a ring whose index cannot be, and says so', () => {
    const ring = bytesOf(RING);
    new DataView(ring.buffer).setUint32(0, 0xffff_0000, true);
    expect(run(['--grants', GRANTS, '--ring', put('ring', ring)])).toMatch(/4294901468 requests unanswered: more than there are slots/);
  });

  it('reads frames of version 2, in order', () => {
    const bytes = new Uint8Array(2 * 4096);
    const { views } = pagesOfBytes(bytes)[0]!;
    writeGrantV2FullPage(views, 300 * 16, GTF.permit_access | GTF.readonly, 3, 0x12_3456_7890);
    const halves = [put('first', bytes.slice(0, 4096)), put('second', bytes.slice(4096))];
    expect(run(['--version', '2', ...halves.flatMap((file) => ['--grants', file])])).toBe(
      'grant table: 1 of 512 references granted\n  300       to domain 3, read only, frame 0x1234567890',
    );
  });

  it('names a file that is no dump, and says how it is used', () => {
    expect(() => run(['--grants', put('short', new Uint8Array(100))])).toThrow(/short has 100 bytes: not whole pages of 4096/);
    expect(() => run([])).toThrow(/^usage: /);
    expect(() => run(['--grants', GRANTS, '--abi', 'vax'])).toThrow(/^usage: /);
  });
});
