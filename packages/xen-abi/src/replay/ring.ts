import { BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST, BLKIF_MAX_SEGMENTS_PER_REQUEST, BlockRequest, BlockResponse } from '../blkif.ts';
import { XenAbiError } from '../errors.ts';
import { checkAbi, PAGE_BYTES } from '../memory.ts';
import { BackRing, FrontRing } from '../ring.ts';
import { scatteredPages } from '../scattered-pages.ts';
import { RING_HEADER_BYTES, RING_PAGES_MAX, SharedRing } from '../shared-ring.ts';
import {
  halvesIn,
  hex64,
  hexBytes,
  type Json,
  type JsonObject,
  listIn,
  numberIn,
  numbersIn,
  objectIn,
  type Replayer,
  type ReplayNeeds,
  textIn,
  u32In,
} from './line.ts';

const FIELDS = { req_prod: 'reqProd', req_event: 'reqEvent', rsp_prod: 'rspProd', rsp_event: 'rspEvent' } as const;

function fillRequest(request: BlockRequest, from: JsonObject): void {
  const kind = textIn(from, 'kind');
  request.operation = numberIn(from, 'operation', 0, 255);
  request.handle = numberIn(from, 'handle', 0, 0xffff);
  [request.idLo, request.idHi] = halvesIn(from, 'id');
  request.setSectorHalves(...halvesIn(from, 'sector_number'));
  if (kind === 'discard') {
    request.flag = numberIn(from, 'flag', 0, 255);
    request.setNrSectorsHalves(...halvesIn(from, 'nr_sectors'));
  } else if (kind === 'indirect') {
    request.indirectOp = numberIn(from, 'indirect_op', 0, 255);
    request.nrSegments = numberIn(from, 'nr_segments', 0, 0xffff);
    request.indirectGrefs.fill(0);
    request.indirectGrefs.set(numbersIn(from['indirect_grefs'] ?? null, 'indirect_grefs', BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST));
  } else if (kind === 'rw') {
    request.nrSegments = numberIn(from, 'nr_segments', 0, 255);
    request.grefs.fill(0);
    request.firstSect.fill(0);
    request.lastSect.fill(0);
    for (const [i, segment] of listIn(from, 'seg').slice(0, BLKIF_MAX_SEGMENTS_PER_REQUEST).entries()) {
      const [gref = 0, first = 0, last = 0] = numbersIn(segment, `segment ${i}`, 3);
      request.setSegment(i, gref, first, last);
    }
  } else {
    throw new XenAbiError({ code: 'bad-recording', what: 'kind', value: kind, allowed: 'rw, discard, indirect' });
  }
}

/** @throws {XenAbiError} `bad-recording`, `bad-abi`: a configuration that makes no ring. */
export function createRingReplayer(header: JsonObject, needs: ReplayNeeds): Replayer {
  const config = objectIn(header, 'config');
  const abi = checkAbi(textIn(config, 'abi'));
  const pages = scatteredPages(numberIn(config, 'pages', 1, RING_PAGES_MAX), numberIn(config, 'fill', 0, 255));
  const shared = new SharedRing(abi, pages);
  const front = new FrontRing(shared);
  const back = new BackRing(shared);
  const request = new BlockRequest();
  const response = new BlockResponse();
  const slotBytes = new Uint8Array(shared.slotBytes);
  const whole = new Uint8Array(pages.length * PAGE_BYTES);

  const copyRing = (): Uint8Array => {
    pages.forEach((page, i) => {
      whole.set(page.views.u8.subarray(page.offset, page.offset + PAGE_BYTES), i * PAGE_BYTES);
    });
    return whole;
  };
  const stored = (index: number, bytes: number): Json => {
    shared.copySlot(index, slotBytes);
    const offset = shared.slotOffset(index);
    return { idx: index, slot: shared.slotOf(index), offset, bytes: hexBytes(slotBytes.subarray(0, bytes)) };
  };

  const operations: Record<string, (operation: JsonObject) => Json | undefined> = {
    'shared.init': () => void shared.init(),
    'front.init': () => {
      front.init();
      return { entries: front.entries };
    },
    'back.init': () => {
      back.init();
      return { entries: back.entries };
    },
    'front.attach': (operation) => {
      front.attach(u32In(operation, 'index'));
      return { entries: front.entries };
    },
    'back.attach': (operation) => {
      back.attach(u32In(operation, 'index'));
      return { entries: back.entries };
    },
    poke: (operation) => {
      const field = textIn(operation, 'field');
      if (!Object.hasOwn(FIELDS, field)) {
        throw new XenAbiError({ code: 'bad-recording', what: 'field', value: field, allowed: Object.keys(FIELDS).join(', ') });
      }
      shared[FIELDS[field as keyof typeof FIELDS]] = u32In(operation, 'value');
      return undefined;
    },
    'front.free': () => front.free(),
    'front.full': () => front.full(),
    'front.unconsumed': () => front.unconsumed(),
    'back.unconsumed': () => back.unconsumed(),
    'front.putRequest': (operation) => {
      const index = front.reqProdPvt;
      fillRequest(request, objectIn(operation, 'req'));
      front.putRequest(request);
      return stored(index, shared.slotBytes);
    },
    'front.push': () => ({ notify: front.push() }),
    'back.getRequest': () => {
      const index = back.reqCons;
      back.getRequest(request);
      return { idx: index, slot: shared.slotOf(index), operation: request.operation, id: hex64(request.idLo, request.idHi) };
    },
    'back.putResponse': (operation) => {
      const index = back.rspProdPvt;
      const from = objectIn(operation, 'rsp');
      const [idLo, idHi] = halvesIn(from, 'id');
      back.putResponse(idLo, idHi, numberIn(from, 'operation', 0, 255), numberIn(from, 'status', -0x8000, 0x7fff));
      return stored(index, shared.responseBytes);
    },
    'back.push': () => ({ notify: back.push() }),
    'front.getResponse': () => {
      const index = front.rspCons;
      front.getResponse(response);
      const { idLo, idHi, operation, status } = response;
      return { idx: index, slot: shared.slotOf(index), id: hex64(idLo, idHi), operation, status };
    },
    'front.finalCheck': () => {
      const count = front.finalCheck();
      return { more: count !== 0, count, rspEvent: shared.rspEvent };
    },
    'back.finalCheck': () => {
      const count = back.finalCheck();
      return { more: count !== 0, count, reqEvent: shared.reqEvent };
    },
    'back.consOverflow': (operation) => back.consOverflow(u32In(operation, 'cons')),
    'back.prodOverflow': (operation) => back.prodOverflow(u32In(operation, 'prod')),
    'front.rspProdOverflow': (operation) => front.rspProdOverflow(u32In(operation, 'prod')),
    checkpoint: () => {
      const bytes = copyRing();
      return {
        header: hexBytes(bytes.subarray(0, RING_HEADER_BYTES)),
        front: { reqProdPvt: front.reqProdPvt, rspCons: front.rspCons },
        back: { rspProdPvt: back.rspProdPvt, reqCons: back.reqCons },
        sha256: needs.sha256(bytes),
      };
    },
  };

  return (operation) => {
    const name = textIn(operation, 'op');
    if (Object.hasOwn(operations, name)) return operations[name]!(operation);
    throw new XenAbiError({ code: 'bad-recording', what: 'op', value: name, allowed: Object.keys(operations).join(', ') });
  };
}
