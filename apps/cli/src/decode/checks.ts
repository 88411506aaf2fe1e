import {
  BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP,
  BLKIF_SEGMENTS_PER_INDIRECT_PAGE,
  xenbusStateName,
} from '@paravirt/xen-abi';
import type { DumpedTable } from './debug-key.ts';
import type { GrantTable } from './grant-table.ts';
import type { Report } from './problems.ts';
import { type DecodedRing, isAnswered, referencesOf } from './rings.ts';
import { queueCount, ringRefs } from './store-text.ts';
import type { DeviceReport, RequestReport } from './types.ts';

/** A writable host mapping by the backend: what a ring needs. */
const PIN_HOST_WRITABLE = 0xff;

/** Indices that no pair of ends can have reached. */
export function checkIndices({ report: ring }: DecodedRing, report: Report): void {
  const { file, slots, reqProd, rspProd, reqEvent, rspEvent, unanswered } = ring;
  if (unanswered > slots) {
    const behind = (rspProd - reqProd) >>> 0;
    const shown = behind < 2 ** 31 ? `${behind} responses more than requests` : `${unanswered} requests unanswered`;
    report(
      file,
      'index',
      `impossible indices: requests up to ${reqProd}, responses up to ${rspProd}: ${shown}; the ring has ${slots} slots`,
    );
  }
  // An event index stands at most one past the producer, or at a threshold within the ring ahead of it.
  for (const [name, event, prod] of [['request', reqEvent, reqProd] as const, ['response', rspEvent, rspProd] as const]) {
    const ahead = (event - prod) | 0;
    if (ahead > slots + 1)
      report(file, 'index', `${name} event index ${event} is ${ahead} past the producer ${prod}: nobody would be notified`);
  }
}

interface Need {
  readonly ring: DecodedRing;
  readonly table: GrantTable;
  readonly backendDomid: number;
  readonly report: Report;
}

function checkReference(need: Need, request: RequestReport, gref: number, what: string): void {
  const { ring, table, backendDomid, report } = need;
  if (table.references === 0) return;
  const named = `request ${request.index} (${request.operationName}, id ${request.id}) names ${what} ${gref}`;
  const entry = table.entry(gref);
  if (!entry) report(ring.report.file, 'reference', `${named}: the table captured has references 0 to ${table.references - 1}`);
  else if (!table.granted(gref)) {
    const why = entry.domid === backendDomid ? `its flags are 0x${entry.flags.toString(16)}` : `it grants to domain ${entry.domid}`;
    // Its id can be that of an older request; where it is its own, the frontend has revoked the reference since.
    const answer = ring.report.responses.findLast(({ id }) => id === request.id);
    const unless = answer && entry.flags === 0 ? ` (unless response ${answer.index} is this request's)` : '';
    report(ring.report.file, 'reference', `${named}, which is not granted to domain ${backendDomid}: ${why}${unless}`);
  } else if (ring.report.refs.includes(gref)) report(ring.report.file, 'ring-ref', `${named}, which is the ring itself`);
}

function checkShape(need: Need, request: RequestReport): void {
  const { ring, report } = need;
  const { file } = ring.report;
  const named = `request ${request.index} (${request.operationName}, id ${request.id})`;
  const say = (message: string): void => report(file, 'message', `${named} ${message}`);
  const direct = request.operation !== BLKIF_OP.INDIRECT;
  if (request.operation > BLKIF_OP.INDIRECT || request.operation === BLKIF_OP.RESERVED_1)
    say(`has operation ${request.operation}, which is none`);
  if (direct && request.nrSegments > BLKIF_MAX_SEGMENTS_PER_REQUEST) {
    say(`claims ${request.nrSegments} segments; ${BLKIF_MAX_SEGMENTS_PER_REQUEST} fit`);
  }
  if (!direct) {
    const offered = Number(ring.device?.backend.keys['feature-max-indirect-segments'] ?? Number.NaN);
    const most = BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST * BLKIF_SEGMENTS_PER_INDIRECT_PAGE;
    if (request.nrSegments > (offered > 0 ? offered : most))
      say(`claims ${request.nrSegments} segments; the backend offers ${offered > 0 ? offered : most}`);
    if (request.indirectOp !== BLKIF_OP.READ && request.indirectOp !== BLKIF_OP.WRITE)
      say(`does operation ${request.indirectOp}; read and write may be indirect`);
  }
  const device = ring.report.vbd;
  if (device !== null && request.handle !== (device & 0xffff)) say(`has handle ${request.handle}; the device is ${device}`);
  checkSectors(ring.device, request, say);
}

function checkSectors(device: DeviceReport | null, request: RequestReport, say: (message: string) => void): void {
  let sectors = BigInt(request.nrSectors ?? 0);
  for (const { gref, firstSect, lastSect } of request.segments ?? []) {
    if (firstSect > lastSect || lastSect > 7) say(`has sectors ${firstSect} to ${lastSect} of reference ${gref}; a page has 0 to 7`);
    else sectors += BigInt(lastSect - firstSect + 1);
  }
  const size = device?.backend.keys['sectors'];
  const moves = request.operation !== BLKIF_OP.FLUSH_DISKCACHE && sectors > 0n;
  if (moves && size !== undefined && /^\d+$/.test(size) && BigInt(request.sectorNumber) + sectors > BigInt(size)) {
    say(`reaches sector ${BigInt(request.sectorNumber) + sectors - 1n}; the disk has ${size}`);
  }
}

/** Requests in flight: what they name must be granted, what they say must mean something. */
export function checkMessages(need: Need): void {
  const { ring, report } = need;
  const { file, requests, responses } = ring.report;
  // Behind impossible indices every slot would be wrong, and the one cause has been told.
  if (ring.report.unanswered > ring.report.slots) return;
  for (const request of requests) {
    if (isAnswered(request)) continue;
    checkShape(need, request);
    for (const gref of request.indirectGrefs ?? []) checkReference(need, request, gref, 'the page of segments');
    for (const { gref } of request.segments ?? []) checkReference(need, request, gref, 'reference');
  }
  for (const { index, operation, status } of responses) {
    if (operation >= BLKIF_OP.INDIRECT) report(file, 'message', `response ${index} carries operation ${operation}`);
    if (status > 0 || status < -2) report(file, 'message', `response ${index} has status ${status}, which means nothing`);
  }
}

/** The references of a ring: as many as its pages, granted writable, mapped by the backend, each of a frame of its own. */
export function checkRingRefs(
  ring: DecodedRing,
  pages: number,
  rings: readonly DecodedRing[],
  need: Omit<Need, 'ring'>,
  dump: DumpedTable | null,
): void {
  const { file, refs, vbd, queue } = ring.report;
  const { table, backendDomid, report } = need;
  const say = (message: string): void => report(file, 'ring-ref', message);
  if (ring.device && refs.length === 0) say(`the store names no ring reference for queue ${queue} of device ${vbd}`);
  if (refs.length > 0 && refs.length !== pages) say(`the store names ${refs.length} ring references; the ring has ${pages} pages`);
  const order = ring.device?.frontend.keys['ring-page-order'];
  if (order !== undefined && 2 ** Number(order) !== pages)
    report('xenstore-ls.txt', 'store', `ring-page-order is ${order}; ${file} has ${pages} pages`);
  if (table.references === 0) return;
  const data = new Set(rings.flatMap(({ report: other }) => dataReferences(other.requests)));
  for (const ref of refs) {
    const entry = table.entry(ref);
    const active = dump?.active.get(ref);
    if (!entry) say(`ring reference ${ref} is not in the table captured (0 to ${table.references - 1})`);
    else if (!table.granted(ref)) say(`ring reference ${ref} is not granted to domain ${backendDomid}`);
    else if ((entry.flags & 4) !== 0) say(`ring reference ${ref} is granted read-only`);
    else if (dump && !active) say(`ring reference ${ref}: nobody maps its frame 0x${entry.frame.toString(16)}, so that is not the ring`);
    else if (active && BigInt(active.gmfn) !== entry.frame) {
      say(
        `ring reference ${ref} names frame 0x${entry.frame.toString(16)}; the ring that is mapped is frame 0x${active.gmfn.toString(16)}`,
      );
    } else if (active && (Number(active.pin) & PIN_HOST_WRITABLE) === 0)
      say(`ring reference ${ref} is not mapped writable (pin ${active.pin})`);
    else if (!dump && ring.device?.backend.state === 4 && !table.mapped(ref))
      say(`ring reference ${ref} is not in use, though the backend is connected`);
    if (data.has(ref)) say(`ring reference ${ref} is named as data by a request, so its frame is not the ring`);
    const residue = ring.window.residues.find(
      ({ segments }) => segments[0]!.gref === ref && segments[0]!.lastSect <= 7 && segments[0]!.lastSect > 0,
    );
    if (!data.has(ref) && residue) say(`ring reference ${ref} was named as data by request ${residue.index}, so its frame is not the ring`);
    const twin =
      entry && [...table.entries()].find((other) => other.ref !== ref && other.frame === entry.frame && table.granted(other.ref));
    if (twin) say(`ring reference ${ref} and entry ${twin.ref} grant the same frame 0x${entry.frame.toString(16)}`);
  }
}

function dataReferences(requests: readonly RequestReport[]): number[] {
  return requests.filter((request) => !isAnswered(request)).flatMap(referencesOf);
}

/** The two ends of a device agree with each other and with the ring files. */
export function checkDevice(device: DeviceReport, rings: readonly DecodedRing[], domid: number, captured: boolean, report: Report): void {
  const { vbd, frontend, backend } = device;
  const say = (message: string): void => report('xenstore-ls.txt', 'store', `device ${vbd}: ${message}`);
  const front = frontend.keys;
  const back = backend.keys;
  if (Object.keys(back).length === 0) say(`its backend folder ${backend.path} is not in the listing`);
  else {
    if (back['frontend'] !== undefined && back['frontend'] !== frontend.path)
      say(`the backend's frontend is ${back['frontend']}, not ${frontend.path}`);
    if (back['frontend-id'] !== undefined && back['frontend-id'] !== String(domid))
      say(`the backend's frontend-id is ${back['frontend-id']}, not ${domid}`);
  }
  for (const [end, keys, state] of [['frontend', front, frontend.state] as const, ['backend', back, backend.state] as const]) {
    if (keys['state'] !== undefined && (state === null || xenbusStateName(state) === undefined))
      say(`the ${end}'s state is "${keys['state']}", which is none`);
  }
  if (frontend.state === 4 && backend.state !== null && backend.state !== 4 && backend.state !== 5) {
    say(`the frontend is connected, the backend ${xenbusStateName(backend.state)}`);
  }
  const queues = queueCount(device);
  const most = Number(back['multi-queue-max-queues'] ?? Number.NaN);
  if (queues > most) say(`${queues} queues; the backend offers ${most}`);
  const order = Number(front['ring-page-order'] ?? 0);
  const orderMax = Number(back['max-ring-page-order'] ?? Number.NaN);
  if (order > orderMax) say(`ring-page-order ${order}; the backend offers ${orderMax}`);
  const connected = frontend.state === 3 || frontend.state === 4;
  for (let queue = 0; queue < queues && connected; queue++) {
    if (ringRefs(device, queue).length === 0) say(`connected, with no ring reference for queue ${queue}`);
    if (captured && !rings.some((ring) => ring.device === device && ring.report.queue === queue)) {
      report(`vbd-${vbd}-queue-${queue}.bin`, 'unreadable', 'missing, though rings of other queues or devices are there');
    }
  }
  for (const { report: ring, device: of } of rings) {
    if (of === device && ring.queue >= queues)
      report(ring.file, 'store', `queue ${ring.queue} of device ${vbd}; the frontend has ${queues}`);
  }
}
