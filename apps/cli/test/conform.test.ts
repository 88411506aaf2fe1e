import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { hvsim, scratch } from './cli.ts';

const folder = scratch();
const recordings = (name: string): string => fileURLToPath(new URL(`../../../packages/${name}/test/recordings`, import.meta.url));
const small = (): string => gunzipSync(readFileSync(join(recordings('gnttab'), '01-small-lists.jsonl.gz'))).toString();

describe('hvsim conform', () => {
  it.each([
    ['xen-abi', 10],
    ['gnttab', 15],
    ['memslots', 17],
    ['vmap', 15],
  ])('finds no difference in any recording of %s', (name, files) => {
    const { status, stdout } = hvsim(['conform', recordings(name)]);
    expect(stdout.trimEnd().split('\n').at(-1)).toBe(`${files} passed, 0 failed`);
    expect(status).toBe(0);
  });

  it('names the first line that differs, what was expected and what came, and exits with 1', () => {
    const lines = small().split('\n');
    lines[2] = (lines[2] as string).replace('"free":503', '"free":502');
    writeFileSync(join(folder, 'changed.jsonl'), lines.join('\n'));
    const { status, stdout } = hvsim(['conform', join(folder, 'changed.jsonl')]);
    expect(status).toBe(1);
    expect(stdout).toMatch(/changed\.jsonl .* line 3: expected .*502.*, actual .*503/);
    expect(stdout).toMatch(/\n0 passed, 1 failed\n$/);
  });

  it('reads packed and plain files, walks folders, and passes other files over', () => {
    const tree = join(folder, 'tree', 'deep');
    mkdirSync(tree, { recursive: true });
    writeFileSync(join(tree, 'a.jsonl'), small());
    writeFileSync(join(tree, 'b.jsonl.gz'), gzipSync(small()));
    writeFileSync(join(tree, 'README.md'), 'not a recording');
    const { status, stdout } = hvsim(['conform', '--json', join(folder, 'tree')]);
    expect(status).toBe(0);
    const { passed, files } = JSON.parse(stdout);
    expect([passed, files.length]).toEqual([2, 2]);
    expect(files[0]).toMatchObject({ subsystem: 'gnttab', operations: 614, difference: null });
  });

  it.each([
    ['no such file', 'none.jsonl', undefined],
    ['no header', 'text.jsonl', 'hello\n'],
    ['an empty file', 'empty.jsonl', ''],
    ['a format that is not known', 'format.jsonl', '{"format":"hv-trace/9","subsystem":"ring"}\n'],
    ['a subsystem without a replayer', 'sub.jsonl', '{"format":"hv-trace/1","subsystem":"toaster"}\n'],
    ['a line that is no JSON', 'line.jsonl', '{"format":"hv-trace/1","subsystem":"abi","config":{}}\n{oops\n'],
    ['a packed file that is cut off', 'cut.jsonl.gz', gzipSync('x'.repeat(10_000)).subarray(0, 20)],
    ['a binary', 'binary.jsonl', new Uint8Array([0x7f, 0x45, 0x4c, 0x46, 0xff, 0xfe, 0])],
    ['packed bytes that are damaged', 'damaged.jsonl.gz', gzipSync('x'.repeat(10_000)).fill(0, 10)],
  ])('exits with 2 and one clear line on %s', (_, name, content) => {
    if (content !== undefined) writeFileSync(join(folder, name), content);
    const { status, stderr } = hvsim(['conform', join(folder, name)]);
    expect(status).toBe(2);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    expect(stderr).toContain(name);
    // Names of errors are for programs.
    expect(stderr).not.toMatch(/\b(?:E[A-Z]{3,}|ERR_\w+|Z_\w+)\b/);
  });

  it('exits with 2 on a folder without recordings', () => {
    mkdirSync(join(folder, 'none'), { recursive: true });
    expect(hvsim(['conform', join(folder, 'none')])).toMatchObject({ status: 2, stdout: '' });
  });
});
