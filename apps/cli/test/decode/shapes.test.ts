import { describe, expect, it } from 'vitest';
import { decodeCapture } from '../../src/decode/decode.ts';
import type { CaptureReport, DecodeReport } from '../../src/decode/types.ts';
import { folderOf } from './capture-folder.ts';
import { type Files, syntheticGuest } from './synthetic.ts';

function decodeFiles(files: Iterable<readonly [string, Uint8Array | string]>): DecodeReport & { only: CaptureReport } {
  const report = decodeCapture(folderOf(files));
  return { ...report, only: Object.values(report.captures)[0]! };
}

describe('a guest with a version 2 table, two disks, two queues each and two pages a ring', () => {
  const { files, hidden, refs } = syntheticGuest();

  it('decodes whole and fits together', () => {
    const { only, problems } = decodeFiles(files);
    expect(problems).toEqual([]);
    expect(only).toMatchObject({ domid: 9, backendDomid: 0, grantTableVersion: 2 });
    expect(only.grantFrames).toEqual([{ file: 'grant-frame-0.bin' }, { file: 'grant-frame-1.bin' }, { file: 'grant-frame-2.bin' }]);
    expect(only.statusFrames).toEqual([{ file: 'status-frame-0.bin' }]);
    expect(only.rings.map(({ file, vbd, queue, slots }) => [file, vbd, queue, slots])).toEqual([
      ['vbd-51712-queue-0.bin', 51712, 0, 64],
      ['vbd-51712-queue-1.bin', 51712, 1, 64],
      ['vbd-51728-queue-0.bin', 51728, 0, 64],
      ['vbd-51728-queue-1.bin', 51728, 1, 64],
    ]);
    expect(only.rings[0]!.refs).toEqual(refs.ring);
    expect(only.rings[0]!.frames).toEqual(refs.ring.map((ref) => `0x${(0x1_0000_0000 + ref).toString(16)}`));
  });

  it('has entries of every arm, with 64-bit frames and status words', () => {
    const { only } = decodeFiles(files);
    const entry = (ref: number): unknown => only.grantEntries.find((candidate) => candidate.ref === ref);
    expect(entry(600)).toEqual({
      ref: 600,
      hdrFlags: 0,
      status: 24,
      type: 'invalid',
      readonly: false,
      reading: true,
      writing: true,
      domid: 0,
      frame: '0x100000258',
      activePin: '0x00000001',
    });
    expect(entry(762)).toMatchObject({ type: 'permit_access', pageOffset: 512, length: 1024, frame: '0x4d', activePin: null });
    expect(entry(763)).toMatchObject({ type: 'transitive', transDomid: 4, transRef: 19 });
  });

  it('tells requests in flight, an answered one and the hidden one of the right ring', () => {
    const { only } = decodeFiles(files);
    expect(only.hidden).toMatchObject(hidden);
    const [first, second, third] = only.rings;
    expect(first!.requests.map(({ index, operationName, id, superseded }) => [index, operationName, id, superseded ?? false])).toEqual([
      [71, 'indirect', 1, false],
      [72, 'read', 2, true],
      [73, 'write', 2, false],
      [74, 'flush_diskcache', 3, false],
    ]);
    expect(first!.requests.at(-1)).toMatchObject({ sectorNumber: '18446744073709551615', nrSegments: 0, segments: [] });
    expect(second!.requests[0]!.segments).toHaveLength(256);
    expect(third!.responses).toEqual([{ index: 0, slot: 0, id: 0, operation: 3, operationName: 'flush_diskcache', status: -2 }]);
    expect(first!.responses.filter(({ status }) => status === -1)).toHaveLength(1);
  });

  it('has the messages of the store page that are whole in it', () => {
    const { only } = decodeFiles(files);
    const { requests, reqProd, reqCons } = only.xenstoreRing!;
    expect(requests.at(-1)).toMatchObject({ typeName: 'READ', reqId: 99, payload: 'device/vbd/99\0' });
    expect(requests).toHaveLength(34);
    expect(reqProd - reqCons).toBe(30);
  });

  const changed = (change: (files: Files) => void): string[] => {
    const copy: Files = new Map([...files].map(([name, content]) => [name, typeof content === 'string' ? content : content.slice()]));
    change(copy);
    return decodeFiles(copy).problems.map(({ file, kind, message }) => `${kind} ${file}: ${message}`);
  };
  const bytesOf = (from: Files, name: string): DataView => {
    const bytes = from.get(name) as Uint8Array;
    return new DataView(bytes.buffer, bytes.byteOffset);
  };

  it('without status frames is read, and says what is not known', () => {
    expect(changed((copy) => copy.delete('status-frame-0.bin'))[0]).toMatch(/unreadable : a version 2 table without status-frame-0.bin/);
  });

  it('with a queue or a frame missing names it', () => {
    expect(changed((copy) => copy.delete('vbd-51728-queue-1.bin'))).toEqual([
      'unreadable vbd-51728-queue-1.bin: missing, though rings of other queues or devices are there',
    ]);
    expect(changed((copy) => copy.delete('grant-frame-1.bin'))[0]).toBe(
      'unreadable grant-frame-1.bin: missing, though later frames are there',
    );
  });

  it('with a ring of one page where the store has two says so', () => {
    const found = changed((copy) => copy.set('vbd-51712-queue-1.bin', (copy.get('vbd-51712-queue-1.bin') as Uint8Array).slice(0, 4096)));
    expect(found).toContain('ring-ref vbd-51712-queue-1.bin: the store names 2 ring references; the ring has 1 pages');
  });

  it('with a reference revoked that a request in flight names says which', () => {
    const found = changed((copy) => {
      // The page of segments: header and status of its entry cleared.
      bytesOf(copy, `grant-frame-${refs.page >> 8}.bin`).setUint16((refs.page & 255) * 16, 0, true);
    });
    expect(found.join('\n')).toMatch(
      new RegExp(
        `reference vbd-51712-queue-0.bin: request \\d+ \\(indirect, id \\d+\\) names the page of segments ${refs.page}, which is not granted to domain 0: its flags are 0x0`,
      ),
    );
  });
});
