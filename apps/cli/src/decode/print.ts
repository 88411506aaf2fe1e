import { xenbusStateName } from '@paravirt/xen-abi';
import { isAnswered } from './rings.ts';
import { textTable, visible } from './text-table.ts';
import type { CaptureReport, DecodeReport, HandshakeReport, HiddenReport, RequestReport, RingReport } from './types.ts';

/** How headings are marked; a terminal has its own. */
export interface Marks {
  heading(text: string): string;
  dim(text: string): string;
  warn(text: string): string;
}

export interface PrintOptions {
  /** Rows of a table before it is cut; `Infinity` prints every one. */
  readonly rows: number;
  readonly marks: Marks;
}

const flagsText = (entry: CaptureReport['grantEntries'][number]): string => {
  const words = [entry.readonly ? 'readonly' : '', entry.reading ? 'reading' : '', entry.writing ? 'writing' : ''].filter(Boolean);
  return words.join(' ') || '-';
};
const hex = (value: number | undefined): string => (value === undefined ? '' : `0x${value.toString(16)}`);

function grantTable(capture: CaptureReport, { rows, marks }: PrintOptions): string[] {
  const { nonZero, valid, activeInDump } = capture.grantEntryCounts;
  const v2 = capture.grantTableVersion === 2;
  const counts = `${nonZero} entries in use or left, ${valid} valid${activeInDump === null ? '' : `, ${activeInDump} active in the hypervisor`}`;
  const head = ['ref', 'flags', ...(v2 ? ['status'] : []), 'type', 'access', 'domain', 'frame', 'pin'];
  const body = capture.grantEntries.map((entry) => [
    String(entry.ref),
    hex(entry.flags ?? entry.hdrFlags),
    ...(v2 ? [hex(entry.status)] : []),
    entry.pageOffset === undefined ? entry.type : `${entry.type} ${entry.pageOffset}+${entry.length}`,
    entry.transRef === undefined ? flagsText(entry) : `domain ${entry.transDomid} ref ${entry.transRef}`,
    String(entry.domid),
    entry.frame,
    entry.activePin ?? '-',
  ]);
  return [marks.heading(`grant table, version ${capture.grantTableVersion}: ${counts}`), ...textTable(head, body, rows, marks), ''];
}

/** Runs of consecutive references are shown as runs: `201..192` is ten of them. */
function referenceText(grefs: readonly number[]): string {
  const runs: string[] = [];
  for (let i = 0; i < grefs.length; ) {
    const step = grefs[i + 1] === grefs[i]! - 1 ? -1 : 1;
    let end = i;
    while (grefs[end + 1] === grefs[end]! + step) end++;
    runs.push(end - i > 1 ? `${grefs[i]}..${grefs[end]}` : grefs.slice(i, end + 1).join(' '));
    i = end + 1;
  }
  return runs.join(' ');
}

function requestRow(request: RequestReport): string[] {
  const name = request.indirectOpName === undefined ? request.operationName : `${request.operationName} ${request.indirectOpName}`;
  const grefs = (request.segments ?? []).map(({ gref }) => gref);
  const pages = request.indirectGrefs ? `[${request.indirectGrefs.join(' ')}] ` : '';
  const length = request.nrSectors === undefined ? String(request.nrSegments) : `${request.nrSectors} sectors`;
  const state = isAnswered(request) ? 'answered' : 'in flight';
  return [
    String(request.index),
    String(request.slot),
    state,
    name,
    String(request.id),
    request.sectorNumber,
    length,
    pages + referenceText(grefs),
  ];
}

function hiddenLine(hidden: HiddenReport): string {
  const what = hidden.residualIndirect ? 'indirect, pages of segments' : 'references';
  const id = hidden.id === null ? 'its id cannot be told' : `id ${hidden.id}`;
  const place = `request ${hidden.index} (${id}) lies in slot ${hidden.slot} under a response`;
  return `hidden: ${place}: sector ${hidden.residualSector}, ${what} ${referenceText(hidden.residualGrefs)}`;
}

function ringTables(ring: RingReport, hidden: readonly HiddenReport[], { rows, marks }: PrintOptions): string[] {
  const device = ring.vbd === null ? 'unknown device' : `device ${ring.vbd} queue ${ring.queue}`;
  const refs = ring.refs.map((ref, i) => `${ref} (frame ${ring.frames[i] ?? '?'})`).join(', ') || 'not known';
  const lines = [
    marks.heading(`ring ${ring.file}: ${device}, ${ring.slots} slots, references ${refs}`),
    `requests to ${ring.reqProd} (event ${ring.reqEvent}), responses to ${ring.rspProd} (event ${ring.rspEvent}), ${ring.unanswered} unanswered`,
  ];
  if (ring.requests.length > 0) {
    const head = ['request', 'slot', 'state', 'operation', 'id', 'sector', 'segments', 'references'];
    lines.push(...textTable(head, ring.requests.map(requestRow), rows, marks));
  }
  lines.push(...hidden.map(hiddenLine));
  if (ring.responses.length > 0) {
    const body = ring.responses.map(({ index, slot, operationName, id, status }) => [
      String(index),
      String(slot),
      operationName,
      String(id),
      status === 0 ? 'okay' : status === -1 ? 'error (-1)' : status === -2 ? 'not supported (-2)' : String(status),
    ]);
    lines.push(...textTable(['response', 'slot', 'operation', 'id', 'status'], body, rows, marks));
  }
  return [...lines, ''];
}

function deviceTables(capture: CaptureReport, marks: Marks): string[] {
  const stateText = (state: number | null): string => (state === null ? '-' : `${state} ${xenbusStateName(state) ?? '?'}`);
  return capture.devices.flatMap(({ vbd, name, frontend, backend }) => {
    const features = Object.entries(backend.keys).filter(([key]) =>
      /^(feature-|sectors$|sector-size$|info$|mode$|max-|multi-queue)/.test(key),
    );
    return [
      marks.heading(
        `device ${vbd}${name === null ? '' : ` (${visible(name)})`}: frontend ${stateText(frontend.state)}, backend ${stateText(backend.state)}`,
      ),
      visible(`  ${features.map(([key, value]) => `${key}=${value}`).join(' ') || 'no keys of the backend'}`),
      '',
    ];
  });
}

function storeTables(capture: CaptureReport, { rows, marks }: PrintOptions): string[] {
  const ring = capture.xenstoreRing;
  if (!ring) return [];
  const body = [
    ...ring.requests.map((message) => ['asked', message] as const),
    ...ring.responses.map((message) => ['answered', message] as const),
  ].map(([way, { typeName, reqId, txId, payload }]) => [
    way,
    String(reqId),
    String(txId),
    typeName,
    payload.replaceAll('\0', ' ').trimEnd().slice(0, 90),
  ]);
  const unread = [(ring.reqProd - ring.reqCons) >>> 0, (ring.rspProd - ring.rspCons) >>> 0];
  return [
    marks.heading(
      `store page ${ring.file}: requests to ${ring.reqProd} (${unread[0]} bytes unread), responses to ${ring.rspProd} (${unread[1]} unread)`,
    ),
    ...textTable(['', 'request', 'transaction', 'type', 'payload'], body, rows, marks),
    '',
  ];
}

function printCapture(name: string, capture: CaptureReport, options: PrintOptions): string[] {
  const { marks } = options;
  const guest = capture.domid === null ? 'unknown guest' : `guest d${capture.domid}`;
  const hidden =
    capture.hidden === undefined
      ? []
      : Array.isArray(capture.hidden)
        ? (capture.hidden as HiddenReport[])
        : [capture.hidden as HiddenReport];
  const lines = [marks.heading(`== ${visible(name)}: ${guest}, backend d${capture.backendDomid} ==`), ''];
  lines.push(...deviceTables(capture, marks));
  for (const ring of capture.rings) {
    lines.push(
      ...ringTables(
        ring,
        hidden.filter((one) => one.ring === undefined || one.ring === ring.file),
        options,
      ),
    );
  }
  if (capture.dataPages.length > 0) {
    const pages = capture.dataPages.map(({ ref, outstanding }) => `${ref}${outstanding ? ' (of a request in flight)' : ''}`);
    lines.push(`data pages of references ${pages.join(', ')}`, '');
  }
  lines.push(...grantTable(capture, options), ...storeTables(capture, options), ...hostTables(capture, options));
  return lines;
}

/** The hypervisor's dumps, a line a table (its entries are beside the guest's own), and the store's listing. */
function hostTables(capture: CaptureReport, { rows, marks }: PrintOptions): string[] {
  const lines: string[] = [];
  for (const { file, tables } of capture.hypervisorDumps) {
    lines.push(marks.heading(`hypervisor's dump ${visible(file)}`));
    const body = tables.map(({ domid, version, frames, framesMax, entries }) => {
      const maps = new Set(entries.map(({ mapper }) => `d${mapper}`));
      return [`d${domid}`, String(version), `${frames ?? '?'} of ${framesMax ?? '?'}`, String(entries.length), [...maps].join(' ') || '-'];
    });
    lines.push(...textTable(['granter', 'version', 'frames', 'active entries', 'mapped by'], body, rows, marks), '');
  }
  if (capture.store) {
    const body = capture.store.nodes.map(({ path, value, perms }) => [perms?.join(' ') ?? '', path, value]);
    lines.push(marks.heading(`store ${capture.store.file}`), ...textTable(['permissions', 'path', 'value'], body, rows, marks), '');
  }
  return lines;
}

/** The timeline is printed whole: what happens at its end is what one looks for. */
function printHandshake(name: string, handshake: HandshakeReport, { marks }: PrintOptions): string[] {
  const guest = handshake.frontendDomid === null ? 'unknown guest' : `guest d${handshake.frontendDomid}`;
  const body = handshake.events.map(({ time, by, op, path, value, perms, inTransaction }) => {
    const state = path.endsWith('/state') && value !== undefined ? ` ${xenbusStateName(Number(value)) ?? ''}` : '';
    return [time, by, op.toLowerCase(), inTransaction ? 'tx' : '', path, `${value ?? perms?.join(' ') ?? ''}${state}`.trimEnd()];
  });
  return [
    marks.heading(`== handshake ${visible(name)}: ${guest} ==`),
    ...textTable(['time', 'by', 'does', '', 'path', 'value'], body, Number.POSITIVE_INFINITY, marks),
    '',
  ];
}

/** The report as text, a line an element. */
export function printReport(report: DecodeReport, options: PrintOptions): string[] {
  const lines: string[] = [];
  for (const [name, capture] of Object.entries(report.captures)) lines.push(...printCapture(name, capture, options));
  for (const [name, handshake] of Object.entries(report.handshakes)) lines.push(...printHandshake(name, handshake, options));
  const count = report.problems.length;
  lines.push(count === 0 ? 'everything fits together' : options.marks.warn(`${count} problems`));
  return lines;
}

/** A problem as the line that is told on stderr. */
export function problemLine({ capture, file, message }: DecodeReport['problems'][number]): string {
  return visible(`${[capture, file].filter(Boolean).join('/') || '.'}: ${message}`);
}
