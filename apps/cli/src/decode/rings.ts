import {
  type Abi,
  BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP,
  BLKIF_SEGMENTS_PER_INDIRECT_PAGE,
  type BlockRequest,
  blkifOpName,
  pagesOfBytes,
  RING_PAGES_MAX,
  type RingWindow,
  readIndirectSegments,
  readRingWindow,
  type Segments,
  SharedRing,
  type WindowRequest,
} from '@paravirt/xen-abi';
import type { CaptureFiles } from './files.ts';
import type { GrantTable } from './grant-table.ts';
import type { Report } from './problems.ts';
import { ringRefs } from './store-text.ts';
import type { DeviceReport, RequestReport, ResponseReport, RingReport, SegmentReport } from './types.ts';

/** A ring of the capture with everything known about it. */
export interface DecodedRing {
  readonly report: RingReport;
  readonly window: RingWindow;
  readonly device: DeviceReport | null;
  /** Pages of the ring's file. */
  readonly pages: number;
}

const PROTOCOLS: Readonly<Record<string, Abi>> = { 'x86_64-abi': 'x86_64', 'x86_32-abi': 'x86_32', 'arm-abi': 'arm64' };

export const wide = (hi: number, lo: number): string => String((BigInt(hi) << 32n) | BigInt(lo));
const idOf = (lo: number, hi: number): number | string => (hi < 0x20_0000 ? hi * 2 ** 32 + lo : wide(hi, lo));
const opName = (operation: number): string => blkifOpName(operation) ?? `unknown_${operation}`;
const indirectFile = (gref: number): string => `indirect-ref-${gref}.bin`;

function segmentsOf(from: Segments, count: number): SegmentReport[] {
  return Array.from({ length: count }, (_, i) => ({ gref: from.grefs[i]!, firstSect: from.firstSect[i]!, lastSect: from.lastSect[i]! }));
}

/** Pages of segments the request names, at most eight. */
function indirectGrefs(request: BlockRequest): number[] {
  const pages = Math.ceil(request.nrSegments / BLKIF_SEGMENTS_PER_INDIRECT_PAGE);
  return [...request.indirectGrefs.subarray(0, Math.min(pages, BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST))];
}

/** Reads the segments of an indirect request out of the pages captured; undefined where one is missing. */
function indirectSegments(files: CaptureFiles, grefs: readonly number[], count: number): SegmentReport[] | undefined {
  if (grefs.length === 0 || !grefs.every((gref) => files.has(indirectFile(gref)))) return undefined;
  const capacity = grefs.length * BLKIF_SEGMENTS_PER_INDIRECT_PAGE;
  const out = { grefs: new Uint32Array(capacity), firstSect: new Uint8Array(capacity), lastSect: new Uint8Array(capacity) };
  for (const [i, gref] of grefs.entries()) {
    const bytes = files.pages(indirectFile(gref), 'an indirect page', 1, 1);
    if (!bytes) return undefined;
    readIndirectSegments(pagesOfBytes(bytes)[0]!, BLKIF_SEGMENTS_PER_INDIRECT_PAGE, out, i * BLKIF_SEGMENTS_PER_INDIRECT_PAGE);
  }
  return segmentsOf(out, Math.min(count, capacity));
}

function requestReport(files: CaptureFiles, { index, slot, request, superseded }: WindowRequest): RequestReport {
  const { operation, nrSegments, handle } = request;
  const head = { index, slot, operation, operationName: opName(operation) };
  const id = idOf(request.idLo, request.idHi);
  const sectorNumber = wide(request.sectorHi, request.sectorLo);
  const tail = superseded ? ({ superseded: true } as const) : {};
  if (operation === BLKIF_OP.INDIRECT) {
    const grefs = indirectGrefs(request);
    // The page of an answered request may hold another request's segments by now.
    const segments = superseded ? undefined : indirectSegments(files, grefs, nrSegments);
    const names = grefs.map(indirectFile);
    const read = segments ? { indirectFile: names[0]!, ...(names.length > 1 ? { indirectFiles: names } : {}), segments } : {};
    const inner = { indirectOp: request.indirectOp, indirectOpName: opName(request.indirectOp) };
    return { ...head, ...inner, nrSegments, id, sectorNumber, handle, indirectGrefs: grefs, ...read, ...tail };
  }
  if (operation === BLKIF_OP.DISCARD) {
    const nrSectors = wide(request.nrSectorsHi, request.nrSectorsLo);
    return { ...head, nrSegments: 0, handle, id, sectorNumber, flag: request.flag, nrSectors, segments: [], ...tail };
  }
  const segments = segmentsOf(request, Math.min(nrSegments, BLKIF_MAX_SEGMENTS_PER_REQUEST));
  return { ...head, nrSegments, handle, id, sectorNumber, segments, ...tail };
}

/** The references a request holds while it is in flight. */
export function referencesOf({ segments = [], indirectGrefs = [] }: RequestReport): number[] {
  return [...indirectGrefs, ...segments.map(({ gref }) => gref)];
}

/** Whether a request of the window is known to be answered. */
export const isAnswered = ({ superseded, reusedBy }: RequestReport): boolean => superseded === true || reusedBy !== undefined;

/**
 * Marks requests whose references a later one names, and whose id a response carries: a reference is given to one request at a
 * time, so they were answered, though their ids were not used again.
 */
function markReused(requests: readonly RequestReport[], responses: readonly ResponseReport[]): RequestReport[] {
  const holder = new Map<number, number>();
  const marked = requests.toReversed().map((request): RequestReport => {
    if (request.superseded) return request;
    const refs = referencesOf(request);
    const again = refs.find((ref) => holder.has(ref));
    if (again !== undefined && responses.some(({ id }) => id === request.id)) return { ...request, reusedBy: holder.get(again)! };
    for (const ref of refs) holder.set(ref, request.index);
    return request;
  });
  return marked.reverse();
}

function responseReport({ index, slot, response }: RingWindow['responses'][number]): ResponseReport {
  const { idLo, idHi, operation, status } = response;
  return { index, slot, id: idOf(idLo, idHi), operation, operationName: opName(operation), status };
}

/** Decodes one ring file. Its layout is that of the protocol the frontend announced. */
function decodeRing(
  files: CaptureFiles,
  file: string,
  device: DeviceReport | null,
  vbd: number | null,
  queue: number,
  table: GrantTable,
  report: Report,
): DecodedRing | null {
  const bytes = files.pages(file, 'a ring', 1, RING_PAGES_MAX);
  if (!bytes) return null;
  const protocol = device?.frontend.keys['protocol'];
  const abi = protocol === undefined ? 'x86_64' : PROTOCOLS[protocol];
  if (!abi) report('xenstore-ls.txt', 'store', `${device?.frontend.path}/protocol is "${protocol}": read as x86_64-abi`);
  const shared = new SharedRing(abi ?? 'x86_64', pagesOfBytes(bytes));
  const window = readRingWindow(shared);
  const refs = device ? ringRefs(device, queue) : [];
  const { reqProd, reqEvent, rspProd, rspEvent, unanswered } = window;
  const responses = window.responses.map(responseReport);
  const requests = window.requests.map((request) => requestReport(files, request));
  return {
    window,
    device,
    pages: bytes.length / 4096,
    report: {
      file,
      vbd,
      queue,
      refs,
      frames: refs.map((ref) => table.frameText(ref)),
      slots: shared.entries,
      reqProd,
      reqEvent,
      rspProd,
      rspEvent,
      unanswered,
      requests: markReused(requests, responses),
      responses,
    },
  };
}

/** Every ring of the capture, in order of device and queue. */
export function decodeRings(files: CaptureFiles, devices: readonly DeviceReport[], table: GrantTable, report: Report): DecodedRing[] {
  const rings: (DecodedRing | null)[] = [];
  if (files.has('ring.bin')) {
    const device = devices.length === 1 ? devices[0]! : null;
    if (devices.length > 1)
      report('ring.bin', 'store', `the store has ${devices.length} block devices: which of them this ring is of is not known`);
    rings.push(decodeRing(files, 'ring.bin', device, device?.vbd ?? null, 0, table, report));
  }
  for (const [file, vbd, queue] of files.numbered(/^vbd-(\d+)-queue-(\d+)\.bin$/)) {
    const device = devices.find((candidate) => candidate.vbd === vbd) ?? null;
    if (!device && devices.length > 0) report(file, 'store', `the store has no block device ${vbd}`);
    rings.push(decodeRing(files, file, device, vbd!, queue!, table, report));
  }
  return rings.filter((ring) => ring !== null);
}
