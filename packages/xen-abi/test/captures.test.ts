import { describe, expect, it } from 'vitest';
import {
  BLKIF_OP,
  type BlockRequest,
  blkifOpName,
  decodeStruct,
  GRANT_ENTRY_V1,
  GRANT_V1_BYTES,
  GRANT_V1_PER_FRAME,
  GTF,
  grantDomid,
  grantFlags,
  grantV1Frame,
  pagesOfBytes,
  readIndirectSegments,
  readRingWindow,
  recentXsMessages,
  SharedRing,
  XENSTORE_DOMAIN_INTERFACE,
  xsTypeName,
} from '../src/index.ts';
import { type ExpectedRequest, expectedCaptures, readCapture } from './captures.ts';

const sector = (hi: number, lo: number): string => String((BigInt(hi) << 32n) | BigInt(lo));
const hex = (frame: number): string => `0x${frame.toString(16)}`;

function segmentsOf(from: { grefs: Uint32Array; firstSect: Uint8Array; lastSect: Uint8Array }, count: number): unknown[] {
  return Array.from({ length: count }, (_, i) => ({ gref: from.grefs[i], firstSect: from.firstSect[i], lastSect: from.lastSect[i] }));
}

function indirectSegments(name: string, request: BlockRequest, files: ReadonlySet<string>): unknown[] | undefined {
  const file = `indirect-ref-${request.indirectGrefs[0]}.bin`;
  if (!files.has(file)) return undefined;
  const arrays = { grefs: new Uint32Array(512), firstSect: new Uint8Array(512), lastSect: new Uint8Array(512) };
  readIndirectSegments(pagesOfBytes(readCapture(`${name}/${file}`))[0]!, request.nrSegments, arrays);
  return segmentsOf(arrays, request.nrSegments);
}

describe.each(Object.entries(expectedCaptures))('the live pages of %s', (name, expected) => {
  it('read as the grant entries of the guest', () => {
    const frame = pagesOfBytes(readCapture(`${name}/grant-frame-0.bin`))[0]!;
    const { views } = frame;
    const found = [];
    for (let ref = 0; ref < GRANT_V1_PER_FRAME; ref++) {
      const at = frame.offset + ref * GRANT_V1_BYTES;
      const flags = grantFlags(views, at);
      const entry = { ref, flags, domid: grantDomid(views, at), frame: hex(grantV1Frame(views, at)) };
      const { flags: decoded, domid, frame: gfn } = decodeStruct(GRANT_ENTRY_V1, 'x86_64', views.u8, at);
      expect({ ref, flags: decoded, domid, frame: hex(gfn) }).toEqual(entry);
      if (flags === 0 && entry.domid === 0 && entry.frame === '0x0') continue;
      found.push({
        ...entry,
        type: (flags & GTF.type_mask) === GTF.permit_access ? 'permit_access' : 'other',
        readonly: (flags & GTF.readonly) !== 0,
        reading: (flags & GTF.reading) !== 0,
        writing: (flags & GTF.writing) !== 0,
      });
    }
    expect(found).toEqual(expected.grantEntries.map(({ ...entry }) => ({ ...entry, activePin: undefined })));
    expect(found).toHaveLength(expected.grantEntryCounts.nonZero);
  });

  it('read as the ring: indices, requests in flight, superseded ones, and responses', () => {
    const ring = expected.rings[0]!;
    const window = readRingWindow(new SharedRing('x86_64', pagesOfBytes(readCapture(`${name}/ring.bin`))));
    const { reqProd, reqEvent, rspProd, rspEvent, unanswered } = window;
    expect({ reqProd, reqEvent, rspProd, rspEvent, unanswered }).toEqual({
      reqProd: ring.reqProd,
      reqEvent: ring.reqEvent,
      rspProd: ring.rspProd,
      rspEvent: ring.rspEvent,
      unanswered: ring.unanswered,
    });
    const files = new Set(ring.requests.flatMap((request) => request.indirectFile ?? []));
    const requests = window.requests.map(({ index, slot, request, superseded }): Partial<ExpectedRequest> => {
      const common = {
        index,
        slot,
        operation: request.operation,
        operationName: blkifOpName(request.operation)!,
        nrSegments: request.nrSegments,
        handle: request.handle,
        id: request.idLo,
        sectorNumber: sector(request.sectorHi, request.sectorLo),
        ...(superseded ? { superseded: true as const } : {}),
      };
      if (request.operation !== BLKIF_OP.INDIRECT) {
        return { ...common, segments: segmentsOf(request, request.nrSegments) as NonNullable<ExpectedRequest['segments']> };
      }
      const indirectFile = `indirect-ref-${request.indirectGrefs[0]}.bin`;
      const segments = superseded ? undefined : (indirectSegments(name, request, files) as ExpectedRequest['segments']);
      return {
        ...common,
        indirectOp: request.indirectOp,
        indirectOpName: blkifOpName(request.indirectOp)!,
        indirectGrefs: [request.indirectGrefs[0]!],
        ...(segments ? { indirectFile, segments } : {}),
      };
    });
    expect(requests).toEqual(ring.requests);
    const responses = window.responses.map(({ index, slot, response }) => ({
      index,
      slot,
      id: response.idLo,
      operation: response.operation,
      operationName: blkifOpName(response.operation),
      status: response.status,
    }));
    expect(responses).toEqual(ring.responses);
  });

  it('tell how many requests are hidden under responses, and what is left of them', () => {
    const window = readRingWindow(new SharedRing('x86_64', pagesOfBytes(readCapture(`${name}/ring.bin`))));
    expect(window.hidden).toBe(expected.hidden ? 1 : 0);
    if (!expected.hidden) return;
    const { index, slot, residualSector, residualGrefs } = expected.hidden;
    const residue = window.residues.find((candidate) => candidate.index === index)!;
    expect(residue.slot).toBe(slot);
    expect(sector(residue.sectorHi, residue.sectorLo)).toBe(residualSector);
    expect(residue.segments.slice(0, residualGrefs.length).map(({ gref }) => gref)).toEqual(residualGrefs);
  });
});

describe.each(Object.entries(expectedCaptures).filter(([, { xenstoreRing }]) => xenstoreRing))('the store page of %s', (name, expected) => {
  it('reads as the ring and the messages that are whole in it', () => {
    const bytes = readCapture(`${name}/xenstore-ring.bin`);
    const { file: _file, ref: _ref, ...storeRing } = expected.xenstoreRing as Record<string, unknown>;
    const ring = decodeStruct(XENSTORE_DOMAIN_INTERFACE, 'x86_64', bytes);
    const messages = (window: Uint8Array, prod: number): unknown[] =>
      recentXsMessages(window, prod).map(({ streamOffset, type, reqId, txId, payload }) => ({
        streamOffset,
        type,
        typeName: xsTypeName(type),
        reqId,
        txId,
        payload: new TextDecoder().decode(payload),
      }));
    expect({
      reqCons: ring.req_cons,
      reqProd: ring.req_prod,
      rspCons: ring.rsp_cons,
      rspProd: ring.rsp_prod,
      serverFeatures: ring.server_features,
      connection: ring.connection,
      error: ring.error,
      requests: messages(ring.req, ring.req_prod),
      responses: messages(ring.rsp, ring.rsp_prod),
    }).toEqual(storeRing);
  });
});
