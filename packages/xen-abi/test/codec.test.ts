import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BLKIF_REQUEST,
  decodeStruct,
  EVTCHN_STATUS,
  encodeStruct,
  GNTTAB_COPY,
  GNTTAB_MAP_GRANT_REF,
  GNTTAB_TRANSFER,
  offsetOf,
  SHARED_INFO,
  START_INFO,
  sizeOf,
  VCPU_INFO,
  XenAbiError,
} from '../src/index.ts';

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const u32 = fc.nat({ max: 0xffff_ffff });
const u16 = fc.nat({ max: 0xffff });
const s16 = fc.integer({ min: -0x8000, max: 0x7fff });

describe('a structure', () => {
  it('reads back as it was stored, at any offset and alignment, and touches nothing else', () => {
    const fields = fc.record({ host_addr: u64, flags: u32, ref: u32, dom: u16, status: s16, handle: u32, dev_bus_addr: u64 });
    fc.assert(
      fc.property(fields, fc.nat({ max: 40 }), (values, at) => {
        const bytes = new Uint8Array(80).fill(0x77);
        encodeStruct(GNTTAB_MAP_GRANT_REF, 'x86_64', values, bytes, at);
        expect(decodeStruct(GNTTAB_MAP_GRANT_REF, 'x86_64', bytes, at)).toEqual(values);
        expect(bytes.every((byte, i) => (i >= at && i < at + 32) || byte === 0x77)).toBe(true);
      }),
    );
  });

  it('keeps its field types when a target has a narrower field', () => {
    const bytes = encodeStruct(GNTTAB_TRANSFER, 'x86_32', { mfn: 7n, domid: 1, ref: 2, status: -3 });
    expect(bytes).toHaveLength(16);
    expect(decodeStruct(GNTTAB_TRANSFER, 'x86_32', bytes)).toEqual({ mfn: 7n, domid: 1, ref: 2, status: -3 });
    expect(sizeOf(GNTTAB_TRANSFER, 'arm64')).toBe(24);
    expect(offsetOf(GNTTAB_COPY, 'x86_32', 'dest.u.ref')).toBe(8);
  });

  it('nests: segments in a request, vCPUs in shared info, time in a vCPU', () => {
    const request = encodeStruct(BLKIF_REQUEST, 'x86_32', { operation: 1, id: 9, seg: [{ gref: 8, first_sect: 0, last_sect: 7 }] });
    const read = decodeStruct(BLKIF_REQUEST, 'x86_32', request);
    expect(read.seg).toHaveLength(11);
    expect(read.seg[0]).toEqual({ gref: 8, first_sect: 0, last_sect: 7 });
    const info = encodeStruct(SHARED_INFO, 'x86_64', {
      vcpu_info: [{}, { evtchn_pending_sel: 3n, time: { system_time: 5n } }],
      evtchn_mask: [0n, 2n ** 63n],
    });
    expect(decodeStruct(VCPU_INFO, 'x86_64', info, 64)).toMatchObject({ evtchn_pending_sel: 3n, time: { system_time: 5n } });
    expect(decodeStruct(SHARED_INFO, 'x86_64', info).evtchn_mask.slice(0, 3)).toEqual([0n, 2n ** 63n, 0n]);
  });

  it('reads bytes as bytes', () => {
    const magic = new TextEncoder().encode('xen-3.0-x86_64');
    const read = decodeStruct(START_INFO, 'x86_64', encodeStruct(START_INFO, 'x86_64', { magic, nr_pages: 4096 }));
    expect(read.magic.slice(0, 14)).toEqual(magic);
    expect(read.nr_pages).toBe(4096n);
  });

  it('stores the arm of a union that is given, and reads all of them', () => {
    const bytes = encodeStruct(EVTCHN_STATUS, 'x86_64', { port: 4, 'u.interdomain.dom': 2, 'u.interdomain.port': 9 });
    expect(decodeStruct(EVTCHN_STATUS, 'x86_64', bytes)).toMatchObject({ 'u.unbound.dom': 2, 'u.interdomain.port': 9, 'u.pirq': 2 });
  });

  it('is refused whole when one value is out of range: the bytes stay as they were', () => {
    const bytes = new Uint8Array(32).fill(1);
    const refused = (fields: object, message: RegExp): void => {
      expect(() => encodeStruct(GNTTAB_MAP_GRANT_REF, 'x86_64', fields, bytes)).toThrow(message);
      expect(() => encodeStruct(GNTTAB_MAP_GRANT_REF, 'x86_64', fields, bytes)).toThrow(XenAbiError);
    };
    refused({ ref: 1, dom: 0x10000 }, /gnttab_map_grant_ref.dom is 65536; allowed: a whole number from 0 to 65535/);
    refused({ ref: -1 }, /ref is -1/);
    refused({ status: 0x8000 }, /status is 32768; allowed: a whole number from -32768 to 32767/);
    refused({ ref: 1.5 }, /ref is 1.5/);
    refused({ host_addr: 2 ** 53 }, /host_addr is 9007199254740992/);
    refused({ host_addr: 2n ** 64n }, /host_addr is 18446744073709551616/);
    refused({ ref: '1' }, /ref is 1/);
    refused({ nothing: 1 }, /field of gnttab_map_grant_ref is "nothing"; allowed: host_addr, flags/);
    refused({ constructor: 1 }, /"constructor"/);
    expect(bytes.every((byte) => byte === 1)).toBe(true);
    expect(() => encodeStruct(BLKIF_REQUEST, 'x86_64', { seg: new Array(12).fill({}) })).toThrow(
      /seg is 12 elements; allowed: an array of at most 11/,
    );
    expect(() => encodeStruct(BLKIF_REQUEST, 'x86_64', { seg: [{ gref: -1 }] })).toThrow(/blkif_request_segment.gref is -1/);
  });

  it('is refused where it does not fit', () => {
    expect(() => decodeStruct(GNTTAB_MAP_GRANT_REF, 'x86_64', new Uint8Array(31))).toThrow(/offset of gnttab_map_grant_ref is 0/);
    expect(() => decodeStruct(GNTTAB_MAP_GRANT_REF, 'x86_64', new Uint8Array(40), 9)).toThrow(/is 9; allowed: 0 to 8/);
    expect(() => encodeStruct(GNTTAB_MAP_GRANT_REF, 'x86_64', {}, new Uint8Array(40), -1)).toThrow(/is -1/);
  });
});
