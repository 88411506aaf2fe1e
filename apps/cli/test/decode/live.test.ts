import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { decodeCapture } from '../../src/decode/decode.ts';
import { captureFiles, changedCaptures } from './capture-folder.ts';

type Json = { [key: string]: Json } & Json[] & string;
const expected = JSON.parse(new TextDecoder().decode(captureFiles.get('expected.json'))) as Record<
  'captures' | 'handshakes',
  Record<string, Json>
>;

/** What was found by other means than decoding, and remarks. */
const FOREIGN = new Set(['note', 'dataPages', 'mfn']);
const readable = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value, (key, inner: unknown) => (FOREIGN.has(key) ? undefined : inner)));

describe('the live captures', () => {
  it('decode to what was expected, and fit together', () => {
    const report = decodeCapture(changedCaptures({}));
    expect(Object.keys(report.captures)).toEqual(Object.keys(expected.captures));
    for (const [name, capture] of Object.entries(expected.captures))
      expect(report.captures[name]).toMatchObject(readable(capture) as object);
    expect(report.handshakes).toEqual(readable(expected.handshakes));
    expect(report.problems).toEqual([]);
  });

  it('have lists of exactly the expected length and fields', () => {
    const report = decodeCapture(changedCaptures({}));
    for (const [name, capture] of Object.entries(expected.captures)) {
      const ours = report.captures[name]!;
      expect(ours.grantEntries).toEqual(capture['grantEntries']);
      expect(ours.rings).toHaveLength(capture['rings']!.length);
      expect(ours.rings[0]!.requests).toEqual(capture['rings']![0]!['requests']);
      expect(ours.rings[0]!.responses).toEqual(capture['rings']![0]!['responses']);
      expect(ours.xenstoreRing).toEqual(capture['xenstoreRing']);
    }
  });

  it('have the same names when a guest, or one moment, is given', () => {
    const folder = changedCaptures({});
    expect(Object.keys(decodeCapture(join(folder, 'b-v1-idle')).captures)).toEqual(['b-v1-idle']);
    expect(Object.keys(decodeCapture(join(folder, 'b-v1-idle')).handshakes)).toEqual(['b-v1-idle/boot', 'b-v1-idle/detach']);
    expect(Object.keys(decodeCapture(join(folder, 'd-v1-nonpersistent')).captures)).toEqual(['d-v1-nonpersistent/inflight']);
    expect(Object.keys(decodeCapture(join(folder, 'd-v1-nonpersistent/inflight')).captures)).toEqual(['inflight']);
  });

  it('come with every table of the dumps and every node of the store', () => {
    const { hypervisorDumps, store, devices } = decodeCapture(changedCaptures({})).captures['b-v1-idle']!;
    expect(hypervisorDumps.map(({ file, tables }) => [file, tables.map(({ domid, entries }) => [domid, entries.length])])).toEqual([
      [
        'gnttab-debugkey-detached.txt',
        [
          [0, 0],
          [6, 2],
        ],
      ],
      [
        'gnttab-debugkey.txt',
        [
          [0, 0],
          [6, 20],
        ],
      ],
    ]);
    expect(hypervisorDumps[1]!.tables[1]).toMatchObject({ version: 1, frames: 1, framesMax: 64 });
    expect(hypervisorDumps[1]!.tables[1]!.entries[2]).toEqual({
      ref: 8,
      mapper: 0,
      mfn: '0x6d59f',
      pin: '0x00000001',
      domid: 0,
      gmfn: '0x6d59f',
      flags: 25,
    });
    expect(store!.nodes).toHaveLength(68);
    expect(store!.nodes[3]).toEqual({
      path: '/local/domain/0/backend/vbd/6/51712/frontend',
      value: '/local/domain/6/device/vbd/51712',
      perms: ['n0', 'r6'],
    });
    expect(devices).toMatchObject([
      { vbd: 51712, name: 'xvda', frontend: { state: 4 }, backend: { state: 4, keys: { sectors: '32768' } } },
    ]);
  });

  it('tell the data page of an outstanding write', () => {
    const { dataPages } = decodeCapture(changedCaptures({})).captures['d-v1-nonpersistent/inflight']!;
    expect(dataPages).toEqual([{ file: 'data-ref-333.bin', ref: 333, outstanding: true }]);
  });
});
