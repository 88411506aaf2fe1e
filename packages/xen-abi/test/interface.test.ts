import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import * as surface from '../src/index.ts';
import { ABIS, type Abi, type AnyStruct, layoutOf, ringGeometry, type ScalarType, SharedRing, sharedInfoOffsets } from '../src/index.ts';
import { scatteredPages } from '../src/testing.ts';

interface Field {
  offset: number;
  size: number;
  type: string;
  elemSize?: number;
  count?: number;
  flexible?: true;
}
interface Interface {
  structs: Record<string, Partial<Record<Abi, { size: number; align: number; fields: Record<string, Field> }>>>;
  rings: Record<
    Abi,
    {
      slotStride: number;
      responseSize: number;
      byPages: Record<string, { entries: number; slotsStraddlingAPage: number[] }>;
    }
  >;
  constants: Record<string, Record<string, number | Record<Abi, number>>>;
  strings: { XEN_IO_PROTO_ABI: object; GNTST_MESSAGE: string[]; XSD_ERRORS: string[]; XenbusState: Record<string, string> };
}

const json = gunzipSync(readFileSync(new URL('./fixtures/xen-abi.json.gz', import.meta.url))).toString('utf8');
const reference = JSON.parse(json) as Interface;

describe('the constants', () => {
  const groups: [group: string, prefix: string, ours: object][] = [
    ['BLKIF_OP', 'BLKIF_OP_', surface.BLKIF_OP],
    ['BLKIF_RSP', 'BLKIF_RSP_', surface.BLKIF_RSP],
    ['VDISK', 'VDISK_', surface.VDISK],
    ['GTF', 'GTF_', surface.GTF],
    ['GNTST', 'GNTST_', surface.GNTST],
    ['GNTMAP', 'GNTMAP_', surface.GNTMAP],
    ['GNTCOPY', 'GNTCOPY_', surface.GNTCOPY],
    ['GNTTABOP', 'GNTTABOP_', surface.GNTTABOP],
    ['GNTTAB', 'GNTTAB_', surface.GNTTAB],
    ['EVTCHNOP', 'EVTCHNOP_', surface.EVTCHNOP],
    ['EVTCHNSTAT', 'EVTCHNSTAT_', surface.EVTCHNSTAT],
    ['EVTCHN_FIFO', 'EVTCHN_FIFO_', surface.EVTCHN_FIFO],
    ['DOMID', 'DOMID_', surface.DOMID],
    ['SIF', 'SIF_', surface.SIF],
    ['VIRQ', 'VIRQ_', surface.VIRQ],
    ['HYPERVISOR', '__HYPERVISOR_', surface.HYPERVISOR],
    ['XenbusState', 'XenbusState', surface.XENBUS_STATE],
    ['XEN_ERRNO', '', surface.XEN_ERRNO],
    ['XEN_ERRNO_INTERNAL', '', surface.XEN_ERRNO_INTERNAL],
    ['XS_TYPE', 'XS_', surface.XS_TYPE],
    ['XENSTORE', 'XENSTORE_', surface.XENSTORE],
  ];

  it.each(groups)('of %s are those of the headers', (group, prefix, ours) => {
    const theirs = Object.entries(reference.constants[group]!).map(([name, value]) => [name.slice(prefix.length), value]);
    expect(ours).toEqual(Object.fromEntries(theirs));
  });

  it('that stand alone are those of the headers', () => {
    const { BLKIF_LIMITS, BLKIF_FLAGS, EVTCHN_MISC, XEN_MISC } = reference.constants;
    expect(BLKIF_LIMITS).toEqual({
      BLKIF_MAX_SEGMENTS_PER_REQUEST: surface.BLKIF_MAX_SEGMENTS_PER_REQUEST,
      BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST: surface.BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
    });
    expect(BLKIF_FLAGS).toEqual({ BLKIF_DISCARD_SECURE: surface.BLKIF_DISCARD_SECURE });
    expect(EVTCHN_MISC).toEqual({ BIND_PIRQ__WILL_SHARE: surface.BIND_PIRQ__WILL_SHARE });
    expect(XEN_MISC).toMatchObject({
      XEN_LEGACY_MAX_VCPUS: surface.XEN_LEGACY_MAX_VCPUS,
      EVTCHN_2L_NR_CHANNELS: surface.EVTCHN_2L_NR_CHANNELS,
    });
    expect(surface.PAGE_BYTES).toBe(2 ** Number(XEN_MISC!['XEN_PAGE_SHIFT']));
  });

  it('have the names, messages and numbers of the headers, both ways', () => {
    const { strings, constants } = reference;
    for (const [name, status] of Object.entries(constants['GNTST']!)) {
      expect(surface.grantStatusName(status as number)).toBe(name);
      expect(surface.grantStatusMessage(status as number)).toBe(strings.GNTST_MESSAGE[-(status as number)]);
    }
    for (const [name, value] of Object.entries(constants['XEN_ERRNO']!)) {
      const ours = name as surface.ErrnoName;
      expect(surface.errnoOf(ours)).toBe(value);
      expect(surface.errnoOf(surface.errnoName(value as number)!)).toBe(value);
      expect(surface.errnoName(-(value as number))).toBe(surface.errnoName(value as number));
    }
    for (const [state, name] of Object.entries(strings.XenbusState))
      expect(`XenbusState${surface.xenbusStateName(Number(state))}`).toBe(name);
    for (const [name, type] of Object.entries(constants['XS_TYPE']!)) expect(`XS_${surface.xsTypeName(type as number)}`).toBe(name);
    expect(surface.XSD_ERRORS).toEqual(strings.XSD_ERRORS);
    expect(surface.XEN_IO_PROTO_ABI).toEqual(strings.XEN_IO_PROTO_ABI);
    for (const [name, operation] of Object.entries(constants['BLKIF_OP']!)) {
      expect(`BLKIF_OP_${surface.blkifOpName(operation as number)!.toUpperCase()}`).toBe(name);
    }
  });

  it('have no name for a number that means nothing', () => {
    expect(surface.grantStatusName(1)).toBeUndefined();
    expect(surface.grantStatusMessage(-14)).toBeUndefined();
    expect(surface.errnoName(0)).toBeUndefined();
    expect(surface.blkifOpName(7)).toBeUndefined();
    expect(surface.xenbusStateName(9)).toBeUndefined();
    expect(surface.xsTypeName(20)).toBeUndefined();
  });
});

const structs = (Object.values(surface) as unknown[]).filter(
  (value): value is AnyStruct => typeof value === 'object' && value !== null && 'layouts' in value,
);

const WIDTH: Record<ScalarType, number> = { u8: 1, u16: 2, u32: 4, u64: 8, s8: 1, s16: 2, s32: 4, s64: 8, ptr: 0, bytes: 1 };

/** The layout tables leave out what is only a name for other fields: a nested structure whose members stand there, `ring`. */
function isGroup(fields: Record<string, Field>, name: string): boolean {
  const field = fields[name]!;
  return (
    field.type.startsWith('struct') &&
    (field.flexible === true || name.endsWith('.hdr') || Object.keys(fields).some((other) => other.startsWith(`${name}.`)))
  );
}

describe('the layout tables', () => {
  it('cover every structure of the interface but grant_status, which is a bare u16', () => {
    expect(structs.map(({ name }) => name).sort()).toEqual(
      Object.keys(reference.structs)
        .filter((name) => name !== 'grant_status')
        .sort(),
    );
  });

  it.each(structs)('of $name are those a compiler gave, on every target', (struct) => {
    for (const abi of ABIS) {
      const theirs = reference.structs[struct.name]![abi];
      if (!theirs) {
        expect(struct.layouts[abi]).toBeNull();
        expect(() => layoutOf(struct, abi)).toThrow(/start_info is "arm64"; allowed: x86_64, x86_32/);
        continue;
      }
      const ours = layoutOf(struct, abi);
      expect([ours.size, ours.align]).toEqual([theirs.size, theirs.align]);
      const names = Object.keys(theirs.fields).filter((name) => !isGroup(theirs.fields, name));
      expect(Object.keys(ours.fields)).toEqual(names);
      for (const name of names) {
        const [type, offset, count] = ours.fields[name]!;
        const field = theirs.fields[name]!;
        const each = typeof type === 'object' ? layoutOf(type, abi).size : type === 'ptr' ? (abi === 'x86_32' ? 4 : 8) : WIDTH[type];
        expect([name, offset, each * (count ?? 1)]).toEqual([name, field.offset, field.size]);
        if (typeof type === 'object' || type === 'bytes') expect(field.type).toMatch(/^struct/);
        else expect(field.type.replace('[]', '').replace('char', 'u8')).toBe(type);
        expect(field.count ?? (type === 'bytes' ? field.size : undefined)).toBe(count);
      }
    }
  });
});

describe('the geometry of a block ring', () => {
  it.each(ABIS)('on %s is that of the headers for every number of pages', (abi) => {
    const theirs = reference.rings[abi];
    for (const [pages, { entries }] of Object.entries(theirs.byPages)) {
      expect(ringGeometry(abi, Number(pages))).toEqual({ entries, slotBytes: theirs.slotStride, responseBytes: theirs.responseSize });
    }
    expect(ringGeometry(abi, 3).entries).toBe(64);
  });

  it.each(ABIS)('on %s puts across two pages the slots that the headers put there', (abi) => {
    for (const [pages, { entries, slotsStraddlingAPage }] of Object.entries(reference.rings[abi].byPages)) {
      const ring = new SharedRing(abi, scatteredPages(Number(pages)));
      const straddling = [];
      for (let slot = 0; slot < entries; slot++) {
        const start = ring.slotOffset(slot);
        if (Math.floor(start / 4096) !== Math.floor((start + ring.slotBytes - 1) / 4096)) straddling.push(slot);
      }
      expect(straddling).toEqual(slotsStraddlingAPage);
    }
  });

  it('refuses no pages, too many, pages that are not aligned or lie outside, and targets it does not know', () => {
    const one = scatteredPages(1)[0]!;
    expect(() => new SharedRing('x86_64', [])).toThrow(/pages of a ring is 0; allowed: 1 to 16/);
    expect(() => new SharedRing('x86_64', scatteredPages(17))).toThrow(/is 17/);
    expect(() => new SharedRing('x86_64', [{ views: one.views, offset: 2 }])).toThrow(/offset of a ring page is 2/);
    expect(() => new SharedRing('x86_64', [{ views: one.views, offset: one.views.u8.length }])).toThrow(/offset of a ring page/);
    expect(() => new SharedRing('riscv' as Abi, [one])).toThrow(/abi is "riscv"; allowed: x86_64, x86_32, arm64/);
  });
});

describe('the offsets of shared info', () => {
  it.each(ABIS)('on %s are those of the layout tables', (abi) => {
    const info = layoutOf(surface.SHARED_INFO, abi);
    const vcpu = layoutOf(surface.VCPU_INFO, abi);
    const at = (fields: typeof info.fields, name: string): number | undefined => fields[name]?.[1];
    const [, , words] = info.fields['evtchn_pending']!;
    const offsets = sharedInfoOffsets(abi);
    expect(offsets).toEqual({
      bytes: info.size,
      wordBits: words! === 32 ? 32 : 64,
      ports: surface.EVTCHN_2L_NR_CHANNELS[abi],
      evtchnPending: at(info.fields, 'evtchn_pending'),
      evtchnMask: at(info.fields, 'evtchn_mask'),
      vcpuInfoBytes: vcpu.size,
      vcpus: surface.XEN_LEGACY_MAX_VCPUS[abi],
      upcallPending: at(vcpu.fields, 'evtchn_upcall_pending'),
      upcallMask: at(vcpu.fields, 'evtchn_upcall_mask') ?? at(vcpu.fields, 'pad0'),
      pendingSel: at(vcpu.fields, 'evtchn_pending_sel'),
      time: at(vcpu.fields, 'time'),
      wcVersion: at(info.fields, 'wc_version'),
      wcSec: at(info.fields, 'wc_sec'),
      wcNsec: at(info.fields, 'wc_nsec'),
      wcSecHi: at(info.fields, 'wc_sec_hi') ?? at(info.fields, 'arch.wc_sec_hi'),
    });
    expect(words! * offsets.wordBits).toBe(offsets.ports);
  });
});
