import { checkDevice, checkIndices, checkMessages, checkRingRefs } from './checks.ts';
import { type DumpedTable, parseDebugKey } from './debug-key.ts';
import { CaptureFiles, type CaptureFolder, findCaptures, isMoment, tracesOf } from './files.ts';
import { checkGrantTable, readGrantTable } from './grant-table.ts';
import { decodeHandshakes } from './handshake.ts';
import { findHidden, referencesInUse } from './hidden.ts';
import { Problems, type Report } from './problems.ts';
import { decodeRings } from './rings.ts';
import { checkReservedPages, decodeStorePage } from './store-page.ts';
import { blockDevices, guestDomid, parseStoreText, type StoreText } from './store-text.ts';
import type { CaptureReport, DecodeReport, HandshakeReport } from './types.ts';

function readStoreText(files: CaptureFiles, report: Report): StoreText {
  const file = 'xenstore-ls.txt';
  const text = files.has(file) ? files.text(file) : null;
  if (text === null) return new Map();
  const { nodes, odd } = parseStoreText(text);
  if (nodes.size === 0) report(file, 'unreadable', 'no line is a node of the store');
  else if (odd.length > 0) report(file, 'store', `${odd.length} lines are no nodes of the store, the first is line ${odd[0]}`);
  return nodes;
}

function readDump(files: CaptureFiles, report: Report): DumpedTable[] {
  const file = 'gnttab-debugkey.txt';
  const text = files.has(file) ? files.text(file) : null;
  if (text === null) return [];
  const tables = parseDebugKey(text);
  if (tables.length === 0) report(file, 'unreadable', "no grant table in it: not the hypervisor's dump");
  return tables;
}

/** The guest's table of the dump; without a store listing the one that is not the backend's and has most entries. */
function guestTable(tables: readonly DumpedTable[], domid: number | null): DumpedTable | null {
  if (domid !== null) return tables.find((table) => table.domid === domid) ?? null;
  const guests = tables.filter((table) => table.domid !== 0).sort((a, b) => b.active.size - a.active.size);
  return guests[0] ?? null;
}

function decodeMoment(folder: CaptureFolder, problems: Problems): CaptureReport {
  const report: Report = (file, kind, message) => problems.add(folder.name, file, kind, message);
  const files = new CaptureFiles(folder, problems);
  const nodes = readStoreText(files, report);
  const tables = readDump(files, report);
  const storeDomid = guestDomid(nodes);
  const dump = guestTable(tables, storeDomid);
  const domid = storeDomid ?? dump?.domid ?? null;
  if (tables.length > 0 && !dump && domid !== null) report('gnttab-debugkey.txt', 'hypervisor', `the dump has no table of domain ${domid}`);
  const devices = domid === null ? [] : blockDevices(nodes, domid);
  const backendDomid = Number(devices[0]?.frontend.keys['backend-id'] ?? 0) || 0;
  const table = readGrantTable(files, backendDomid, dump, report);
  const rings = decodeRings(files, devices, table, report);
  const storePage = decodeStorePage(files, report);

  checkGrantTable(table, dump, report);
  if (domid !== null) checkReservedPages(nodes, domid, table, report);
  const captured = folder.files.some((file) => /^vbd-\d+-queue-\d+\.bin$/.test(file));
  for (const device of devices) checkDevice(device, rings, domid!, captured, report);
  const need = { table, backendDomid, report };
  for (const ring of rings) {
    checkIndices(ring, report);
    checkMessages({ ...need, ring });
    checkRingRefs(ring, ring.pages, rings, need, dump);
  }
  const hidden = table.references === 0 ? [] : rings.flatMap((ring) => findHidden(ring, rings, table, files));
  const inUse = referencesInUse(rings);
  for (const { residualGrefs } of hidden) for (const gref of residualGrefs) inUse.add(gref);
  const dataPages = files.numbered(/^data-ref-(\d+)\.bin$/).map(([file, ref]) => {
    files.pages(file, 'a data page', 1, 1);
    if (table.references > 0 && !table.granted(ref!))
      report(file, 'reference', `reference ${ref} is not granted to domain ${backendDomid}`);
    return { file, ref: ref!, outstanding: inUse.has(ref!) };
  });
  return {
    domid,
    backendDomid,
    ...table.report(dump),
    rings: rings.map((ring) => ring.report),
    ...(storePage ? { xenstoreRing: storePage } : {}),
    ...(hidden.length > 0 ? { hidden: hidden.length === 1 ? hidden[0]! : hidden } : {}),
    devices,
    dataPages,
  };
}

/**
 * Reads the captures below `dir`: a folder of one moment, of one guest, or of several guests.
 * @throws {CliError} exit code 2: `dir` cannot be read, or holds no capture. What is wrong with a file in it is told in
 * `problems`, and everything else is decoded all the same.
 */
export function decodeCapture(dir: string): DecodeReport {
  const problems = new Problems();
  const captures: Record<string, CaptureReport> = {};
  const handshakes: Record<string, HandshakeReport> = {};
  for (const folder of findCaptures(dir, problems)) {
    const report: Report = (file, kind, message) => problems.add(folder.name, file, kind, message);
    const files = new CaptureFiles(folder, problems);
    if (isMoment(folder)) captures[folder.name] = decodeMoment(folder, problems);
    for (const [name, handshake] of decodeHandshakes(files, tracesOf(folder), report)) handshakes[`${folder.name}/${name}`] = handshake;
  }
  return { format: 'hv-capture/1', captures, handshakes, problems: problems.all() };
}
