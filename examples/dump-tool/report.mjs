// What a dump says, as lines of text. Bytes in, lines out: nothing here reads a file.

import {
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP,
  blkifOpName,
  GRANT_V1_BYTES,
  GRANT_V2_BYTES,
  GTF,
  grantDomid,
  grantFlags,
  grantV1Frame,
  grantV2Arm,
  grantV2Frame,
  pagesOfBytes,
  readRingWindow,
  SharedRing,
} from '@paravirt/xen-abi';

const RESERVED = 8;
const hex = (/** @type {number} */ value) => `0x${value.toString(16)}`;

/**
 * The references that a guest has granted, out of the bytes of its grant frames in order.
 * @typedef {{ ref: number, domid: number, frame: number, readonly: boolean, reading: boolean, writing: boolean, kind: string }} Grant
 * @param {Uint8Array} bytes
 * @param {1 | 2} version layout of the entries
 * @returns {Map<number, Grant>}
 */
export function readGrants(bytes, version) {
  const entryBytes = version === 1 ? GRANT_V1_BYTES : GRANT_V2_BYTES;
  /** @type {Map<number, Grant>} */
  const grants = new Map();
  const pages = pagesOfBytes(bytes);
  for (const [frame, { views, offset }] of pages.entries()) {
    for (let at = offset; at < offset + 4096; at += entryBytes) {
      const flags = grantFlags(views, at);
      if ((flags & GTF.type_mask) === GTF.invalid) continue;
      const ref = (frame * 4096 + (at - offset)) / entryBytes;
      grants.set(ref, {
        ref,
        domid: grantDomid(views, at),
        frame: version === 1 ? grantV1Frame(views, at) : grantV2Frame(views, at),
        readonly: (flags & GTF.readonly) !== 0,
        // Version 2 keeps these two bits in the status frames.
        reading: version === 1 && (flags & GTF.reading) !== 0,
        writing: version === 1 && (flags & GTF.writing) !== 0,
        kind: version === 2 ? grantV2Arm(flags) : (flags & GTF.type_mask) === GTF.permit_access ? 'full_page' : 'other',
      });
    }
  }
  return grants;
}

/**
 * @param {Map<number, Grant>} grants
 * @param {number} entries entries in the frames at hand
 */
export function grantReport(grants, entries) {
  const lines = [`grant table: ${grants.size} of ${entries} references granted`];
  // A table of hundreds of rows is read by nobody: rows that go on in the same way are one line.
  const rows = [...grants.values()];
  for (let i = 0; i < rows.length; ) {
    const first = /** @type {Grant} */ (rows[i]);
    const same = (/** @type {Grant} */ row, /** @type {number} */ k) =>
      row.ref === first.ref + k &&
      row.domid === first.domid &&
      row.readonly === first.readonly &&
      row.reading === first.reading &&
      row.writing === first.writing &&
      row.kind === first.kind;
    let count = 1;
    while (i + count < rows.length && same(/** @type {Grant} */ (rows[i + count]), count)) count++;
    const refs = count === 1 ? `${first.ref}` : `${first.ref}-${first.ref + count - 1}`;
    const frames = rows.slice(i, i + Math.min(count, 3)).map((row) => hex(row.frame));
    const state = [first.reading ? 'reading' : '', first.writing ? 'writing' : ''].filter((word) => word !== '').join(' and ');
    lines.push(
      `  ${refs.padEnd(9)} to domain ${first.domid}, ${first.readonly ? 'read only' : 'read/write'}${state === '' ? '' : `, ${state} now`}, frame ${frames.join(' ')}${count > 3 ? ' ...' : ''}${first.ref < RESERVED ? ' (reserved)' : ''}`,
    );
    i += count;
  }
  return lines;
}

/**
 * @param {Uint8Array} bytes the ring's pages in order
 * @param {'x86_64' | 'x86_32' | 'arm64'} abi
 * @param {Map<number, Grant>} grants what the guest has granted
 * @param {number} entries entries in the frames at hand
 */
export function ringReport(bytes, abi, grants, entries) {
  const ring = new SharedRing(abi, pagesOfBytes(bytes));
  const window = readRingWindow(ring);
  const { reqProd, reqEvent, rspProd, rspEvent, unanswered } = window;
  const lines = [
    `ring: ${ring.entries} slots, req_prod ${reqProd}, req_event ${reqEvent}, rsp_prod ${rspProd}, rsp_event ${rspEvent}`,
    unanswered > ring.entries
      ? `  ${unanswered} requests unanswered: more than there are slots, so an index is wrong`
      : `  ${unanswered} requests unanswered, ${window.hidden} of them hidden under a response`,
  ];
  for (const { index, slot, request, superseded } of window.requests) {
    const indirect = request.operation === BLKIF_OP.INDIRECT;
    const operation = indirect ? request.indirectOp : request.operation;
    const name = `${blkifOpName(operation) ?? `operation ${operation}`}${indirect ? ' (indirect)' : ''}`;
    const sector = request.sectorExact ? request.sector : `${hex(request.sectorHi)}:${hex(request.sectorLo)}`;
    const segments = Math.min(request.nrSegments, BLKIF_MAX_SEGMENTS_PER_REQUEST);
    const refs = indirect
      ? [...request.indirectGrefs].slice(0, Math.ceil(request.nrSegments / 512))
      : request.operation === BLKIF_OP.DISCARD
        ? []
        : [...request.grefs].slice(0, segments);
    const missing = refs.filter((ref) => ref < entries && !grants.has(ref));
    lines.push(
      `  ${index} in slot ${slot}: ${name} id ${request.idLo}, sector ${sector}, ${request.nrSegments} segments, references ${refs.join(' ')}` +
        `${superseded ? '; answered since' : ''}${missing.length > 0 && !superseded ? `; NOT GRANTED: ${missing.join(' ')}` : ''}`,
    );
  }
  for (const { index, slot, response } of window.responses) {
    lines.push(`  ${index} in slot ${slot}: answer to id ${response.idLo}, status ${response.status}`);
  }
  return lines;
}
