import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { run } from '@stricli/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { app } from '../../src/app.ts';
import { decodeCapture } from '../../src/decode/decode.ts';
import { CliError } from '../../src/errors.ts';
import { captureFiles, changedCaptures, folderOf } from './capture-folder.ts';
import { syntheticGuest } from './synthetic.ts';

const IDLE = 'b-v1-idle';
const BUSY = 'd-v1-nonpersistent/inflight';
const copyOf = (path: string): Uint8Array => captureFiles.get(path)!.slice();
const textOf = (path: string): string => new TextDecoder().decode(captureFiles.get(path));

function withU32(path: string, at: number, value: number): Record<string, Uint8Array> {
  const bytes = copyOf(path);
  new DataView(bytes.buffer).setUint32(at, value, true);
  return { [path]: bytes };
}

const problemsOf = (changes: Record<string, Uint8Array | string | undefined>): string[] =>
  decodeCapture(changedCaptures(changes)).problems.map(({ capture, file, kind, message }) => `${kind} ${capture}/${file}: ${message}`);

async function hvsim(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const context = {
    process: {
      stdout: { write: (text: string) => (out += text) },
      stderr: { write: (text: string) => (err += text) },
      env: {},
      exitCode: null as number | string | null,
    },
  };
  await run(app, args, context as never);
  return { code: Number(context.process.exitCode), out, err };
}

describe('what does not fit together', () => {
  it('is told of a request that names a reference which is not granted to the backend', () => {
    const revoked = withU32(`${BUSY}/grant-frame-0.bin`, 333 * 8, 0);
    expect(problemsOf(revoked)).toContain(
      `reference ${BUSY}/ring.bin: request 308 (write, id 17) names reference 333, which is not granted to domain 0: its flags are 0x0`,
    );
    const other = withU32(`${BUSY}/grant-frame-0.bin`, 333 * 8, 0x0005_0009);
    expect(problemsOf(other).join('\n')).toContain('names reference 333, which is not granted to domain 0: it grants to domain 5');
    const outside = withU32(`${BUSY}/ring.bin`, 64 + 20 * 112 + 24, 70_000);
    expect(problemsOf(outside)).toEqual([
      `reference ${BUSY}/ring.bin: request 308 (write, id 17) names reference 70000: the table captured has references 0 to 511`,
    ]);
  });

  it('is not told of a request that was answered already', () => {
    // Request 296, in slot 8, is superseded: its page of segments belongs to another request by now.
    expect(problemsOf(withU32(`${BUSY}/ring.bin`, 64 + 8 * 112 + 28, 77_777))).toEqual([]);
  });

  it('is told of impossible indices, once, and nothing behind them is believed', () => {
    expect(problemsOf(withU32(`${BUSY}/ring.bin`, 0, 400))).toEqual([
      `index ${BUSY}/ring.bin: impossible indices: requests up to 400, responses up to 292: 108 requests unanswered; the ring has 32 slots`,
    ]);
    expect(problemsOf(withU32(`${IDLE}/ring.bin`, 8, 13)).join()).toContain(
      'requests up to 12, responses up to 13: 1 responses more than requests',
    );
    expect(problemsOf(withU32(`${IDLE}/ring.bin`, 4, 5000)).join()).toContain('request event index 5000 is 4988 past the producer 12');
    expect(problemsOf(withU32(`${IDLE}/xenstore-ring.bin`, 2052, 9000)).join()).toContain(
      'requests: 6080 bytes unread between 2920 and 9000',
    );
  });

  it('is told of a ring reference whose frame is not the ring', () => {
    const listing = `${IDLE}/xenstore-ls.txt`;
    const named = (ref: string): string[] => problemsOf({ [listing]: textOf(listing).replace('ring-ref = "8"', `ring-ref = "${ref}"`) });
    expect(named('9').join()).toContain(`ring-ref ${IDLE}/ring.bin: ring reference 9 was named as data by request`);
    expect(named('300').join()).toContain('ring reference 300 is not granted to domain 0');
    expect(named('600').join()).toContain('ring reference 600 is not in the table captured (0 to 511)');
    const moved = problemsOf(withU32(`${IDLE}/grant-frame-0.bin`, 8 * 8 + 4, 0x1234));
    expect(moved).toContain(`ring-ref ${IDLE}/ring.bin: ring reference 8 names frame 0x1234; the ring that is mapped is frame 0x6d59f`);
    expect(moved).toContain(`hypervisor ${IDLE}/gnttab-debugkey.txt: entry 8 has frame 0x1234, the dump has 0x6d59f`);
    const store = problemsOf({ [listing]: textOf(listing).replace('store/ring-ref = "513537"', 'store/ring-ref = "513530"') });
    expect(store).toEqual([`ring-ref ${IDLE}/xenstore-ls.txt: store/ring-ref is frame 0x7d5fa, entry 1 grants 0x7d601`]);
  });

  it('is told of requests whose fields mean nothing', () => {
    const slot = 64 + 20 * 112;
    const found = (at: number, value: number): string => problemsOf(withU32(`${BUSY}/ring.bin`, slot + at, value)).join('\n');
    expect(found(0, 0xca00_ff01)).toContain('request 308 (write, id 17) claims 255 segments; 11 fit');
    expect(found(0, 0xca00_0109)).toContain('request 308 (unknown_9, id 17) has operation 9, which is none');
    expect(found(0, 0x1234_0101)).toContain('has handle 4660; the device is 51712');
    expect(found(28, 0x0107)).toContain('has sectors 7 to 1 of reference 333; a page has 0 to 7');
    expect(found(16, 0x7fff_ffff)).toContain('reaches sector 2147483649; the disk has 262144');
  });

  it('is told of ends that contradict each other in the store', () => {
    const listing = `${IDLE}/xenstore-ls.txt`;
    const changed = (from: string, to: string): string => problemsOf({ [listing]: textOf(listing).replace(from, to) }).join('\n');
    expect(changed('51712/frontend-id = "6"', '51712/frontend-id = "7"')).toContain("device 51712: the backend's frontend-id is 7, not 6");
    expect(changed('0/backend/vbd/6/51712/state = "4"', '0/backend/vbd/6/51712/state = "2"')).toContain(
      'the frontend is connected, the backend InitWait',
    );
    expect(changed('x86_64-abi', 'vax-abi')).toContain('protocol is "vax-abi"');
    expect(changed('51712/online = "1"', '51712/online = 1')).toContain('1 lines are no nodes of the store, the first is line');
  });
});

describe('files that cannot be read', () => {
  it('are named with what they should be, and the rest is decoded', async () => {
    const folder = changedCaptures({
      [`${BUSY}/ring.bin`]: copyOf(`${BUSY}/ring.bin`).slice(0, 1000),
      [`${IDLE}/gnttab-debugkey.txt`]: 'nothing of the kind\n',
      [`${IDLE}/handshake-boot.trace.txt`]: '',
    });
    const { code, out, err } = await hvsim('decode', folder);
    expect(code).toBe(2);
    expect(err.split('\n').filter(Boolean)).toEqual([
      `hvsim: ${IDLE}/gnttab-debugkey.txt: no grant table in it: not the hypervisor's dump`,
      `hvsim: ${IDLE}/handshake-boot.trace.txt: no line is a store message: empty`,
      `hvsim: ${BUSY}/ring.bin: 1000 bytes; a ring has a multiple of 4096, up to 65536`,
    ]);
    expect(out).toContain('grant table, version 1: 328 entries');
  });

  it('that were swapped are seen by what is in them', () => {
    const ring = `${BUSY}/ring.bin`;
    const frame = `${BUSY}/grant-frame-0.bin`;
    const kinds = new Set(problemsOf({ [ring]: copyOf(frame), [frame]: copyOf(ring) }).map((line) => line.split(' ')[0]));
    expect(kinds).toContain('index');
    expect(kinds).toContain('hypervisor');
  });

  it('that are folders, pipes or dangling links are named, and nothing waits for a pipe', () => {
    const folder = folderOf([['a/ring.bin', copyOf(`${IDLE}/ring.bin`)]]);
    mkdirSync(join(folder, 'a/grant-frame-1.bin'));
    symlinkSync(join(folder, 'nowhere'), join(folder, 'a/xenstore-ls.txt'));
    let piped = true;
    try {
      execFileSync('mkfifo', [join(folder, 'a/grant-frame-0.bin')]);
    } catch {
      piped = false;
    }
    const lines = decodeCapture(folder).problems.map(({ file, message }) => `${file}: ${message}`);
    expect(lines).toContain('xenstore-ls.txt: no such file or directory');
    if (piped) expect(lines).toContain('grant-frame-0.bin: not a plain file');
  });

  it('end a command with one line and exit code 2 when the folder is none or holds no capture', async () => {
    const empty = folderOf([['notes.txt', 'x']]);
    for (const dir of [join(empty, 'missing'), join(empty, 'notes.txt'), empty]) {
      expect(() => decodeCapture(dir)).toThrow(CliError);
      const { code, out, err } = await hvsim('decode', dir);
      expect([code, out, err.trimEnd().split('\n')]).toEqual([2, '', [expect.stringContaining(`hvsim: ${dir}: `)]]);
    }
  });

  it('do not make a list without end', () => {
    const noise = new Uint8Array(4096).map((_, i) => (i * 2654435761) >>> 13);
    const found = problemsOf({ [`${IDLE}/grant-frame-0.bin`]: noise });
    expect(found.length).toBeLessThan(80);
    expect(found.some((line) => /and \d+ more of this kind/.test(line))).toBe(true);
  });

  /**
   * Goal: no bytes make the reader fail or wait. Method: truncate, swap, flip or replace files of a live and a built capture.
   */
  it('of any bytes give lines, never an exception', { timeout: 600_000 }, () => {
    const synthetic = [...syntheticGuest().files].map(([name, content]): [string, Uint8Array] => [
      `s/${name}`,
      typeof content === 'string' ? new TextEncoder().encode(content) : content,
    ]);
    const all = new Map([...captureFiles].filter(([path]) => path !== 'expected.json').concat(synthetic));
    const paths = [...all.keys()];
    const path = fc.constantFrom(...paths);
    const change = fc.oneof(
      fc.record({ kind: fc.constant('cut' as const), path, share: fc.double({ min: 0, max: 1, noNaN: true }) }),
      fc.record({ kind: fc.constant('swap' as const), path, other: path }),
      fc.record({ kind: fc.constant('noise' as const), path, seed: fc.nat(), length: fc.constantFrom(0, 7, 4096, 8192, 65536) }),
      fc.record({
        kind: fc.constant('flip' as const),
        path,
        places: fc.array(fc.nat(), { minLength: 1, maxLength: 40 }),
        value: fc.nat({ max: 255 }),
      }),
      fc.record({ kind: fc.constant('drop' as const), path }),
    );
    const runs = process.env['PARAVIRT_FULL'] ? 1000 : 30;
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), (changes) => {
        const files = new Map(all);
        for (const one of changes) {
          const bytes = files.get(one.path) ?? new Uint8Array();
          if (one.kind === 'cut') files.set(one.path, bytes.slice(0, Math.floor(bytes.length * one.share)));
          else if (one.kind === 'swap') {
            files.set(one.path, files.get(one.other) ?? new Uint8Array());
            files.set(one.other, bytes);
          } else if (one.kind === 'noise')
            files.set(
              one.path,
              new Uint8Array(one.length).map((_, i) => Math.imul(i + one.seed, 0x9e3779b1) >>> 24),
            );
          else if (one.kind === 'drop') files.delete(one.path);
          else {
            const copy = bytes.slice();
            for (const place of one.places) if (copy.length > 0) copy[place % copy.length] = one.value;
            files.set(one.path, copy);
          }
        }
        const report = decodeCapture(folderOf(files));
        expect(report.problems.length).toBeLessThan(2000);
        JSON.stringify(report);
      }),
      { numRuns: runs },
    );
  });
});

describe('the command', () => {
  it('prints tables and a timeline, and ends with a verdict', async () => {
    const { code, out, err } = await hvsim('decode', changedCaptures({}));
    expect([code, err]).toEqual([0, '']);
    for (const line of [
      '== b-v1-idle: guest d6, backend d0 ==',
      'ring ring.bin: device 51712 queue 0, 32 slots, references 8 (frame 0x6338c)',
      'hidden: request 291 (id 9) lies in slot 3 under a response: sector 8000, references 178 210..202',
      '... 288 more; --all or --json has every one',
      '09:02:14  frontend',
      'everything fits together',
    ]) {
      expect(out).toContain(line);
    }
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(out).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/);
  });

  it('prints every row with --all and one JSON object with --json', async () => {
    const folder = changedCaptures({});
    expect((await hvsim('decode', '--all', folder)).out).not.toContain('more; --all');
    const { out, code } = await hvsim('decode', '--json', folder);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toEqual(JSON.parse(JSON.stringify(decodeCapture(folder))));
  });

  it('exits with 1 when something does not fit, and lets nothing of a dump command the terminal', async () => {
    const listing = `${IDLE}/xenstore-ls.txt`;
    const folder = changedCaptures({
      [listing]: textOf(listing).replace('state = "4"', 'state = "\u001b[2J"').replace('dev = "xvda"', 'dev = "\u001b]0;x\u0007"'),
    });
    const { code, out, err } = await hvsim('decode', folder);
    expect(code).toBe(1);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(out + err).not.toMatch(/[\u0007\u001b]/);
  });
});

describe('files that are packed', () => {
  it('are read as those that are not', () => {
    const packed = fileURLToPath(new URL('./captures', import.meta.url));
    expect(decodeCapture(packed)).toEqual(decodeCapture(folderOf(captureFiles)));
  });

  it('are named as they lie there when something is wrong with them', () => {
    const ring = gzipSync(copyOf(`${IDLE}/ring.bin`));
    const changes = {
      [`${IDLE}/ring.bin`]: undefined,
      [`${IDLE}/ring.bin.gz`]: ring.subarray(0, 20),
      [`${IDLE}/grant-frame-0.bin`]: undefined,
      [`${IDLE}/grant-frame-0.bin.gz`]: gzipSync(new Uint8Array(1 << 20)),
      [`${BUSY}/grant-frame-0.bin`]: undefined,
      [`${BUSY}/grant-frame-0.bin.gz`]: gzipSync(copyOf(`${BUSY}/grant-frame-0.bin`).subarray(1)),
    };
    expect(problemsOf(changes).filter((line) => line.includes('.gz: '))).toEqual([
      `unreadable ${IDLE}/grant-frame-0.bin.gz: more than 4096 bytes; a grant frame has 4096`,
      `unreadable ${IDLE}/ring.bin.gz: the gzip data ends too early`,
      `unreadable ${BUSY}/grant-frame-0.bin.gz: 4095 bytes; a grant frame has 4096`,
    ]);
  });

  it('are passed over where the same file lies there as it is', () => {
    expect(problemsOf({ [`${IDLE}/ring.bin.gz`]: 'no gzip data' })).toEqual([]);
  });
});
