import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeStruct,
  encodeStruct,
  GRANT_ENTRY_V1,
  GRANT_ENTRY_V2,
  GTF,
  grantDomid,
  grantFlags,
  grantHeader,
  grantStatus,
  grantV1Frame,
  grantV2Arm,
  grantV2Frame,
  grantV2FrameHi,
  grantV2FrameLo,
  grantV2Length,
  grantV2PageOffset,
  grantV2TransDomid,
  grantV2TransGref,
  highHalf,
  joinHalves,
  type MemoryViews,
  pagesOfBytes,
  setGrantFlags,
  setGrantStatus,
  writeGrantV1,
  writeGrantV2FullPage,
  writeGrantV2SubPage,
  writeGrantV2Transitive,
} from '../src/index.ts';

const u16 = fc.nat({ max: 0xffff });
const u32 = fc.nat({ max: 0xffff_ffff });
const frame = fc.maxSafeNat();
const place = fc.nat({ max: 255 }).map((slot) => slot * 16);
const memory = (): MemoryViews => pagesOfBytes(new Uint8Array(4096).fill(0xee))[0]!.views;

function untouchedElsewhere({ u8 }: MemoryViews, at: number, bytes: number): boolean {
  return u8.every((byte, i) => (i >= at && i < at + bytes) || byte === 0xee);
}

describe('a grant entry written in place', () => {
  it('of version 1 is what the layout table says, and reads back', () => {
    fc.assert(
      fc.property(place, u16, u16, u32, (at, flags, domid, gfn) => {
        const views = memory();
        writeGrantV1(views, at, flags, domid, gfn);
        expect(decodeStruct(GRANT_ENTRY_V1, 'x86_32', views.u8, at)).toEqual({ flags, domid, frame: gfn });
        expect([grantFlags(views, at), grantDomid(views, at), grantV1Frame(views, at)]).toEqual([flags, domid, gfn]);
        expect(grantHeader(views, at)).toBe((flags | (domid << 16)) >>> 0);
        expect(untouchedElsewhere(views, at, 8)).toBe(true);
      }),
    );
  });

  it('of version 2, full page, has a 64-bit frame', () => {
    fc.assert(
      fc.property(place, u16, u16, frame, (at, flags, domid, gfn) => {
        const views = memory();
        writeGrantV2FullPage(views, at, flags, domid, gfn);
        expect(decodeStruct(GRANT_ENTRY_V2, 'arm64', views.u8, at)).toMatchObject({
          'hdr.flags': flags,
          'hdr.domid': domid,
          'full_page.pad0': 0,
          'full_page.frame': BigInt(gfn),
        });
        expect(grantV2Frame(views, at)).toBe(gfn);
        expect(untouchedElsewhere(views, at, 16)).toBe(true);
      }),
    );
  });

  it('of version 2, part of a page, has offset and length', () => {
    fc.assert(
      fc.property(place, u16, frame, u16, u16, (at, domid, gfn, offset, length) => {
        const views = memory();
        const flags = GTF.permit_access | GTF.sub_page;
        writeGrantV2SubPage(views, at, flags, domid, gfn, offset, length);
        expect(decodeStruct(GRANT_ENTRY_V2, 'x86_64', views.u8, at)).toMatchObject({
          'hdr.flags': flags,
          'sub_page.page_off': offset,
          'sub_page.length': length,
          'sub_page.frame': BigInt(gfn),
        });
        expect([grantV2PageOffset(views, at), grantV2Length(views, at), grantV2Frame(views, at)]).toEqual([offset, length, gfn]);
        expect(untouchedElsewhere(views, at, 16)).toBe(true);
      }),
    );
  });

  it("of version 2, transitive, names another domain's reference", () => {
    fc.assert(
      fc.property(place, u16, u16, u32, (at, domid, other, gref) => {
        const views = memory();
        writeGrantV2Transitive(views, at, GTF.transitive, domid, other, gref);
        const stored = { 'hdr.flags': GTF.transitive, 'hdr.domid': domid, 'transitive.trans_domid': other, 'transitive.gref': gref };
        expect(decodeStruct(GRANT_ENTRY_V2, 'x86_64', views.u8, at)).toMatchObject(stored);
        expect([grantV2TransDomid(views, at), grantV2TransGref(views, at)]).toEqual([other, gref]);
        expect(views.u8.slice(at, at + 16)).toEqual(encodeStruct(GRANT_ENTRY_V2, 'x86_64', stored));
      }),
    );
  });

  it('has flags and status words that change alone', () => {
    const views = memory();
    writeGrantV1(views, 8, GTF.permit_access, 3, 77);
    setGrantFlags(views, 8, 0);
    expect([grantFlags(views, 8), grantDomid(views, 8), grantV1Frame(views, 8)]).toEqual([0, 3, 77]);
    setGrantStatus(views, 2, GTF.reading | GTF.writing);
    expect(grantStatus(views, 2)).toBe(0x18);
    expect(grantStatus(views, 0)).toBe(0xeeee);
  });

  it('is told apart by its flags', () => {
    expect([0, 1, 0x101, 2, 3, 0x103].map(grantV2Arm)).toEqual([
      'invalid',
      'full_page',
      'sub_page',
      'accept_transfer',
      'transitive',
      'transitive',
    ]);
  });
});

describe('a 64-bit value in halves', () => {
  it('is exact up to 2^53 - 1 and Infinity above, with the halves still readable', () => {
    fc.assert(
      fc.property(u32, u32, (lo, hi) => {
        const value = joinHalves(lo, hi);
        const wide = (BigInt(hi) << 32n) | BigInt(lo);
        expect(value).toBe(wide <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(wide) : Number.POSITIVE_INFINITY);
        if (Number.isFinite(value)) expect([value >>> 0, highHalf(value)]).toEqual([lo, hi]);
      }),
    );
    const views = memory();
    expect(grantV2Frame(views, 0)).toBe(Number.POSITIVE_INFINITY);
    expect([grantV2FrameLo(views, 0), grantV2FrameHi(views, 0)]).toEqual([0xeeee_eeee, 0xeeee_eeee]);
  });
});
