import { checkDevice, checkIndices, checkMessages, checkRingRefs } from './checks.ts';
import { type DumpedTable, dumpReport, parseDebugKey } from './debug-key.ts';
import { CaptureFiles, type CaptureFolder, findCaptures, isMoment, nameOf, tracesOf } from './files.ts';
import { checkGrantTable, readGrantTable } from './grant-table.ts';
import { decodeHandshakes } from './handshake.ts';
import { findHidden, referencesInUse } from './hidden.ts';
import { Problems, type Report } from './problems.ts';
import { decodeRings } from './rings.ts';
import { checkReservedPages, decodeStorePage } from './store-page.ts';
import { blockDevices, guestDomid, parseStoreText, type StoreText } from './store-text.ts';
import type { CaptureReport, DecodeReport, HandshakeReport, StoreNodeReport } from './types.ts';

const LISTING = 'xenstore-ls.txt';
const DUMP = 'gnttab-debugkey.txt';

function readStoreText(files: CaptureFiles, report: Report): { nodes: StoreText; listed: StoreNodeReport[] } {
  const text = files.has(LISTING) ? files.text(LISTING) : null;
  if (text === null) return { nodes: new Map(), listed: [] };
  const { nodes, listed, odd } = parseStoreText(text);
  if (nodes.size === 0) report(LISTING, 'unreadable', 'no line is a node of the store');
  else if (odd.length > 0) report(LISTING, 'store', `${odd.length} lines are no nodes of the store, the first is line ${odd[0]}`);
  return { nodes, listed };
}

/** The dump of the moment, and dumps of other moments that lie beside it. */
function readDumps(files: CaptureFiles, report: Report): { file: string; tables: DumpedTable[] }[] {
  return files.folder.files
    .filter((file) => /^gnttab-debugkey.*\.txt$/.test(file))
    .flatMap((file) => {
      const text = files.text(file);
      if (text === null) return [];
      const tables = parseDebugKey(text);
      if (tables.length === 0) report(file, 'unreadable', "no grant table in it: not the hypervisor's dump");
      return [{ file, tables }];
    });
}

/** The guest's table of the dump; without a store listing the one that is not the backend's and has most entries. */
function guestTable(tables: readonly DumpedTable[], domid: number | null): DumpedTable | null {
  if (domid !== null) return tables.find((table) => table.domid === domid) ?? null;
  const guests = tables.filter((table) => table.domid !== 0).sort((a, b) => b.active.size - a.active.size);
  return guests[0] ?? null;
}

function decodeMoment(folder: CaptureFolder, problems: Problems): CaptureReport {
  const report: Report = (file, kind, message) => problems.add(folder.name, nameOf(folder, file), kind, message);
  const files = new CaptureFiles(folder, problems);
  const { nodes, listed } = readStoreText(files, report);
  const dumps = readDumps(files, report);
  const tables = dumps.find(({ file }) => file === DUMP)?.tables ?? [];
  const storeDomid = guestDomid(nodes);
  const dump = guestTable(tables, storeDomid);
  const domid = storeDomid ?? dump?.domid ?? null;
  if (tables.length > 0 && !dump && domid !== null) report(DUMP, 'hypervisor', `the dump has no table of domain ${domid}`);
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
    ...(listed.length > 0 ? { store: { file: LISTING, nodes: listed } } : {}),
    hypervisorDumps: dumps.map(({ file, tables: dumped }) => ({ file, tables: dumpReport(dumped) })),
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
    const report: Report = (file, kind, message) => problems.add(folder.name, nameOf(folder, file), kind, message);
    const files = new CaptureFiles(folder, problems);
    if (isMoment(folder)) captures[folder.name] = decodeMoment(folder, problems);
    for (const [name, handshake] of decodeHandshakes(files, tracesOf(folder), report)) handshakes[`${folder.name}/${name}`] = handshake;
  }
  return { format: 'hv-capture/1', captures, handshakes, problems: problems.all() };
}
